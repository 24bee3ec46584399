#include "s8_tile.h"

/* Blocks of four columns and two or four rows at one pixel, over a lifted column (see s8_lift.h).
   `index`: for each block the byte of the column where it begins. `bias`: per tile of rows where
   their sums start, their multipliers, and in two halfwords the bytes of `index` where its blocks
   begin and end. Weights: per tile, block by block, a word of each row. Spare outputs as in
   s8_lifted.h. */
#define S8_LISTED_ROW(w, a)                                                                         \
    "smlad %[" a "], %[" w "], %[z], %[" a "]\n\tsxtb16 %[" w "], %[" w "]\n\t"                    \
    "smlad %[" a "], %[" w "], %[v], %[" a "]\n\t"
#define S8_LISTED_ROWS(a, b)                                                                        \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t" S8_LISTED_ROW("w0", a) S8_LISTED_ROW("w1", b)
#define S8_LISTED(rows)                                                                     \
    __asm__ volatile("1: ldrh %[z], [%[at]], #2\n\tadd %[z], %[z], %[x]\n\t"                       \
                     "ldrd %[v], %[z], [%[z]]\n\t" rows "cmp %[at], %[end]\n\tbne 1b"              \
                     : [at] "+r"(at), [w] "+r"(w), [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2),    \
                       [a3] "+r"(a3), [v] "=&r"(v), [z] "=&r"(z), [w0] "=&r"(w0), [w1] "=&r"(w1)   \
                     : [x] "r"(x), [end] "r"(end) : "cc", "memory")

/* Adds a list of blocks; gives the end of the weights read. */
COFIT_INLINE const int8_t *s8_strip_blocks(const int8_t *w, const uint16_t *at,
                                           const uint16_t *end, const uint32_t *x, int32_t acc[4],
                                           const int rows)
{
    if (at == end)
        return w;
#if defined(S8_TILE_BLOCKS)
    int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    uint32_t v, z, w0, w1;
    if (rows == 4)
        S8_LISTED(S8_LISTED_ROWS("a0", "a1") S8_LISTED_ROWS("a2", "a3"));
    else
        S8_LISTED(S8_LISTED_ROWS("a0", "a1"));
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
#else
    for (; at != end; at++) {
        const uint32_t *const p = x + *at / 4;
        for (int32_t i = 0; i < rows; i++, w += 4) {
            const uint32_t word = cofit_word(w);
            acc[i] = cofit_smlad(cofit_sxtb16(word), p[0], cofit_smlad(word, p[1], acc[i]));
        }
    }
#endif
    return w;
}

COFIT_INLINE void s8_block_strips(const s8_scaled *layer, const uint32_t *x, int8_t *y,
                                  const int rows)
{
    const int32_t words = 2 * rows + 1, round = layer->round, shift = layer->shift;
    const int32_t *bias = layer->bias, *const last = bias + layer->filled / rows * words;
    const int8_t *w = layer->weights;
    int8_t *const spare = (int8_t *)(uintptr_t)(x + 2 * layer->chunks);
    int8_t *to = layer->plain ? y : spare;
    COFIT_UNROLL(1)
    for (; bias != last; bias += words) {
        const uint32_t range = (uint32_t)bias[2 * rows];
        int32_t acc[4] = {bias[0], bias[1], bias[rows - 2], bias[rows - 1]};
        w = s8_strip_blocks(w, layer->index + (range & 0xffffu) / 2,
                            layer->index + (range >> 16) / 2, x, acc, rows);
        for (int32_t i = 0; i < rows; i++)
            *to++ = s8_settle(acc[i], bias[rows + i], round, shift);
    }
    if (!layer->plain)
        s8_place(layer, spare, y);
}

COFIT_SHARED void s8_blocks_strips_2(const s8_scaled *layer, const uint32_t *x, int8_t *y)
{
    s8_block_strips(layer, x, y, 2);
}

COFIT_SHARED void s8_blocks_strips_4(const s8_scaled *layer, const uint32_t *x, int8_t *y)
{
    s8_block_strips(layer, x, y, 4);
}
