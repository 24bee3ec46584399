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

/* Two words from an address that is a multiple of 4, and the address behind them. The compiler does
   not see the read: COFIT_BEFORE_TAKE must stand between it and the writes. */
COFIT_INLINE const void *cofit_take(const void *from, uint32_t *first, uint32_t *second)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t a, b;
    __asm__ volatile("ldrd %0, %1, [%2], #8" : "=&r"(a), "=&r"(b), "+r"(from));
    *first = a, *second = b;
    return from;
#else
    *first = cofit_word(from);
    *second = cofit_word((const uint8_t *)from + 4);
    return (const uint8_t *)from + 8;
#endif
}

/* Stores two words at an address that is a multiple of 4, and gives the address behind them. */
COFIT_INLINE void *cofit_put(void *to, uint32_t first, uint32_t second)
{
#if defined(__ARM_FEATURE_DSP)
    __asm__ volatile("strd %1, %2, [%0], #8" : "+r"(to) : "r"(first), "r"(second) : "memory");
    return to;
#else
    __builtin_memcpy(to, &first, 4);
    __builtin_memcpy((uint8_t *)to + 4, &second, 4);
    return (uint8_t *)to + 8;
#endif
}

/* Holds a pointer in a register: the compiler would add base and index anew for every access. */
#define COFIT_KEEP(pointer) __asm__("" : "+r"(pointer))

#define COFIT_BEFORE_TAKE __asm__ volatile("" : : : "memory")

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

/* (2 * a * b + 2^31) / 2^32, rounded half up; |a| < 2^30. */
COFIT_INLINE int32_t cofit_high_product(int32_t a, int32_t b)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t high;
    __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(a * 2), "r"(b));
    return high;
#else
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
#endif
}

/* 2 * a * b / 2^32, rounded down; |a| < 2^30. */
COFIT_INLINE int32_t cofit_high_floor(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)(a * 2) * b) >> 32);
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
