#include "s8_host_scale.h"
#include "s8_layernorm.h"

#if defined(__AVX2__)
/* Floor of the square root of a number below 2^52: that of the double may be one too large. */
COFIT_INLINE uint32_t s8_host_root(uint64_t value)
{
    const __m128d real = _mm_set_sd((double)value);
    const uint64_t root = (uint64_t)_mm_cvtsd_f64(_mm_sqrt_sd(real, real));
    return (uint32_t)(root - (root * root > value));
}

/* Four |d| * 2^12 / root, rounded half up. Doubles hold numerators to their half, which keeps
   quotients away from integers by more than the inverse is wrong. */
COFIT_INLINE __m128i s8_norm_quotients(__m128i d, __m256d half, __m256d inverse)
{
    const __m256d size = _mm256_cvtepi32_pd(_mm_abs_epi32(d));
    const __m256d top = _mm256_add_pd(_mm256_mul_pd(size, _mm256_set1_pd(4096.0)), half);
    return _mm_sign_epi32(_mm256_cvttpd_epi32(_mm256_mul_pd(top, inverse)), d);
}
#endif

/* As s8_layernorm. */
COFIT_INLINE void s8_host_layernorm(const s8_norm *p, const int8_t *x, const int16_t *weight,
                                    const int32_t *bias, int32_t rows, int32_t count, int8_t *out,
                                    const s8_host_rounding rounding)
{
#if defined(__AVX2__)
    const s8_factor f = s8_factor_of(_mm256_set1_epi32(p->multiplier),
                                     _mm256_set1_epi32(p->shift));
    const s8_range range = s8_range_of(p->zero_point, p->low, p->high);
    for (int32_t row = 0; row < rows; row++, x += count, out += count) {
        uint64_t variance;
        const int32_t sum = s8_norm_sums(x, count, &variance);
        const uint32_t found = s8_host_root(variance + p->epsilon), root = found > 0 ? found : 1;
        const __m256d half = _mm256_set1_pd((double)(root >> 1) + 0.5);
        const __m256d inverse = _mm256_set1_pd(1.0 / (double)root);
        int32_t i = 0;
        for (; i + 16 <= count; i += 16) {
            __m256i scaled[2];
            COFIT_UNROLL(2)
            for (int32_t v = 0; v < 2; v++) {
                const int32_t at = i + v * S8_LANES;
                const __m256i d = _mm256_sub_epi32(
                    _mm256_mullo_epi32(s8_host_eight(x + at, 0), _mm256_set1_epi32(count)),
                    _mm256_set1_epi32(sum));
                const __m128i low = s8_norm_quotients(_mm256_castsi256_si128(d), half, inverse);
                const __m128i high =
                    s8_norm_quotients(_mm256_extracti128_si256(d, 1), half, inverse);
                const __m256i w = _mm256_cvtepi16_epi32(
                    _mm_loadu_si128((const __m128i *)(const void *)(weight + at)));
                const __m256i acc = _mm256_add_epi32(
                    _mm256_mullo_epi32(w, _mm256_set_m128i(high, low)), s8_load(bias + at));
                scaled[v] = s8_scaled(acc, &f, rounding);
            }
            _mm_storeu_si128((__m128i *)(void *)(out + i),
                             s8_narrow(scaled[0], scaled[1], &range));
        }
        s8_norm_rest(p, x, weight, bias, i, count, sum, root, out);
    }
#else
    (void)rounding;
    s8_layernorm(p, x, weight, bias, rows, count, out);
#endif
}
