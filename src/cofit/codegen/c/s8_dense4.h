#include "s8_layer.h"

/* Weights of 4 bits, two to a byte. Eight columns of a row are a word whose nibbles, lowest first,
   hold columns 0 4 2 6 1 5 3 7: two masks and SXTB16 then give neighbours, sixteenfold. Order as in
   s8_dense with eights for fours; the columns that fill no eight follow row by row, low nibble
   first, each row padded to a byte. */
COFIT_INLINE int32_t s8_eight(uint32_t low, uint32_t high, const uint32_t x[4], int32_t acc)
{
    acc = cofit_smlad(cofit_sxtb16(low), x[0], acc);
    acc = cofit_smlad(cofit_sxtb16(cofit_ror8(low)), x[1], acc);
    acc = cofit_smlad(cofit_sxtb16(high), x[2], acc);
    return cofit_smlad(cofit_sxtb16(cofit_ror8(high)), x[3], acc);
}

COFIT_INLINE int32_t s8_nibbles(const int8_t *w, const int16_t *x, int32_t count)
{
    int32_t acc = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t byte = w[i >> 1];
        acc += (i & 1 ? byte >> 4 : (int8_t)((uint32_t)byte << 4) >> 4) * x[i];
    }
    return acc;
}

COFIT_INLINE const int8_t *s8_dense4_rows(const s8_layer *layer, int32_t row, const int8_t *w,
                                          const int8_t *tail, const int16_t *a, const int16_t *b,
                                          int8_t *ya, int8_t *yb, const int rows, const int pixels)
{
    const int32_t rest = layer->columns & 7, rest_bytes = (rest + 1) >> 1;
    const uint32_t mask = 0xf0f0f0f0u;
    int32_t acc[4] = {0, 0, 0, 0};
    COFIT_UNROLL(1)
    for (int32_t i = layer->columns >> 3; i > 0; i--) {
        uint32_t xa[4], xb[4];
        for (int32_t j = 0; j < 4; j++) {
            xa[j] = cofit_word(a + 2 * j);
            xb[j] = pixels == 2 ? cofit_word(b + 2 * j) : 0;
        }
        for (int32_t j = 0; j < rows; j++, w += 4) {
            const uint32_t word = cofit_word(w), low = (word << 4) & mask, high = word & mask;
            acc[2 * j] = s8_eight(low, high, xa, acc[2 * j]);
            if (pixels == 2)
                acc[2 * j + 1] = s8_eight(low, high, xb, acc[2 * j + 1]);
        }
        a += 8;
        b += 8;
    }
    for (int32_t j = 0; j < rows; j++, tail += rest_bytes) {
        const int32_t bias = layer->bias[row + j];
        acc[2 * j] = acc[2 * j] / 16 + s8_nibbles(tail, a, rest) + bias;
        if (pixels == 2)
            acc[2 * j + 1] = acc[2 * j + 1] / 16 + s8_nibbles(tail, b, rest) + bias;
    }
    s8_store(layer, row, rows, acc, ya, yb);
    return w;
}

COFIT_INLINE void s8_dense4(const s8_layer *layer, const int16_t *a, const int16_t *b, int8_t *ya,
                            int8_t *yb, const int pixels)
{
    const int32_t rest_bytes = ((layer->columns & 7) + 1) >> 1;
    const int8_t *w = layer->weights;
    const int8_t *tail = w + layer->rows * (layer->columns >> 3) * 4;
    int32_t row = 0;
    for (; row + 2 <= layer->rows; row += 2, tail += 2 * rest_bytes)
        w = s8_dense4_rows(layer, row, w, tail, a, b, ya, yb, 2, pixels);
    if (row < layer->rows)
        (void)s8_dense4_rows(layer, row, w, tail, a, b, ya, yb, 1, pixels);
}

COFIT_SHARED void s8_dense4_1(const s8_layer *layer, const int16_t *a, int8_t *y)
{
    s8_dense4(layer, a, a, y, 0, 1);
}

COFIT_SHARED void s8_dense4_2(const s8_layer *layer, const int16_t *a, const int16_t *b,
                              int8_t *ya, int8_t *yb)
{
    s8_dense4(layer, a, b, ya, yb, 2);
}
