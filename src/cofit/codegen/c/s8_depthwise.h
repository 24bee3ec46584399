#include "s8_layer.h"
#include "s8_taps.h"

/* Weights: tap by tap, all channels. Four channels at a time, padding left out. */
COFIT_SHARED void s8_depthwise(const s8_window *w, const s8_layer *layer, const int8_t *in,
                               int8_t *out)
{
    const int32_t channels = w->channels, step = w->dilation_x * channels;
    const uint32_t offset = cofit_pack(w->offset, w->offset);
    for (int32_t oy = 0; oy < w->out_height; oy++) {
        const int32_t y = oy * w->stride_y - w->top;
        const int32_t r0 = s8_first_tap(y, w->dilation_y);
        const int32_t r1 = s8_end_tap(y, w->dilation_y, w->rows, w->height);
        for (int32_t ox = 0; ox < w->out_width; ox++, out += channels) {
            const int32_t x = ox * w->stride_x - w->left;
            const int32_t s0 = s8_first_tap(x, w->dilation_x);
            const int32_t s1 = s8_end_tap(x, w->dilation_x, w->columns, w->width);
            int32_t c = 0;
            for (; c + 4 <= channels; c += 4) {
                const int32_t *const bias = layer->bias + c;
                int32_t acc0 = bias[0], acc1 = bias[1], acc2 = bias[2], acc3 = bias[3];
                for (int32_t r = r0; r < r1; r++) {
                    const int8_t *k = layer->weights + (r * w->columns + s0) * channels + c;
                    const int8_t *p = in + c
                        + ((y + r * w->dilation_y) * w->width + x + s0 * w->dilation_x) * channels;
                    COFIT_UNROLL(1)
                    for (int32_t s = s0; s < s1; s++, k += channels, p += step) {
                        const uint32_t xw = cofit_word(p), kw = cofit_word(k);
                        const uint32_t xe = cofit_sxtab16(offset, xw), ke = cofit_sxtb16(kw);
                        const uint32_t xo = cofit_sxtab16(offset, cofit_ror8(xw));
                        const uint32_t ko = cofit_sxtb16(cofit_ror8(kw));
                        acc0 += cofit_low(xe) * cofit_low(ke);
                        acc1 += cofit_low(xo) * cofit_low(ko);
                        acc2 += cofit_high(xe) * cofit_high(ke);
                        acc3 += cofit_high(xo) * cofit_high(ko);
                    }
                }
                const int32_t acc[8] = {acc0, 0, acc1, 0, acc2, 0, acc3, 0};
                s8_store(layer, c, 4, acc, out, 0);
            }
            for (; c < channels; c++) {
                int32_t acc = layer->bias[c];
                for (int32_t r = r0; r < r1; r++) {
                    const int8_t *k = layer->weights + (r * w->columns + s0) * channels + c;
                    const int8_t *p = in + c
                        + ((y + r * w->dilation_y) * w->width + x + s0 * w->dilation_x) * channels;
                    for (int32_t s = s0; s < s1; s++, k += channels, p += step)
                        acc += *k * (*p + w->offset);
                }
                s8_store(layer, c, 1, &acc, out, 0);
            }
        }
    }
}
