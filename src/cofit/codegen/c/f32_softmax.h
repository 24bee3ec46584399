#include "f32_functions.h"

/* Softmax of `rows` rows of `count`; `e` holds one. Sums and maxima in eight parts, which vectors
   hold. */
COFIT_SHARED void f32_softmax(const float *x, int32_t rows, int32_t count, float *restrict e,
                              float *y)
{
    enum { PARTS = 8 };
    const int32_t whole = count / PARTS * PARTS;
    for (int32_t row = 0; row < rows; row++, x += count, y += count) {
        float tops[PARTS], sums[PARTS], top = x[0], sum = 0.0f;
        for (int32_t j = 0; j < PARTS; j++)
            tops[j] = x[0], sums[j] = 0.0f;
        for (int32_t i = 0; i < whole; i += PARTS)
            for (int32_t j = 0; j < PARTS; j++)
                tops[j] = x[i + j] > tops[j] ? x[i + j] : tops[j];
        for (int32_t i = whole; i < count; i++)
            tops[i - whole] = x[i] > tops[i - whole] ? x[i] : tops[i - whole];
        for (int32_t j = 0; j < PARTS; j++)
            top = tops[j] > top ? tops[j] : top;
        for (int32_t i = 0; i < count; i++)
            e[i] = f32_exp(x[i] - top);
        for (int32_t i = 0; i < whole; i += PARTS)
            for (int32_t j = 0; j < PARTS; j++)
                sums[j] += e[i + j];
        for (int32_t i = whole; i < count; i++)
            sums[i - whole] += e[i];
        for (int32_t j = 0; j < PARTS; j++)
            sum += sums[j];
        const float inverse = 1.0f / sum;
        for (int32_t i = 0; i < count; i++)
            y[i] = e[i] * inverse;
    }
}
