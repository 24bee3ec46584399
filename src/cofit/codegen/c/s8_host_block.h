#include "s8_host_tile.h"

/* How an entry of a list finds its two elements: one index for neighbours, or two indices. */
typedef enum { S8_ADJACENT = 1, S8_APART = 2 } s8_access;

/* Entries [start, end) of the list. Weights: entry by entry, all rows of the tile. */
COFIT_INLINE void s8_block_tile(const s8_host_layer *layer, int32_t k, const int8_t *w,
                                int32_t start, int32_t end, const s8_access access,
                                const int16_t *x, int32_t pixel, int8_t *y, const int vectors,
                                const int pixels)
{
    s8_host_lanes acc;
    s8_host_open(&acc, layer->bias + k, vectors, pixels);
    COFIT_UNROLL(1)
    for (int32_t i = start; i < end; i++) {
        const int32_t *const index = layer->index + i * (int32_t)access;
        const int16_t *const first = x + index[0];
        const int16_t *const second = x + index[access - 1];
        s8_lanes pairs[S8_VECTORS];
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++, w += 2 * S8_LANES)
            pairs[v] = s8_load_pairs(w);
        COFIT_UNROLL(8)
        for (int32_t p = 0; p < pixels; p++) {
            const s8_lanes pair = access == S8_ADJACENT
                ? s8_spread(first + p * pixel)
                : s8_spread_apart(first + p * pixel, second + p * pixel);
            COFIT_UNROLL(8)
            for (int32_t v = 0; v < vectors; v++)
                acc.lane[p][v] = s8_add_pairs(acc.lane[p][v], pairs[v], pair);
        }
    }
    s8_host_close(&acc, layer, k, y, vectors, pixels);
}

/* Groups of `out` rows share a list; `start` has the first entry of each. Weights: group by group,
   in it tile by tile. Outputs [y0, y1) of a plane that begins at y0. */
COFIT_INLINE void s8_host_block(const s8_host_layer *layer, int32_t out, const s8_access access,
                                const s8_walk *walk, const int16_t *plane, int32_t y0, int32_t y1,
                                int8_t *to, const int vectors, const int pixels)
{
    const int32_t middle = walk->larger * pixels;
    for (int32_t k = 0; k < layer->rows; k += vectors * S8_LANES) {
        const int32_t start = layer->start[k / out], end = layer->start[k / out + 1];
        const int8_t *const w = layer->weights + 2 * (start * out + k % out * (end - start));
        const int16_t *x = plane;
        for (int32_t y = y0; y < y1; y++, x += walk->row) {
            int8_t *const line = to + y * walk->columns * layer->pitch;
            int32_t i = 0;
            for (; i < middle; i += pixels)
                s8_block_tile(layer, k, w, start, end, access, x + i * walk->pixel, walk->pixel,
                              line + i * layer->pitch, vectors, pixels);
            for (; i < walk->columns; i += pixels - 1)
                s8_block_tile(layer, k, w, start, end, access, x + i * walk->pixel, walk->pixel,
                              line + i * layer->pitch, vectors, pixels - 1);
        }
    }
}
