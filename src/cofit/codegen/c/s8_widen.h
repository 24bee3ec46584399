#include "cofit_dsp.h"

COFIT_INLINE void s8_widen_fours(const int8_t *from, int32_t fours, uint32_t base, int16_t *to,
                                 const int aligned)
{
    COFIT_UNROLL(2)
    for (; fours > 0; fours--, from += 4) {
        const uint32_t word = cofit_word(from);
        const uint32_t even = cofit_sxtab16(base, word);
        const uint32_t odd = cofit_sxtab16(base, cofit_ror8(word));
        const uint32_t first = (even & 0xffffu) | (odd << 16);
        const uint32_t second = (even >> 16) | (odd & 0xffff0000u);
        if (aligned) {
            to = cofit_put(to, first, second);
        } else {
            __builtin_memcpy(to, &first, 4);
            __builtin_memcpy(to + 2, &second, 4);
            to += 4;
        }
    }
}

/* to[i] = from[i] + offset */
COFIT_SHARED void s8_widen(const int8_t *from, int32_t count, int32_t offset, int16_t *to)
{
    int32_t i = 0;
#if defined(__ARM_FEATURE_DSP)
    const uint32_t base = cofit_pack(offset, offset);
    i = count & ~3;
    if (((uintptr_t)to & 3u) == 0)
        s8_widen_fours(from, count >> 2, base, to, 1);
    else
        s8_widen_fours(from, count >> 2, base, to, 0);
    COFIT_UNROLL(1)
#endif
    for (; i < count; i++)
        to[i] = (int16_t)(from[i] + offset);
}
