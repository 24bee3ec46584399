#include "cofit_dsp.h"

/* Fixed-point softmax: Q5.26 differences, Q0.31 exponentials, a Newton reciprocal. */
typedef struct {
    int32_t multiplier, shift, least;
} s8_exponent;

/* 2 * a * b / 2^32, rounded half up, saturating. (The reference rounds a negative half with a
   truncating division, which comes to the same.) */
COFIT_INLINE int32_t s8_high_product(int32_t a, int32_t b)
{
    const int64_t quotient = ((int64_t)a * b + (1 << 30)) >> 31;
    return quotient > INT32_MAX ? INT32_MAX : (int32_t)quotient;
}

/* value / 2^bits, halves away from zero; bits in [0, 62]. */
COFIT_INLINE int32_t s8_rounded_shift(int32_t value, int32_t bits)
{
    const int64_t mask = ((int64_t)1 << bits) - 1;
    return (int32_t)(((int64_t)value >> bits) + ((value & mask) > (mask >> 1) + (value < 0)));
}

COFIT_INLINE int32_t s8_saturate(int64_t value)
{
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int32_t)value;
}

/* exp of a Q5.26 number <= 0 in Q0.31: a polynomial about -1/8, then factors exp(-2^k). */
COFIT_SHARED int32_t s8_exp(int32_t value)
{
    static const int32_t powers[7] = {1672461947, 1302514674, 790015084, 290630308,
                                      39332535,   720401,     242};
    if (value == 0)
        return INT32_MAX;
    const int32_t quarter = 1 << 24;
    const int32_t modulo = (value & (quarter - 1)) - quarter;
    const int32_t rest = modulo - value;
    const int32_t x = modulo * 32 + (1 << 28);
    const int32_t x2 = s8_high_product(x, x), x3 = s8_high_product(x2, x);
    const int32_t x4 = s8_rounded_shift(s8_high_product(x2, x2), 2);
    const int32_t third = s8_high_product(x4 + x3, 715827883);
    const int32_t series = x + s8_rounded_shift(third + x2, 1);
    int32_t result = 1895147668 + s8_high_product(series, 1895147668);
    for (int32_t k = 0; k < 7; k++)
        if (rest & (1 << (24 + k)))
            result = s8_high_product(result, powers[k]);
    return result;
}

/* 1 / (1 + x) of a Q0.31 number in [0, 1), in Q0.31. */
COFIT_SHARED int32_t s8_reciprocal(int32_t value)
{
    const int32_t half = (int32_t)(((int64_t)value + INT32_MAX + 1) >> 1);
    int32_t x = 1515870810 + s8_high_product(half, -1010580540);
    for (int32_t k = 0; k < 3; k++) {
        const int32_t error = (1 << 29) - s8_high_product(half, x);
        x += s8_saturate((int64_t)s8_high_product(x, error) * 4);
    }
    return s8_saturate((int64_t)x * 2);
}

/* Softmax of `rows` rows of `count`. */
COFIT_SHARED void s8_softmax(const s8_exponent *p, const int8_t *x, int32_t rows, int32_t count,
                             int8_t *out)
{
    for (int32_t row = 0; row < rows; row++, x += count, out += count) {
        int32_t most = -128;
        uint32_t total = 0;
        for (int32_t i = 0; i < count; i++)
            most = x[i] > most ? x[i] : most;
        for (int32_t i = 0; i < count; i++) {
            const int32_t diff = x[i] - most;
            if (diff >= p->least)
                total += (uint32_t)s8_rounded_shift(
                    s8_exp(s8_high_product(diff * (1 << p->shift), p->multiplier)), 12);
        }
        const int32_t headroom = __builtin_clz(total);
        const int32_t reciprocal = s8_reciprocal((int32_t)((total << headroom) - 0x80000000u));
        for (int32_t i = 0; i < count; i++) {
            const int32_t diff = x[i] - most;
            int32_t value = -128;
            if (diff >= p->least) {
                const int32_t e = s8_exp(s8_high_product(diff * (1 << p->shift), p->multiplier));
                const int32_t scaled = s8_high_product(reciprocal, e);
                value = cofit_clamp(s8_rounded_shift(scaled, 35 - headroom) - 128, -128, 127);
            }
            out[i] = (int8_t)value;
        }
    }
}
