#include "s8_host_layer.h"
#include "s8_host_plane.h"

/* 3x3 convolution of stride 1 by 2x2 outputs: 16 products of transformed 4x4 windows and weights
   for what takes 36 (Winograd 1980; Lavin and Gray 2016). Weights are transformed by twice the
   usual matrix, so that all are integers and the result is four times the convolution; sums may
   wrap, since they are right modulo 2^32 and four times the convolution fits.

   Transformed weights lie by 8 * vectors rows, place and pair; windows by place, tile and channel;
   products of a group of tiles by place, tile and row. Fields of s8_winograd and const arguments
   are constants after inlining. */
typedef struct {
    int32_t channels; /* of the plane */
    int32_t padded;   /* channels of a tile: a multiple of 16 */
    int32_t pairs;    /* of channels, the last may be half empty */
    int32_t line;     /* elements of a row of the plane */
    int32_t across;   /* tiles in a row */
    int32_t down;     /* rows of tiles at a time */
    int32_t tiles;    /* at a time: `larger` groups of `group`, the others one smaller */
    int32_t larger;
    int32_t group;
    int32_t height, width; /* outputs */
} s8_winograd;

enum { S8_PLACES = 16, S8_GROUP = 6 };

/* Weights of 8 * vectors rows: by tap and pair, to by place and pair. */
COFIT_INLINE void s8_winograd_weights(const int8_t *restrict w, int32_t pairs,
                                      int16_t *restrict to, const int vectors)
{
    const int32_t size = 2 * S8_LANES * vectors, tap = pairs * size;
    for (int32_t i = 0; i < pairs * size; i++) {
        int16_t t[4][3];
        for (int32_t s = 0; s < 3; s++) {
            const int16_t a = w[s * tap + i], b = w[(3 + s) * tap + i], c = w[(6 + s) * tap + i];
            t[0][s] = (int16_t)(2 * a);
            t[1][s] = (int16_t)(a + c + b);
            t[2][s] = (int16_t)(a + c - b);
            t[3][s] = (int16_t)(2 * c);
        }
        for (int32_t r = 0; r < 4; r++) {
            int16_t *const row = to + 4 * r * tap + i;
            row[0] = (int16_t)(2 * t[r][0]);
            row[tap] = (int16_t)(t[r][0] + t[r][2] + t[r][1]);
            row[2 * tap] = (int16_t)(t[r][0] + t[r][2] - t[r][1]);
            row[3 * tap] = (int16_t)(2 * t[r][2]);
        }
    }
}

/* One 4x4 window, all channels; places lie `step` elements apart. */
COFIT_INLINE void s8_winograd_window(const s8_winograd *shape, const int16_t *restrict x,
                                     int32_t step, int16_t *restrict to)
{
    const int32_t c = shape->channels;
    for (int32_t i = 0; i < shape->padded; i++) {
        int16_t t[4][4];
        for (int32_t s = 0; s < 4; s++) {
            const int16_t *const d = x + s * c + i;
            const int16_t d1 = d[shape->line], d2 = d[2 * shape->line];
            t[0][s] = (int16_t)(d[0] - d2);
            t[1][s] = (int16_t)(d1 + d2);
            t[2][s] = (int16_t)(d2 - d1);
            t[3][s] = (int16_t)(d1 - d[3 * shape->line]);
        }
        for (int32_t r = 0; r < 4; r++) {
            int16_t *const row = to + 4 * r * step + i;
            row[0] = (int16_t)(t[r][0] - t[r][2]);
            row[step] = (int16_t)(t[r][1] + t[r][2]);
            row[2 * step] = (int16_t)(t[r][2] - t[r][1]);
            row[3 * step] = (int16_t)(t[r][1] - t[r][3]);
        }
    }
}

/* Products of `count` tiles from x on, at all places. */
COFIT_INLINE void s8_winograd_products(const s8_winograd *shape, const int16_t *w,
                                       const int16_t *x, int32_t step, int32_t *products,
                                       const int vectors, const int count)
{
    for (int32_t place = 0; place < S8_PLACES; place++, x += step) {
        s8_lanes acc[S8_GROUP][S8_VECTORS];
        COFIT_UNROLL(8)
        for (int32_t p = 0; p < count; p++)
            COFIT_UNROLL(8)
            for (int32_t v = 0; v < vectors; v++)
                acc[p][v] = s8_zero_lanes();
        COFIT_UNROLL(1)
        for (int32_t i = 0; i < shape->pairs; i++) {
            s8_lanes pairs[S8_VECTORS];
            COFIT_UNROLL(8)
            for (int32_t v = 0; v < vectors; v++, w += 2 * S8_LANES)
                pairs[v] = s8_load_wide_pairs(w);
            COFIT_UNROLL(8)
            for (int32_t p = 0; p < count; p++) {
                const s8_lanes pair = s8_spread(x + p * shape->padded + 2 * i);
                COFIT_UNROLL(8)
                for (int32_t v = 0; v < vectors; v++)
                    acc[p][v] = s8_add_pairs(acc[p][v], pairs[v], pair);
            }
        }
        COFIT_UNROLL(8)
        for (int32_t p = 0; p < count; p++)
            COFIT_UNROLL(8)
            for (int32_t v = 0; v < vectors; v++, products += S8_LANES)
                s8_spill(acc[p][v], products);
    }
}

