#include "s8_host_walk.h"
#include "s8_window.h"

/* Convolution by lists of entries: four neighbours of a window as uint8, and the int8 weights of
   sixteen rows for them. Elements are their values plus 128, so that padding is the zero point
   plus 128; biases make up for both. What is const here, and the fields of s8_walk, are constants
   after inlining. */

enum { S8_QUAD_ROWS = 16, S8_QUAD_VECTORS = 8, S8_QUAD_PIXELS = 16, S8_QUAD_BYTES = 64 };

#if defined(__AVX512VNNI__)
typedef __m512i s8_sixteen;

COFIT_INLINE s8_sixteen s8_load_sixteen(const int32_t *from)
{
    return _mm512_loadu_si512((const void *)from);
}

COFIT_INLINE void s8_spill_sixteen(s8_sixteen rows, int32_t *to)
{
    _mm512_storeu_si512((void *)to, rows);
}

/* acc + w[0] * x[0] + ... + w[3] * x[3], wrapping; the same four x for each row. */
COFIT_INLINE s8_sixteen s8_add_quads(s8_sixteen acc, s8_sixteen w, const uint8_t *x)
{
    return _mm512_dpbusd_epi32(acc, _mm512_set1_epi32((int32_t)cofit_word(x)), w);
}

COFIT_INLINE s8_sixteen s8_load_quads(const int8_t *w)
{
    return _mm512_loadu_si512((const void *)w);
}
#else
typedef struct {
    int32_t lane[S8_QUAD_ROWS];
} s8_sixteen;

COFIT_INLINE s8_sixteen s8_load_sixteen(const int32_t *from)
{
    s8_sixteen rows;
    __builtin_memcpy(rows.lane, from, sizeof(rows.lane));
    return rows;
}

COFIT_INLINE void s8_spill_sixteen(s8_sixteen rows, int32_t *to)
{
    __builtin_memcpy(to, rows.lane, sizeof(rows.lane));
}

COFIT_INLINE s8_sixteen s8_load_quads(const int8_t *w)
{
    return s8_load_sixteen((const int32_t *)(const void *)w);
}

COFIT_INLINE s8_sixteen s8_add_quads(s8_sixteen acc, s8_sixteen w, const uint8_t *x)
{
    for (int32_t i = 0; i < S8_QUAD_ROWS; i++) {
        int8_t own[4];
        __builtin_memcpy(own, w.lane + i, sizeof(own));
        for (int32_t j = 0; j < 4; j++)
            acc.lane[i] = (int32_t)((uint32_t)acc.lane[i] + (uint32_t)(own[j] * x[j]));
    }
    return acc;
}
#endif

/* Input rows that outputs [y0, y1) see, padding included. */
COFIT_SHARED void s8_quad_plane(const s8_window *w, const int8_t *in, int32_t y0, int32_t y1,
                                int32_t right, uint8_t *to)
{
    const int32_t before = w->left * w->pitch, line = w->width * w->pitch;
    const int32_t after = right * w->pitch, nothing = 128 - w->offset;
    const int32_t first = y0 * w->stride_y - w->top;
    const int32_t end = (y1 - 1) * w->stride_y - w->top + (w->rows - 1) * w->dilation_y + 1;
    for (int32_t y = first; y < end; y++, to += before + line + after) {
        if (y < 0 || y >= w->height) {
            __builtin_memset(to, nothing, (size_t)(before + line + after));
            continue;
        }
        const int8_t *const from = in + y * line;
        __builtin_memset(to, nothing, (size_t)before);
        for (int32_t i = 0; i < line; i++)
            to[before + i] = (uint8_t)(from[i] ^ -128);
        __builtin_memset(to + before + line, nothing, (size_t)after);
    }
}

/* Sums of 16 * `vectors` rows at `pixels` windows of x; those of each sixteen, pixel by pixel, lie
   `apart`. Weights: by sixteen rows, `each` bytes, entry by entry. */
