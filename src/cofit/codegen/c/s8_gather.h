#include "s8_taps.h"

COFIT_INLINE int8_t *s8_gather_run(const int8_t *from, int32_t count, int8_t *to)
{
    COFIT_UNROLL(1)
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        const uint32_t word = cofit_word(from);
        __builtin_memcpy(to, &word, 4);
    }
    COFIT_UNROLL(1)
    for (; count > 0; count--)
        *to++ = *from++;
    return to;
}

COFIT_INLINE int8_t *s8_gather_fill(int8_t value, int32_t count, int8_t *to)
{
    COFIT_UNROLL(1)
    for (; count > 0; count--)
        *to++ = value;
    return to;
}

/* The bytes of the window at one output pixel, in order row, column, channel; outside the image the
   zero point. */
COFIT_SHARED void s8_gather(const s8_window *w, const int8_t *in, int32_t pixel, int8_t *to)
{
    const int32_t y = pixel / w->out_width * w->stride_y - w->top;
    const int32_t x = pixel % w->out_width * w->stride_x - w->left;
    const int32_t whole = w->dilation_x == 1 && w->channels == w->pitch;
    const int32_t first = s8_first_tap(x, w->dilation_x);
    const int32_t end = s8_end_tap(x, w->dilation_x, w->columns, w->width);
    const int8_t zero = (int8_t)-w->offset;
    COFIT_UNROLL(1)
    for (int32_t r = 0; r < w->rows; r++) {
        const int32_t iy = y + r * w->dilation_y;
        const int32_t inside = iy >= 0 && iy < w->height && first < end;
        const int32_t before = inside ? first : w->columns, after = inside ? w->columns - end : 0;
        to = s8_gather_fill(zero, before * w->channels, to);
        if (inside) {
            const int8_t *from = in + (iy * w->width + x + first * w->dilation_x) * w->pitch;
            if (whole) {
                to = s8_gather_run(from, (end - first) * w->channels, to);
            } else {
                COFIT_UNROLL(1)
                for (int32_t s = first; s < end; s++, from += w->dilation_x * w->pitch)
                    to = s8_gather_run(from, w->channels, to);
            }
        }
        to = s8_gather_fill(zero, after * w->channels, to);
    }
}
