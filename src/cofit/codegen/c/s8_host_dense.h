#include "s8_host_tile.h"

/* All rows, 16 at a time, at `pixels` columns of `stride` elements. */
COFIT_INLINE void s8_host_dense(const s8_layer *layer, const int16_t *x, int32_t stride, int8_t *y,
                                int32_t pitch, const int pixels)
{
    const int8_t *w = layer->weights;
    const int32_t entries = (layer->columns + 1) / 2;
    for (int32_t row = 0; row < layer->rows; row += 2 * S8_LANES)
        w = s8_host_tile(layer, row, w, layer->index, entries, x, stride, y, pitch, S8_EVERY, 2,
                         pixels);
}

COFIT_SHARED void s8_host_dense_1(const s8_layer *layer, const int16_t *x, int32_t stride,
                                  int8_t *y, int32_t pitch)
{
    s8_host_dense(layer, x, stride, y, pitch, 1);
}

COFIT_SHARED void s8_host_dense_4(const s8_layer *layer, const int16_t *x, int32_t stride,
                                  int8_t *y, int32_t pitch)
{
    s8_host_dense(layer, x, stride, y, pitch, 4);
}