COFIT_INLINE void s8_quad_tile(const int32_t *bias, const int8_t *w, int32_t each,
                               const int32_t *index, int32_t entries, const s8_walk *walk,
                               const uint8_t *x, int32_t *sums, int32_t apart,
                               const int vectors, const int pixels)
{
    s8_sixteen acc[S8_QUAD_PIXELS][S8_QUAD_VECTORS];
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < pixels; p++)
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++)
            acc[p][v] = s8_load_sixteen(bias + v * S8_QUAD_ROWS);
    COFIT_UNROLL(1)
    for (int32_t i = 0; i < entries; i++, w += S8_QUAD_BYTES) {
        const uint8_t *const at = x + index[i];
        s8_sixteen quads[S8_QUAD_VECTORS];
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++)
            quads[v] = s8_load_quads(w + v * each);
        COFIT_UNROLL(16)
        for (int32_t p = 0; p < pixels; p++)
            COFIT_UNROLL(8)
            for (int32_t v = 0; v < vectors; v++)
                acc[p][v] = s8_add_quads(acc[p][v], quads[v], at + p * walk->pixel);
    }
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < pixels; p++)
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++)
            s8_spill_sixteen(acc[p][v], sums + v * apart + p * S8_QUAD_ROWS);
}

/* Rows [row, row + 16 * vectors) at outputs [y0, y1) of a plane that begins at y0; `sums` holds
   those of an output row. */
COFIT_INLINE void s8_quad_rows(const s8_host_layer *layer, int32_t row, const int8_t *w,
                               int32_t start, int32_t end, const s8_walk *walk,
                               const uint8_t *plane, int32_t y0, int32_t y1, int32_t *sums,
                               s8_target to, const int vectors)
{
    const int32_t middle = walk->larger * walk->pixels, apart = walk->columns * S8_QUAD_ROWS;
    const int32_t entries = end - start, each = entries * S8_QUAD_BYTES;
    const int32_t *const index = layer->index + start, *const bias = layer->bias + row;
    for (int32_t y = y0; y < y1; y++, plane += walk->row) {
        const s8_target here = s8_target_at(to, y * walk->columns * layer->pitch);
        int32_t i = 0;
        for (; i < middle; i += walk->pixels)
            s8_quad_tile(bias, w, each, index, entries, walk, plane + i * walk->pixel,
                         sums + i * S8_QUAD_ROWS, apart, vectors, walk->pixels);
        for (; i < walk->columns; i += walk->pixels - 1)
            s8_quad_tile(bias, w, each, index, entries, walk, plane + i * walk->pixel,
                         sums + i * S8_QUAD_ROWS, apart, vectors, walk->pixels - 1);
        for (int32_t v = 0; v < vectors && row + v * S8_QUAD_ROWS < layer->rows; v++)
            s8_host_finish(layer, row + v * S8_QUAD_ROWS, S8_VECTORS, walk->columns,
                           sums + v * apart, here);
    }
}

/* One list of `entries` for all rows, `vectors` sixteens at a time while so many are left. */
COFIT_INLINE void s8_quad_dense(const s8_host_layer *layer, int32_t entries, const s8_walk *walk,
                                const uint8_t *plane, int32_t y0, int32_t y1, int32_t *sums,
                                s8_target to, const int vectors)
{
    int32_t row = 0;
    for (; row + (vectors - 1) * S8_QUAD_ROWS < layer->rows; row += vectors * S8_QUAD_ROWS)
        s8_quad_rows(layer, row, layer->weights + 4 * row * entries, 0, entries, walk, plane, y0,
                     y1, sums, to, vectors);
    for (; row < layer->rows; row += S8_QUAD_ROWS)
        s8_quad_rows(layer, row, layer->weights + 4 * row * entries, 0, entries, walk, plane, y0,
                     y1, sums, to, 1);
}

/* A list for each group of `height` rows. Weights: by group, in it by sixteen rows. */
COFIT_INLINE void s8_quad_block(const s8_host_layer *layer, int32_t height, const s8_walk *walk,
                                const uint8_t *plane, int32_t y0, int32_t y1, int32_t *sums,
                                s8_target to, const int vectors)
{
    for (int32_t row = 0; row < layer->rows; row += vectors * S8_QUAD_ROWS) {
        const int32_t *const list = layer->start + row / height;
        const int32_t before = list[0] * height + row % height * (list[1] - list[0]);
        s8_quad_rows(layer, row, layer->weights + 4 * before, list[0], list[1], walk, plane, y0,
                     y1, sums, to, vectors);
    }
}
