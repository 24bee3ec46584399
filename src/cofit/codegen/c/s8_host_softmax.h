#include "s8_softmax.h"
#if defined(__AVX2__)
#include <immintrin.h>

/* Eight exponentials by `twice` / 2^32, and by 2^-bits, halves up. */
COFIT_INLINE __m256i s8_shares(const uint32_t *e, __m256i twice, __m256i half, __m128i bits)
{
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)e);
    const __m256i nudge = _mm256_set1_epi64x((int64_t)1 << 31);
    const __m256i even = _mm256_add_epi64(_mm256_mul_epu32(x, twice), nudge);
    const __m256i odd = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(x, 32), twice), nudge);
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_srl_epi32(_mm256_add_epi32(high, half), bits);
}

/* Greatest of 16 int8 or more: the last sixteen overlap those before. */
COFIT_INLINE int8_t s8_greatest_of_many(const int8_t *x, int32_t count)
{
    __m128i most = _mm_loadu_si128((const __m128i *)(const void *)(x + count - 16));
    for (int32_t i = 0; i + 16 < count; i += 16)
        most = _mm_max_epi8(most, _mm_loadu_si128((const __m128i *)(const void *)(x + i)));
    most = _mm_max_epi8(most, _mm_srli_si128(most, 8));
    most = _mm_max_epi8(most, _mm_srli_epi64(most, 32));
    most = _mm_max_epi8(most, _mm_srli_epi32(most, 16));
    most = _mm_max_epi8(most, _mm_srli_epi16(most, 8));
    return (int8_t)_mm_extract_epi8(most, 0);
}
#endif

COFIT_INLINE int8_t s8_greatest(const int8_t *x, int32_t count)
{
#if defined(__AVX2__)
    if (count >= 16)
        return s8_greatest_of_many(x, count);
#endif
    int8_t most = x[0];
    for (int32_t i = 1; i < count; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* Softmax of `rows` rows of `count`, as s8_softmax; exponentials[255 + d] is that of the
   difference d, zero where it is not counted. `e` holds a row of them. No value is negative, so
   that halves round up. */
COFIT_SHARED void s8_host_softmax(const uint32_t *exponentials, const int8_t *x, int32_t rows,
                                  int32_t count, uint32_t *restrict e, int8_t *out)
{
    for (int32_t row = 0; row < rows; row++, x += count, out += count) {
        uint32_t total = 0;
        const int32_t last = 255 - s8_greatest(x, count);
        COFIT_UNROLL(8)
        for (int32_t i = 0; i < count; i++)
            e[i] = exponentials[last + x[i]];
        for (int32_t i = 0; i < count; i++)
            total += (e[i] + (1u << 11)) >> 12;
        const int32_t headroom = __builtin_clz(total), bits = 35 - headroom;
        const uint32_t twice =
            2u * (uint32_t)s8_reciprocal((int32_t)((total << headroom) - 0x80000000u));
        const uint32_t half = bits > 31 ? 0 : 1u << (bits - 1);
        int32_t i = 0;
#if defined(__AVX2__)
        const __m256i factor = _mm256_set1_epi32((int32_t)twice);
        const __m256i nudge = _mm256_set1_epi32((int32_t)half);
        const __m128i right = _mm_cvtsi32_si128(bits);
        for (; i + 16 <= count; i += 16) {
            const __m256i words = _mm256_sub_epi16(
                _mm256_permute4x64_epi64(
                    _mm256_packs_epi32(s8_shares(e + i, factor, nudge, right),
                                       s8_shares(e + i + 8, factor, nudge, right)),
                    0xd8),
                _mm256_set1_epi16(128));
            _mm_storeu_si128((__m128i *)(void *)(out + i),
                             _mm_packs_epi16(_mm256_castsi256_si128(words),
                                             _mm256_extracti128_si256(words, 1)));
        }
#endif
        for (; i < count; i++) {
            const uint32_t scaled = (uint32_t)(((uint64_t)e[i] * twice + (1u << 31)) >> 32);
            const uint32_t value = bits > 31 ? 0 : (scaled + half) >> bits;
            out[i] = (int8_t)((int32_t)(value < 255 ? value : 255) - 128);
        }
    }
}
