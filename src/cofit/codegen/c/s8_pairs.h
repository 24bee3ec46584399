#include "s8_quads.h"

/* Adds the products of `count` entries of two weights with the column elements index, index + 1.
   Two rows: first, second row's first weight, then their second. One row: two entries in the same
   order, a last one as it is. */
COFIT_INLINE const int8_t *s8_pairs(int32_t acc[4], const int8_t *w, const uint16_t *index,
                                    int32_t count, const int16_t *a, const int16_t *b,
                                    const int rows, const int pixels)
{
    int32_t a0 = acc[0], b0 = acc[1], a1 = acc[2], b1 = acc[3];
    const int32_t step = 3 - rows;
    int32_t i = 0;
    COFIT_UNROLL(2)
    for (; i + step <= count; i += step, w += 4) {
        const uint32_t word = cofit_word(w);
        const uint32_t w0 = cofit_sxtb16(word), w1 = cofit_sxtb16(cofit_ror8(word));
        const uint32_t at = index[i], next = index[i + step - 1];
        a0 = cofit_smlad(w0, cofit_word(a + at), a0);
        a1 = cofit_smlad(w1, cofit_word(a + next), a1);
        if (pixels == 2) {
            b0 = cofit_smlad(w0, cofit_word(b + at), b0);
            b1 = cofit_smlad(w1, cofit_word(b + next), b1);
        }
    }
    if (rows == 1) {
        a0 += a1;
        b0 += b1;
        if (i < count) {
            const uint32_t pair = cofit_pack(w[0], w[1]);
            a0 = cofit_smlad(pair, cofit_word(a + index[i]), a0);
            if (pixels == 2)
                b0 = cofit_smlad(pair, cofit_word(b + index[i]), b0);
            w += 2;
        }
    }
    acc[0] = a0, acc[1] = b0, acc[2] = a1, acc[3] = b1;
    return w;
}
