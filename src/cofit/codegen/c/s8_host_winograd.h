#include "s8_host_layer.h"
#include "s8_host_plane.h"

/* 3x3 convolution of stride 1 by tiles of 2x2 or 4x4 outputs: 16 products of transformed 4x4
   windows and weights for what takes 36, or 36 of 6x6 windows for what takes 144 (Winograd 1980;
   Lavin and Gray 2016). With the same 6x6 windows 4x4 kernels give 3x3 outputs; those are 7x7
   kernels of stride 2 once four pixels of the image are folded into one with four times the
   channels. Rows of the weights' matrix are multiplied until all are integers, so that the result
   is 4 or 576 times the convolution. Sums may wrap, since they are right modulo 2^32: 9 is divided
   out by its inverse there, and 4 or 64 times the convolution fits.

   Transformed weights lie by 8 * vectors rows, place and pair; windows by place, tile and channel;
   products of a group of tiles by place, tile and row. Fields of s8_winograd and const arguments
   are constants after inlining. */
typedef struct {
    int32_t size;     /* outputs of a tile in each direction: 2 or 4, or 3 of four taps */
    int32_t fold;     /* pixels of the plane that make one, in each direction */
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

enum { S8_TAPS = 4, S8_EDGE = 6, S8_PLACES = S8_EDGE * S8_EDGE, S8_GROUP = 12, S8_FOLDED = 16 }; /* the most of each */

/* Weights in each direction. */
COFIT_INLINE int32_t s8_winograd_kernel(const int size)
{
    return size == 3 ? 4 : 3;
}

/* Inputs and products of a tile in each direction. */
COFIT_INLINE int32_t s8_winograd_edge(const int size)
{
    return size + s8_winograd_kernel(size) - 1;
}

/* From one place to the next, in int16: an odd number of cache lines, lest places share a few sets
   of a cache. */
COFIT_INLINE int32_t s8_winograd_step(int32_t elements)
{
    return ((elements + 31) / 32 | 1) * 32;
}

/* Weights to `size` + taps - 1 places: three, or four for size 3, whose sums in both directions
   are below 2^15 if none is -128. */
COFIT_INLINE void s8_winograd_taps(const int16_t *w, int16_t *t, const int size)
{
    const int16_t a = w[0], b = w[1], c = w[2], d = size == 3 ? w[3] : 0;
    const int16_t outer = (int16_t)(a + c), inner = (int16_t)(b + d);
    const int16_t sum = (int16_t)(outer + inner), difference = (int16_t)(outer - inner);
    if (size == 2) {
        t[0] = (int16_t)(a + a);
        t[1] = sum;
        t[2] = difference;
        t[3] = (int16_t)(c + c);
    } else { /* a quarter of the last, for it would not fit */
        const int16_t twice = (int16_t)(2 * b + 8 * d), far = (int16_t)(4 * c + a);
        t[0] = (int16_t)(6 * a);
        t[1] = (int16_t)(-4 * sum);
        t[2] = (int16_t)(-4 * difference);
        t[3] = (int16_t)(far + twice);
        t[4] = (int16_t)(far - twice);
        t[5] = (int16_t)(6 * (size == 3 ? d : c));
    }
}

/* 4 or 6 inputs to as many; of 6, at most a hundred times 255 in both directions. */
COFIT_INLINE void s8_winograd_inputs(const int16_t *d, int16_t *t, const int edge)
{
    if (edge == 4) {
        t[0] = (int16_t)(d[0] - d[2]);
        t[1] = (int16_t)(d[1] + d[2]);
        t[2] = (int16_t)(d[2] - d[1]);
        t[3] = (int16_t)(d[1] - d[3]);
    } else {
        const int16_t even = (int16_t)(d[4] - 4 * d[2]), odd = (int16_t)(d[3] - 4 * d[1]);
        const int16_t outer = (int16_t)(d[4] - d[2]), inner = (int16_t)(2 * (d[3] - d[1]));
        t[0] = (int16_t)(4 * d[0] - 5 * d[2] + d[4]);
        t[1] = (int16_t)(even + odd);
        t[2] = (int16_t)(even - odd);
        t[3] = (int16_t)(outer + inner);
        t[4] = (int16_t)(outer - inner);
        t[5] = (int16_t)(4 * d[1] - 5 * d[3] + d[5]);
    }
}

/* 4 or 6 products to `size` outputs. */
COFIT_INLINE void s8_winograd_sums(const uint32_t *m, uint32_t *o, const int size)
{
    const uint32_t sum = m[1] + m[2], difference = m[1] - m[2];
    if (size == 2) {
        o[0] = m[0] + sum;
        o[1] = difference - m[3];
    } else {
        const uint32_t far = m[3] + m[4], apart = m[3] - m[4];
        o[0] = m[0] + sum + far;
        o[1] = difference + 2 * apart;
        o[2] = sum + 4 * far;
        if (size == 4)
            o[3] = difference + 8 * apart;
        o[size - 1] += 4 * m[5];
    }
}

/* The convolution of 4 or 576 times it. */
COFIT_INLINE int32_t s8_winograd_unscaled(uint32_t sum, const int size)
{
    return size == 2 ? (int32_t)sum >> 2 : (int32_t)(sum * 0x38e38e39u) >> 6;
}

/* Weights of 8 * vectors rows: by tap and pair, to by place and pair. */
COFIT_INLINE void s8_winograd_weights(const int8_t *restrict w, int32_t pairs,
                                      int16_t *restrict to, const int vectors, const int size)
{
    const int32_t height = 2 * S8_LANES * vectors, tap = pairs * height;
    const int32_t taps = s8_winograd_kernel(size), edge = s8_winograd_edge(size);
    const int32_t step = s8_winograd_step(tap);
    for (int32_t i = 0; i < pairs * height; i++) {
        int16_t t[S8_TAPS][S8_EDGE];
        COFIT_UNROLL(8)
        for (int32_t s = 0; s < taps; s++) {
            int16_t column[S8_TAPS];
            COFIT_UNROLL(8)
            for (int32_t r = 0; r < taps; r++)
                column[r] = w[(r * taps + s) * tap + i];
            s8_winograd_taps(column, t[s], size);
        }
        COFIT_UNROLL(8)
        for (int32_t r = 0; r < edge; r++) {
            int16_t line[S8_TAPS], row[S8_EDGE];
            COFIT_UNROLL(8)
            for (int32_t s = 0; s < taps; s++)
                line[s] = t[s][r];
            s8_winograd_taps(line, row, size);
            COFIT_UNROLL(8)
            for (int32_t s = 0; s < edge; s++)
                to[(r * edge + s) * step + i] = row[s];
        }
    }
}

/* One window, all channels: rows of x lie `line` elements apart, pixels `c`; places `step`. */
COFIT_INLINE void s8_winograd_window(const s8_winograd *shape, const int16_t *restrict x,
                                     int32_t line, int32_t c, int32_t step,
                                     int16_t *restrict to)
{
    const int32_t edge = s8_winograd_edge(shape->size);
    for (int32_t i = 0; i < shape->padded; i++) {
        int16_t t[S8_EDGE][S8_EDGE];
        COFIT_UNROLL(8)
        for (int32_t r = 0; r < edge; r++) {
            int16_t d[S8_EDGE];
            COFIT_UNROLL(8)
            for (int32_t s = 0; s < edge; s++)
                d[s] = x[r * line + s * c + i];
            s8_winograd_inputs(d, t[r], edge);
        }
        COFIT_UNROLL(8)
        for (int32_t s = 0; s < edge; s++) {
            int16_t d[S8_EDGE], column[S8_EDGE];
            COFIT_UNROLL(8)
            for (int32_t r = 0; r < edge; r++)
                d[r] = t[r][s];
            s8_winograd_inputs(d, column, edge);
            COFIT_UNROLL(8)
            for (int32_t r = 0; r < edge; r++)
                to[(r * edge + s) * step + i] = column[r];
        }
    }
}

/* Products of a pair of channels of `count` tiles, the first of which begins the sums. */
COFIT_INLINE void s8_winograd_pair(const s8_winograd *shape, const int16_t *w, const int16_t *x,
                                   s8_lanes acc[S8_GROUP][S8_VECTORS], const int vectors,
                                   const int count, const int first)
{
    s8_lanes pairs[S8_VECTORS];
    COFIT_UNROLL(8)
    for (int32_t v = 0; v < vectors; v++)
        pairs[v] = s8_load_wide_pairs(w + 2 * S8_LANES * v);
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < count; p++) {
        const s8_lanes pair = s8_spread(x + p * shape->padded);
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++)
            acc[p][v] = first ? s8_multiply_pairs(pairs[v], pair)
                              : s8_add_pairs(acc[p][v], pairs[v], pair);
    }
}

