#include "s8_host_slice.h"
#include "s8_taps.h"

/* As s8_avgpool, channels side by side. The window has at most 2^15 taps: sums and counts are exact
   floats, and a quotient below an integer cannot round up to it. */
COFIT_SHARED void s8_host_avgpool(const s8_window *w, const int8_t *restrict in,
                                  int8_t *restrict out, int32_t whole, int32_t fill)
{
    const int32_t channels = w->channels, area = w->rows * w->columns;
    for (int32_t oy = 0; oy < w->out_height; oy++) {
        const int32_t y = oy * w->stride_y - w->top;
        const int32_t r0 = s8_first_tap(y, 1), r1 = s8_end_tap(y, 1, w->rows, w->height);
        for (int32_t ox = 0; ox < w->out_width; ox++, out += channels) {
            const int32_t x = ox * w->stride_x - w->left;
            const int32_t s0 = s8_first_tap(x, 1), s1 = s8_end_tap(x, 1, w->columns, w->width);
            const int32_t inside = (r1 - r0) * (s1 - s0);
            const int32_t count = whole ? area : inside;
            for (int32_t c = 0; c < channels; c += S8_SLICE) {
                const int32_t own = channels - c < S8_SLICE ? channels - c : S8_SLICE;
                int32_t sums[S8_SLICE];
                for (int32_t i = 0; i < own; i++)
                    sums[i] = (count - inside) * fill;
                for (int32_t r = y + r0; r < y + r1; r++)
                    for (int32_t s = x + s0; s < x + s1; s++) {
                        const int8_t *const p = in + (r * w->width + s) * channels + c;
                        for (int32_t i = 0; i < own; i++)
                            sums[i] += p[i];
                    }
                for (int32_t i = 0; i < own; i++) {
                    const int32_t away = sums[i] < 0 ? sums[i] - count / 2 : sums[i] + count / 2;
                    out[c + i] = (int8_t)(int32_t)((float)away / (float)count);
                }
            }
        }
    }
}
