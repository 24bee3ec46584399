#include "s8_taps.h"

/* As s8_maxpool, channels side by side. */
COFIT_SHARED void s8_host_maxpool(const s8_window *w, const int8_t *restrict in,
                                  int8_t *restrict out)
{
    const int32_t channels = w->channels;
    for (int32_t oy = 0; oy < w->out_height; oy++) {
        const int32_t y = oy * w->stride_y - w->top;
        const int32_t r0 = s8_first_tap(y, 1), r1 = s8_end_tap(y, 1, w->rows, w->height);
        for (int32_t ox = 0; ox < w->out_width; ox++, out += channels) {
            const int32_t x = ox * w->stride_x - w->left;
            const int32_t s0 = s8_first_tap(x, 1), s1 = s8_end_tap(x, 1, w->columns, w->width);
            __builtin_memset(out, -128, (size_t)channels);
            for (int32_t r = y + r0; r < y + r1; r++)
                for (int32_t s = x + s0; s < x + s1; s++) {
                    const int8_t *const p = in + (r * w->width + s) * channels;
                    for (int32_t c = 0; c < channels; c++)
                        out[c] = p[c] > out[c] ? p[c] : out[c];
                }
        }
    }
}
