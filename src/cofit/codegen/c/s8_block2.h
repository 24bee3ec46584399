#include "s8_pairs.h"

/* Blocks of `out` rows by 2 columns: `count` blocks per group of rows, `index` the place of each in the
   column. Weights: per group, per two rows of it (the last may be single), the blocks in order. */
COFIT_INLINE void s8_block2(const s8_layer *layer, int32_t out, const int16_t *a, const int16_t *b,
                            int8_t *ya, int8_t *yb, const int pixels)
{
    const int8_t *w = layer->weights;
    const uint16_t *index = layer->index;
    int32_t acc[4];
    for (int32_t row = 0, group = 0; row < layer->rows; group++) {
        const int32_t count = layer->count[group];
        const int32_t end = row + out < layer->rows ? row + out : layer->rows;
        for (; row + 2 <= end; row += 2) {
            s8_begin(acc, layer, row, 2);
            w = s8_pairs(acc, w, index, count, a, b, 2, pixels);
            s8_store(layer, row, 2, acc, ya, yb);
        }
        if (row < end) {
            s8_begin(acc, layer, row, 1);
            w = s8_pairs(acc, w, index, count, a, b, 1, pixels);
            s8_store(layer, row, 1, acc, ya, yb);
            row++;
        }
        index += count;
    }
}

COFIT_SHARED void s8_block2_1(const s8_layer *layer, int32_t out, const int16_t *a, int8_t *y)
{
    s8_block2(layer, out, a, a, y, 0, 1);
}

COFIT_SHARED void s8_block2_2(const s8_layer *layer, int32_t out, const int16_t *a,
                              const int16_t *b, int8_t *ya, int8_t *yb)
{
    s8_block2(layer, out, a, b, ya, yb, 2);
}
