#include "s8_taps.h"

/* `whole`: divide by the whole window everywhere, padding counting as `fill`. */
COFIT_SHARED void s8_avgpool(const s8_window *w, const int8_t *in, int8_t *out, int32_t whole,
                             int32_t fill)
{
    const int32_t channels = w->channels, area = w->rows * w->columns;
    for (int32_t oy = 0; oy < w->out_height; oy++) {
        const int32_t y = oy * w->stride_y - w->top;
        const int32_t r0 = s8_first_tap(y, 1), r1 = s8_end_tap(y, 1, w->rows, w->height);
        for (int32_t ox = 0; ox < w->out_width; ox++, out += channels) {
            const int32_t x = ox * w->stride_x - w->left;
            const int32_t s0 = s8_first_tap(x, 1), s1 = s8_end_tap(x, 1, w->columns, w->width);
            const int8_t *const first = in + ((y + r0) * w->width + x + s0) * channels;
            const int32_t inside = (r1 - r0) * (s1 - s0);
            const int32_t count = whole ? area : inside;
            for (int32_t c = 0; c < channels; c++) {
                int32_t sum = (count - inside) * fill;
                for (int32_t r = 0; r < r1 - r0; r++) {
                    const int8_t *p = first + r * w->width * channels + c;
                    for (int32_t s = s0; s < s1; s++, p += channels)
                        sum += *p;
                }
                out[c] = (int8_t)((sum < 0 ? sum - count / 2 : sum + count / 2) / count);
            }
        }
    }
}
