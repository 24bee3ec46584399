#include "s8_host_layer.h"

/* How tiles walk over a plane; constant after inlining, like all `vectors` and `pixels`. */
typedef struct {
    int32_t row;     /* elements from the windows of one output row to those of the next */
    int32_t pixel;   /* elements from one window to the next */
    int32_t columns; /* outputs of a row: `larger` tiles of `pixels`, the others one smaller */
    int32_t larger;
} s8_walk;

typedef struct {
    s8_lanes lane[S8_PIXELS][S8_VECTORS];
} s8_host_lanes;

COFIT_INLINE void s8_host_open(s8_host_lanes *acc, const int32_t *bias, const int vectors, const int pixels)
{
    COFIT_UNROLL(8)
    for (int32_t v = 0; v < vectors; v++) {
        const s8_lanes first = s8_load(bias + v * S8_LANES);
        COFIT_UNROLL(8)
        for (int32_t p = 0; p < pixels; p++)
            acc->lane[p][v] = first;
    }
}

COFIT_INLINE void s8_host_close(const s8_host_lanes *acc, const s8_host_layer *layer, int32_t k, int8_t *y,
                           const int vectors, const int pixels)
{
    s8_host_sums sums;
    COFIT_UNROLL(8)
    for (int32_t p = 0; p < pixels; p++)
        COFIT_UNROLL(8)
        for (int32_t v = 0; v < vectors; v++)
            s8_spill(acc->lane[p][v], sums.of[p] + v * S8_LANES);
    s8_host_finish(layer, k, vectors, pixels, &sums, y);
}
