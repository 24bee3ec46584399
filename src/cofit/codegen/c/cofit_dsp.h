/* Dual 16-bit arithmetic: the instructions of the DSP extension, or the same values in plain C. */
#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#endif

#define COFIT_INLINE static inline __attribute__((always_inline, unused))
#define COFIT_SHARED static __attribute__((noinline, unused))

/* Four bytes from any address, lowest first. */
COFIT_INLINE uint32_t cofit_word(const void *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return word;
}

COFIT_INLINE uint32_t cofit_ror8(uint32_t word)
{
    return (word >> 8) | (word << 24);
}

/* Halfwords (low, high). */
COFIT_INLINE uint32_t cofit_pack(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xffffu) | ((uint32_t)high << 16);
}

COFIT_INLINE int32_t cofit_low(uint32_t pair)
{
    return (int16_t)(pair & 0xffffu);
}

COFIT_INLINE int32_t cofit_high(uint32_t pair)
{
    return (int16_t)(pair >> 16);
}

/* Bytes 0 and 2 sign-extended to halfwords and added to those of `base`, each wrapping. */
COFIT_INLINE uint32_t cofit_sxtab16(uint32_t base, uint32_t word)
{
#if defined(__ARM_FEATURE_DSP)
    return (uint32_t)__sxtab16((int16x2_t)base, (int8x4_t)word);
#else
    return cofit_pack(cofit_low(base) + (int8_t)(word & 0xffu),
                      cofit_high(base) + (int8_t)((word >> 16) & 0xffu));
#endif
}

/* Bytes 0 and 2 sign-extended to halfwords. */
COFIT_INLINE uint32_t cofit_sxtb16(uint32_t word)
{
#if defined(__ARM_FEATURE_DSP)
    return (uint32_t)__sxtb16((int8x4_t)word);
#else
    return cofit_sxtab16(0, word);
#endif
}

/* acc + low * low + high * high, wrapping. */
COFIT_INLINE int32_t cofit_smlad(uint32_t a, uint32_t b, int32_t acc)
{
#if defined(__ARM_FEATURE_DSP)
    return __smlad((int16x2_t)a, (int16x2_t)b, acc);
#else
    const uint32_t low = (uint32_t)(cofit_low(a) * cofit_low(b));
    const uint32_t high = (uint32_t)(cofit_high(a) * cofit_high(b));
    return (int32_t)((uint32_t)acc + low + high);
#endif
}

COFIT_INLINE int32_t cofit_clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Bounds the unrolling of the loop that follows: code in flash is dearer than a branch. */
#if defined(__clang__)
#define COFIT_UNROLL_TEXT(text) _Pragma(#text)
#define COFIT_UNROLL(count) COFIT_UNROLL_TEXT(clang loop unroll_count(count))
#elif defined(__GNUC__)
#define COFIT_UNROLL_TEXT(text) _Pragma(#text)
#define COFIT_UNROLL(count) COFIT_UNROLL_TEXT(GCC unroll count)
#else
#define COFIT_UNROLL(count)
#endif
