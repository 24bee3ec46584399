#include "s8_taps.h"

/* The greater of each signed byte. */
COFIT_INLINE uint32_t cofit_max8(uint32_t a, uint32_t b)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t greater;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(greater) : "r"(a), "r"(b) : "cc");
    return greater;
#else
    uint32_t greater = 0;
    for (int32_t i = 0; i < 32; i += 8) {
        const int8_t p = (int8_t)(a >> i), q = (int8_t)(b >> i);
        greater |= (uint32_t)(uint8_t)(p > q ? p : q) << i;
    }
    return greater;
#endif
}

COFIT_SHARED void s8_maxpool(const s8_window *w, const int8_t *in, int8_t *out)
{
    const int32_t channels = w->channels;
    for (int32_t oy = 0; oy < w->out_height; oy++) {
        const int32_t y = oy * w->stride_y - w->top;
        const int32_t r0 = s8_first_tap(y, 1), r1 = s8_end_tap(y, 1, w->rows, w->height);
        for (int32_t ox = 0; ox < w->out_width; ox++, out += channels) {
            const int32_t x = ox * w->stride_x - w->left;
            const int32_t s0 = s8_first_tap(x, 1), s1 = s8_end_tap(x, 1, w->columns, w->width);
            const int8_t *const first = in + ((y + r0) * w->width + x + s0) * channels;
            int32_t c = 0;
            for (; c + 4 <= channels; c += 4) {
                uint32_t best = cofit_word(first + c);
                for (int32_t r = 0; r < r1 - r0; r++) {
                    const int8_t *p = first + r * w->width * channels + c;
                    for (int32_t s = s0; s < s1; s++, p += channels)
                        best = cofit_max8(best, cofit_word(p));
                }
                __builtin_memcpy(out + c, &best, 4);
            }
            for (; c < channels; c++) {
                int8_t best = first[c];
                for (int32_t r = 0; r < r1 - r0; r++) {
                    const int8_t *p = first + r * w->width * channels + c;
                    for (int32_t s = s0; s < s1; s++, p += channels)
                        best = *p > best ? *p : best;
                }
                out[c] = best;
            }
        }
    }
}
