#include "s8_host_tile.h"

/* Where a window's elements are: `down` times `across` runs of `pairs` neighbours. */
typedef struct {
    int32_t down, down_step, across, across_step, pairs;
} s8_run_list;

/* Weights: pair by pair, all rows of the tile. */
COFIT_INLINE void s8_dense_tile(const s8_host_layer *layer, int32_t k, const int8_t *w,
                                const s8_run_list *runs, const int16_t *x, int32_t pixel, int8_t *y,
                                const int vectors, const int pixels)
{
    s8_host_lanes acc;
    s8_host_open(&acc, layer->bias + k, vectors, pixels);
    for (int32_t r = 0; r < runs->down; r++)
        for (int32_t s = 0; s < runs->across; s++) {
            const int16_t *from = x + r * runs->down_step + s * runs->across_step;
            COFIT_UNROLL(1)
            for (int32_t i = 0; i < runs->pairs; i++, from += 2) {
                s8_lanes pairs[S8_VECTORS];
                COFIT_UNROLL(8)
                for (int32_t v = 0; v < vectors; v++, w += 2 * S8_LANES)
                    pairs[v] = s8_load_pairs(w);
                COFIT_UNROLL(8)
                for (int32_t p = 0; p < pixels; p++) {
                    const s8_lanes pair = s8_spread(from + p * pixel);
                    COFIT_UNROLL(8)
                    for (int32_t v = 0; v < vectors; v++)
                        acc.lane[p][v] = s8_add_pairs(acc.lane[p][v], pairs[v], pair);
                }
            }
        }
    s8_host_close(&acc, layer, k, y, vectors, pixels);
}

/* Rows [k, k + 8 * vectors) at outputs [y0, y1) of a plane that begins at y0. */
COFIT_INLINE void s8_dense_rows(const s8_host_layer *layer, int32_t k, const int8_t *w,
                                const s8_run_list *runs, const s8_walk *walk, const int16_t *plane,
                                int32_t y0, int32_t y1, int8_t *out, const int vectors,
                                const int pixels)
{
    const int32_t middle = walk->larger * pixels;
    for (int32_t y = y0; y < y1; y++, plane += walk->row) {
        int8_t *const to = out + y * walk->columns * layer->pitch;
        int32_t i = 0;
        for (; i < middle; i += pixels)
            s8_dense_tile(layer, k, w, runs, plane + i * walk->pixel, walk->pixel,
                          to + i * layer->pitch, vectors, pixels);
        for (; i < walk->columns; i += pixels - 1)
            s8_dense_tile(layer, k, w, runs, plane + i * walk->pixel, walk->pixel,
                          to + i * layer->pitch, vectors, pixels - 1);
    }
}

/* All rows: tiles of two vectors, then one of one where no more rows are left. `taps` elements. */
COFIT_INLINE void s8_host_dense(const s8_host_layer *layer, int32_t taps, const s8_run_list *runs,
                                const s8_walk *walk, const int16_t *plane, int32_t y0, int32_t y1,
                                int8_t *out, const int pixels)
{
    int32_t k = 0;
    for (; k + S8_LANES < layer->rows; k += S8_TILE_ROWS)
        s8_dense_rows(layer, k, layer->weights + k * taps, runs, walk, plane, y0, y1, out, 2,
                      pixels);
    if (k < layer->rows)
        s8_dense_rows(layer, k, layer->weights + k * taps, runs, walk, plane, y0, y1, out, 1,
                      pixels);
}
