#include "cofit_dsp.h"

/* to[i] = from[i] + offset */
COFIT_SHARED void s8_widen(const int8_t *from, int32_t count, int32_t offset, int16_t *to)
{
    int32_t i = 0;
#if defined(__ARM_FEATURE_DSP)
    const uint32_t base = cofit_pack(offset, offset);
    for (; i + 4 <= count; i += 4) {
        const uint32_t word = cofit_word(from + i);
        const uint32_t even = cofit_sxtab16(base, word);
        const uint32_t odd = cofit_sxtab16(base, cofit_ror8(word));
        const uint32_t first = (even & 0xffffu) | (odd << 16);
        const uint32_t second = (even >> 16) | (odd & 0xffff0000u);
        __builtin_memcpy(to + i, &first, 4);
        __builtin_memcpy(to + i + 2, &second, 4);
    }
#endif
    for (; i < count; i++)
        to[i] = (int16_t)(from[i] + offset);
}
