#include "s8_layer.h"

/* `kept` of every `span` neighbours of the planar column; `lane` the place of each among them.
   Weights and lanes: row by row, in order. */
COFIT_INLINE void s8_nm(const s8_layer *layer, const uint8_t *lane, int32_t kept, int32_t span,
                        const int16_t *a, const int16_t *b, int8_t *ya, int8_t *yb,
                        const int pixels)
{
    const int8_t *w = layer->weights;
    for (int32_t row = 0; row < layer->rows; row++) {
        int32_t a0 = layer->bias[row], b0 = a0;
        for (int32_t start = 0; start < layer->columns; start += span) {
            COFIT_UNROLL(2)
            for (int32_t i = 0; i < kept; i++, w++, lane++) {
                a0 += *w * a[start + *lane];
                if (pixels == 2)
                    b0 += *w * b[start + *lane];
            }
        }
        const int32_t acc[2] = {a0, b0};
        s8_store(layer, row, 1, acc, ya, yb);
    }
}

COFIT_SHARED void s8_nm_1(const s8_layer *layer, const uint8_t *lane, int32_t kept, int32_t span,
                          const int16_t *a, int8_t *y)
{
    s8_nm(layer, lane, kept, span, a, a, y, 0, 1);
}

COFIT_SHARED void s8_nm_2(const s8_layer *layer, const uint8_t *lane, int32_t kept, int32_t span,
                          const int16_t *a, const int16_t *b, int8_t *ya, int8_t *yb)
{
    s8_nm(layer, lane, kept, span, a, b, ya, yb, 2);
}
