#include "s8_quads.h"

/* Adds the products of `count` single weights with the column elements index. Two rows: two
   entries in order first row's, second row's first; first row's, second row's second; a last entry
   as it is. One row: in order. */
COFIT_INLINE const int8_t *s8_singles(int32_t acc[4], const int8_t *w, const uint16_t *index,
                                      int32_t count, const int16_t *a, const int16_t *b,
                                      const int rows, const int pixels)
{
    int32_t a0 = acc[0], b0 = acc[1], a1 = acc[2], b1 = acc[3];
    int32_t i = 0;
    if (rows == 2) {
        COFIT_UNROLL(1)
        for (; i + 2 <= count; i += 2, w += 4) {
            const uint32_t word = cofit_word(w);
            const uint32_t w0 = cofit_sxtb16(word), w1 = cofit_sxtb16(cofit_ror8(word));
            const uint32_t xa = cofit_pack(a[index[i]], a[index[i + 1]]);
            a0 = cofit_smlad(w0, xa, a0);
            a1 = cofit_smlad(w1, xa, a1);
            if (pixels == 2) {
                const uint32_t xb = cofit_pack(b[index[i]], b[index[i + 1]]);
                b0 = cofit_smlad(w0, xb, b0);
                b1 = cofit_smlad(w1, xb, b1);
            }
        }
    }
    COFIT_UNROLL(2)
    for (; i < count; i++, w += rows) {
        const int32_t at = index[i];
        a0 += w[0] * a[at];
        if (rows == 2)
            a1 += w[1] * a[at];
        if (pixels == 2) {
            b0 += w[0] * b[at];
            if (rows == 2)
                b1 += w[1] * b[at];
        }
    }
    acc[0] = a0, acc[1] = b0, acc[2] = a1, acc[3] = b1;
    return w;
}
