#include "s8_window.h"

/* Input rows that outputs [y0, y1) see, as int16 without zero point, padding included. */
COFIT_SHARED void s8_plane(const s8_window *w, const int8_t *in, int32_t y0, int32_t y1,
                           int32_t right, int16_t *to)
{
    const int32_t before = w->left * w->pitch, line = w->width * w->pitch;
    const int32_t after = right * w->pitch;
    const int32_t first = y0 * w->stride_y - w->top;
    const int32_t end = (y1 - 1) * w->stride_y - w->top + (w->rows - 1) * w->dilation_y + 1;
    for (int32_t y = first; y < end; y++, to += before + line + after) {
        if (y < 0 || y >= w->height) {
            __builtin_memset(to, 0, (size_t)(before + line + after) * sizeof(int16_t));
            continue;
        }
        const int8_t *const from = in + y * line;
        __builtin_memset(to, 0, (size_t)before * sizeof(int16_t));
        for (int32_t i = 0; i < line; i++)
            to[before + i] = (int16_t)(from[i] + w->offset);
        __builtin_memset(to + before + line, 0, (size_t)after * sizeof(int16_t));
    }
}
