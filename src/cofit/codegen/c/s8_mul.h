#include "cofit_dsp.h"

typedef struct {
    int32_t x_offset, y_offset;
    int32_t multiplier, shift;
    int32_t zero_point, low, high;
} s8_product;

/* `step` is 1, or 0 where one y serves all x. */
COFIT_SHARED void s8_mul(const s8_product *p, const int8_t *x, const int8_t *y, int32_t step,
                         int32_t count, int8_t *out)
{
    for (int32_t i = 0; i < count; i++, y += step) {
        const int32_t product = (x[i] + p->x_offset) * (*y + p->y_offset);
        const int32_t value = s8_requantise(product, p->multiplier, p->shift) + p->zero_point;
        out[i] = (int8_t)cofit_clamp(value, p->low, p->high);
    }
}