/* The 2x2 outputs of one tile: products lie `step` apart, output rows `line`. */
COFIT_INLINE void s8_winograd_outputs(const int32_t *restrict products, int32_t step,
                                      const int32_t *restrict bias, int32_t line,
                                      int32_t *restrict sums, const int vectors)
{
    for (int32_t i = 0; i < vectors * S8_LANES; i++) {
        uint32_t t[2][4];
        for (int32_t s = 0; s < 4; s++) {
            const int32_t *const m = products + s * step + i;
            const uint32_t m1 = (uint32_t)m[4 * step], m2 = (uint32_t)m[8 * step];
            t[0][s] = (uint32_t)m[0] + m1 + m2;
            t[1][s] = m1 - m2 - (uint32_t)m[12 * step];
        }
        for (int32_t r = 0; r < 2; r++) {
            const int32_t left = (int32_t)(t[r][0] + t[r][1] + t[r][2]);
            const int32_t right = (int32_t)(t[r][1] - t[r][2] - t[r][3]);
            sums[r * line + i] = (left >> 2) + bias[i];
            sums[r * line + vectors * S8_LANES + i] = (right >> 2) + bias[i];
        }
    }
}

/* Sums of `count` tiles from the tile `first` on. */
COFIT_INLINE void s8_winograd_group(const s8_winograd *shape, const s8_host_layer *layer,
                                    int32_t row, const int16_t *w, const int16_t *x,
                                    int32_t first, int32_t *sums, const int vectors,
                                    const int count)
{
    int32_t products[S8_PLACES * S8_GROUP * S8_TILE_ROWS];
    const int32_t height = vectors * S8_LANES, line = 2 * shape->across * height;
    s8_winograd_products(shape, w, x + first * shape->padded, shape->tiles * shape->padded,
                         products, vectors, count);
    for (int32_t p = 0; p < count; p++) {
        const int32_t y = (first + p) / shape->across, column = (first + p) % shape->across;
        s8_winograd_outputs(products + p * height, count * height, layer->bias + row, line,
                            sums + 2 * y * line + 2 * column * height, vectors);
    }
}

/* Rows [row, row + 8 * vectors) at the transformed tiles, which begin at output row y0. */
COFIT_INLINE void s8_winograd_rows(const s8_winograd *shape, const s8_host_layer *layer,
                                   int32_t row, const int16_t *w, const int16_t *x, int32_t y0,
                                   int32_t *sums, int8_t *out, const int vectors)
{
    const int32_t line = 2 * shape->across * vectors * S8_LANES;
    const int32_t middle = shape->larger * shape->group;
    int32_t first = 0;
    for (; first < middle; first += shape->group)
        s8_winograd_group(shape, layer, row, w, x, first, sums, vectors, shape->group);
    for (; first < shape->tiles; first += shape->group - 1)
        s8_winograd_group(shape, layer, row, w, x, first, sums, vectors, shape->group - 1);
    for (int32_t y = y0; y < y0 + 2 * shape->down && y < shape->height; y++, sums += line)
        s8_host_finish(layer, row, vectors, shape->width, sums,
                       out + y * shape->width * layer->pitch);
}

/* The whole layer; `right` columns of padding, so that tiles of two cover a row. */
COFIT_INLINE void s8_host_winograd(const s8_winograd *shape, const s8_host_layer *layer,
                                   const s8_window *window, int32_t right, const int8_t *in,
                                   int16_t *plane, int16_t *weights, int16_t *tiles,
                                   int32_t *sums, int8_t *out)
{
    const int32_t size = S8_PLACES * 2 * shape->pairs; /* transformed weights of a row */
    int32_t row = 0;
    for (; row + S8_LANES < layer->rows; row += S8_TILE_ROWS)
        s8_winograd_weights(layer->weights + row * 18 * shape->pairs, shape->pairs,
                            weights + row * size, 2);
    if (row < layer->rows)
        s8_winograd_weights(layer->weights + row * 18 * shape->pairs, shape->pairs,
                            weights + row * size, 1);
    const int32_t last = (shape->height + 1) / 2 - shape->down;
    for (int32_t at = 0; at < last + shape->down; at += shape->down) {
        const int32_t y0 = 2 * (at < last ? at : last);
        s8_plane(window, in, y0, y0 + 2 * shape->down, right, plane);
        for (int32_t tile = 0; tile < shape->tiles; tile++)
            s8_winograd_window(shape,
                               plane + 2 * (tile / shape->across) * shape->line
                                   + 2 * (tile % shape->across) * shape->channels,
                               shape->tiles * shape->padded, tiles + tile * shape->padded);
        for (row = 0; row + S8_LANES < layer->rows; row += S8_TILE_ROWS)
            s8_winograd_rows(shape, layer, row, weights + row * size, tiles, y0, sums, out, 2);
        if (row < layer->rows)
            s8_winograd_rows(shape, layer, row, weights + row * size, tiles, y0, sums, out, 1);
    }
}
