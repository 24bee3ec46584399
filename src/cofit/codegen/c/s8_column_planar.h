#include "s8_window.h"

/* The window at one output pixel as int16 without zero point, in order channel, row, column. */
COFIT_SHARED void s8_column_planar(const s8_window *w, const int8_t *in, int32_t pixel,
                                   int16_t *to)
{
    const int32_t y = pixel / w->out_width * w->stride_y - w->top;
    const int32_t x = pixel % w->out_width * w->stride_x - w->left;
    const int32_t taps = w->rows * w->columns;
    for (int32_t r = 0; r < w->rows; r++) {
        const int32_t iy = y + r * w->dilation_y;
        for (int32_t s = 0; s < w->columns; s++, to++) {
            const int32_t ix = x + s * w->dilation_x;
            if (iy < 0 || iy >= w->height || ix < 0 || ix >= w->width) {
                for (int32_t c = 0; c < w->channels; c++)
                    to[c * taps] = 0;
            } else {
                const int8_t *from = in + (iy * w->width + ix) * w->pitch;
                for (int32_t c = 0; c < w->channels; c++)
                    to[c * taps] = (int16_t)(from[c] + w->offset);
            }
        }
    }
}
