#include "cofit_dsp.h"

/* acc * multiplier / 2^31 * 2^shift, rounded once, half up; |acc| * 2^max(shift, 0) < 2^30. What a
   right shift drops from the product cannot reach its half. */
COFIT_INLINE int32_t s8_requantise(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t half = (int32_t)(1u << ((-shift - 1) & 31));
    if (shift < 0)
        return (cofit_high_floor(acc, multiplier) + half) >> -shift;
    return cofit_high_product((int32_t)((uint32_t)acc << shift), multiplier);
}
