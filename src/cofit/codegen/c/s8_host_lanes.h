#include "cofit_dsp.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* Eight int32, one output channel each; products are of pairs of int16. */
enum { S8_LANES = 8 };

#if defined(__AVX2__)
typedef __m256i s8_lanes;

COFIT_INLINE s8_lanes s8_load(const int32_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

COFIT_INLINE s8_lanes s8_zero_lanes(void)
{
    return _mm256_setzero_si256();
}

COFIT_INLINE void s8_spill(s8_lanes lanes, int32_t *to)
{
    _mm256_storeu_si256((__m256i *)(void *)to, lanes);
}

/* 16 int8 as eight pairs. */
COFIT_INLINE s8_lanes s8_load_pairs(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

/* 16 int16 as eight pairs. */
COFIT_INLINE s8_lanes s8_load_wide_pairs(const int16_t *w)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)w);
}

/* The pair x[0], x[1] in every lane. */
COFIT_INLINE s8_lanes s8_spread(const int16_t *x)
{
    return _mm256_set1_epi32((int32_t)cofit_word(x));
}

/* The pair x[0], y[0] in every lane; reads x[1] and y[-1] as well. */
COFIT_INLINE s8_lanes s8_spread_apart(const int16_t *x, const int16_t *y)
{
    return _mm256_blend_epi16(s8_spread(x), s8_spread(y - 1), 0xaa);
}

/* Pairs x[i], y[i] of 16 neighbours: lanes 0..3 and 8..11, then 4..7 and 12..15. */
COFIT_INLINE void s8_interleave(const int16_t *x, const int16_t *y, s8_lanes pairs[2])
{
    const __m256i a = s8_load_wide_pairs(x), b = s8_load_wide_pairs(y);
    pairs[0] = _mm256_unpacklo_epi16(a, b);
    pairs[1] = _mm256_unpackhi_epi16(a, b);
}

/* Between that order of 16 lanes and the plain one: its own inverse. */
COFIT_INLINE void s8_regroup(s8_lanes lanes[2])
{
    const __m256i outer = _mm256_permute2x128_si256(lanes[0], lanes[1], 0x20);
    lanes[1] = _mm256_permute2x128_si256(lanes[0], lanes[1], 0x31);
    lanes[0] = outer;
}

/* w.low * x.low + w.high * x.high. */
COFIT_INLINE s8_lanes s8_multiply_pairs(s8_lanes w, s8_lanes x)
{
    return _mm256_madd_epi16(w, x);
}

/* acc + w.low * x.low + w.high * x.high, wrapping. */
COFIT_INLINE s8_lanes s8_add_pairs(s8_lanes acc, s8_lanes w, s8_lanes x)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpwssd_epi32(acc, w, x);
#else
    return _mm256_add_epi32(acc, _mm256_madd_epi16(w, x));
#endif
}
#else
typedef struct {
    int32_t lane[S8_LANES];
} s8_lanes;

COFIT_INLINE s8_lanes s8_load(const int32_t *from)
{
    s8_lanes lanes;
    __builtin_memcpy(lanes.lane, from, sizeof(lanes.lane));
    return lanes;
}

COFIT_INLINE s8_lanes s8_zero_lanes(void)
{
    const s8_lanes zero = {{0, 0, 0, 0, 0, 0, 0, 0}};
    return zero;
}

COFIT_INLINE void s8_spill(s8_lanes lanes, int32_t *to)
{
    __builtin_memcpy(to, lanes.lane, sizeof(lanes.lane));
}

COFIT_INLINE s8_lanes s8_load_pairs(const int8_t *w)
{
    s8_lanes pairs;
    for (int32_t i = 0; i < S8_LANES; i++)
        pairs.lane[i] = (int32_t)cofit_pack(w[2 * i], w[2 * i + 1]);
    return pairs;
}

COFIT_INLINE s8_lanes s8_load_wide_pairs(const int16_t *w)
{
    s8_lanes pairs;
    for (int32_t i = 0; i < S8_LANES; i++)
        pairs.lane[i] = (int32_t)cofit_pack(w[2 * i], w[2 * i + 1]);
    return pairs;
}

COFIT_INLINE s8_lanes s8_spread_apart(const int16_t *x, const int16_t *y)
{
    s8_lanes pairs;
    for (int32_t i = 0; i < S8_LANES; i++)
        pairs.lane[i] = (int32_t)cofit_pack(*x, *y);
    return pairs;
}

COFIT_INLINE s8_lanes s8_spread(const int16_t *x)
{
    return s8_spread_apart(x, x + 1);
}

COFIT_INLINE void s8_interleave(const int16_t *x, const int16_t *y, s8_lanes pairs[2])
{
    for (int32_t i = 0; i < 2 * S8_LANES; i++)
        pairs[i >> 2 & 1].lane[(i >> 3) * 4 + (i & 3)] = (int32_t)cofit_pack(x[i], y[i]);
}

COFIT_INLINE void s8_regroup(s8_lanes lanes[2])
{
    for (int32_t i = 0; i < 4; i++) {
        const int32_t lane = lanes[0].lane[4 + i];
        lanes[0].lane[4 + i] = lanes[1].lane[i];
        lanes[1].lane[i] = lane;
    }
}

COFIT_INLINE s8_lanes s8_add_pairs(s8_lanes acc, s8_lanes w, s8_lanes x)
{
    for (int32_t i = 0; i < S8_LANES; i++)
        acc.lane[i] = cofit_smlad((uint32_t)w.lane[i], (uint32_t)x.lane[i], acc.lane[i]);
    return acc;
}

COFIT_INLINE s8_lanes s8_multiply_pairs(s8_lanes w, s8_lanes x)
{
    return s8_add_pairs(s8_zero_lanes(), w, x);
}
#endif

#if defined(__AVX512BW__)
/* Both vectors of sixteen rows at once; the order of lanes is the plain one. */
typedef __m512i s8_both;

COFIT_INLINE s8_both s8_both_load(const int32_t *from)
{
    return _mm512_loadu_si512((const void *)from);
}

COFIT_INLINE void s8_both_spill(s8_both rows, int32_t *to)
{
    _mm512_storeu_si512((void *)to, rows);
}

/* 32 int8 as sixteen pairs. */
COFIT_INLINE s8_both s8_both_pairs(const int8_t *w)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)w));
}

COFIT_INLINE s8_both s8_both_spread(const int16_t *x)
{
    return _mm512_set1_epi32((int32_t)cofit_word(x));
}

COFIT_INLINE s8_both s8_both_spread_apart(const int16_t *x, const int16_t *y)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, s8_both_spread(x), s8_both_spread(y - 1));
}

COFIT_INLINE s8_both s8_both_multiply(s8_both w, s8_both x)
{
    return _mm512_madd_epi16(w, x);
}

COFIT_INLINE s8_both s8_both_add(s8_both acc, s8_both w, s8_both x)
{
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(acc, w, x);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(w, x));
#endif
}
#endif
