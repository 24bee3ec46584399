#include "cofit_dsp.h"

/* Layer norm: differences times the count, an integer square root, 12 bits of fraction. */
typedef struct {
    int32_t multiplier, shift;
    int32_t zero_point, low, high;
    uint64_t epsilon;
} s8_norm;

/* Sum of a row; with d = count * x - sum, the sum of d^2 is count * (count * squares - sum^2). */
COFIT_INLINE int32_t s8_norm_sums(const int8_t *x, int32_t count, uint64_t *variance)
{
    int32_t sum = 0, squares = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    *variance = (uint64_t)((int64_t)count * squares - (int64_t)sum * sum);
    return sum;
}

/* Floor of the square root of a number below 2^52. */
COFIT_INLINE uint32_t s8_root(uint64_t value)
{
    uint32_t root = 0;
    for (uint32_t bit = 1u << 25; bit > 0; bit >>= 1) {
        const uint64_t trial = root | bit;
        if (trial * trial <= value)
            root = (uint32_t)trial;
    }
    return root;
}

/* Elements [first, count) of a row. */
COFIT_INLINE void s8_norm_rest(const s8_norm *p, const int8_t *x, const int16_t *weight,
                               const int32_t *bias, int32_t first, int32_t count, int32_t sum,
                               uint32_t root, int8_t *out)
{
    for (int32_t i = first; i < count; i++) {
        const int32_t d = count * x[i] - sum;
        const uint32_t size = (((uint32_t)(d < 0 ? -d : d) << 12) + (root >> 1)) / root;
        const int32_t n = d < 0 ? -(int32_t)size : (int32_t)size;
        const int32_t acc = weight[i] * n + bias[i];
        const int32_t value = s8_requantise(acc, p->multiplier, p->shift) + p->zero_point;
        out[i] = (int8_t)cofit_clamp(value, p->low, p->high);
    }
}

COFIT_SHARED void s8_layernorm(const s8_norm *p, const int8_t *x, const int16_t *weight,
                               const int32_t *bias, int32_t rows, int32_t count, int8_t *out)
{
    for (int32_t row = 0; row < rows; row++, x += count, out += count) {
        uint64_t variance;
        const int32_t sum = s8_norm_sums(x, count, &variance);
        const uint32_t found = s8_root(variance + p->epsilon);
        s8_norm_rest(p, x, weight, bias, 0, count, sum, found > 0 ? found : 1, out);
    }
}
