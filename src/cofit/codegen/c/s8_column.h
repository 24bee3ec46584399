#include "s8_widen.h"
#include "s8_window.h"

COFIT_INLINE int16_t *s8_zeros(int16_t *to, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        to[i] = 0;
    return to + count;
}

/* The window at one output pixel as int16 without zero point, in order row, column, channel. */
COFIT_SHARED void s8_column(const s8_window *w, const int8_t *in, int32_t pixel, int16_t *to)
{
    const int32_t y = pixel / w->out_width * w->stride_y - w->top;
    const int32_t x = pixel % w->out_width * w->stride_x - w->left;
    const int32_t whole = w->dilation_x == 1 && w->channels == w->pitch;
    for (int32_t r = 0; r < w->rows; r++) {
        const int32_t iy = y + r * w->dilation_y;
        if (iy < 0 || iy >= w->height) {
            to = s8_zeros(to, w->columns * w->channels);
        } else if (whole) {
            const int32_t before = x < 0 ? -x : 0;
            const int32_t room = w->width - x;
            const int32_t end = room < w->columns ? room : w->columns;
            const int32_t first = before < end ? before : end > 0 ? end : 0;
            const int32_t inside = end > first ? (end - first) * w->channels : 0;
            to = s8_zeros(to, first * w->channels);
            if (inside > 0)
                s8_widen(in + (iy * w->width + x + first) * w->pitch, inside, w->offset, to);
            to = s8_zeros(to + inside, (w->columns - first) * w->channels - inside);
        } else {
            for (int32_t s = 0; s < w->columns; s++) {
                const int32_t ix = x + s * w->dilation_x;
                if (ix < 0 || ix >= w->width)
                    (void)s8_zeros(to, w->channels);
                else
                    s8_widen(in + (iy * w->width + ix) * w->pitch, w->channels, w->offset, to);
                to += w->channels;
            }
        }
    }
}
