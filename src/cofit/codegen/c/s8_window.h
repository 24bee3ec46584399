#include "cofit_dsp.h"

/* A sliding window over an NHWC image. */
typedef struct {
    int32_t height, width;
    int32_t pitch;    /* channels of the image */
    int32_t channels; /* channels that the window takes */
    int32_t rows, columns;
    int32_t stride_y, stride_x;
    int32_t dilation_y, dilation_x;
    int32_t top, left;
    int32_t out_height, out_width;
    int32_t offset; /* minus the zero point */
} s8_window;
