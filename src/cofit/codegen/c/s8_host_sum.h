#include "s8_add.h"
#include "s8_host_scale.h"

/* An addition as round(a * x + (b * y + c)) of stored values, where the generator has tried that
   on all pairs of inputs and found the integers of s8_add. */
typedef struct {
    float a, b, c;
} s8_float_sum;

#if defined(__AVX2__) && defined(__FMA__)
COFIT_INLINE __m256 s8_eight_floats(const int8_t *from)
{
    return _mm256_cvtepi32_ps(s8_host_eight(from, 0));
}
#endif

/* As s8_add. */
COFIT_INLINE void s8_host_sum(const s8_sum *p, const int8_t *x, const int8_t *y, int32_t step,
                              int32_t count, int8_t *out, const s8_float_sum *f)
{
    int32_t i = 0;
#if defined(__AVX2__) && defined(__FMA__)
    const __m256 a = _mm256_set1_ps(f->a), b = _mm256_set1_ps(f->b), c = _mm256_set1_ps(f->c);
    const __m256 same = _mm256_fmadd_ps(b, _mm256_set1_ps((float)*y), c);
    const s8_range range = s8_range_of(0, p->low, p->high);
    for (; i + 16 <= count; i += 16) {
        __m256i sums[2];
        COFIT_UNROLL(2)
        for (int32_t v = 0; v < 2; v++) {
            const int32_t at = i + v * S8_LANES;
            const __m256 right = step ? _mm256_fmadd_ps(b, s8_eight_floats(y + at), c) : same;
            sums[v] = _mm256_cvtps_epi32(_mm256_fmadd_ps(a, s8_eight_floats(x + at), right));
        }
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         s8_narrow(sums[0], sums[1], &range));
    }
#else
    (void)f;
#endif
    s8_add(p, x + i, y + i * step, step, count - i, out + i);
}
