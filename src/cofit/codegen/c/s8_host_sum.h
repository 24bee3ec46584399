#include "s8_add.h"
#include "s8_host_scale.h"

/* An addition as round(a * x + (b * y + c)) of stored values, where the generator has tried that
   on all pairs of inputs and found the integers of s8_add. */
typedef struct {
    float a, b, c;
} s8_float_sum;

#if defined(__AVX2__) && defined(__FMA__)
typedef struct {
    __m256 a, b, c;
    s8_range range;
} s8_sum_lanes;

COFIT_INLINE s8_sum_lanes s8_sum_lanes_of(const s8_sum *p, const s8_float_sum *f)
{
    const s8_sum_lanes lanes = {_mm256_set1_ps(f->a), _mm256_set1_ps(f->b), _mm256_set1_ps(f->c),
                                s8_range_of(0, p->low, p->high)};
    return lanes;
}

/* Eight sums of int32 and int8, still to be clamped. */
COFIT_INLINE __m256i s8_sum_eight(const s8_sum_lanes *sum, __m256i x, __m128i y)
{
    const __m256 right = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(y));
    return _mm256_cvtps_epi32(_mm256_fmadd_ps(
        sum->a, _mm256_cvtepi32_ps(x), _mm256_fmadd_ps(sum->b, right, sum->c)));
}
#endif

/* As s8_add. */
COFIT_INLINE void s8_host_sum(const s8_sum *p, const int8_t *x, const int8_t *y, int32_t step,
                              int32_t count, int8_t *out, const s8_float_sum *f)
{
    int32_t i = 0;
#if defined(__AVX2__) && defined(__FMA__)
    const s8_sum_lanes lanes = s8_sum_lanes_of(p, f);
    const __m128i same = _mm_set1_epi8(*y);
    for (; i + 16 <= count; i += 16) {
        __m256i sums[2];
        COFIT_UNROLL(2)
        for (int32_t v = 0; v < 2; v++) {
            const int32_t at = i + v * S8_LANES;
            const __m128i right = step ? s8_load_eight(y + at) : same;
            sums[v] = s8_sum_eight(&lanes, s8_host_eight(x + at, 0), right);
        }
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         s8_narrow(sums[0], sums[1], &lanes.range));
    }
#else
    (void)f;
#endif
    s8_add(p, x + i, y + i * step, step, count - i, out + i);
}
