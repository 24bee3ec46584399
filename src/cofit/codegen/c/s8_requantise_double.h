#include "cofit_dsp.h"

/* acc * multiplier / 2^31 * 2^shift, rounded after the product, and half away from zero after the
   right shift; |acc| * 2^max(shift, 0) < 2^30. */
COFIT_INLINE int32_t s8_requantise(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = left - shift;
    const int32_t high = cofit_high_product((int32_t)((uint32_t)acc << left), multiplier);
    const int32_t half = (int32_t)((1u << right) >> 1);
    return right > 0 ? (high + half + (high >> 31)) >> right : high;
}
