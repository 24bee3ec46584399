#include "cofit_dsp.h"

COFIT_SHARED void s8_fill(int8_t *out, int32_t value, int32_t count)
{
    __builtin_memset(out, value, (uint32_t)count);
}
