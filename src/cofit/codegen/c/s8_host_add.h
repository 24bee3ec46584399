#include "s8_add.h"
#include "s8_host_scale.h"

#if defined(__AVX2__)
/* value * 2^20 scaled; a factor of one half, multiplier 2^30 and shift 0, is exact. */
COFIT_INLINE __m256i s8_host_addend(__m256i value, const s8_factor *f, const int half,
                                    const s8_host_rounding rounding)
{
    return half ? _mm256_slli_epi32(value, 19)
                : s8_scaled(_mm256_slli_epi32(value, 20), f, rounding);
}
#endif

/* As s8_add; `half_x`, `half_y`: that input's factor is one half. */
COFIT_INLINE void s8_host_add(const s8_sum *p, const int8_t *x, const int8_t *y, int32_t step,
                              int32_t count, int8_t *out, const int half_x, const int half_y,
                              const s8_host_rounding rounding)
{
    int32_t i = 0;
#if defined(__AVX2__)
    const s8_factor fx = s8_factor_of(_mm256_set1_epi32(p->x_multiplier),
                                      _mm256_set1_epi32(p->x_shift));
    const s8_factor fy = s8_factor_of(_mm256_set1_epi32(p->y_multiplier),
                                      _mm256_set1_epi32(p->y_shift));
    const s8_factor f = s8_factor_of(_mm256_set1_epi32(p->multiplier),
                                     _mm256_set1_epi32(p->shift));
    for (; i + 16 <= count; i += 16) {
        __m256i sums[2];
        COFIT_UNROLL(2)
        for (int32_t v = 0; v < 2; v++) {
            const int32_t at = i + v * S8_LANES;
            const __m256i left = s8_host_eight(x + at, p->x_offset);
            const __m256i right = step ? s8_host_eight(y + at, p->y_offset)
                                       : _mm256_set1_epi32(*y + p->y_offset);
            sums[v] = s8_scaled(_mm256_add_epi32(s8_host_addend(left, &fx, half_x, rounding),
                                                 s8_host_addend(right, &fy, half_y, rounding)),
                                &f, rounding);
        }
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         s8_narrow(sums[0], sums[1], p->zero_point, p->low, p->high));
    }
#else
    (void)half_x, (void)half_y, (void)rounding;
#endif
    s8_add(p, x + i, y + i * step, step, count - i, out + i);
}