#if defined(__AVX512BW__)
/* Products of all pairs of channels of `count` tiles at one place, of sixteen rows. */
COFIT_INLINE void s8_winograd_both(const s8_winograd *shape, const int16_t *w, const int16_t *x,
                                   int32_t *products, const int count)
{
    s8_both acc[S8_GROUP];
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < count; p++)
        acc[p] = s8_both_multiply(s8_both_load((const int32_t *)(const void *)w),
                                  s8_both_spread(x + p * shape->padded));
    COFIT_UNROLL(1)
    for (int32_t i = 1; i < shape->pairs; i++) {
        const s8_both pairs =
            s8_both_load((const int32_t *)(const void *)(w + 2 * S8_TILE_ROWS * i));
        COFIT_UNROLL(16)
        for (int32_t p = 0; p < count; p++)
            acc[p] = s8_both_add(acc[p], pairs, s8_both_spread(x + 2 * i + p * shape->padded));
    }
    COFIT_UNROLL(16)
    for (int32_t p = 0; p < count; p++)
        s8_both_spill(acc[p], products + p * S8_TILE_ROWS);
}
#endif

/* Products of `count` tiles from x on, at all places. */
COFIT_INLINE void s8_winograd_products(const s8_winograd *shape, const int16_t *w,
                                       const int16_t *x, int32_t *products, const int vectors,
                                       const int count)
{
    const int32_t edge = s8_winograd_edge(shape->size), each = 2 * S8_LANES * vectors * shape->pairs;
    const int32_t skip = s8_winograd_step(each) - each;
    const int32_t step = s8_winograd_step(shape->tiles * shape->padded);
    for (int32_t place = 0; place < edge * edge; place++, w += skip, x += step) {
#if defined(__AVX512BW__)
        if (vectors == S8_VECTORS) {
            s8_winograd_both(shape, w, x, products, count);
            w += each, products += count * S8_TILE_ROWS;
            continue;
        }
#endif
        s8_lanes acc[S8_GROUP][S8_VECTORS];
        s8_winograd_pair(shape, w, x, acc, vectors, count, 1);
        w += 2 * S8_LANES * vectors;
        COFIT_UNROLL(1)
        for (int32_t i = 1; i < shape->pairs; i++, w += 2 * S8_LANES * vectors)
            s8_winograd_pair(shape, w, x + 2 * i, acc, vectors, count, 0);
        COFIT_UNROLL(16)
        for (int32_t p = 0; p < count; p++)
            COFIT_UNROLL(8)
            for (int32_t v = 0; v < vectors; v++, products += S8_LANES)
                s8_spill(acc[p][v], products);
    }
}

