#include "cofit_dsp.h"

/* Functions of floats without branches or calls, for the compiler to vectorise. Polynomials
   interpolate at Chebyshev nodes. */

/* exp, to a unit or two in the last place, of x held in [-87, 88]: 2^n times that of |r| <= ln(2)/2;
   the sum with 1.5 * 2^23 is rounded to an integer, n, in its lowest bits. */
COFIT_INLINE float f32_exp(float x)
{
    const float held = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float sum = held * 1.44269504f + 12582912.0f, n = sum - 12582912.0f;
    const float r = (held - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 0.00139262034f;
    p = p * r + 0.00836319488f;
    p = p * r + 0.0416665545f;
    p = p * r + 0.166665769f;
    p = p * r + 0.5f;
    uint32_t bits;
    float power;
    __builtin_memcpy(&bits, &sum, sizeof bits);
    bits = (bits + 127u) << 23;
    __builtin_memcpy(&power, &bits, sizeof power);
    return (p * r * r + r + 1.0f) * power;
}

COFIT_INLINE float f32_sigmoid(float x)
{
    return 1.0f / (1.0f + f32_exp(-x));
}

/* By exp; near zero, where that cancels, x + x^3 times a polynomial in x^2. */
COFIT_INLINE float f32_tanh(float x)
{
    const float size = x < 0.0f ? -x : x, z = x * x;
    float p = -0.00626911973f;
    p = p * z + 0.0211109591f;
    p = p * z + -0.0538739489f;
    p = p * z + 0.133329154f;
    p = p * z + -0.333333303f;
    const float far = 1.0f - 2.0f / (f32_exp(2.0f * size) + 1.0f);
    return size < 0.6f ? p * z * x + x : x < 0.0f ? -far : far;
}

/* x times the normal distribution at x: that at -|x| is exp(m(|x|) - x^2 / 2), m smooth. Beyond 6
   it is below 1e-9, and m is no longer followed. */
COFIT_INLINE float f32_gelu(float x)
{
    const float size = x < 0.0f ? -x : x, t = size > 6.0f ? 6.0f : size;
    float m = 1.38168147e-09f;
    m = m * t + -5.3771353e-08f;
    m = m * t + 9.26386211e-07f;
    m = m * t + -9.2120011e-06f;
    m = m * t + 5.65883791e-05f;
    m = m * t + -0.000193847871f;
    m = m * t + -1.7892259e-05f;
    m = m * t + 0.00485371219f;
    m = m * t + -0.0363848122f;
    m = m * t + 0.181706746f;
    m = m * t + -0.797886704f;
    m = m * t + -0.693147136f;
    const float beyond = f32_exp(m - 0.5f * x * x);
    return x * (x < 0.0f ? beyond : 1.0f - beyond);
}

COFIT_INLINE float f32_gelu_tanh(float x)
{
    return x * f32_sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
}
