#include "s8_host_tile.h"

/* Groups of `out` rows, a multiple of 8, that share a list of `count` pairs. Weights: per group and
   eight rows of it, the pairs in order. */
COFIT_INLINE void s8_host_block(const s8_layer *layer, int32_t out, const s8_access access,
                                const int16_t *x, int32_t stride, int8_t *y, int32_t pitch,
                                const int pixels)
{
    const int8_t *w = layer->weights;
    const uint16_t *index = layer->index;
    for (int32_t row = 0, group = 0; row < layer->rows; row += out, group++) {
        const int32_t entries = layer->count[group];
        for (int32_t k = row; k < row + out; k += S8_LANES)
            w = s8_host_tile(layer, k, w, index, entries, x, stride, y, pitch, access, 1, pixels);
        index += entries * (access == S8_APART ? 2 : 1);
    }
}

COFIT_SHARED void s8_host_block_adjacent_1(const s8_layer *layer, int32_t out, const int16_t *x,
                                           int32_t stride, int8_t *y, int32_t pitch)
{
    s8_host_block(layer, out, S8_ADJACENT, x, stride, y, pitch, 1);
}

COFIT_SHARED void s8_host_block_adjacent_4(const s8_layer *layer, int32_t out, const int16_t *x,
                                           int32_t stride, int8_t *y, int32_t pitch)
{
    s8_host_block(layer, out, S8_ADJACENT, x, stride, y, pitch, 4);
}

COFIT_SHARED void s8_host_block_apart_1(const s8_layer *layer, int32_t out, const int16_t *x,
                                        int32_t stride, int8_t *y, int32_t pitch)
{
    s8_host_block(layer, out, S8_APART, x, stride, y, pitch, 1);
}

COFIT_SHARED void s8_host_block_apart_4(const s8_layer *layer, int32_t out, const int16_t *x,
                                        int32_t stride, int8_t *y, int32_t pitch)
{
    s8_host_block(layer, out, S8_APART, x, stride, y, pitch, 4);
}
