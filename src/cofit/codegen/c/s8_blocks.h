#include "s8_tile.h"

/* Blocks at two pixels: of four columns over lifted columns (see s8_lift.h), of two rows and two
   columns over spread ones (see s8_spread.h), of one column over woven ones (see s8_weave.h).
   `index`: for each block the byte of the column where it begins. `bias`: per tile of one or two
   rows where its sums start, their multipliers, and in two halfwords the bytes of `index` where its
   blocks begin and end. Weights: per tile, block by block, a word of each row; of pairs, those of
   the first column, then of the second; of singles, two blocks' first rows, then their second, or
   four blocks of one row. Spare outputs as in s8_lifted.h. */
#define S8_LIST(step)                                                                              \
    "ldrh %[from], [%[w0], #" step "]\n\tldrh %[end], [%[w0], #" step "+2]\n\t"                    \
    "ldr %[w1], [%[f], #8]\n\tmov %[b0], %[a0]\n\t"                                                \
    "add %[from], %[from], %[w1]\n\tadd %[end], %[end], %[w1]\n\t"
/* The entries; the frame makes room for the column. */
#define S8_ENTRIES(words, rows)                                                                    \
    "cmp %[from], %[end]\n\tbeq 5f\n\tvmov s15, %[f]\n\tldr %[f], [%[f], #40]\n\t"                 \
    "2: ldrh r5, [%[from]], #2\n\tadd r5, r5, %[f]\n\t" words rows                                 \
    "cmp %[from], %[end]\n\tbne 2b\n\tvmov %[f], s15\n\t5: "

#define S8_QUAD "ldm r5, {r2-r5}\n\t"
#define S8_PAIR "ldrd r2, r3, [r5]\n\t"
#define S8_PAIR_ROWS                                                                               \
    "ldr %[w0], [%[w]], #4\n\tsxtb16 %[w1], %[w0], ror #8\n\tsxtb16 %[w0], %[w0]\n\t"              \
    "smlad %[a0], %[w0], r2, %[a0]\n\tsmlad %[b0], %[w0], r3, %[b0]\n\t"                           \
    "smlad %[a1], %[w1], r2, %[a1]\n\tsmlad %[b1], %[w1], r3, %[b1]\n\t"

#define S8_SINGLES(words)                                                                          \
    "cmp %[from], %[end]\n\tbeq 5f\n\tldr r4, [%[f], #40]\n\t"                                     \
    "2: ldr %[w0], [%[w]], #4\n\tsxtb16 %[w1], %[w0], ror #8\n\tsxtb16 %[w0], %[w0]\n\t" words     \
    "cmp %[from], %[end]\n\tbne 2b\n\t5: "
/* One entry's two pixels, times one half of a word of weights. */
#define S8_SINGLE(w, half, a, b)                                                                   \
    "smla" half "b %[" a "], %[" w "], r2, %[" a "]\n\t"                                           \
    "smla" half "t %[" b "], %[" w "], r2, %[" b "]\n\t"
#define S8_TAKE_SINGLE "ldrh r2, [%[from]], #2\n\tldr r2, [r4, r2]\n\t"
#define S8_SINGLES_1                                                                               \
    S8_SINGLES(S8_TAKE_SINGLE S8_SINGLE("w0", "b", "a0", "b0")                                     \
               S8_TAKE_SINGLE S8_SINGLE("w1", "b", "a0", "b0")                                     \
               S8_TAKE_SINGLE S8_SINGLE("w0", "t", "a0", "b0")                                     \
               S8_TAKE_SINGLE S8_SINGLE("w1", "t", "a0", "b0"))
#define S8_SINGLES_2                                                                               \
    S8_SINGLES(S8_TAKE_SINGLE S8_SINGLE("w0", "b", "a0", "b0") S8_SINGLE("w0", "t", "a1", "b1")    \
               S8_TAKE_SINGLE S8_SINGLE("w1", "b", "a0", "b0") S8_SINGLE("w1", "t", "a1", "b1"))

