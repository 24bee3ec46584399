#include "s8_host_walk.h"

/* Convolution by lists of entries: two elements of a window and the weights of all rows for them.
   What is const here, and the fields of s8_walk, are constants after inlining. */

enum { S8_PIXELS = 12 }; /* the most of a tile */

#if defined(__AVX512BW__)
/* As s8_list_tile of sixteen rows with elements in common. */
COFIT_INLINE void s8_list_tile_both(const s8_host_layer *layer, int32_t row, const int8_t *w,
                                    int32_t start, int32_t end, const s8_walk *walk,
                                    const int16_t *x, int32_t *sums, const int pixels)
{
    const int32_t each = (walk->wide ? 4 : 2) * S8_TILE_ROWS;
    const int one = walk->access == S8_ADJACENT;
    s8_both acc[S8_PIXELS];
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < pixels; p++)
        acc[p] = s8_both_load(layer->bias + row);
    COFIT_UNROLL(1)
    for (int32_t i = start; i < end; i++, w += each) {
        const int16_t *const first = x + layer->index[one ? i : 2 * i];
        const int16_t *const second = x + layer->index[one ? i : 2 * i + 1];
        const s8_both pairs = walk->wide ? s8_both_load((const int32_t *)(const void *)w)
                                         : s8_both_pairs(w);
        COFIT_UNROLL(16)
        for (int32_t p = 0; p < pixels; p++) {
            const int16_t *const a = first + p * walk->pixel, *const b = second + p * walk->pixel;
            acc[p] = s8_both_add(acc[p], pairs,
                                 one ? s8_both_spread(a) : s8_both_spread_apart(a, b));
        }
    }
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < pixels; p++)
        s8_both_spill(acc[p], sums + p * S8_TILE_ROWS);
}
#endif

/* Sums of `vectors` * 8 rows at `pixels` windows of x, by entries [start, end). */
COFIT_INLINE void s8_list_tile(const s8_host_layer *layer, int32_t row, const int8_t *w,
                               int32_t start, int32_t end, const s8_walk *walk, const int16_t *x,
                               int32_t *sums, const int vectors, const int pixels)
{
#if defined(__AVX512BW__)
    if (vectors == S8_VECTORS && walk->access != S8_CHANNELS) {
        s8_list_tile_both(layer, row, w, start, end, walk, x, sums, pixels);
        return;
    }
#endif
    s8_lanes acc[S8_PIXELS][S8_VECTORS], bias[S8_VECTORS];
    COFIT_UNROLL(8)
    for (int32_t v = 0; v < vectors; v++)
        bias[v] = s8_load(layer->bias + row + v * S8_LANES);
    if (walk->access == S8_CHANNELS)
        s8_regroup(bias);
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < pixels; p++)
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++)
            acc[p][v] = bias[v];
    COFIT_UNROLL(1)
    for (int32_t i = start; i < end; i++) {
        const int one = walk->access == S8_ADJACENT;
        const int16_t *const first = x + layer->index[one ? i : 2 * i];
        const int16_t *const second = x + layer->index[one ? i : 2 * i + 1];
        s8_lanes pairs[S8_VECTORS];
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++, w += walk->wide ? 4 * S8_LANES : 2 * S8_LANES)
            pairs[v] = walk->wide ? s8_load_wide_pairs((const int16_t *)(const void *)w)
                                  : s8_load_pairs(w);
        COFIT_UNROLL(16)
        for (int32_t p = 0; p < pixels; p++) {
            const int16_t *const a = first + p * walk->pixel, *const b = second + p * walk->pixel;
            s8_lanes pair[S8_VECTORS];
            if (walk->access == S8_CHANNELS)
                s8_interleave(a, b, pair);
            else
                pair[0] = pair[1] = one ? s8_spread(a) : s8_spread_apart(a, b);
            COFIT_UNROLL(8)
            for (int32_t v = 0; v < vectors; v++)
                acc[p][v] = s8_add_pairs(acc[p][v], pairs[v], pair[v]);
        }
    }
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < pixels; p++, sums += vectors * S8_LANES) {
        if (walk->access == S8_CHANNELS)
            s8_regroup(acc[p]);
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++)
            s8_spill(acc[p][v], sums + v * S8_LANES);
    }
}

/* Rows [row, row + 8 * vectors) at outputs [y0, y1) of a plane that begins at y0; `sums` holds
   those of an output row. */
COFIT_INLINE void s8_list_rows(const s8_host_layer *layer, int32_t row, const int8_t *w,
                               int32_t start, int32_t end, const s8_walk *walk,
                               const int16_t *plane, int32_t y0, int32_t y1, int32_t *sums,
                               s8_target to, const int vectors)
{
    const int32_t height = vectors * S8_LANES, middle = walk->larger * walk->pixels;
    for (int32_t y = y0; y < y1; y++, plane += walk->row) {
        int32_t i = 0;
        for (; i < middle; i += walk->pixels)
            s8_list_tile(layer, row, w, start, end, walk, plane + i * walk->pixel,
                         sums + i * height, vectors, walk->pixels);
        for (; i < walk->columns; i += walk->pixels - 1)
            s8_list_tile(layer, row, w, start, end, walk, plane + i * walk->pixel,
                         sums + i * height, vectors, walk->pixels - 1);
        s8_host_finish(layer, row, vectors, walk->columns, sums,
                       s8_target_at(to, y * walk->columns * layer->pitch));
    }
}

/* One list of `entries` for all rows, which come in sixteens, and eight where no more are left.
   Weights: by sixteen or eight rows, entry by entry. */
COFIT_INLINE void s8_host_dense(const s8_host_layer *layer, int32_t entries, const s8_walk *walk,
                                const int16_t *plane, int32_t y0, int32_t y1, int32_t *sums,
                                s8_target to)
{
    const int32_t each = (walk->wide ? 4 : 2) * entries;
    int32_t row = 0;
    for (; row + S8_LANES < layer->rows; row += S8_TILE_ROWS)
        s8_list_rows(layer, row, layer->weights + row * each, 0, entries, walk, plane, y0, y1,
                     sums, to, 2);
    if (row < layer->rows)
        s8_list_rows(layer, row, layer->weights + row * each, 0, entries, walk, plane, y0, y1,
                     sums, to, 1);
}

/* A list for each group of `height` rows. Weights: by group, in it by 8 * `vectors` rows, entry by
   entry. */
COFIT_INLINE void s8_host_block(const s8_host_layer *layer, int32_t height, const s8_walk *walk,
                                const int16_t *plane, int32_t y0, int32_t y1, int32_t *sums,
                                s8_target to, const int vectors)
{
    for (int32_t row = 0; row < layer->rows; row += vectors * S8_LANES) {
        const int32_t *const list = layer->start + row / height;
        const int32_t before = list[0] * height + row % height * (list[1] - list[0]);
        s8_list_rows(layer, row, layer->weights + 2 * before, list[0], list[1], walk, plane, y0,
                     y1, sums, to, vectors);
    }
}

/* One filter for each channel, 16 at a time. Weights: by sixteen, entry by entry, in the
   order of s8_interleave. */
COFIT_INLINE void s8_host_depthwise(const s8_host_layer *layer, int32_t entries,
                                    const s8_walk *walk, const int16_t *plane, int32_t y0,
                                    int32_t y1, int32_t *sums, s8_target to)
{
    for (int32_t row = 0; row < layer->rows; row += S8_TILE_ROWS)
        s8_list_rows(layer, row, layer->weights + 2 * row * entries, 0, entries, walk,
                     plane + row, y0, y1, sums, to, 2);
}
