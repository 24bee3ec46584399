#include "s8_layer.h"

/* Weights: for every two rows, then for every four columns, those four of the first row and those
   of the second, each in order 0 2 1 3 so that SXTB16 gives neighbours; a last single row alone;
   then, row by row, the columns that fill no four. */
COFIT_INLINE void s8_dense(const s8_layer *layer, const int16_t *a, const int16_t *b, int8_t *ya,
                           int8_t *yb, const int pixels)
{
    const int32_t fours = layer->columns >> 2, rest = layer->columns & 3;
    const int8_t *w = layer->weights;
    const int8_t *tail = w + layer->rows * fours * 4;
    int32_t row = 0;
    for (; row + 2 <= layer->rows; row += 2) {
        int32_t a0 = layer->bias[row], a1 = layer->bias[row + 1], b0 = a0, b1 = a1;
        const int16_t *pa = a, *pb = b;
        COFIT_UNROLL(2)
        for (int32_t i = fours; i > 0; i--) {
            const uint32_t w0 = cofit_word(w), w1 = cofit_word(w + 4);
            const uint32_t w0l = cofit_sxtb16(w0), w0h = cofit_sxtb16(cofit_ror8(w0));
            const uint32_t w1l = cofit_sxtb16(w1), w1h = cofit_sxtb16(cofit_ror8(w1));
            const uint32_t al = cofit_word(pa), ah = cofit_word(pa + 2);
            a0 = cofit_smlad(w0h, ah, cofit_smlad(w0l, al, a0));
            a1 = cofit_smlad(w1h, ah, cofit_smlad(w1l, al, a1));
            if (pixels == 2) {
                const uint32_t bl = cofit_word(pb), bh = cofit_word(pb + 2);
                b0 = cofit_smlad(w0h, bh, cofit_smlad(w0l, bl, b0));
                b1 = cofit_smlad(w1h, bh, cofit_smlad(w1l, bl, b1));
                pb += 4;
            }
            pa += 4;
            w += 8;
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
        tail += 2 * rest;
        if (pixels == 2) {
            s8_store_2(layer, row, a0, b0, ya, yb);
            s8_store_2(layer, row + 1, a1, b1, ya, yb);
        } else {
            s8_store(layer, row, a0, ya);
            s8_store(layer, row + 1, a1, ya);
        }
    }
    if (row < layer->rows) {
        int32_t a0 = layer->bias[row], b0 = a0;
        const int16_t *pa = a, *pb = b;
        COFIT_UNROLL(1)
        for (int32_t i = fours; i > 0; i--) {
            const uint32_t w0 = cofit_word(w);
            const uint32_t w0l = cofit_sxtb16(w0), w0h = cofit_sxtb16(cofit_ror8(w0));
            a0 = cofit_smlad(w0h, cofit_word(pa + 2), cofit_smlad(w0l, cofit_word(pa), a0));
            if (pixels == 2) {
                b0 = cofit_smlad(w0h, cofit_word(pb + 2), cofit_smlad(w0l, cofit_word(pb), b0));
                pb += 4;
            }
            pa += 4;
            w += 4;
        }
        COFIT_UNROLL(1)
        for (int32_t i = 0; i < rest; i++) {
            a0 += tail[i] * pa[i];
            if (pixels == 2)
                b0 += tail[i] * pb[i];
        }
        if (pixels == 2)
            s8_store_2(layer, row, a0, b0, ya, yb);
        else
            s8_store(layer, row, a0, ya);
    }
}

COFIT_SHARED void s8_dense_1(const s8_layer *layer, const int16_t *a, int8_t *y)
{
    s8_dense(layer, a, a, y, y, 1);
}

COFIT_SHARED void s8_dense_2(const s8_layer *layer, const int16_t *a, const int16_t *b, int8_t *ya,
                             int8_t *yb)
{
    s8_dense(layer, a, b, ya, yb, 2);
}
