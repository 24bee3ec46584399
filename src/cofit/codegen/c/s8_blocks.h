#include "s8_tile.h"

/* Blocks of four columns over lifted columns (see s8_lift.h), at two pixels. `index`: for each
   block the byte of the column where it begins. `bias`: per tile of one or two rows where its sums
   start, their multipliers, and in two halfwords the bytes of `index` where its blocks begin and
   end. Weights: per tile, per block, a word of each row. Spare outputs as in s8_lifted.h. */
#define S8_LIST(step)                                                                              \
    "ldrh %[from], [%[w0], #" step "]\n\tldrh %[end], [%[w0], #" step "+2]\n\t"                    \
    "ldr %[w1], [%[f], #8]\n\tmov %[b0], %[a0]\n\t"                                                \
    "add %[from], %[from], %[w1]\n\tadd %[end], %[end], %[w1]\n\t"
/* The entries; the frame makes room for the column. */
#define S8_ENTRIES(rows)                                                                           \
    "cmp %[from], %[end]\n\tbeq 5f\n\tvmov s15, %[f]\n\tldr %[f], [%[f], #40]\n\t"                 \
    "2: ldrh r5, [%[from]], #2\n\tadd r5, r5, %[f]\n\tldm r5, {r2-r5}\n\t" rows                    \
    "cmp %[from], %[end]\n\tbne 2b\n\tvmov %[f], s15\n\t5: "

#if !defined(__ARM_FEATURE_DSP)
COFIT_INLINE void s8_block_tiles(s8_tiles *t, const int rows)
{
    while (t->bias != t->bias_end) {
        const int32_t *const bias = t->bias;
        const uint32_t range = (uint32_t)bias[2 * rows];
        const uint16_t *entry = (const uint16_t *)t->from + (range & 0xffffu) / 2;
        const uint16_t *const end = (const uint16_t *)t->from + (range >> 16) / 2;
        int32_t acc[4] = {bias[0], bias[0], bias[1], bias[1]};
        for (; entry != end; entry++)
            s8_chunk(&t->weights, t->x + *entry / 4, acc, rows);
        s8_settle_tile(t, acc, rows);
        t->bias += 1;
    }
}
#endif

/* Not inlined: the blocks of instructions take every register there is. */
COFIT_SHARED void s8_block_tiles_1(s8_tiles *t)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t a0, b0;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile("1: ldr %[w0], [%[f]]\n\tldr %[a0], [%[w0]]\n\t" S8_LIST("8")
                     S8_ENTRIES("ldr %[w0], [%[w]], #4\n\t" S8_ROW("w0", "a0", "b0"))
                     S8_SETTLE_ONE("12")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [w0] "=&r"(w0), [w1] "=&r"(w1), [w] "+r"(w), [f] "+r"(t)
                     : : "r2", "r3", "r4", "r5", "s15", "cc", "memory");
#else
    s8_block_tiles(t, 1);
#endif
}

COFIT_SHARED void s8_block_tiles_2(s8_tiles *t)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t a0, b0, a1, b1;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile("1: ldr %[w0], [%[f]]\n\tldrd %[a0], %[a1], [%[w0]]\n\t" S8_LIST("16")
                     "mov %[b1], %[a1]\n\t" S8_ENTRIES(S8_ROWS) S8_SETTLE("20")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [a1] "=&r"(a1), [b1] "=&r"(b1), [w0] "=&r"(w0), [w1] "=&r"(w1),
                       [w] "+r"(w), [f] "+r"(t)
                     : : "r2", "r3", "r4", "r5", "s15", "cc", "memory");
#else
    s8_block_tiles(t, 2);
#endif
}

COFIT_INLINE void s8_blocks(const s8_scaled *layer, const uint32_t *x, int8_t *ya, int8_t *yb,
                            const int rows)
{
    int8_t *const spare = (int8_t *)(uintptr_t)(x + 4 * layer->chunks);
    int8_t *const other = spare + layer->filled;
    const int32_t plain = layer->plain, words = 2 * rows + 1;
    s8_tiles t = {layer->bias, layer->bias + layer->filled / rows * words, layer->index, 0, 0,
                  layer->round, layer->shift, plain ? ya : spare, plain ? yb : other,
                  layer->weights, x};
    if (rows == 2)
        s8_block_tiles_2(&t);
    else
        s8_block_tiles_1(&t);
    if (!plain) {
        s8_place(layer, spare, ya);
        s8_place(layer, other, yb);
    }
}

COFIT_SHARED void s8_blocks_1(const s8_scaled *layer, const uint32_t *x, int8_t *ya, int8_t *yb)
{
    s8_blocks(layer, x, ya, yb, 1);
}

COFIT_SHARED void s8_blocks_2(const s8_scaled *layer, const uint32_t *x, int8_t *ya, int8_t *yb)
{
    s8_blocks(layer, x, ya, yb, 2);
}
