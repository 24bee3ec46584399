#include "s8_lift.h"
#include "s8_taps.h"

/* The window at one output pixel, lifted, in order row, column, channel; channels in fours. */
COFIT_SHARED void s8_lift_window(const s8_window *w, const int8_t *in, int32_t pixel, uint32_t *to)
{
    const int32_t y = pixel / w->out_width * w->stride_y - w->top;
    const int32_t x = pixel % w->out_width * w->stride_x - w->left;
    const int32_t words = w->channels >> 2;
    const int32_t whole = w->dilation_x == 1 && w->channels == w->pitch;
    const int32_t first = s8_first_tap(x, w->dilation_x);
    const int32_t end = s8_end_tap(x, w->dilation_x, w->columns, w->width);
    const uint32_t zero = (uint32_t)(uint8_t)-w->offset * 0x01010101u;
    for (int32_t r = 0; r < w->rows; r++) {
        const int32_t iy = y + r * w->dilation_y;
        const int32_t inside = iy >= 0 && iy < w->height && first < end;
        const int32_t before = inside ? first : w->columns, after = inside ? w->columns - end : 0;
        COFIT_UNROLL(1)
        for (int32_t i = before * words; i > 0; i--)
            to = s8_lift_word(zero, to, 2);
        if (inside) {
            const int8_t *from = in + (iy * w->width + x + first * w->dilation_x) * w->pitch;
            if (whole) {
                to = s8_lift_2(from, (end - first) * words, to);
            } else {
                for (int32_t s = first; s < end; s++, from += w->dilation_x * w->pitch)
                    to = s8_lift_2(from, words, to);
            }
        }
        COFIT_UNROLL(1)
        for (int32_t i = after * words; i > 0; i--)
            to = s8_lift_word(zero, to, 2);
    }
}