#if !defined(S8_TILE_BLOCKS)
/* Adds single columns, a word of weights: four of one row, or two of two rows. */
COFIT_INLINE void s8_single(const int8_t **w, const uint16_t *entry, const uint32_t *x,
                            int32_t acc[4], const int rows)
{
    for (int32_t i = 0; i < 4; i++, ++*w) {
        const uint32_t pixels = x[entry[rows == 2 ? i & 1 : i] / 4];
        int32_t *const sum = acc + (rows == 2 ? i & 2 : 0);
        sum[0] += **w * cofit_low(pixels);
        sum[1] += **w * cofit_high(pixels);
    }
}

/* Adds a pair of columns of two rows at two pixels. */
COFIT_INLINE void s8_pair(const int8_t **w, const uint32_t *x, int32_t acc[4])
{
    const uint32_t word = cofit_word(*w);
    const uint32_t first = cofit_sxtb16(word), second = cofit_sxtb16(cofit_ror8(word));
    acc[0] = cofit_smlad(first, x[0], acc[0]), acc[1] = cofit_smlad(first, x[1], acc[1]);
    acc[2] = cofit_smlad(second, x[0], acc[2]), acc[3] = cofit_smlad(second, x[1], acc[3]);
    *w += 4;
}

COFIT_INLINE void s8_block_tiles(s8_tiles *t, const int rows, const int width)
{
    while (t->bias != t->bias_end) {
        const int32_t *const bias = t->bias;
        const uint32_t range = (uint32_t)bias[2 * rows];
        const uint16_t *entry = (const uint16_t *)t->from + (range & 0xffffu) / 2;
        const uint16_t *const end = (const uint16_t *)t->from + (range >> 16) / 2;
        int32_t acc[4] = {bias[0], bias[0], bias[1], bias[1]};
        for (; entry != end; entry += width == 1 ? 4 / rows : 1)
            if (width == 1)
                s8_single(&t->weights, entry, t->x, acc, rows);
            else if (width == 2)
                s8_pair(&t->weights, t->x + *entry / 4, acc);
            else
                s8_chunk(&t->weights, t->x + *entry / 4, acc, rows);
        s8_settle_tile(t, acc, rows);
        t->bias += 1;
    }
}
#endif

/* Not inlined: the blocks of instructions take every register there is. */
COFIT_SHARED void s8_block_tiles_1(s8_tiles *t)
{
#if defined(S8_TILE_BLOCKS)
    int32_t a0, b0;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile("1: ldr %[w0], [%[f]]\n\tldr %[a0], [%[w0]]\n\t" S8_LIST("8")
                     S8_ENTRIES(S8_QUAD, "ldr %[w0], [%[w]], #4\n\t" S8_ROW("w0", "a0", "b0"))
                     S8_SETTLE_ONE("12")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [w0] "=&r"(w0), [w1] "=&r"(w1), [w] "+r"(w), [f] "+r"(t)
                     : : "r2", "r3", "r4", "r5", "s15", "cc", "memory");
#else
    s8_block_tiles(t, 1, 4);
#endif
}

COFIT_SHARED void s8_block_tiles_2(s8_tiles *t)
{
#if defined(S8_TILE_BLOCKS)
    int32_t a0, b0, a1, b1;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile("1: ldr %[w0], [%[f]]\n\tldrd %[a0], %[a1], [%[w0]]\n\t" S8_LIST("16")
                     "mov %[b1], %[a1]\n\t" S8_ENTRIES(S8_QUAD, S8_ROWS) S8_SETTLE("20")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [a1] "=&r"(a1), [b1] "=&r"(b1), [w0] "=&r"(w0), [w1] "=&r"(w1),
                       [w] "+r"(w), [f] "+r"(t)
                     : : "r2", "r3", "r4", "r5", "s15", "cc", "memory");
#else
    s8_block_tiles(t, 2, 4);
#endif
}

