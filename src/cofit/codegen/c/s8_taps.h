#include "s8_window.h"

/* Taps of a window that lie inside the image, [first, end), for a window that starts at `start`. */
COFIT_INLINE int32_t s8_first_tap(int32_t start, int32_t dilation)
{
    return start < 0 ? (-start + dilation - 1) / dilation : 0;
}

COFIT_INLINE int32_t s8_end_tap(int32_t start, int32_t dilation, int32_t taps, int32_t size)
{
    const int32_t fit = size > start ? (size - start + dilation - 1) / dilation : 0;
    return fit < taps ? fit : taps;
}
