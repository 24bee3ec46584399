/* Bit-parallel simulation of a mapped netlist: each net holds one bit of every vector.
   Zero delay: a net changes at most once per cycle, so there are no glitches. */
#include <stdint.h>
#include <string.h>

enum { INV, BUF, NAND2, NOR2, AND2, OR2, XOR2, XNOR2, AOI21, OAI21, MUX2 };

typedef struct {
    const int32_t *gates; /* (gate_count, 5): function, three inputs, output; in order of depth */
    int64_t gate_count;
    const int32_t *flops; /* (flop_count, 2): input, output */
    int64_t flop_count;
    const int32_t *rams;  /* per RAM: width, depth, address bits, enable, write, then nets of
                             address, in, out */
    int64_t ram_count;
    uint64_t **ram_words; /* per RAM (depth, width, words) */
    int64_t *ram_reads;   /* cycles with a read */
    int64_t *ram_writes;
    uint64_t *nets;       /* (net_count, words) */
    uint64_t *pending;    /* (flop_count, words) */
    int64_t *toggles;     /* per net, summed over vectors; NULL: not counted */
    const uint64_t *mask; /* (words): vectors that count */
    int64_t words;
} state;

static inline uint64_t apply(int32_t function, uint64_t a, uint64_t b, uint64_t c) {
    switch (function) {
    case INV: return ~a;
    case BUF: return a;
    case NAND2: return ~(a & b);
    case NOR2: return ~(a | b);
    case AND2: return a & b;
    case OR2: return a | b;
    case XOR2: return a ^ b;
    case XNOR2: return ~(a ^ b);
    case AOI21: return ~((a & b) | c);
    case OAI21: return ~((a | b) & c);
    default: return (a & ~c) | (b & c);
    }
}

static inline void set(const state *s, int32_t net, const uint64_t *value) {
    uint64_t *old = s->nets + net * s->words;
    if (s->toggles) {
        int64_t changed = 0;
        for (int64_t w = 0; w < s->words; w++)
            changed += __builtin_popcountll((old[w] ^ value[w]) & s->mask[w]);
        s->toggles[net] += changed;
    }
    memcpy(old, value, (size_t)s->words * sizeof *value);
}

static void settle(const state *s) {
    uint64_t value[s->words];
    for (int64_t g = 0; g < s->gate_count; g++) {
        const int32_t *gate = s->gates + 5 * g;
        const uint64_t *a = s->nets + gate[1] * s->words, *b = s->nets + gate[2] * s->words,
                       *c = s->nets + gate[3] * s->words;
        const int32_t function = gate[0];
#define EACH(name) case name: for (int64_t w = 0; w < s->words; w++) \
        value[w] = apply(name, a[w], b[w], c[w]); break;
        switch (function) {
            EACH(INV) EACH(BUF) EACH(NAND2) EACH(NOR2) EACH(AND2) EACH(OR2) EACH(XOR2)
            EACH(XNOR2) EACH(AOI21) EACH(OAI21) EACH(MUX2)
        }
        set(s, gate[4], value);
    }
}

/* A net that must be the same in all vectors; -1 where it is not. */
static int uniform(const state *s, int32_t net) {
    const uint64_t *value = s->nets + net * s->words;
    int bit = (int)(value[0] & 1);
    for (int64_t w = 0; w < s->words; w++)
        if (value[w] != (bit ? ~UINT64_C(0) : 0)) return -1;
    return bit;
}

/* The RAM's word at its address, NULL while it is not enabled. 0, or 1 if vectors disagree. */
static int access_ram(const state *s, const int32_t *ram, uint64_t *words, int *write,
                      uint64_t **word) {
    int enable = uniform(s, ram[3]);
    *write = uniform(s, ram[4]);
    *word = 0;
    if (enable < 0 || *write < 0) return 1;
    if (!enable) return 0;
    int64_t address = 0;
    for (int32_t i = 0; i < ram[2]; i++) {
        int bit = uniform(s, ram[5 + i]);
        if (bit < 0) return 1;
        address |= (int64_t)bit << i;
    }
    if (address >= ram[1]) return 1;
    *word = words + address * ram[0] * s->words;
    return 0;
}

static int clock_rams(const state *s) {
    const int32_t *ram = s->rams;
    for (int64_t r = 0; r < s->ram_count; r++, ram += 5 + ram[2] + 2 * ram[0]) {
        int write;
        uint64_t *word;
        if (access_ram(s, ram, s->ram_words[r], &write, &word)) return 1;
        if (!word) continue;
        const int32_t *in = ram + 5 + ram[2], *out = in + ram[0];
        if (write)
            for (int32_t i = 0; i < ram[0]; i++)
                memcpy(word + i * s->words, s->nets + in[i] * s->words,
                       (size_t)s->words * sizeof *word);
        else
            for (int32_t i = 0; i < ram[0]; i++)
                if (out[i] >= 0) set(s, out[i], word + i * s->words);
        (write ? s->ram_writes : s->ram_reads)[r]++;
    }
    return 0;
}

/* Run until `busy` has fallen and `drain` cycles more are over, or `limit` cycles; at each cycle
   in which `valid` is set, append the nets of `y` to `out`. The inputs stay as they are.
   Gives the cycles run; -1: vectors disagree on an address or a control; -2: `out` is full. */
int64_t cofit_simulate(state *s, int64_t limit, int32_t busy, int64_t drain, int32_t valid,
                       const int32_t *y, int64_t y_count, uint64_t *out, int64_t out_limit,
                       int64_t *out_count, int64_t *busy_cycles) {
    int64_t idle = 0, cycle = 0;
    for (; cycle < limit && (drain < 0 || idle <= drain); cycle++) {
        settle(s);
        int working = uniform(s, busy), emits = uniform(s, valid);
        idle = working ? 0 : idle + 1;
        *busy_cycles += working > 0;
        if (emits > 0) {
            if (*out_count == out_limit) return -2;
            uint64_t *to = out + *out_count * y_count * s->words;
            for (int64_t i = 0; i < y_count; i++)
                memcpy(to + i * s->words, s->nets + y[i] * s->words,
                       (size_t)s->words * sizeof *to);
            ++*out_count;
        }
        for (int64_t f = 0; f < s->flop_count; f++)
            memcpy(s->pending + f * s->words, s->nets + s->flops[2 * f] * s->words,
                   (size_t)s->words * sizeof *s->nets);
        if (clock_rams(s)) return -1;
        for (int64_t f = 0; f < s->flop_count; f++)
            set(s, s->flops[2 * f + 1], s->pending + f * s->words);
    }
    return cycle;
}