COFIT_SHARED void s8_pair_tiles_2(s8_tiles *t)
{
#if defined(S8_TILE_BLOCKS)
    int32_t a0, b0, a1, b1;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile("1: ldr %[w0], [%[f]]\n\tldrd %[a0], %[a1], [%[w0]]\n\t" S8_LIST("16")
                     "mov %[b1], %[a1]\n\t" S8_ENTRIES(S8_PAIR, S8_PAIR_ROWS) S8_SETTLE("20")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [a1] "=&r"(a1), [b1] "=&r"(b1), [w0] "=&r"(w0), [w1] "=&r"(w1),
                       [w] "+r"(w), [f] "+r"(t)
                     : : "r2", "r3", "r4", "r5", "s15", "cc", "memory");
#else
    s8_block_tiles(t, 2, 2);
#endif
}

COFIT_SHARED void s8_single_tiles_1(s8_tiles *t)
{
#if defined(S8_TILE_BLOCKS)
    int32_t a0, b0;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile("1: ldr %[w0], [%[f]]\n\tldr %[a0], [%[w0]]\n\t" S8_LIST("8")
                     S8_SINGLES_1 S8_SETTLE_ONE("12")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [w0] "=&r"(w0), [w1] "=&r"(w1), [w] "+r"(w), [f] "+r"(t)
                     : : "r2", "r3", "r4", "r5", "s15", "cc", "memory");
#else
    s8_block_tiles(t, 1, 1);
#endif
}

COFIT_SHARED void s8_single_tiles_2(s8_tiles *t)
{
#if defined(S8_TILE_BLOCKS)
    int32_t a0, b0, a1, b1;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile("1: ldr %[w0], [%[f]]\n\tldrd %[a0], %[a1], [%[w0]]\n\t" S8_LIST("16")
                     "mov %[b1], %[a1]\n\t" S8_SINGLES_2 S8_SETTLE("20")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [a1] "=&r"(a1), [b1] "=&r"(b1), [w0] "=&r"(w0), [w1] "=&r"(w1),
                       [w] "+r"(w), [f] "+r"(t)
                     : : "r2", "r3", "r4", "r5", "s15", "cc", "memory");
#else
    s8_block_tiles(t, 2, 1);
#endif
}

COFIT_INLINE void s8_blocks(const s8_scaled *layer, const uint32_t *x, int8_t *ya, int8_t *yb,
                            const int rows, const int width)
{
    int8_t *const spare = (int8_t *)(uintptr_t)(x + 4 * layer->chunks);
    int8_t *const other = spare + layer->filled;
    const int32_t plain = layer->plain, words = 2 * rows + 1;
    s8_tiles t = {layer->bias, layer->bias + layer->filled / rows * words, layer->index, 0, 0,
                  layer->round, layer->shift, plain ? ya : spare, plain ? yb : other,
                  layer->weights, x};
    if (width == 1 && rows == 2)
        s8_single_tiles_2(&t);
    else if (width == 1)
        s8_single_tiles_1(&t);
    else if (width == 2)
        s8_pair_tiles_2(&t);
    else if (rows == 2)
        s8_block_tiles_2(&t);
    else
        s8_block_tiles_1(&t);
    if (!plain) {
        s8_place(layer, spare, ya);
        s8_place(layer, other, yb);
    }
}

COFIT_SHARED void s8_blocks_quads_1(const s8_scaled *layer, const uint32_t *x, int8_t *ya,
                                    int8_t *yb)
{
    s8_blocks(layer, x, ya, yb, 1, 4);
}

COFIT_SHARED void s8_blocks_quads_2(const s8_scaled *layer, const uint32_t *x, int8_t *ya,
                                    int8_t *yb)
{
    s8_blocks(layer, x, ya, yb, 2, 4);
}

COFIT_SHARED void s8_blocks_pairs_2(const s8_scaled *layer, const uint32_t *x, int8_t *ya,
                                    int8_t *yb)
{
    s8_blocks(layer, x, ya, yb, 2, 2);
}

COFIT_SHARED void s8_blocks_singles_1(const s8_scaled *layer, const uint32_t *x, int8_t *ya,
                                      int8_t *yb)
{
    s8_blocks(layer, x, ya, yb, 1, 1);
}

COFIT_SHARED void s8_blocks_singles_2(const s8_scaled *layer, const uint32_t *x, int8_t *ya,
                                      int8_t *yb)
{
    s8_blocks(layer, x, ya, yb, 2, 1);
}
