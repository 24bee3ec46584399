#include "cofit_dsp.h"

/* A layer whose outputs are (sum * multiplier / 2^32 + round) >> shift, both rounded down: the
   graph's rounding and the zero point are in `round`, the multipliers share one shift. */
typedef struct {
    const int8_t *weights;
    const int32_t *bias;     /* per two (one pixel: four) rows: where their sums start, multipliers */
    const uint16_t *count;   /* of entries per group of rows */
    const uint16_t *index;   /* byte of the column where each entry begins */
    const uint16_t *channel; /* output channel of each row; null: the row itself */
    int32_t rows;
    int32_t plain;  /* rows whose outputs are stored as they are: neither bounded nor moved */
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

/* Stores one output that is bounded or moved, if there is such a row. */
COFIT_INLINE void s8_settle_one(const s8_scaled *layer, int32_t row, int32_t sum,
                                int32_t multiplier, int8_t *y)
{
    if (row < layer->rows) {
        const int32_t value = cofit_smmla(sum, multiplier, layer->round) >> layer->shift;
        const int32_t channel = layer->channel ? layer->channel[row] : row;
        y[channel] = (int8_t)cofit_clamp(value, layer->low, layer->high);
    }
}

/* Two rows from `row` on at two pixels; acc: first row at a and at b, second row at a and at b. */
COFIT_SHARED void s8_settle_rest(const s8_scaled *layer, int32_t row, const int32_t *multiplier,
                                 const int32_t acc[4], int8_t *ya, int8_t *yb)
{
    for (int32_t i = 0; i < 2; i++) {
        s8_settle_one(layer, row + i, acc[2 * i], multiplier[i], ya);
        s8_settle_one(layer, row + i, acc[2 * i + 1], multiplier[i], yb);
    }
}

COFIT_INLINE void s8_settle_pair(const s8_scaled *layer, int32_t row, const int32_t *multiplier,
                                 const int32_t acc[4], int8_t *ya, int8_t *yb)
{
    if (row < layer->plain) {
        const int32_t round = layer->round, shift = layer->shift;
        const int32_t first = multiplier[0], second = multiplier[1];
        ya[row] = s8_settle(acc[0], first, round, shift);
        yb[row] = s8_settle(acc[1], first, round, shift);
        ya[row + 1] = s8_settle(acc[2], second, round, shift);
        yb[row + 1] = s8_settle(acc[3], second, round, shift);
    } else {
        s8_settle_rest(layer, row, multiplier, acc, ya, yb);
    }
}
