#include "s8_layer.h"

#define S8_UNIFY_ROWS 16
#define S8_UNIFY_FREE 0x8000u

/* +-x[0] +-x[1] ... of an even number of elements: bit i of the signs, from `bit` on, is 1 for
   minus. */
COFIT_INLINE int32_t s8_signed_sum(const int16_t *x, int32_t count, const uint8_t *signs,
                                   uint32_t bit)
{
    static const uint32_t ones[4] = {0x00010001u, 0x0001ffffu, 0xffff0001u, 0xffffffffu};
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i += 2, bit += 2)
        sum = cofit_smlad(ones[signs[bit >> 3] >> (bit & 7) & 3], cofit_word(x + i), sum);
    return sum;
}

/* Blocks of `out` rows by `in` neighbouring elements of the column. `count`: blocks of each `out`
   rows. `index`: where in the column a block begins, with S8_UNIFY_FREE if its weights are free.
   Weights: of a free block all, row by row, of any other its value; `signs`: `out` times `in` bits
   of each of the others. */
COFIT_INLINE void s8_unify(const s8_layer *layer, int32_t out, int32_t in, const uint8_t *signs,
                           const int16_t *a, const int16_t *b, int8_t *ya, int8_t *yb,
                           const int pixels)
{
    const int8_t *w = layer->weights;
    const uint16_t *index = layer->index, *count = layer->count;
    uint32_t bit = 0;
    for (int32_t row = 0; row < layer->rows; row += out, count++) {
        const int32_t left = layer->rows - row, height = left < out ? left : out;
        int32_t acc[2 * S8_UNIFY_ROWS];
        for (int32_t r = 0; r < height; r++)
            acc[2 * r] = acc[2 * r + 1] = layer->bias[row + r];
        for (const uint16_t *const end = index + *count; index != end; index++) {
            const int32_t at = (int32_t)(*index & ~S8_UNIFY_FREE);
            if (*index & S8_UNIFY_FREE) {
                for (int32_t r = 0; r < height; r++)
                    for (int32_t i = 0; i < in; i++) {
                        acc[2 * r] += w[r * in + i] * a[at + i];
                        if (pixels == 2)
                            acc[2 * r + 1] += w[r * in + i] * b[at + i];
                    }
                w += out * in;
            } else {
                const int32_t value = *w++;
                for (int32_t r = 0; r < height; r++) {
                    const uint32_t from = bit + (uint32_t)(r * in);
                    acc[2 * r] += value * s8_signed_sum(a + at, in, signs, from);
                    if (pixels == 2)
                        acc[2 * r + 1] += value * s8_signed_sum(b + at, in, signs, from);
                }
                bit += (uint32_t)(out * in);
            }
        }
        s8_store(layer, row, height, acc, ya, yb);
    }
}

COFIT_SHARED void s8_unify_1(const s8_layer *layer, int32_t out, int32_t in, const uint8_t *signs,
                             const int16_t *a, int8_t *y)
{
    s8_unify(layer, out, in, signs, a, a, y, 0, 1);
}

COFIT_SHARED void s8_unify_2(const s8_layer *layer, int32_t out, int32_t in, const uint8_t *signs,
                             const int16_t *a, const int16_t *b, int8_t *ya, int8_t *yb)
{
    s8_unify(layer, out, in, signs, a, b, ya, yb, 2);
}
