#include "cofit_dsp.h"

/* Lifted form of int8 activations x0 x1 x2 x3: a word X of halfwords 256 x1 + u0, 256 x3 + u2 with
   u = x + 128, and a word Z of halfwords -(u0 + 1), -(u2 + 1). With weights w0 w1 held as one
   halfword W = w1 - 256 w0, whose low byte is w1,
   W * Z + w1 * X = 256 (w0 x0 + w1 x1) + (129 * 256 w0 - w1):
   one SXTB16 serves four products, and the constant goes into the bias. */
#define S8_LIFT_X 0x00800080u
#define S8_LIFT_Z 0xff00ff00u

COFIT_INLINE uint32_t *s8_lift_word(uint32_t word, uint32_t *to, const int pixels)
{
    const uint32_t x = word ^ S8_LIFT_X;
    uint32_t z;
#if defined(__ARM_FEATURE_DSP) /* compilers find two instructions */
    __asm__("orn %0, %1, %2" : "=r"(z) : "r"(S8_LIFT_Z), "r"(x));
#else
    z = S8_LIFT_Z | ~x;
#endif
    to[0] = x;
    to[1] = z;
    return to + 2 * pixels;
}

#define S8_LIFT_ONE(r, step)                                                                       \
    "eor " r ", " r ", %[x]\n\torn %[z], %[k], " r "\n\tstrd " r ", %[z], [%[to]], #" step "\n\t"
#define S8_LIFT_FOUR(step)                                                                         \
    "1: ldm %[from]!, {r2-r5}\n\t" S8_LIFT_ONE("r2", step) S8_LIFT_ONE("r3", step)                 \
        S8_LIFT_ONE("r4", step) S8_LIFT_ONE("r5", step)                                            \
    "subs %[n], %[n], #1\n\tbne 1b"

/* Lifts `words` words from an address that is a multiple of 4; the pixels of a column alternate. */
COFIT_INLINE uint32_t *s8_lift(const void *from, int32_t words, uint32_t *to, const int pixels)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t fours = words >> 2;
    if (fours > 0) {
        uint32_t z;
        if (pixels == 2)
            __asm__ volatile(S8_LIFT_FOUR("16")
                             : [from] "+r"(from), [to] "+r"(to), [n] "+r"(fours), [z] "=&r"(z)
                             : [x] "r"(S8_LIFT_X), [k] "r"(S8_LIFT_Z)
                             : "r2", "r3", "r4", "r5", "cc", "memory");
        else
            __asm__ volatile(S8_LIFT_FOUR("8")
                             : [from] "+r"(from), [to] "+r"(to), [n] "+r"(fours), [z] "=&r"(z)
                             : [x] "r"(S8_LIFT_X), [k] "r"(S8_LIFT_Z)
                             : "r2", "r3", "r4", "r5", "cc", "memory");
    }
    words &= 3;
#endif
    const int8_t *bytes = from;
    COFIT_UNROLL(1)
    for (; words > 0; words--, bytes += 4)
        to = s8_lift_word(cofit_word(bytes), to, pixels);
    return to;
}

COFIT_SHARED uint32_t *s8_lift_1(const void *from, int32_t words, uint32_t *to)
{
    return s8_lift(from, words, to, 1);
}

COFIT_SHARED uint32_t *s8_lift_2(const void *from, int32_t words, uint32_t *to)
{
    return s8_lift(from, words, to, 2);
}
