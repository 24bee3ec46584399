#include "s8_layer.h"

/* Weights: for every two rows, then for every four columns, those four of the first row and those
   of the second, each in order 0 2 1 3 so that SXTB16 gives neighbours; a last single row alone;
   then, row by row, the columns that fill no four. Columns and weights are aligned to 4 bytes. */
COFIT_INLINE void s8_dense(const s8_layer *layer, const int16_t *a, const int16_t *b, int8_t *ya,
                           int8_t *yb, const int pixels)
{
    const int32_t fours = layer->columns >> 2, rest = layer->columns & 3;
    const int16_t *const end = a + 4 * fours;
    const int8_t *w = layer->weights;
    const int8_t *tail = w + layer->rows * fours * 4;
    int32_t row = 0;
    COFIT_BEFORE_TAKE;
    for (; row + 2 <= layer->rows; row += 2, tail += 2 * rest) {
        int32_t a0 = layer->bias[row], a1 = layer->bias[row + 1], b0 = a0, b1 = a1;
        const int16_t *pa = a, *pb = b;
        COFIT_UNROLL(2)
        while (pa != end) {
            uint32_t w0, w1, low, high;
            w = cofit_take(w, &w0, &w1);
            const uint32_t w0l = cofit_sxtb16(w0), w0h = cofit_sxtb16(cofit_ror8(w0));
            const uint32_t w1l = cofit_sxtb16(w1), w1h = cofit_sxtb16(cofit_ror8(w1));
            pa = cofit_take(pa, &low, &high);
            a0 = cofit_smlad(w0h, high, cofit_smlad(w0l, low, a0));
            a1 = cofit_smlad(w1h, high, cofit_smlad(w1l, low, a1));
            if (pixels == 2) {
                pb = cofit_take(pb, &low, &high);
                b0 = cofit_smlad(w0h, high, cofit_smlad(w0l, low, b0));
                b1 = cofit_smlad(w1h, high, cofit_smlad(w1l, low, b1));
            }
        }
        COFIT_UNROLL(1)
        for (int32_t i = 0; i < rest; i++) {
            a0 += tail[i] * pa[i];
            a1 += tail[i + rest] * pa[i];
            if (pixels == 2) {
                b0 += tail[i] * pb[i];
                b1 += tail[i + rest] * pb[i];
            }
        }
        const int32_t acc[4] = {a0, b0, a1, b1};
        s8_store(layer, row, 2, acc, ya, yb);
    }
    if (row < layer->rows) {
        int32_t a0 = layer->bias[row], b0 = a0;
        const int16_t *pa = a, *pb = b;
        COFIT_UNROLL(1)
        for (; pa != end; pa += 4, w += 4) {
            const uint32_t w0 = cofit_word(w);
            const uint32_t w0l = cofit_sxtb16(w0), w0h = cofit_sxtb16(cofit_ror8(w0));
            a0 = cofit_smlad(w0h, cofit_word(pa + 2), cofit_smlad(w0l, cofit_word(pa), a0));
            if (pixels == 2) {
                b0 = cofit_smlad(w0h, cofit_word(pb + 2), cofit_smlad(w0l, cofit_word(pb), b0));
                pb += 4;
            }
        }
        COFIT_UNROLL(1)
        for (int32_t i = 0; i < rest; i++) {
            a0 += tail[i] * pa[i];
            if (pixels == 2)
                b0 += tail[i] * pb[i];
        }
        const int32_t acc[2] = {a0, b0};
        s8_store(layer, row, 1, acc, ya, yb);
    }
}

COFIT_SHARED void s8_dense_1(const s8_layer *layer, const int16_t *a, int8_t *y)
{
    s8_dense(layer, a, a, y, 0, 1);
}

COFIT_SHARED void s8_dense_2(const s8_layer *layer, const int16_t *a, const int16_t *b, int8_t *ya,
                             int8_t *yb)
{
    s8_dense(layer, a, b, ya, yb, 2);
}
