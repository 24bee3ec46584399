#include "cofit_dsp.h"

/* GRU and LSTM: gates in Q3.12, their functions and the state in Q0.15. */
typedef struct {
    const int8_t *weights;
    const int32_t *bias, *multiplier, *shift;
    int32_t rows, columns;
} s8_gates;

typedef struct {
    const int16_t *sigmoid, *tanh;
    int32_t steps, inputs, hidden, offset;
    int32_t multiplier, shift;
    int32_t zero_point, low, high;
} s8_cell;

COFIT_INLINE int32_t s8_saturate16(int32_t value)
{
    return cofit_clamp(value, -32768, 32767);
}

/* value / 2^bits, halves up. */
COFIT_INLINE int32_t s8_halves_up(int32_t value, int32_t bits)
{
    return (value + (1 << (bits - 1))) >> bits;
}

/* A tabled function of a Q3.12 number, in Q0.15. */
COFIT_INLINE int32_t s8_gate(const int16_t *table, int32_t value)
{
    const int32_t shifted = s8_saturate16(value) + 32768;
    const int32_t low = table[shifted >> 6], high = table[(shifted >> 6) + 1];
    return low + s8_halves_up((high - low) * (shifted & 63), 6);
}

COFIT_SHARED void s8_inner_gates(const s8_gates *p, const int8_t *x, int32_t offset, int16_t *out)
{
    const int8_t *w = p->weights;
    for (int32_t row = 0; row < p->rows; row++, w += p->columns) {
        int32_t acc = p->bias[row];
        for (int32_t c = 0; c < p->columns; c++)
            acc += w[c] * (x[c] + offset);
        out[row] = (int16_t)s8_saturate16(s8_requantise(acc, p->multiplier[row], p->shift[row]));
    }
}

COFIT_SHARED void s8_outer_gates(const s8_gates *p, const int16_t *h, int16_t *out)
{
    const int8_t *w = p->weights;
    for (int32_t row = 0; row < p->rows; row++, w += p->columns) {
        int32_t acc = p->bias[row];
        for (int32_t c = 0; c < p->columns; c++)
            acc += w[c] * h[c];
        out[row] = (int16_t)s8_saturate16(s8_requantise(acc, p->multiplier[row], p->shift[row]));
    }
}

COFIT_INLINE int8_t s8_leave(const s8_cell *p, int32_t state)
{
    const int32_t value = s8_requantise(state, p->multiplier, p->shift) + p->zero_point;
    return (int8_t)cofit_clamp(value, p->low, p->high);
}

/* States and outputs [first, hidden) of a step, from the gates of the input and of the state. */
COFIT_INLINE void s8_gru_rest(const s8_cell *p, int32_t first, const int16_t *a, const int16_t *b,
                              int16_t *h, int8_t *out)
{
    const int32_t hidden = p->hidden;
    for (int32_t j = first; j < hidden; j++) {
        const int32_t r = s8_gate(p->sigmoid, a[j] + b[j]);
        const int32_t z = s8_gate(p->sigmoid, a[j + hidden] + b[j + hidden]);
        const int32_t n = s8_gate(
            p->tanh, a[j + 2 * hidden] + s8_halves_up(r * b[j + 2 * hidden], 15));
        h[j] = (int16_t)s8_halves_up((32768 - z) * n + z * h[j], 15);
        out[j] = s8_leave(p, h[j]);
    }
}

COFIT_INLINE void s8_lstm_rest(const s8_cell *p, int32_t first, const int16_t *a, const int16_t *b,
                               int16_t *h, int16_t *c, int8_t *out)
{
    const int32_t hidden = p->hidden;
    for (int32_t j = first; j < hidden; j++) {
        const int32_t i = s8_gate(p->sigmoid, a[j] + b[j]);
        const int32_t f = s8_gate(p->sigmoid, a[j + hidden] + b[j + hidden]);
        const int32_t g = s8_gate(p->tanh, a[j + 2 * hidden] + b[j + 2 * hidden]);
        const int32_t o = s8_gate(p->sigmoid, a[j + 3 * hidden] + b[j + 3 * hidden]);
        c[j] = (int16_t)s8_saturate16(s8_halves_up(f * c[j], 15) + s8_halves_up(i * g, 18));
        h[j] = (int16_t)s8_halves_up(o * s8_gate(p->tanh, c[j]), 15);
        out[j] = s8_leave(p, h[j]);
    }
}

/* `gates`: of the input, of the state. `h` holds the state, then the gates of both. */
COFIT_SHARED void s8_gru(const s8_cell *p, const s8_gates *gates, const int8_t *x, int16_t *h,
                         int8_t *out)
{
    int16_t *const a = h + p->hidden, *const b = a + gates->rows;
    __builtin_memset(h, 0, (uint32_t)p->hidden * sizeof *h);
    for (int32_t t = 0; t < p->steps; t++, x += p->inputs, out += p->hidden) {
        s8_inner_gates(&gates[0], x, p->offset, a);
        s8_outer_gates(&gates[1], h, b);
        s8_gru_rest(p, 0, a, b, h, out);
    }
}

/* `h` holds the state, then the cell, then the gates as above. */
COFIT_SHARED void s8_lstm(const s8_cell *p, const s8_gates *gates, const int8_t *x, int16_t *h,
                          int8_t *out)
{
    int16_t *const c = h + p->hidden, *const a = c + p->hidden, *const b = a + gates->rows;
    __builtin_memset(h, 0, (uint32_t)p->hidden * 2 * sizeof *h);
    for (int32_t t = 0; t < p->steps; t++, x += p->inputs, out += p->hidden) {
        s8_inner_gates(&gates[0], x, p->offset, a);
        s8_outer_gates(&gates[1], h, b);
        s8_lstm_rest(p, 0, a, b, h, c, out);
    }
}
