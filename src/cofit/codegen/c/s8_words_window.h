#include "s8_lift.h"
#include "s8_spread.h"
#include "s8_taps.h"

COFIT_INLINE uint32_t *s8_zero_words(uint32_t zero, uint32_t base, int32_t words, uint32_t *to,
                                     const int lift)
{
    COFIT_UNROLL(1)
    for (; words > 0; words--)
        to = lift ? s8_lift_word(zero, to, 2) : s8_spread_word(zero, base, to, 2);
    return to;
}

/* The window at one output pixel, lifted or spread, in order row, column, channel; channels in
   fours. */
COFIT_INLINE void s8_words_window(const s8_window *w, const int8_t *in, int32_t pixel, uint32_t *to,
                                  const int lift)
{
    const int32_t y = pixel / w->out_width * w->stride_y - w->top;
    const int32_t x = pixel % w->out_width * w->stride_x - w->left;
    const int32_t words = w->channels >> 2, step = w->dilation_x * w->pitch;
    const int32_t first = s8_first_tap(x, w->dilation_x);
    const int32_t end = s8_end_tap(x, w->dilation_x, w->columns, w->width);
    const int32_t whole = step == w->channels;
    const uint32_t zero = (uint32_t)(uint8_t)-w->offset * 0x01010101u;
    const uint32_t base = cofit_pack(w->offset, w->offset);
    for (int32_t r = 0; r < w->rows; r++) {
        const int32_t iy = y + r * w->dilation_y;
        const int32_t inside = iy >= 0 && iy < w->height && first < end;
        const int32_t before = inside ? first : w->columns, after = inside ? w->columns - end : 0;
        to = s8_zero_words(zero, base, before * words, to, lift);
        if (inside) {
            const int8_t *from = in + (iy * w->width + x) * w->pitch + first * step;
            const int32_t run = whole ? (end - first) * words : words;
            for (int32_t s = whole ? end - 1 : first; s < end; s++, from += step)
                to = lift ? s8_lift_2(from, run, to) : s8_spread_2(from, run, to, base);
        }
        to = s8_zero_words(zero, base, after * words, to, lift);
    }
}

COFIT_SHARED void s8_lift_window(const s8_window *w, const int8_t *in, int32_t pixel, uint32_t *to)
{
    s8_words_window(w, in, pixel, to, 1);
}

COFIT_SHARED void s8_spread_window(const s8_window *w, const int8_t *in, int32_t pixel,
                                   uint32_t *to)
{
    s8_words_window(w, in, pixel, to, 0);
}
