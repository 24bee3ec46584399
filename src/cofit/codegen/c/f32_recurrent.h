#include "f32_functions.h"

/* One step of recurrent layers of `size` units; a: W_ih x + b_ih, b: W_hh h + b_hh, gate by gate.
   The pointers are told apart here, since those of successive steps lie in one array. */

COFIT_INLINE void f32_gru(const float *restrict a, const float *restrict b,
                          const float *restrict before, float *restrict state, int size)
{
    for (int j = 0; j < size; ++j) {
        const float r = f32_sigmoid(a[j] + b[j]);
        const float z = f32_sigmoid(a[j + size] + b[j + size]);
        const float n = f32_tanh(a[j + 2 * size] + r * b[j + 2 * size]);
        state[j] = (1.0f - z) * n + z * before[j];
    }
}

COFIT_INLINE void f32_lstm(const float *restrict a, const float *restrict b, float *restrict cell,
                           float *restrict state, int size)
{
    for (int j = 0; j < size; ++j) {
        const float i = f32_sigmoid(a[j] + b[j]);
        const float f = f32_sigmoid(a[j + size] + b[j + size]);
        const float g = f32_tanh(a[j + 2 * size] + b[j + 2 * size]);
        const float o = f32_sigmoid(a[j + 3 * size] + b[j + 3 * size]);
        cell[j] = f * cell[j] + i * g;
        state[j] = o * f32_tanh(cell[j]);
    }
}
