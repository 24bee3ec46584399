#include "s8_lookup.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* As s8_lookup: the 16 parts of the table one after the other, each for the bytes within it. */
COFIT_SHARED void s8_host_lookup(const int8_t *table, const int8_t *x, int32_t count, int8_t *out)
{
    int32_t i = 0;
#if defined(__AVX2__)
    for (; i + 32 <= count; i += 32) {
        __m256i place = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        __m256i found = _mm256_setzero_si256();
        for (int32_t part = 0; part < 256; part += 16) {
            const __m128i entries = _mm_loadu_si128((const __m128i *)(const void *)(table + part));
            /* 0..15 to 0x70..0x7f, all others above 0x7f, where a shuffle gives zero */
            const __m256i within = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
            found = _mm256_or_si256(
                found, _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), within));
            place = _mm256_sub_epi8(place, _mm256_set1_epi8(16));
        }
        _mm256_storeu_si256((__m256i *)(void *)(out + i), found);
    }
#endif
    s8_lookup(table, x + i, count - i, out + i);
}
