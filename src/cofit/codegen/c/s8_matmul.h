#include "cofit_dsp.h"

/* Products of two activations; y's steps say whether it is read by columns or by rows. */
typedef struct {
    int32_t rows, inner, columns;
    int32_t inner_step, column_step;
    int32_t x_offset, y_offset;
    int32_t multiplier, shift;
    int32_t zero_point, low, high;
} s8_product_of;

COFIT_SHARED void s8_matmul(const s8_product_of *p, const int8_t *x, const int8_t *y,
                            int32_t matrices, int8_t *out)
{
    for (int32_t m = 0; m < matrices; m++, y += p->inner * p->columns) {
        for (int32_t row = 0; row < p->rows; row++, x += p->inner) {
            for (int32_t column = 0; column < p->columns; column++) {
                const int8_t *from = y + column * p->column_step;
                int32_t acc = 0;
                for (int32_t c = 0; c < p->inner; c++, from += p->inner_step)
                    acc += (x[c] + p->x_offset) * (*from + p->y_offset);
                const int32_t value = s8_requantise(acc, p->multiplier, p->shift) + p->zero_point;
                *out++ = (int8_t)cofit_clamp(value, p->low, p->high);
            }
        }
    }
}
