#include "s8_host_lanes.h"
#include "s8_taps.h"

/* As s8_maxpool, channels side by side; in line, where the window is known. */
COFIT_INLINE void s8_host_maxpool(const s8_window *w, const int8_t *restrict in,
                                  int8_t *restrict out)
{
    const int32_t channels = w->channels;
    for (int32_t oy = 0; oy < w->out_height; oy++) {
        const int32_t y = oy * w->stride_y - w->top;
        const int32_t r0 = s8_first_tap(y, 1), r1 = s8_end_tap(y, 1, w->rows, w->height);
        for (int32_t ox = 0; ox < w->out_width; ox++, out += channels) {
            const int32_t x = ox * w->stride_x - w->left;
            const int32_t s0 = s8_first_tap(x, 1), s1 = s8_end_tap(x, 1, w->columns, w->width);
            int32_t first = 0;
#if defined(__AVX2__)
            for (; first + 32 <= channels; first += 32) {
                __m256i most = _mm256_set1_epi8(-128);
                for (int32_t r = y + r0; r < y + r1; r++)
                    for (int32_t s = x + s0; s < x + s1; s++) {
                        const int8_t *const p = in + (r * w->width + s) * channels + first;
                        most = _mm256_max_epi8(
                            most, _mm256_loadu_si256((const __m256i *)(const void *)p));
                    }
                _mm256_storeu_si256((__m256i *)(void *)(out + first), most);
            }
#endif
            __builtin_memset(out + first, -128, (size_t)(channels - first));
            for (int32_t r = y + r0; r < y + r1; r++)
                for (int32_t s = x + s0; s < x + s1; s++) {
                    const int8_t *const p = in + (r * w->width + s) * channels;
                    for (int32_t c = first; c < channels; c++)
                        out[c] = p[c] > out[c] ? p[c] : out[c];
                }
        }
    }
}
