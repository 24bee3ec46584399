#include "s8_host_sum.h"

/* What is done to int8 outputs, the x of a sum, before they are stored. */
typedef struct {
    s8_sum sum;
    s8_float_sum real;
} s8_residual;

/* Where outputs go; `other` has the y of a layer with a residual, element by element. */
typedef struct {
    int8_t *out;
    const int8_t *other;
} s8_target;

COFIT_INLINE s8_target s8_target_at(s8_target to, int32_t elements)
{
    to.out += elements;
    if (to.other)
        to.other += elements;
    return to;
}

/* A layer in vectors of rows: all arrays are padded to whole vectors. `index`: where in a window
   the entries of the lists are; `start`: the first entry of each list. */
typedef struct {
    const int8_t *weights;
    const int32_t *start;
    const int32_t *index;
    const uint16_t *channel; /* output channel of each row; null: the row itself */
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t rows;
    int32_t pitch; /* outputs from one pixel to the next */
    int32_t zero_point;
    int32_t low;
    int32_t high;
    s8_host_rounding rounding;
    const s8_residual *residual; /* null where there is none */
} s8_host_layer;

enum { S8_VECTORS = 2, S8_TILE_ROWS = S8_VECTORS * S8_LANES };

/* Fewer rows than a vector has, or scattered ones. */
COFIT_INLINE void s8_host_store(const s8_host_layer *layer, int32_t row, int32_t rows,
                                int8_t *bytes, s8_target to)
{
    for (int32_t k = row; k < row + rows; k++) {
        const int32_t at = layer->channel ? layer->channel[k] : k;
        if (layer->residual)
            s8_add(&layer->residual->sum, bytes + k - row, to.other + at, 1, 1, bytes + k - row);
        to.out[at] = bytes[k - row];
    }
}

#if defined(__AVX2__) && defined(__FMA__)
/* What turns scaled sums into the int8 of a layer, still as int32, and adds a residual. */
typedef struct {
    __m256i zero_point, low, high;
    s8_sum_lanes sum;
} s8_joint;

COFIT_INLINE s8_joint s8_joint_of(const s8_host_layer *layer)
{
    const s8_joint joint = {_mm256_set1_epi32(layer->zero_point), _mm256_set1_epi32(layer->low),
                            _mm256_set1_epi32(layer->high),
                            s8_sum_lanes_of(&layer->residual->sum, &layer->residual->real)};
    return joint;
}

/* Eight outputs of a sum, still to be clamped. */
COFIT_INLINE __m256i s8_joined(const s8_joint *joint, __m256i scaled, const int8_t *other)
{
    const __m256i own = _mm256_max_epi32(_mm256_add_epi32(scaled, joint->zero_point), joint->low);
    return s8_sum_eight(&joint->sum, _mm256_min_epi32(own, joint->high), s8_load_eight(other));
}
#endif

#if defined(__AVX2__)
/* `joined`: there is a residual, and all rows of the vectors are outputs. */
COFIT_INLINE void s8_host_finish_fast(const s8_host_layer *layer, int32_t row, int32_t rows,
                                      int32_t pixels, const int32_t *sums, s8_target to,
                                      const int vectors, const s8_host_rounding rounding,
                                      const int joined)
{
    s8_range range = s8_range_of(layer->zero_point, layer->low, layer->high);
#if defined(__FMA__)
    s8_joint joint;
    if (joined) {
        joint = s8_joint_of(layer);
        range = joint.sum.range;
    }
#endif
    const int32_t pitch = layer->pitch;
    const int32_t whole = layer->channel || (layer->residual && !joined) ? 0 : rows;
    s8_factor f[S8_VECTORS];
    for (int32_t v = 0; v < vectors; v++)
        f[v] = s8_factor_of(s8_load(layer->multiplier + row + v * S8_LANES),
                            s8_load(layer->shift + row + v * S8_LANES));
    for (int32_t p = 0; p < pixels;
         p++, to = s8_target_at(to, pitch), sums += vectors * S8_LANES) {
        __m256i scaled[S8_VECTORS];
        for (int32_t v = 0; v < vectors; v++) {
            scaled[v] = s8_scaled(s8_load(sums + v * S8_LANES), &f[v], rounding);
#if defined(__FMA__)
            if (joined)
                scaled[v] = s8_joined(&joint, scaled[v], to.other + row + v * S8_LANES);
#endif
        }
        const __m128i bytes = s8_narrow(scaled[0], scaled[vectors - 1], &range);
        if (whole == S8_TILE_ROWS) {
            _mm_storeu_si128((__m128i *)(void *)(to.out + row), bytes);
        } else if (whole == S8_LANES) {
            _mm_storel_epi64((__m128i *)(void *)(to.out + row), bytes);
        } else {
            int8_t kept[S8_TILE_ROWS];
            _mm_storeu_si128((__m128i *)(void *)kept, bytes);
            s8_host_store(layer, row, rows, kept, to);
        }
    }
}

COFIT_INLINE void s8_host_finish_rounded(const s8_host_layer *layer, int32_t row, int32_t rows,
                                         int32_t pixels, const int32_t *sums, s8_target to,
                                         const int vectors, const s8_host_rounding rounding)
{
#if defined(__FMA__)
    if (layer->residual && !layer->channel && rows == vectors * S8_LANES) {
        s8_host_finish_fast(layer, row, rows, pixels, sums, to, vectors, rounding, 1);
        return;
    }
#endif
    s8_host_finish_fast(layer, row, rows, pixels, sums, to, vectors, rounding, 0);
}
#endif

