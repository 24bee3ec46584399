#include "s8_add.h"
#include "s8_host_scale.h"

/* An addition as round(a * x + (b * y + c)) of stored values, where the generator has tried that
   on all pairs of inputs and found the integers of s8_add. */
typedef struct {
    float a, b, c;
} s8_float_sum;

#if defined(__AVX2__)
#if defined(__FMA__)
COFIT_INLINE __m256 s8_eight_floats(__m128i bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
#endif

/* Sixteen sums. */
COFIT_INLINE __m128i s8_host_sixteen(const s8_sum *p, const s8_float_sum *f, __m128i x, __m128i y)
{
#if defined(__FMA__)
    const __m256 a = _mm256_set1_ps(f->a), b = _mm256_set1_ps(f->b), c = _mm256_set1_ps(f->c);
    const s8_range range = s8_range_of(0, p->low, p->high);
    __m256i sums[2];
    COFIT_UNROLL(2)
    for (int32_t v = 0; v < 2; v++, x = _mm_srli_si128(x, 8), y = _mm_srli_si128(y, 8)) {
        const __m256 right = _mm256_fmadd_ps(b, s8_eight_floats(y), c);
        sums[v] = _mm256_cvtps_epi32(_mm256_fmadd_ps(a, s8_eight_floats(x), right));
    }
    return s8_narrow(sums[0], sums[1], &range);
#else
    int8_t left[16], right[16];
    (void)f;
    _mm_storeu_si128((__m128i *)(void *)left, x);
    _mm_storeu_si128((__m128i *)(void *)right, y);
    s8_add(p, left, right, 1, 16, left);
    return _mm_loadu_si128((const __m128i *)(const void *)left);
#endif
}
#endif

/* As s8_add. */
COFIT_INLINE void s8_host_sum(const s8_sum *p, const int8_t *x, const int8_t *y, int32_t step,
                              int32_t count, int8_t *out, const s8_float_sum *f)
{
    int32_t i = 0;
#if defined(__AVX2__)
    for (; i + 16 <= count; i += 16) {
        const __m128i left = _mm_loadu_si128((const __m128i *)(const void *)(x + i));
        const __m128i right = step ? _mm_loadu_si128((const __m128i *)(const void *)(y + i))
                                   : _mm_set1_epi8(*y);
        _mm_storeu_si128((__m128i *)(void *)(out + i), s8_host_sixteen(p, f, left, right));
    }
#else
    (void)f;
#endif
    s8_add(p, x + i, y + i * step, step, count - i, out + i);
}
