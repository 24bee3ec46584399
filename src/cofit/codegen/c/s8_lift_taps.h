#include "s8_lift.h"
#include "s8_window.h"

/* Pattern by pattern, channel by channel: the lifted values of the pattern's four taps at one
   output pixel. Kernels have nine taps, channels come in fours; `zeros` is a pixel of zero points. */
COFIT_SHARED void s8_lift_taps(const s8_window *w, const int8_t *in, int32_t pixel,
                               const uint8_t *tap, int32_t patterns, const int8_t *zeros,
                               uint32_t *to)
{
    const int32_t y = pixel / w->out_width * w->stride_y - w->top;
    const int32_t x = pixel % w->out_width * w->stride_x - w->left;
    const uint32_t mask = 0x00ff00ffu;
    const int32_t step = w->dilation_x * w->pitch;
    const int8_t *at[9], **to_at = at;
    for (int32_t iy = y, r = 0; r < 3; r++, iy += w->dilation_y) {
        const int8_t *from = in + (iy * w->width + x) * w->pitch;
        const uint32_t width = iy >= 0 && iy < w->height ? (uint32_t)w->width : 0;
        for (int32_t ix = x, s = 0; s < 3; s++, ix += w->dilation_x, from += step)
            *to_at++ = (uint32_t)ix < width ? from : zeros;
    }
    for (; patterns > 0; patterns--, tap += 4) {
        const int8_t *p0 = at[tap[0]], *p1 = at[tap[1]], *p2 = at[tap[2]], *p3 = at[tap[3]];
        const int8_t *const end = p0 + w->channels;
        COFIT_UNROLL(1)
        while (p0 != end) {
            const uint32_t t0 = cofit_word(p0), t1 = cofit_word(p1);
            const uint32_t t2 = cofit_word(p2), t3 = cofit_word(p3);
            p0 += 4, p1 += 4, p2 += 4, p3 += 4;
            COFIT_KEEP(p1);
            COFIT_KEEP(p2);
            COFIT_KEEP(p3);
            /* channels 0 and 2, then 1 and 3, of two taps each */
            const uint32_t even0 = (t0 & mask) | (t1 & mask) << 8;
            const uint32_t even1 = (t2 & mask) | (t3 & mask) << 8;
            const uint32_t odd0 = (t0 >> 8 & mask) | (t1 & ~mask);
            const uint32_t odd1 = (t2 >> 8 & mask) | (t3 & ~mask);
            to = s8_lift_word((even0 & 0xffffu) | even1 << 16, to, 2);
            to = s8_lift_word((odd0 & 0xffffu) | odd1 << 16, to, 2);
            to = s8_lift_word((even0 >> 16) | (even1 & 0xffff0000u), to, 2);
            to = s8_lift_word((odd0 >> 16) | (odd1 & 0xffff0000u), to, 2);
        }
    }
}
