#include "s8_host_lanes.h"

/* How a vector of accumulators is scaled. S8_TWICE and S8_ONCE round twice and once, need
   |acc| < 2^30 and shifts from -31 to -1. S8_FLOAT is S8_ONCE by one float32 multiplication, where
   the generator has proven that neither it nor a tie can differ. S8_ANY is the graph's
   `s8_requantise`, lane by lane. */
typedef enum { S8_ANY, S8_TWICE, S8_ONCE, S8_FLOAT } s8_host_rounding;

#if defined(__AVX2__)
typedef struct {
    __m256i even, odd; /* multipliers of even and odd lanes */
    __m256i right;     /* minus the shift */
    __m256i half;      /* 2^(right - 1) */
    __m256 real;       /* multiplier / 2^31 / 2^right */
} s8_factor;

/* Products of even lanes as int64. Of the intrinsic, compilers move the sign extension out of the
   loop and then no longer know that 32 bits are enough. */
COFIT_INLINE __m256i s8_mul_even(__m256i a, __m256i b)
{
    __m256i product;
    __asm__("vpmuldq %2, %1, %0" : "=x"(product) : "x"(a), "x"(b));
    return product;
}

COFIT_INLINE s8_factor s8_factor_of(__m256i multiplier, __m256i shift)
{
    s8_factor f;
    f.even = multiplier;
    f.odd = _mm256_srli_epi64(multiplier, 32);
    f.right = _mm256_sub_epi32(_mm256_setzero_si256(), shift);
    f.half = _mm256_sllv_epi32(_mm256_set1_epi32(1),
                               _mm256_sub_epi32(f.right, _mm256_set1_epi32(1)));
    f.real = _mm256_mul_ps(_mm256_cvtepi32_ps(multiplier), /* a power of two from its exponent */
                           _mm256_castsi256_ps(_mm256_slli_epi32(
                               _mm256_add_epi32(shift, _mm256_set1_epi32(127 - 31)), 23)));
    return f;
}

/* The product's upper half of twice acc is acc * multiplier / 2^31. Rounded once, what is below
   it cannot reach the half of the right shift. */
COFIT_INLINE __m256i s8_scaled(__m256i acc, const s8_factor *f, const s8_host_rounding rounding)
{
#if defined(__FMA__)
    if (rounding == S8_FLOAT) { /* the sum with 1.5 * 2^23 is rounded to an integer */
        const __m256 sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), f->real,
                                           _mm256_set1_ps(12582912.0f));
        return _mm256_sub_epi32(_mm256_castps_si256(sum), _mm256_set1_epi32(0x4b400000));
    }
#endif
    const __m256i twice = _mm256_add_epi32(acc, acc);
    __m256i even = s8_mul_even(twice, f->even);
    __m256i odd = s8_mul_even(_mm256_srli_epi64(twice, 32), f->odd);
    if (rounding == S8_TWICE) {
        const __m256i nudge = _mm256_set1_epi64x((int64_t)1 << 31);
        even = _mm256_add_epi64(even, nudge);
        odd = _mm256_add_epi64(odd, nudge);
    }
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    __m256i sum = _mm256_add_epi32(high, f->half);
    if (rounding == S8_TWICE)
        sum = _mm256_add_epi32(sum, _mm256_srai_epi32(high, 31));
    return _mm256_srav_epi32(sum, f->right);
}

COFIT_INLINE __m128i s8_load_eight(const int8_t *from)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)from);
}

/* Eight int8 without zero point. */
COFIT_INLINE __m256i s8_host_eight(const int8_t *from, int32_t offset)
{
    return _mm256_add_epi32(_mm256_cvtepi8_epi32(s8_load_eight(from)),
                            _mm256_set1_epi32(offset));
}

/* What follows the scaling: zero point to add, least and greatest output. */
typedef struct {
    __m256i zero_point;
    __m128i low, high;
} s8_range;

COFIT_INLINE s8_range s8_range_of(int32_t zero_point, int32_t low, int32_t high)
{
    const s8_range range = {_mm256_set1_epi16((int16_t)zero_point), _mm_set1_epi8((int8_t)low),
                            _mm_set1_epi8((int8_t)high)};
    return range;
}

/* 16 scaled sums to int8. */
COFIT_INLINE __m128i s8_narrow(__m256i first, __m256i second, const s8_range *range)
{
    const __m256i crossed = _mm256_packs_epi32(first, second);
    const __m256i words = _mm256_adds_epi16(_mm256_permute4x64_epi64(crossed, 0xd8),
                                            range->zero_point);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words),
                                          _mm256_extracti128_si256(words, 1));
    return _mm_min_epi8(_mm_max_epi8(bytes, range->low), range->high);
}
#endif