/* The outputs of one tile: products lie `step` apart, output rows `line`. */
COFIT_INLINE void s8_winograd_outputs(const int32_t *restrict products, int32_t step,
                                      const int32_t *restrict bias, int32_t line,
                                      int32_t *restrict sums, const int vectors,
                                      const int size)
{
    const int32_t height = vectors * S8_LANES, edge = s8_winograd_edge(size);
    for (int32_t i = 0; i < height; i++) {
        uint32_t t[S8_EDGE][S8_EDGE];
        COFIT_UNROLL(8)
        for (int32_t r = 0; r < edge; r++) {
            uint32_t m[S8_EDGE];
            COFIT_UNROLL(8)
            for (int32_t s = 0; s < edge; s++)
                m[s] = (uint32_t)products[(r * edge + s) * step + i];
            s8_winograd_sums(m, t[r], size);
        }
        COFIT_UNROLL(8)
        for (int32_t s = 0; s < size; s++) {
            uint32_t m[S8_EDGE], column[S8_EDGE];
            COFIT_UNROLL(8)
            for (int32_t r = 0; r < edge; r++)
                m[r] = t[r][s];
            s8_winograd_sums(m, column, size);
            COFIT_UNROLL(8)
            for (int32_t r = 0; r < size; r++)
                sums[r * line + s * height + i] =
                    s8_winograd_unscaled(column[r], size) + bias[i];
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
    const int32_t height = vectors * S8_LANES, size = shape->size;
    const int32_t line = size * shape->across * height;
    s8_winograd_products(shape, w, x + first * shape->padded, products, vectors, count);
    for (int32_t p = 0; p < count; p++) {
        const int32_t y = (first + p) / shape->across, column = (first + p) % shape->across;
        s8_winograd_outputs(products + p * height, count * height, layer->bias + row, line,
                            sums + size * (y * line + column * height), vectors, size);
    }
}

/* Rows [row, row + 8 * vectors) at the transformed tiles, which begin at output row y0. */
COFIT_INLINE void s8_winograd_rows(const s8_winograd *shape, const s8_host_layer *layer,
                                   int32_t row, const int16_t *w, const int16_t *x, int32_t y0,
                                   int32_t *sums, s8_target to, const int vectors)
{
    const int32_t line = shape->size * shape->across * vectors * S8_LANES;
    const int32_t middle = shape->larger * shape->group;
    int32_t first = 0;
    for (; first < middle; first += shape->group)
        s8_winograd_group(shape, layer, row, w, x, first, sums, vectors, shape->group);
    for (; first < shape->tiles; first += shape->group - 1)
        s8_winograd_group(shape, layer, row, w, x, first, sums, vectors, shape->group - 1);
    for (int32_t y = y0; y < y0 + shape->size * shape->down && y < shape->height;
         y++, sums += line)
        s8_host_finish(layer, row, vectors, shape->width, sums,
                       s8_target_at(to, y * shape->width * layer->pitch));
}

/* As s8_winograd_window, of pixels that are `fold` x `fold` of x; at most 16 channels. */
COFIT_INLINE void s8_winograd_folded(const s8_winograd *shape, const int16_t *x, int32_t step,
                                     int16_t *to)
{
    int16_t folded[S8_PLACES * S8_FOLDED] = {0};
    const int32_t edge = s8_winograd_edge(shape->size), run = shape->fold * shape->channels;
    for (int32_t place = 0; place < edge * edge; place++)
        for (int32_t r = 0; r < shape->fold; r++)
            __builtin_memcpy(folded + place * S8_FOLDED + r * run,
                             x + (place / edge * shape->fold + r) * shape->line
                                 + place % edge * run,
                             (size_t)run * sizeof(int16_t));
    s8_winograd_window(shape, folded, edge * S8_FOLDED, S8_FOLDED, step, to);
}

/* Windows of rows of tiles from output row y0 on. */
COFIT_INLINE void s8_winograd_windows(const s8_winograd *shape, const s8_window *window,
                                      int32_t right, const int8_t *in, int32_t y0,
                                      int16_t *plane, int16_t *tiles)
{
    const int32_t size = shape->size, step = s8_winograd_step(shape->tiles * shape->padded);
    s8_plane(window, in, y0, y0 + size * shape->down, right, plane);
    for (int32_t tile = 0; tile < shape->tiles; tile++, tiles += shape->padded) {
        const int16_t *const x = plane + shape->fold * size
            * (tile / shape->across * shape->line + tile % shape->across * shape->channels);
        if (shape->fold > 1)
            s8_winograd_folded(shape, x, step, tiles);
        else
            s8_winograd_window(shape, x, shape->line, shape->channels, step, tiles);
    }
}

/* A layer whose tiles are all at hand: weights are transformed just before they are used. */
COFIT_INLINE void s8_winograd_whole(const s8_winograd *shape, const s8_host_layer *layer,
                                    const int16_t *tiles, int16_t *weights, int32_t *sums,
                                    s8_target to)
{
    const int32_t taps = s8_winograd_kernel(shape->size), packed = 2 * taps * taps * shape->pairs;
    const int8_t *w = layer->weights;
    int32_t row = 0;
    for (; row + S8_LANES < layer->rows; row += S8_TILE_ROWS) {
        s8_winograd_weights(w + row * packed, shape->pairs, weights, 2, shape->size);
        s8_winograd_rows(shape, layer, row, weights, tiles, 0, sums, to, 2);
    }
    if (row < layer->rows) {
        s8_winograd_weights(w + row * packed, shape->pairs, weights, 1, shape->size);
        s8_winograd_rows(shape, layer, row, weights, tiles, 0, sums, to, 1);
    }
}

/* The whole layer; `right` columns of padding, so that tiles cover a row. */
COFIT_INLINE void s8_host_winograd(const s8_winograd *shape, const s8_host_layer *layer,
                                   const s8_window *window, int32_t right, const int8_t *in,
                                   int16_t *plane, int16_t *weights, int16_t *tiles,
                                   int32_t *sums, s8_target to)
{
    const int32_t size = shape->size, last = (shape->height + size - 1) / size - shape->down;
    const int32_t edge = s8_winograd_edge(size);
    const int32_t each = edge * edge
        * s8_winograd_step(2 * S8_TILE_ROWS * shape->pairs); /* of 16 rows */
    if (last == 0) {
        s8_winograd_windows(shape, window, right, in, 0, plane, tiles);
        s8_winograd_whole(shape, layer, tiles, weights, sums, to);
        return;
    }
    const int32_t taps = s8_winograd_kernel(shape->size), packed = 2 * taps * taps * shape->pairs;
    int32_t row = 0;
    for (; row + S8_LANES < layer->rows; row += S8_TILE_ROWS)
        s8_winograd_weights(layer->weights + row * packed, shape->pairs,
                            weights + row / S8_TILE_ROWS * each, 2, size);
    if (row < layer->rows)
        s8_winograd_weights(layer->weights + row * packed, shape->pairs,
                            weights + row / S8_TILE_ROWS * each, 1, size);
    for (int32_t at = 0; at < last + shape->down; at += shape->down) {
        const int32_t y0 = size * (at < last ? at : last);
        s8_winograd_windows(shape, window, right, in, y0, plane, tiles);
        for (row = 0; row + S8_LANES < layer->rows; row += S8_TILE_ROWS)
            s8_winograd_rows(shape, layer, row, weights + row / S8_TILE_ROWS * each, tiles, y0, sums, to, 2);
        if (row < layer->rows)
            s8_winograd_rows(shape, layer, row, weights + row / S8_TILE_ROWS * each, tiles, y0, sums, to, 1);
    }
}
