/* Called by the emulator at every basic block: counts it, and the jump that led to it.

   A Python callback per block would cost a hundred times the emulation itself. Tables are indexed
   by halfword of code; `counts` and `taken` have one plane per context, and entering a block whose
   `context_of` is not negative changes the context. */
#include <stddef.h>
#include <stdint.h>

typedef struct {
  const uint16_t *code;      /* the code itself, to tell its instructions apart */
  const int16_t *context_of; /* context that a block belongs to, negative: its caller's */
  uint32_t *counts;          /* executions of the block that starts here */
  uint32_t *taken;           /* jumps that left the code just before here */
  uint16_t *sizes;           /* bytes of the block that starts here */
  uint16_t *lengths;         /* instructions of the block that starts here */
  uint64_t base, halfwords;
  uint64_t retired, budget;
  uint64_t previous_end;
  int64_t context, torn;
  int (*stop)(void *);
} counter;

void cofit_on_block(void *engine, uint64_t address, uint32_t size, void *data);

void cofit_on_block(void *engine, uint64_t address, uint32_t size, void *data) {
  counter *const c = data;
  const uint64_t at = (address - c->base) >> 1;
  if (at >= c->halfwords) {
    c->torn = 1;
    c->stop(engine);
    return;
  }
  if (c->sizes[at] != size) {
    c->torn |= c->sizes[at] != 0;
    c->sizes[at] = (uint16_t)size;
    uint16_t length = 0;
    for (uint64_t i = at; i < at + size / 2; length++) i += c->code[i] >= 0xE800u ? 2 : 1;
    c->lengths[at] = length;
  }
  if (c->previous_end != address && c->previous_end != 0)
    c->taken[(uint64_t)c->context * c->halfwords + ((c->previous_end - c->base) >> 1)]++;
  c->previous_end = address + size;
  if (c->context_of[at] >= 0) c->context = c->context_of[at];
  c->counts[(uint64_t)c->context * c->halfwords + at]++;
  c->retired += c->lengths[at];
  if (c->retired > c->budget) c->stop(engine);
}
