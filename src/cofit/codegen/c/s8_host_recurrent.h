#include "s8_host_list.h"
#include "s8_recurrent.h"

/* Sums of rows [row, row + 8 * vectors) to gates. */
COFIT_INLINE void s8_host_gates_finish(const s8_host_layer *layer, int32_t row,
                                       const int32_t *sums, int16_t *gates, const int vectors)
{
#if defined(__AVX2__)
    if (layer->rounding != S8_ANY) {
        __m256i scaled[S8_VECTORS];
        for (int32_t v = 0; v < vectors; v++) {
            const int32_t at = row + v * S8_LANES;
            const s8_factor f = s8_factor_of(s8_load(layer->multiplier + at),
                                             s8_load(layer->shift + at));
            scaled[v] = s8_scaled(s8_load(sums + v * S8_LANES), &f, layer->rounding);
        }
        const __m256i words = _mm256_permute4x64_epi64(
            _mm256_packs_epi32(scaled[0], scaled[vectors - 1]), 0xd8);
        if (vectors == S8_VECTORS)
            _mm256_storeu_si256((__m256i *)(void *)(gates + row), words);
        else
            _mm_storeu_si128((__m128i *)(void *)(gates + row), _mm256_castsi256_si128(words));
        return;
    }
#endif
    for (int32_t k = row; k < row + vectors * S8_LANES; k++)
        gates[k] = (int16_t)s8_saturate16(
            s8_requantise(sums[k - row], layer->multiplier[k], layer->shift[k]));
}

/* All gates of one vector x, whose last pair may reach one element behind it. */
COFIT_INLINE void s8_host_gates(const s8_host_layer *layer, int32_t columns, const int16_t *x,
                                int16_t *gates)
{
    static const s8_walk walk = {.columns = 1, .larger = 1, .pixels = 1, .access = S8_ADJACENT};
    const int32_t entries = (columns + 1) / 2;
    int32_t row = 0, sums[S8_TILE_ROWS];
    for (; row + S8_LANES < layer->rows; row += S8_TILE_ROWS) {
        s8_list_tile(layer, row, layer->weights + 2 * row * entries, 0, entries, &walk, x, sums,
                     2, 1);
        s8_host_gates_finish(layer, row, sums, gates, 2);
    }
    if (row < layer->rows) {
        s8_list_tile(layer, row, layer->weights + 2 * row * entries, 0, entries, &walk, x, sums,
                     1, 1);
        s8_host_gates_finish(layer, row, sums, gates, 1);
    }
}

/* The same where each `height` rows have a list of columns of their own. */
COFIT_INLINE void s8_host_listed_gates(const s8_host_layer *layer, int32_t height,
                                       const int16_t *x, int16_t *gates, const int vectors)
{
    static const s8_walk walk = {.columns = 1, .larger = 1, .pixels = 1, .access = S8_APART};
    int32_t sums[S8_TILE_ROWS];
    for (int32_t row = 0; row < layer->rows; row += vectors * S8_LANES) {
        const int32_t *const list = layer->start + row / height;
        const int32_t before = list[0] * height + row % height * (list[1] - list[0]);
        s8_list_tile(layer, row, layer->weights + 2 * before, list[0], list[1], &walk, x, sums,
                     vectors, 1);
        s8_host_gates_finish(layer, row, sums, gates, vectors);
    }
}

/* `height`: 0 where all rows have all columns. */
COFIT_INLINE void s8_host_any_gates(const s8_host_layer *layer, int32_t height, int32_t columns,
                                    const int16_t *x, int16_t *gates)
{
    if (height == 0)
        s8_host_gates(layer, columns, x, gates);
    else if (height % S8_TILE_ROWS == 0)
        s8_host_listed_gates(layer, height, x, gates, 2);
    else
        s8_host_listed_gates(layer, height, x, gates, 1);
}

#if defined(__AVX2__)
/* Eight int16. */
COFIT_INLINE __m256i s8_host_words(const int16_t *from)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}

/* The same, saturating, back. */
COFIT_INLINE void s8_host_put_words(__m256i value, int16_t *to)
{
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(value, value), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(words));
}

COFIT_INLINE __m256i s8_host_halves_up(__m256i value, const int bits)
{
    return _mm256_srai_epi32(_mm256_add_epi32(value, _mm256_set1_epi32(1 << (bits - 1))), bits);
}

/* As s8_gate: a gathered word holds both neighbours. */
COFIT_INLINE __m256i s8_host_gate(const int16_t *table, __m256i value)
{
    const __m256i most = _mm256_set1_epi32(32767), least = _mm256_set1_epi32(-32768);
    const __m256i held = _mm256_max_epi32(_mm256_min_epi32(value, most), least);
    const __m256i shifted = _mm256_sub_epi32(held, least);
    const __m256i both = _mm256_i32gather_epi32((const int *)(const void *)table,
                                                _mm256_srli_epi32(shifted, 6), 2);
    const __m256i low = _mm256_srai_epi32(_mm256_slli_epi32(both, 16), 16);
    const __m256i step = _mm256_sub_epi32(_mm256_srai_epi32(both, 16), low);
    const __m256i rest = _mm256_and_si256(shifted, _mm256_set1_epi32(63));
    return _mm256_add_epi32(low, s8_host_halves_up(_mm256_mullo_epi32(step, rest), 6));
}

