#include "cofit_dsp.h"

/* Layer norm: differences times the count, an integer square root, 12 bits of fraction. */
typedef struct {
    int32_t multiplier, shift;
    int32_t zero_point, low, high;
    uint64_t epsilon;
} s8_norm;

/* value / divisor, 16 bits at a time: a core without a 64-bit division needs no library. */
COFIT_INLINE uint64_t s8_quotient(uint64_t value, uint32_t divisor)
{
    uint64_t quotient = 0;
    uint32_t rest = 0;
    for (int32_t bits = 48; bits >= 0; bits -= 16) {
        const uint32_t part = (rest << 16) | (uint32_t)((value >> bits) & 0xffffu);
        quotient = (quotient << 16) | (part / divisor);
        rest = part % divisor;
    }
    return quotient;
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

COFIT_SHARED void s8_layernorm(const s8_norm *p, const int8_t *x, const int16_t *weight,
                               const int32_t *bias, int32_t rows, int32_t count, int8_t *out)
{
    for (int32_t row = 0; row < rows; row++, x += count, out += count) {
        int32_t sum = 0;
        uint64_t squares = 0;
        for (int32_t i = 0; i < count; i++)
            sum += x[i];
        for (int32_t i = 0; i < count; i++) {
            const int64_t d = count * x[i] - sum;
            squares += (uint64_t)(d * d);
        }
        const uint32_t found = s8_root(s8_quotient(squares, (uint32_t)count) + p->epsilon);
        const uint32_t root = found > 0 ? found : 1;
        for (int32_t i = 0; i < count; i++) {
            const int32_t d = count * x[i] - sum;
            const uint32_t size = (((uint32_t)(d < 0 ? -d : d) << 12) + (root >> 1)) / root;
            const int32_t n = d < 0 ? -(int32_t)size : (int32_t)size;
            const int32_t acc = weight[i] * n + bias[i];
            const int32_t value = s8_requantise(acc, p->multiplier, p->shift) + p->zero_point;
            out[i] = (int8_t)cofit_clamp(value, p->low, p->high);
        }
    }
}
