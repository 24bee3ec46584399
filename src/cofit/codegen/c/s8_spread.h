#include "cofit_dsp.h"

/* int8 activations as int16 without zero point, two neighbours in a word; the words of the pixels
   of a column alternate. `base`: minus the zero point in both halfwords. */
COFIT_INLINE uint32_t *s8_spread_word(uint32_t word, uint32_t base, uint32_t *to, const int pixels)
{
    const uint32_t even = cofit_sxtab16(base, word);
    const uint32_t odd = cofit_sxtab16(base, cofit_ror8(word));
    to[0] = (even & 0xffffu) | odd << 16;
    to[pixels] = even >> 16 | (odd & 0xffff0000u);
    return to + 2 * pixels;
}

COFIT_SHARED uint32_t *s8_spread_2(const int8_t *from, int32_t words, uint32_t *to, uint32_t base)
{
    COFIT_UNROLL(2)
    for (; words > 0; words--, from += 4)
        to = s8_spread_word(cofit_word(from), base, to, 2);
    return to;
}
