#include "cofit_dsp.h"

/* A layer whose outputs are (sum * multiplier / 2^32 + round) >> shift, both rounded down: the
   graph's rounding and the zero point are in `round`, all multipliers share one shift. */
typedef struct {
    const int8_t *weights;
    const int32_t *bias;     /* per tile of rows: where their sums start, then their multipliers */
    const uint16_t *count;   /* entries of each group of rows */
    const uint16_t *index;   /* bytes into the column at which each entry begins */
    const uint16_t *channel; /* output channel of each row; null: the row itself */
    int32_t rows;
    int32_t filled; /* rows, the last tile filled up */
    int32_t plain;  /* whether outputs are stored as they come: no bounds, no moves, no filling */
    int32_t chunks; /* of four columns */
    int32_t round;
    int32_t shift;
    int32_t low;
    int32_t high;
} s8_scaled;

/* acc + a * b / 2^32, rounded down. */
COFIT_INLINE int32_t cofit_smmla(int32_t a, int32_t b, int32_t acc)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t sum;
    __asm__("smmla %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
    return sum;
#else
    return acc + (int32_t)(((int64_t)a * b) >> 32);
#endif
}

COFIT_INLINE int32_t cofit_ssat8(int32_t value)
{
#if defined(__ARM_FEATURE_DSP)
    return __ssat(value, 8);
#else
    return cofit_clamp(value, -128, 127);
#endif
}

COFIT_INLINE int8_t s8_settle(int32_t sum, int32_t multiplier, int32_t round, int32_t shift)
{
    return (int8_t)cofit_ssat8(cofit_smmla(sum, multiplier, round) >> shift);
}

/* Outputs of one pixel that are bounded or moved on their way. */
COFIT_SHARED void s8_place(const s8_scaled *layer, const int8_t *from, int8_t *y)
{
    const int32_t low = layer->low, high = layer->high;
    const uint16_t *channel = layer->channel;
    int32_t row = 0;
    if (channel && low == -128 && high == 127) {
        COFIT_UNROLL(1)
        for (; row + 4 <= layer->rows; row += 4, channel += 4, from += 4) {
            y[channel[0]] = from[0];
            y[channel[1]] = from[1];
            y[channel[2]] = from[2];
            y[channel[3]] = from[3];
        }
    }
    COFIT_UNROLL(1)
    for (; row < layer->rows; row++, from++)
        y[channel ? *channel++ : row] = (int8_t)cofit_clamp(*from, low, high);
}
