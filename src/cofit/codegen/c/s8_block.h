#include "s8_pairs.h"
#include "s8_singles.h"

/* Blocks of `out` rows by `width` columns: `count` blocks per group of rows, `index` the place of
   each in the column, even for a width of four. Weights: per group, per two rows of it (the last may be
   single), the blocks in order. */
COFIT_INLINE const int8_t *s8_block_rows(const s8_layer *layer, int32_t row, const int8_t *w,
                                         const uint16_t *index, int32_t count, const int16_t *a,
                                         const int16_t *b, int8_t *ya, int8_t *yb, const int rows,
                                         const int width, const int pixels)
{
    int32_t acc[4];
    s8_begin(acc, layer, row, rows);
    if (width == 1)
        w = s8_singles(acc, w, index, count, a, b, rows, pixels);
    else if (width == 2)
        w = s8_pairs(acc, w, index, count, a, b, rows, pixels);
    else
        w = s8_quads(acc, w, index, count, a, b, 2, 1, rows, pixels);
    s8_store(layer, row, rows, acc, ya, yb);
    return w;
}

COFIT_INLINE void s8_block(const s8_layer *layer, int32_t out, const int16_t *a, const int16_t *b,
                           int8_t *ya, int8_t *yb, const int width, const int pixels)
{
    const int8_t *w = layer->weights;
    const uint16_t *index = layer->index;
    COFIT_BEFORE_TAKE;
    for (int32_t row = 0, group = 0; row < layer->rows; group++) {
        const int32_t count = layer->count[group];
        const int32_t end = row + out < layer->rows ? row + out : layer->rows;
        for (; row + 2 <= end; row += 2)
            w = s8_block_rows(layer, row, w, index, count, a, b, ya, yb, 2, width, pixels);
        if (row < end) {
            w = s8_block_rows(layer, row, w, index, count, a, b, ya, yb, 1, width, pixels);
            row++;
        }
        index += count;
    }
}

COFIT_SHARED void s8_block1_1(const s8_layer *layer, int32_t out, const int16_t *a, int8_t *y)
{
    s8_block(layer, out, a, a, y, 0, 1, 1);
}

COFIT_SHARED void s8_block1_2(const s8_layer *layer, int32_t out, const int16_t *a,
                              const int16_t *b, int8_t *ya, int8_t *yb)
{
    s8_block(layer, out, a, b, ya, yb, 1, 2);
}

COFIT_SHARED void s8_block2_1(const s8_layer *layer, int32_t out, const int16_t *a, int8_t *y)
{
    s8_block(layer, out, a, a, y, 0, 2, 1);
}

COFIT_SHARED void s8_block2_2(const s8_layer *layer, int32_t out, const int16_t *a,
                              const int16_t *b, int8_t *ya, int8_t *yb)
{
    s8_block(layer, out, a, b, ya, yb, 2, 2);
}

COFIT_SHARED void s8_block4_1(const s8_layer *layer, int32_t out, const int16_t *a, int8_t *y)
{
    s8_block(layer, out, a, a, y, 0, 4, 1);
}

COFIT_SHARED void s8_block4_2(const s8_layer *layer, int32_t out, const int16_t *a,
                              const int16_t *b, int8_t *ya, int8_t *yb)
{
    s8_block(layer, out, a, b, ya, yb, 4, 2);
}
