#include "cofit_dsp.h"

/* acc * multiplier / 2^31 * 2^shift, rounded once, half up. */
COFIT_INLINE int32_t s8_requantise(int32_t acc, int32_t multiplier, int32_t shift)
{
    return (int32_t)(((((int64_t)acc * multiplier) >> (30 - shift)) + 1) >> 1);
}