#if defined(__AVX512BW__) && defined(__AVX512VL__)
/* As s8_host_finish_fast of sixteen rows by S8_FLOAT, which are all outputs. */
COFIT_INLINE void s8_host_finish_sixteen(const s8_host_layer *layer, int32_t row, int32_t pixels,
                                         const int32_t *sums, s8_target to, const int joined)
{
    const __m512i exponent = _mm512_add_epi32(_mm512_loadu_si512(layer->shift + row),
                                              _mm512_set1_epi32(127 - 31));
    const __m512 factor = _mm512_mul_ps(
        _mm512_cvtepi32_ps(_mm512_loadu_si512(layer->multiplier + row)),
        _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)));
    /* the zero point moves a sum by an integer, and no sum is a tie */
    const __m512 magic = _mm512_set1_ps(12582912.0f + (float)layer->zero_point);
    const __m512i unmagic = _mm512_set1_epi32(0x4b400000);
    const __m512i low = _mm512_set1_epi32(layer->low), high = _mm512_set1_epi32(layer->high);
    const __m128i least = _mm_set1_epi8((int8_t)(joined ? layer->residual->sum.low : layer->low));
    const __m128i most = _mm_set1_epi8((int8_t)(joined ? layer->residual->sum.high : layer->high));
    const __m512 a = _mm512_set1_ps(joined ? layer->residual->real.a : 0.0f);
    const __m512 b = _mm512_set1_ps(joined ? layer->residual->real.b : 0.0f);
    const __m512 c = _mm512_set1_ps(joined ? layer->residual->real.c : 0.0f);
    for (int32_t p = 0; p < pixels; p++, to = s8_target_at(to, layer->pitch), sums += 16) {
        const __m512 real = _mm512_cvtepi32_ps(_mm512_loadu_si512((const void *)sums));
        __m512i scaled = _mm512_sub_epi32(
            _mm512_castps_si512(_mm512_fmadd_ps(real, factor, magic)), unmagic);
        if (joined) {
            scaled = _mm512_min_epi32(_mm512_max_epi32(scaled, low), high);
            const __m512 other = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
                _mm_loadu_si128((const __m128i *)(const void *)(to.other + row))));
            scaled = _mm512_cvtps_epi32(_mm512_fmadd_ps(a, _mm512_cvtepi32_ps(scaled),
                                                        _mm512_fmadd_ps(b, other, c)));
        }
        const __m128i bytes = _mm512_cvtsepi32_epi8(scaled);
        _mm_storeu_si128((__m128i *)(void *)(to.out + row),
                         _mm_min_epi8(_mm_max_epi8(bytes, least), most));
    }
}
#endif

/* Sums of rows [row, row + 8 * vectors), pixel by pixel, to outputs, from the first pixel on. */
COFIT_SHARED void s8_host_finish(const s8_host_layer *layer, int32_t row, int32_t vectors,
                                 int32_t pixels, const int32_t *sums, s8_target to)
{
    const int32_t left = layer->rows - row, most = vectors * S8_LANES;
    const int32_t rows = left < most ? left : most;
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if (layer->rounding == S8_FLOAT && rows == S8_TILE_ROWS && !layer->channel) {
        if (layer->residual)
            s8_host_finish_sixteen(layer, row, pixels, sums, to, 1);
        else
            s8_host_finish_sixteen(layer, row, pixels, sums, to, 0);
        return;
    }
#endif
#if defined(__AVX2__)
    if (layer->rounding == S8_FLOAT && vectors == 2)
        s8_host_finish_rounded(layer, row, rows, pixels, sums, to, 2, S8_FLOAT);
    else if (layer->rounding == S8_FLOAT)
        s8_host_finish_rounded(layer, row, rows, pixels, sums, to, 1, S8_FLOAT);
    else if (layer->rounding == S8_TWICE && vectors == 2)
        s8_host_finish_rounded(layer, row, rows, pixels, sums, to, 2, S8_TWICE);
    else if (layer->rounding == S8_TWICE)
        s8_host_finish_rounded(layer, row, rows, pixels, sums, to, 1, S8_TWICE);
    else if (layer->rounding == S8_ONCE && vectors == 2)
        s8_host_finish_rounded(layer, row, rows, pixels, sums, to, 2, S8_ONCE);
    else if (layer->rounding == S8_ONCE)
        s8_host_finish_rounded(layer, row, rows, pixels, sums, to, 1, S8_ONCE);
    else
#endif
        for (int32_t p = 0; p < pixels;
             p++, to = s8_target_at(to, layer->pitch), sums += most) {
            int8_t bytes[S8_TILE_ROWS];
            for (int32_t k = 0; k < rows; k++) {
                const int32_t scaled = s8_requantise(sums[k], layer->multiplier[row + k],
                                                     layer->shift[row + k]);
                bytes[k] = (int8_t)cofit_clamp(scaled + layer->zero_point, layer->low,
                                               layer->high);
            }
            s8_host_store(layer, row, rows, bytes, to);
        }
}
