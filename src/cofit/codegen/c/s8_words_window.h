#include "s8_lift.h"
#include "s8_spread.h"
#include "s8_taps.h"
#include "s8_weave.h"

/* Forms of a column. */
enum { S8_LIFTED, S8_SPREAD, S8_WOVEN };

COFIT_INLINE void *s8_words(const int8_t *from, int32_t words, void *to, uint32_t base,
                            const int form)
{
    if (form == S8_LIFTED)
        return s8_lift_2(from, words, to);
    return form == S8_SPREAD ? s8_spread_2(from, words, to, base)
                             : s8_weave_2(from, words, to, base);
}

COFIT_INLINE void *s8_same_words(uint32_t word, int32_t words, void *to, uint32_t base,
                                 const int form)
{
    COFIT_UNROLL(1)
    for (; words > 0; words--)
        if (form == S8_LIFTED)
            to = s8_lift_word(word, to, 2);
        else if (form == S8_SPREAD)
            to = s8_spread_word(word, base, to, 2);
        else
            to = s8_weave_word(word, base, to);
    return to;
}

/* The window at one output pixel, in one of the forms, in order row, column, channel; channels in
   fours. */
COFIT_INLINE void s8_words_window(const s8_window *w, const int8_t *in, int32_t pixel, void *to,
                                  const int form)
{
    const int32_t y = pixel / w->out_width * w->stride_y - w->top;
    const int32_t x = pixel % w->out_width * w->stride_x - w->left;
    const int32_t words = w->channels >> 2, step = w->dilation_x * w->pitch;
    const int32_t first = s8_first_tap(x, w->dilation_x);
    const int32_t end = s8_end_tap(x, w->dilation_x, w->columns, w->width);
    const int32_t whole = step == w->channels;
    const uint32_t zero = (uint32_t)(uint8_t)-w->offset * 0x01010101u;
    const uint32_t base = cofit_pack(w->offset, w->offset);
    COFIT_UNROLL(1)
    for (int32_t r = 0; r < w->rows; r++) {
        const int32_t iy = y + r * w->dilation_y;
        const int32_t inside = iy >= 0 && iy < w->height && first < end;
        const int32_t before = inside ? first : w->columns, after = inside ? w->columns - end : 0;
        to = s8_same_words(zero, before * words, to, base, form);
        if (inside) {
            const int8_t *from = in + (iy * w->width + x) * w->pitch + first * step;
            const int32_t run = whole ? (end - first) * words : words;
            COFIT_UNROLL(1)
            for (int32_t s = whole ? end - 1 : first; s < end; s++, from += step)
                to = s8_words(from, run, to, base, form);
        }
        to = s8_same_words(zero, after * words, to, base, form);
    }
}

COFIT_SHARED void s8_lift_window(const s8_window *w, const int8_t *in, int32_t pixel, uint32_t *to)
{
    s8_words_window(w, in, pixel, to, S8_LIFTED);
}

COFIT_SHARED void s8_spread_window(const s8_window *w, const int8_t *in, int32_t pixel,
                                   uint32_t *to)
{
    s8_words_window(w, in, pixel, to, S8_SPREAD);
}

COFIT_SHARED void s8_weave_window(const s8_window *w, const int8_t *in, int32_t pixel, void *to)
{
    s8_words_window(w, in, pixel, to, S8_WOVEN);
}
