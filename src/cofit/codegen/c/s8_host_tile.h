#include "s8_layer.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* Eight output channels by pairs of columns; weights of a pair lie together, channel by channel.
   `vectors` eights and `pixels` columns are constant after inlining. */
enum { S8_LANES = 8, S8_PIXELS = 4 };

#if defined(__AVX2__)
typedef __m256i s8_lanes;

COFIT_INLINE s8_lanes s8_load_pairs(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

COFIT_INLINE s8_lanes s8_zero_lanes(void)
{
    return _mm256_setzero_si256();
}

COFIT_INLINE s8_lanes s8_add_pairs(s8_lanes acc, s8_lanes w, uint32_t x)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(w, _mm256_set1_epi32((int32_t)x)));
}

COFIT_INLINE void s8_spill(s8_lanes acc, int32_t *to)
{
    _mm256_storeu_si256((__m256i *)(void *)to, acc);
}
#else
typedef struct {
    int32_t lane[S8_LANES];
} s8_lanes;

COFIT_INLINE s8_lanes s8_load_pairs(const int8_t *w)
{
    s8_lanes pairs;
    for (int32_t i = 0; i < S8_LANES; i++)
        pairs.lane[i] = (int32_t)cofit_pack(w[2 * i], w[2 * i + 1]);
    return pairs;
}

COFIT_INLINE s8_lanes s8_zero_lanes(void)
{
    const s8_lanes zero = {{0, 0, 0, 0, 0, 0, 0, 0}};
    return zero;
}

COFIT_INLINE s8_lanes s8_add_pairs(s8_lanes acc, s8_lanes w, uint32_t x)
{
    for (int32_t i = 0; i < S8_LANES; i++)
        acc.lane[i] = cofit_smlad((uint32_t)w.lane[i], x, acc.lane[i]);
    return acc;
}

COFIT_INLINE void s8_spill(s8_lanes acc, int32_t *to)
{
    __builtin_memcpy(to, acc.lane, sizeof(acc.lane));
}
#endif

typedef enum { S8_EVERY, S8_ADJACENT, S8_APART } s8_access;

/* `entries` pairs for `vectors` * 8 rows from `row` on. S8_EVERY: the column from its start;
   S8_ADJACENT: elements index, index + 1; S8_APART: two indices for each pair. */
COFIT_INLINE const int8_t *s8_host_tile(const s8_layer *layer, int32_t row, const int8_t *w,
                                        const uint16_t *index, int32_t entries,
                                        const int16_t *x, int32_t stride, int8_t *y, int32_t pitch,
                                        const s8_access access, const int vectors,
                                        const int pixels)
{
    s8_lanes acc[S8_PIXELS][4];
    for (int32_t p = 0; p < pixels; p++)
        for (int32_t v = 0; v < vectors; v++)
            acc[p][v] = s8_zero_lanes();
    for (int32_t i = 0; i < entries; i++) {
        s8_lanes pairs[4];
        for (int32_t v = 0; v < vectors; v++, w += 2 * S8_LANES)
            pairs[v] = s8_load_pairs(w);
        for (int32_t p = 0; p < pixels; p++) {
            const int16_t *const column = x + p * stride;
            const uint32_t pair = access == S8_EVERY ? cofit_word(column + 2 * i)
                : access == S8_ADJACENT ? cofit_word(column + index[i])
                                        : cofit_pack(column[index[2 * i]],
                                                     column[index[2 * i + 1]]);
            for (int32_t v = 0; v < vectors; v++)
                acc[p][v] = s8_add_pairs(acc[p][v], pairs[v], pair);
        }
    }
    const int32_t left = layer->rows - row;
    const int32_t rows = left < vectors * S8_LANES ? left : vectors * S8_LANES;
    for (int32_t p = 0; p < pixels; p++) {
        int32_t sums[4 * S8_LANES];
        for (int32_t v = 0; v < vectors; v++)
            s8_spill(acc[p][v], sums + v * S8_LANES);
        for (int32_t k = 0; k < rows; k++)
            y[p * pitch + row + k] = s8_output(layer, row + k, sums[k] + layer->bias[row + k]);
    }
    return w;
}
