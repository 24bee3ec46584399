#include "cofit_dsp.h"

/* From one quantisation to another: offset is minus the zero point of the input. */
typedef struct {
    int32_t offset, multiplier, shift;
    int32_t zero_point, low, high;
} s8_scaling;

COFIT_INLINE int8_t s8_scale(const s8_scaling *p, int32_t value)
{
    const int32_t scaled = s8_requantise(value, p->multiplier, p->shift) + p->zero_point;
    return (int8_t)cofit_clamp(scaled, p->low, p->high);
}
