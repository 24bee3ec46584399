#include "s8_host_list.h"
#include "s8_host_plane.h"

/* y (inner, columns), or (columns, inner) if `by_rows`, as the weights of s8_host_dense in int16
   without zero point: by sixteen or eight columns, pair by pair, zeros beyond the last. */
COFIT_INLINE void s8_pack_product(const int8_t *y, int32_t inner, int32_t columns, int32_t offset,
                                  int16_t *to, const int by_rows)
{
    const int32_t next = by_rows ? 1 : columns;
    int32_t height;
    for (int32_t k = 0; k < columns; k += height) {
        const int32_t left = columns - k;
        height = left > S8_LANES ? S8_TILE_ROWS : S8_LANES;
        const int32_t own = left < height ? left : height;
        for (int32_t c = 0; c < inner; c += 2, to += 2 * height) {
            const int32_t second = c + 1 < inner ? -1 : 0;
            const int8_t *from = y + (by_rows ? k * inner + c : c * columns + k);
            const int32_t step = by_rows ? inner : 1, other = next & second;
            for (int32_t i = 0; i < own; i++, from += step) {
                to[2 * i] = (int16_t)(from[0] + offset);
                to[2 * i + 1] = (int16_t)((from[other] + offset) & second);
            }
            for (int32_t i = 2 * own; i < 2 * height; i++)
                to[i] = 0;
        }
    }
}
