#include "cofit_dsp.h"

/* What every kernel needs to turn accumulators into outputs. The order of `weights` and the
   meaning of `count` and `index` are the kernel's own. */
typedef struct {
    const int8_t *weights;
    const uint16_t *count;
    const uint16_t *index;
    const uint16_t *channel; /* output channel of each row; null: the row itself */
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t rows;
    int32_t columns;
    int32_t zero_point;
    int32_t low;
    int32_t high;
} s8_layer;

COFIT_INLINE int8_t s8_output(const s8_layer *layer, int32_t row, int32_t acc)
{
    const int32_t value = s8_requantise(acc, layer->multiplier[row], layer->shift[row]);
    return (int8_t)cofit_clamp(value + layer->zero_point, layer->low, layer->high);
}

/* Outputs of `rows` rows from `row` on; acc: row by row, at pixel a and at pixel b. A null `yb`
   leaves b out. */
COFIT_SHARED void s8_store(const s8_layer *layer, int32_t row, int32_t rows, const int32_t *acc,
                           int8_t *ya, int8_t *yb)
{
    COFIT_UNROLL(1)
    for (; rows > 0; rows--, row++, acc += 2) {
        const int32_t channel = layer->channel ? layer->channel[row] : row;
        ya[channel] = s8_output(layer, row, acc[0]);
        if (yb)
            yb[channel] = s8_output(layer, row, acc[1]);
    }
}