/* The gate of a[j] + b[j]. */
COFIT_INLINE __m256i s8_host_gate_sum(const int16_t *table, const int16_t *a, const int16_t *b)
{
    return s8_host_gate(table, _mm256_add_epi32(s8_host_words(a), s8_host_words(b)));
}

COFIT_INLINE void s8_host_leave(const s8_cell *p, __m256i state, int8_t *out,
                                const s8_host_rounding rounding)
{
    if (rounding == S8_ANY) {
        int32_t states[S8_LANES];
        s8_spill(state, states);
        for (int32_t k = 0; k < S8_LANES; k++)
            out[k] = s8_leave(p, states[k]);
        return;
    }
    const s8_factor f = s8_factor_of(_mm256_set1_epi32(p->multiplier),
                                     _mm256_set1_epi32(p->shift));
    const s8_range range = s8_range_of(p->zero_point, p->low, p->high);
    const __m256i scaled = s8_scaled(state, &f, rounding);
    _mm_storel_epi64((__m128i *)(void *)out, s8_narrow(scaled, scaled, &range));
}
#endif

/* One step of a GRU: states and outputs from the gates of the input and of the state. */
COFIT_INLINE void s8_host_gru_step(const s8_cell *p, const int16_t *a, const int16_t *b, int16_t *h,
                                   int8_t *out, const s8_host_rounding rounding)
{
    int32_t j = 0;
#if defined(__AVX2__)
    const int32_t hidden = p->hidden;
    for (; j + S8_LANES <= hidden; j += S8_LANES) {
        const __m256i r = s8_host_gate_sum(p->sigmoid, a + j, b + j);
        const __m256i z = s8_host_gate_sum(p->sigmoid, a + j + hidden, b + j + hidden);
        const __m256i old = _mm256_mullo_epi32(r, s8_host_words(b + j + 2 * hidden));
        const __m256i n = s8_host_gate(
            p->tanh,
            _mm256_add_epi32(s8_host_words(a + j + 2 * hidden), s8_host_halves_up(old, 15)));
        const __m256i rest = _mm256_sub_epi32(_mm256_set1_epi32(32768), z);
        const __m256i state = s8_host_halves_up(
            _mm256_add_epi32(_mm256_mullo_epi32(rest, n),
                             _mm256_mullo_epi32(z, s8_host_words(h + j))),
            15);
        s8_host_put_words(state, h + j);
        s8_host_leave(p, state, out + j, rounding);
    }
#else
    (void)rounding;
#endif
    s8_gru_rest(p, j, a, b, h, out);
}

/* One step of an LSTM; c is its cell. */
COFIT_INLINE void s8_host_lstm_step(const s8_cell *p, const int16_t *a, const int16_t *b,
                                    int16_t *h, int16_t *c, int8_t *out,
                                    const s8_host_rounding rounding)
{
    int32_t j = 0;
#if defined(__AVX2__)
    const int32_t hidden = p->hidden;
    for (; j + S8_LANES <= hidden; j += S8_LANES) {
        const __m256i i = s8_host_gate_sum(p->sigmoid, a + j, b + j);
        const __m256i f = s8_host_gate_sum(p->sigmoid, a + j + hidden, b + j + hidden);
        const __m256i g = s8_host_gate_sum(p->tanh, a + j + 2 * hidden, b + j + 2 * hidden);
        const __m256i o = s8_host_gate_sum(p->sigmoid, a + j + 3 * hidden, b + j + 3 * hidden);
        const __m256i kept = _mm256_mullo_epi32(f, s8_host_words(c + j));
        s8_host_put_words(_mm256_add_epi32(s8_host_halves_up(kept, 15),
                                           s8_host_halves_up(_mm256_mullo_epi32(i, g), 18)),
                          c + j);
        const __m256i seen = s8_host_gate(p->tanh, s8_host_words(c + j));
        const __m256i state = s8_host_halves_up(_mm256_mullo_epi32(o, seen), 15);
        s8_host_put_words(state, h + j);
        s8_host_leave(p, state, out + j, rounding);
    }
#else
    (void)rounding;
#endif
    s8_lstm_rest(p, j, a, b, h, c, out);
}

/* GRU, or LSTM; layers: of the input, of the state, and the heights of their blocks; `rounding` is
   that of the outputs. `h` holds the state and one element more, the cell, the input and one
   element more, and the gates of both in whole vectors. */
COFIT_INLINE void s8_host_recurrent(const s8_cell *p, const s8_host_layer *layers,
                                    const int32_t inner, const int32_t outer, const int8_t *x,
                                    int16_t *h, int8_t *out, const int lstm,
                                    const s8_host_rounding rounding)
{
    int16_t *const c = h + p->hidden + 1, *const wide = c + p->hidden;
    int16_t *const a = wide + p->inputs + 1, *const b = a + layers->pitch;
    __builtin_memset(h, 0, (uint32_t)(2 * p->hidden + 1) * sizeof *h);
    wide[p->inputs] = 0;
    for (int32_t t = 0; t < p->steps; t++, x += p->inputs, out += p->hidden) {
        for (int32_t i = 0; i < p->inputs; i++)
            wide[i] = (int16_t)(x[i] + p->offset);
        s8_host_any_gates(&layers[0], inner, p->inputs, wide, a);
        s8_host_any_gates(&layers[1], outer, p->hidden, h, b);
        if (lstm)
            s8_host_lstm_step(p, a, b, h, c, out, rounding);
        else
            s8_host_gru_step(p, a, b, h, out, rounding);
    }
}
