#include "s8_host_scale.h"
#include "s8_mul.h"

/* As s8_mul. */
COFIT_INLINE void s8_host_mul(const s8_product *p, const int8_t *x, const int8_t *y, int32_t step,
                              int32_t count, int8_t *out, const s8_host_rounding rounding)
{
    int32_t i = 0;
#if defined(__AVX2__)
    const s8_factor f = s8_factor_of(_mm256_set1_epi32(p->multiplier),
                                     _mm256_set1_epi32(p->shift));
    for (; i + 16 <= count; i += 16) {
        __m256i products[2];
        COFIT_UNROLL(2)
        for (int32_t v = 0; v < 2; v++) {
            const int32_t at = i + v * S8_LANES;
            const __m256i left = s8_host_eight(x + at, p->x_offset);
            const __m256i right = step ? s8_host_eight(y + at, p->y_offset)
                                       : _mm256_set1_epi32(*y + p->y_offset);
            products[v] = s8_scaled(_mm256_mullo_epi32(left, right), &f, rounding);
        }
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         s8_narrow(products[0], products[1], p->zero_point, p->low, p->high));
    }
#else
    (void)rounding;
#endif
    s8_mul(p, x + i, y + i * step, step, count - i, out + i);
}
