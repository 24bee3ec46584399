#include "cofit_dsp.h"

/* `rows` runs of `bytes`, from one pitch to another. */
COFIT_SHARED void s8_copy(const int8_t *from, int32_t from_pitch, int8_t *to, int32_t to_pitch,
                          int32_t bytes, int32_t rows)
{
    for (int32_t r = 0; r < rows; r++)
        __builtin_memcpy(to + r * to_pitch, from + r * from_pitch, (uint32_t)bytes);
}
