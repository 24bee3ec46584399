#include "f32_functions.h"

/* One step of recurrent layers of `size` units; a: W_ih x + b_ih, b: W_hh h + b_hh, gate by gate,
   of which b is overwritten. The pointers are told apart here, since those of successive steps lie
   in one array. The gates are found first, in a loop of their own: a processor works on several
   turns at once only where one of them is not a chain from gate to gate. */

COFIT_INLINE void f32_gates(const float *restrict a, float *restrict b, int size)
{
    for (int j = 0; j < size; ++j)
        b[j] = f32_sigmoid(a[j] + b[j]);
}

COFIT_INLINE void f32_gru(const float *restrict a, float *restrict b,
                          const float *restrict before, float *restrict state, int size)
{
    f32_gates(a, b, 2 * size);
    for (int j = 0; j < size; ++j) {
        const float r = b[j], z = b[j + size];
        const float n = f32_tanh(a[j + 2 * size] + r * b[j + 2 * size]);
        state[j] = (1.0f - z) * n + z * before[j];
    }
}

COFIT_INLINE void f32_lstm(const float *restrict a, float *restrict b, float *restrict cell,
                           float *restrict state, int size)
{
    f32_gates(a, b, 2 * size);
    f32_gates(a + 3 * size, b + 3 * size, size);
    for (int j = 0; j < size; ++j) {
        const float g = f32_tanh(a[j + 2 * size] + b[j + 2 * size]);
        cell[j] = b[j + size] * cell[j] + b[j] * g;
    }
    for (int j = 0; j < size; ++j)
        state[j] = b[j + 3 * size] * f32_tanh(cell[j]);
}
