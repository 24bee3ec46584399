#include "s8_scaling.h"

/* `rows` runs of `bytes` in another quantisation, from one pitch to another. */
COFIT_SHARED void s8_rescale(const s8_scaling *p, const int8_t *from, int32_t from_pitch,
                             int8_t *to, int32_t to_pitch, int32_t bytes, int32_t rows)
{
    for (int32_t r = 0; r < rows; r++, from += from_pitch, to += to_pitch)
        for (int32_t i = 0; i < bytes; i++)
            to[i] = s8_scale(p, from[i] + p->offset);
}
