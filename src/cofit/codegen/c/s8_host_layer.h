#include "s8_host_scale.h"

/* A layer in vectors of rows: all arrays are padded to whole vectors. The order of `weights` and
   the meaning of `start` and `index` are the kernel's own. */
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
} s8_host_layer;

enum { S8_VECTORS = 2, S8_PIXELS = 6, S8_TILE_ROWS = S8_VECTORS * S8_LANES };

/* Rows of a tile by pixel; a tile of one vector leaves the second half of each pixel undefined. */
typedef struct {
    int32_t sums[S8_PIXELS][S8_TILE_ROWS] __attribute__((aligned(64)));
} s8_host_sums;

COFIT_INLINE void s8_scale_any(const s8_host_layer *layer, int32_t row, int32_t rows,
                               int32_t pixels, s8_host_sums *tile)
{
    for (int32_t p = 0; p < pixels; p++)
        for (int32_t k = 0; k < rows; k++)
            tile->sums[p][k] = s8_requantise(tile->sums[p][k], layer->multiplier[row + k],
                                             layer->shift[row + k]);
}

#if defined(__AVX2__)
COFIT_INLINE void s8_scale_tile(const s8_host_layer *layer, int32_t row, int32_t rows,
                                int32_t pixels, s8_host_sums *tile, const s8_host_rounding rounding)
{
    for (int32_t k = 0; k < rows; k += S8_LANES) {
        const s8_factor f = s8_factor_of(s8_load(layer->multiplier + row + k),
                                         s8_load(layer->shift + row + k));
        for (int32_t p = 0; p < pixels; p++)
            s8_spill(s8_scaled(s8_load(tile->sums[p] + k), &f, rounding), tile->sums[p] + k);
    }
}
#endif

COFIT_INLINE void s8_store_bytes(const s8_host_layer *layer, int32_t row, int32_t rows,
                                 const int8_t *bytes, int8_t *to)
{
    if (layer->channel)
        for (int32_t k = 0; k < rows; k++)
            to[layer->channel[row + k]] = bytes[k];
    else
        for (int32_t k = 0; k < rows; k++)
            to[row + k] = bytes[k];
}

/* Sums of rows [row, row + rows) to outputs; y is the first output of the first pixel. */
COFIT_SHARED void s8_host_finish(const s8_host_layer *layer, int32_t row, int32_t rows, int32_t pixels,
                            s8_host_sums *tile, int8_t *y)
{
    const int32_t left = layer->rows - row;
    const int32_t own = left < rows ? left : rows;
#if defined(__AVX2__)
    if (layer->rounding == S8_TWICE)
        s8_scale_tile(layer, row, rows, pixels, tile, S8_TWICE);
    else if (layer->rounding == S8_ONCE)
        s8_scale_tile(layer, row, rows, pixels, tile, S8_ONCE);
    else
        s8_scale_any(layer, row, own, pixels, tile);
    for (int32_t p = 0; p < pixels; p++, y += layer->pitch) {
        const int32_t *const sums = tile->sums[p];
        const __m128i bytes = s8_narrow(s8_load(sums), s8_load(sums + S8_LANES),
                                        layer->zero_point, layer->low, layer->high);
        if (own == S8_TILE_ROWS && !layer->channel) {
            _mm_storeu_si128((__m128i *)(void *)(y + row), bytes);
        } else if (own == S8_LANES && !layer->channel) {
            _mm_storel_epi64((__m128i *)(void *)(y + row), bytes);
        } else {
            int8_t kept[S8_TILE_ROWS];
            _mm_storeu_si128((__m128i *)(void *)kept, bytes);
            s8_store_bytes(layer, row, own, kept, y);
        }
    }
#else
    s8_scale_any(layer, row, own, pixels, tile);
    for (int32_t p = 0; p < pixels; p++, y += layer->pitch) {
        int8_t bytes[S8_TILE_ROWS];
        for (int32_t k = 0; k < own; k++)
            bytes[k] = (int8_t)cofit_clamp(tile->sums[p][k] + layer->zero_point, layer->low,
                                           layer->high);
        s8_store_bytes(layer, row, own, bytes, y);
    }
#endif
}
