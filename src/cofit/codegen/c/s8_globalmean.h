#include "s8_scaling.h"

/* The multiplier divides by the number of pixels. */
COFIT_SHARED void s8_globalmean(const s8_scaling *p, const int8_t *in, int32_t pixels,
                                int32_t channels, int8_t *out)
{
    for (int32_t c = 0; c < channels; c++) {
        int32_t sum = pixels * p->offset;
        for (int32_t i = 0; i < pixels; i++)
            sum += in[i * channels + c];
        out[c] = s8_scale(p, sum);
    }
}
