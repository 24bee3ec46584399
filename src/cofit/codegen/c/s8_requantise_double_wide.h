#include "cofit_dsp.h"

/* acc * multiplier / 2^31 * 2^shift, rounded after the product and again after the right shift. */
COFIT_INLINE int32_t s8_requantise(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = left - shift;
    const int32_t scaled = (int32_t)((uint32_t)acc << left);
    const int32_t high = (int32_t)(((int64_t)scaled * multiplier + (1 << 30)) >> 31);
    const int32_t mask = (int32_t)((1u << right) - 1u);
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0));
}
