#include "s8_layer.h"

/* Sparse inner loops: `rows` is 1 or 2, `pixels` 1 or 2, both constant after inlining.
   acc: first row at a and at b, second row at a and at b. Each gives the end of the weights read. */
COFIT_INLINE void s8_begin(int32_t acc[4], const s8_layer *layer, int32_t row, const int rows)
{
    acc[0] = acc[1] = layer->bias[row];
    acc[2] = acc[3] = rows == 2 ? layer->bias[row + 1] : 0;
}

COFIT_INLINE void s8_four(const int16_t *from, int32_t second, const int aligned, uint32_t *low,
                          uint32_t *high)
{
    if (aligned) {
        (void)cofit_take(from, low, high);
    } else {
        COFIT_KEEP(from);
        *low = cofit_word(from);
        *high = cofit_word(from + second);
    }
}

/* Adds the products of `count` entries of four weights with the column elements index, index + 1,
   index + second, index + second + 1. Each row's four lie in order 0 2 1 3. `aligned`: second is 2
   and every index even. */
COFIT_INLINE const int8_t *s8_quads(int32_t acc[4], const int8_t *w, const uint16_t *index,
                                    int32_t count, const int16_t *a, const int16_t *b,
                                    int32_t second, const int aligned, const int rows,
                                    const int pixels)
{
    int32_t a0 = acc[0], b0 = acc[1], a1 = acc[2], b1 = acc[3];
    const uint16_t *const end = index + count;
    COFIT_UNROLL(1)
    while (index != end) {
        const uint32_t at = *index++;
        const int16_t *const pa = a + at, *const pb = b + at;
        uint32_t w0, w1 = 0;
        if (rows == 2)
            w = cofit_take(w, &w0, &w1);
        else
            w0 = cofit_word(w), w += 4;
        const uint32_t w0l = cofit_sxtb16(w0), w0h = cofit_sxtb16(cofit_ror8(w0));
        const uint32_t w1l = cofit_sxtb16(w1), w1h = cofit_sxtb16(cofit_ror8(w1));
        uint32_t al, ah;
        s8_four(pa, second, aligned, &al, &ah);
        a0 = cofit_smlad(w0h, ah, cofit_smlad(w0l, al, a0));
        if (rows == 2)
            a1 = cofit_smlad(w1h, ah, cofit_smlad(w1l, al, a1));
        if (pixels == 2) {
            uint32_t bl, bh;
            s8_four(pb, second, aligned, &bl, &bh);
            b0 = cofit_smlad(w0h, bh, cofit_smlad(w0l, bl, b0));
            if (rows == 2)
                b1 = cofit_smlad(w1h, bh, cofit_smlad(w1l, bl, b1));
        }
    }
    acc[0] = a0, acc[1] = b0, acc[2] = a1, acc[3] = b1;
    return w;
}
