#include "s8_host_slice.h"
#include "s8_scaling.h"

/* As s8_globalmean, channels side by side. */
COFIT_SHARED void s8_host_globalmean(const s8_scaling *p, const int8_t *in, int32_t pixels,
                                     int32_t channels, int8_t *out)
{
    for (int32_t c = 0; c < channels; c += S8_SLICE) {
        const int32_t own = channels - c < S8_SLICE ? channels - c : S8_SLICE;
        int32_t sums[S8_SLICE];
        for (int32_t i = 0; i < own; i++)
            sums[i] = pixels * p->offset;
        for (int32_t pixel = 0; pixel < pixels; pixel++)
            for (int32_t i = 0; i < own; i++)
                sums[i] += in[pixel * channels + c + i];
        for (int32_t i = 0; i < own; i++)
            out[c + i] = s8_scale(p, sums[i]);
    }
}
