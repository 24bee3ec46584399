#include "cofit_dsp.h"

/* Both inputs are shifted left by 20 bits and scaled to a common scale before they meet. */
typedef struct {
    int32_t x_offset, x_multiplier, x_shift;
    int32_t y_offset, y_multiplier, y_shift;
    int32_t multiplier, shift;
    int32_t zero_point, low, high;
} s8_sum;

/* `step` is 1, or 0 where one y serves all x. */
COFIT_SHARED void s8_add(const s8_sum *p, const int8_t *x, const int8_t *y, int32_t step,
                         int32_t count, int8_t *out)
{
    for (int32_t i = 0; i < count; i++, y += step) {
        const int32_t wide_x = (x[i] + p->x_offset) * (1 << 20);
        const int32_t wide_y = (*y + p->y_offset) * (1 << 20);
        const int32_t sum = s8_requantise(wide_x, p->x_multiplier, p->x_shift)
            + s8_requantise(wide_y, p->y_multiplier, p->y_shift);
        const int32_t value = s8_requantise(sum, p->multiplier, p->shift) + p->zero_point;
        out[i] = (int8_t)cofit_clamp(value, p->low, p->high);
    }
}
