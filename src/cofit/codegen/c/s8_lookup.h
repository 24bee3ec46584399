#include "cofit_dsp.h"

/* The table's index is the input's byte read as unsigned. */
COFIT_SHARED void s8_lookup(const int8_t *table, const int8_t *x, int32_t count, int8_t *out)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = table[(uint8_t)x[i]];
}
