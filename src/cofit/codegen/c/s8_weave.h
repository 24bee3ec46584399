#include "cofit_dsp.h"

/* int8 activations as int16 without zero point, one element of both pixels in a word; `to` is the
   first halfword of a pixel. `base`: minus the zero point in both halfwords. */
COFIT_INLINE void *s8_weave_word(uint32_t word, uint32_t base, void *to)
{
    const uint32_t even = cofit_sxtab16(base, word);
    const uint32_t odd = cofit_sxtab16(base, cofit_ror8(word));
    const uint16_t halves[4] = {(uint16_t)even, (uint16_t)odd, (uint16_t)(even >> 16),
                                (uint16_t)(odd >> 16)};
    uint8_t *const bytes = to;
    for (int32_t i = 0; i < 4; i++)
        __builtin_memcpy(bytes + 4 * i, halves + i, 2);
    return bytes + 16;
}

COFIT_SHARED void *s8_weave_2(const int8_t *from, int32_t words, void *to, uint32_t base)
{
    COFIT_UNROLL(2)
    for (; words > 0; words--, from += 4)
        to = s8_weave_word(cofit_word(from), base, to);
    return to;
}
