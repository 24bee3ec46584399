#include "s8_quads.h"

/* As s8_quads, for four taps anywhere in the kernel. */
COFIT_INLINE const int8_t *s8_taps(int32_t acc[4], const int8_t *w, const uint16_t *index,
                                   int32_t count, const int16_t *a, const int16_t *b,
                                   const uint8_t *tap, const int rows, const int pixels)
{
    int32_t a0 = acc[0], b0 = acc[1], a1 = acc[2], b1 = acc[3];
    const int32_t t0 = tap[0], t1 = tap[1], t2 = tap[2], t3 = tap[3];
    COFIT_UNROLL(1)
    for (int32_t i = 0; i < count; i++) {
        const int16_t *const xa = a + index[i], *const xb = b + index[i];
        const uint32_t w0 = cofit_word(w), w1 = rows == 2 ? cofit_word(w + 4) : 0;
        const uint32_t w0l = cofit_sxtb16(w0), w0h = cofit_sxtb16(cofit_ror8(w0));
        const uint32_t w1l = cofit_sxtb16(w1), w1h = cofit_sxtb16(cofit_ror8(w1));
        const uint32_t al = cofit_pack(xa[t0], xa[t1]), ah = cofit_pack(xa[t2], xa[t3]);
        a0 = cofit_smlad(w0h, ah, cofit_smlad(w0l, al, a0));
        if (rows == 2)
            a1 = cofit_smlad(w1h, ah, cofit_smlad(w1l, al, a1));
        if (pixels == 2) {
            const uint32_t bl = cofit_pack(xb[t0], xb[t1]), bh = cofit_pack(xb[t2], xb[t3]);
            b0 = cofit_smlad(w0h, bh, cofit_smlad(w0l, bl, b0));
            if (rows == 2)
                b1 = cofit_smlad(w1h, bh, cofit_smlad(w1l, bl, b1));
        }
        w += 4 * rows;
    }
    acc[0] = a0, acc[1] = b0, acc[2] = a1, acc[3] = b1;
    return w;
}

/* All kernels of one or two rows of a group: a run per pattern, `run` their cumulative lengths.
   Patterns of two horizontal pairs take the two words each pair makes. */
COFIT_INLINE const int8_t *s8_runs(const s8_layer *layer, int32_t row, const int8_t *w,
                                   const uint16_t *run, const uint16_t *index, const uint8_t *taps,
                                   int32_t patterns, const int16_t *a, const int16_t *b, int8_t *ya,
                                   int8_t *yb, const int rows, const int pixels)
{
    int32_t acc[4];
    s8_begin(acc, layer, row, rows);
    for (int32_t p = 0; p < patterns; p++) {
        const uint8_t *const tap = taps + 4 * p;
        const uint16_t *const first = index + run[p];
        const int32_t count = run[p + 1] - run[p];
        if (tap[1] == tap[0] + 1 && tap[3] == tap[2] + 1)
            w = s8_quads(acc, w, first, count, a + tap[0], b + tap[0], tap[2] - tap[0], 0,
                         rows, pixels);
        else
            w = s8_taps(acc, w, first, count, a, b, tap, rows, pixels);
    }
    s8_store(layer, row, rows, acc, ya, yb);
    return w;
}

/* Kernels of four taps shared by the `size` filters of a group. `count`: per group, 1 + patterns
   cumulative run lengths; `index`: place of each kernel in the planar column. Weights: per group,
   per two rows of it (the last may be single), the kernels in order. */
COFIT_INLINE void s8_pattern(const s8_layer *layer, int32_t size, const uint8_t *taps,
                             int32_t patterns, const int16_t *a, const int16_t *b, int8_t *ya,
                             int8_t *yb, const int pixels)
{
    const int8_t *w = layer->weights;
    const uint16_t *index = layer->index, *run = layer->count;
    COFIT_BEFORE_TAKE;
    for (int32_t row = 0; row < layer->rows; run += patterns + 1) {
        const int32_t end = row + size < layer->rows ? row + size : layer->rows;
        for (; row + 2 <= end; row += 2)
            w = s8_runs(layer, row, w, run, index, taps, patterns, a, b, ya, yb, 2, pixels);
        if (row < end) {
            w = s8_runs(layer, row, w, run, index, taps, patterns, a, b, ya, yb, 1, pixels);
            row++;
        }
        index += run[patterns];
    }
}

COFIT_SHARED void s8_pattern_1(const s8_layer *layer, int32_t size, const uint8_t *taps,
                               int32_t patterns, const int16_t *a, int8_t *y)
{
    s8_pattern(layer, size, taps, patterns, a, a, y, 0, 1);
}

COFIT_SHARED void s8_pattern_2(const s8_layer *layer, int32_t size, const uint8_t *taps,
                               int32_t patterns, const int16_t *a, const int16_t *b, int8_t *ya,
                               int8_t *yb)
{
    s8_pattern(layer, size, taps, patterns, a, b, ya, yb, 2);
}
