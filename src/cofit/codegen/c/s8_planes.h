#include "s8_scaled.h"
#include "s8_window.h"

/* Per channel: for each kernel row the taps k0 k1 k1 k2; where sums start, multiplier, shift. */
typedef struct {
    uint32_t taps[3];
    int32_t bias, multiplier, shift;
} s8_channel;

/* A depthwise 3x3 convolution over planes of int16, two channels of a band of rows at a time. */
typedef struct {
    const s8_channel *channel;
    int32_t band;  /* output rows whose planes fit in scratch */
    int32_t pitch; /* elements of a row of a plane, even */
    int32_t plane; /* elements of a plane */
    int32_t zero_point, low, high;
} s8_planes;

/* `count` pixels of two neighbouring channels, without zero point, to their planes. */
COFIT_INLINE void s8_split(const int8_t *from, int32_t step, int32_t count, uint32_t offset,
                           int16_t *a, int16_t *b)
{
    if (((uintptr_t)a & 2u) != 0) {
        *a++ = (int16_t)(from[0] + (int16_t)offset);
        *b++ = (int16_t)(from[1] + (int16_t)offset);
        from += step, count--;
    }
    COFIT_UNROLL(2)
    for (; count >= 2; count -= 2, a += 2, b += 2) {
        uint16_t low, high;
        __builtin_memcpy(&low, from, 2);
        __builtin_memcpy(&high, from + step, 2);
        const uint32_t word = low | (uint32_t)high << 16;
        const uint32_t first = cofit_sxtab16(offset, word);
        const uint32_t second = cofit_sxtab16(offset, cofit_ror8(word));
        __builtin_memcpy(a, &first, 4);
        __builtin_memcpy(b, &second, 4);
        from += 2 * step;
    }
    if (count > 0) {
        *a = (int16_t)(from[0] + (int16_t)offset);
        *b = (int16_t)(from[1] + (int16_t)offset);
    }
}

/* Both planes of a band from its first input row on; columns outside stay zero. */
COFIT_INLINE void s8_fill_planes(const s8_window *w, const s8_planes *p, const int8_t *in,
                                 int32_t y, int32_t rows, int16_t *plane)
{
    const int32_t room = p->pitch - w->left;
    const int32_t count = w->width < room ? w->width : room;
    const uint32_t offset = cofit_pack(w->offset, w->offset);
    const int8_t *from = in + y * w->width * w->pitch;
    COFIT_UNROLL(1)
    for (; rows > 0; rows--, y++, from += w->width * w->pitch, plane += p->pitch) {
        int16_t *const a = plane + w->left, *const b = a + p->plane;
        if (y >= 0 && y < w->height) {
            s8_split(from, w->pitch, count, offset, a, b);
        } else {
            COFIT_UNROLL(1)
            for (int32_t i = 0; i < count; i++)
                a[i] = b[i] = 0;
        }
    }
}

#define S8_TAPS3(offset, stride)                                                                   \
    "ldrd %[k01], %[k12], [%[k], #" offset "]\n\tsmlad %[a0], %[x01], %[k01], %[a0]\n\t"           \
    "smlabt %[a0], %[x23], %[k12], %[a0]\n\t" stride
#define S8_NEXT_1                                                                                  \
    "smlatb %[a1], %[x01], %[k01], %[a1]\n\tsmlad %[a1], %[x23], %[k12], %[a1]\n\t"
#define S8_NEXT_2                                                                                  \
    "smlad %[a1], %[x23], %[k01], %[a1]\n\tldr %[x23], [%[t], #8]\n\t"                             \
    "smlabt %[a1], %[x23], %[k12], %[a1]\n\t"
#define S8_ROW3(offset, stride) "ldrd %[x01], %[x23], [%[t]]\n\t" S8_TAPS3(offset, stride)
#define S8_WINDOW3(stride)                                                                         \
    __asm__ volatile(S8_ROW3("0", stride) "add %[t], %[t], %[pitch]\n\t" S8_ROW3("8", stride)      \
                     "add %[t], %[t], %[pitch]\n\t" S8_ROW3("16", stride)                          \
                     : [a0] "+r"(a0), [a1] "+r"(a1), [t] "+r"(x), [x01] "=&r"(x01),                \
                       [x23] "=&r"(x23), [k01] "=&r"(k01), [k12] "=&r"(k12)                        \
                     : [k] "r"(k), [pitch] "r"(pitch) : "memory")

/* Adds three kernel rows to two neighbouring outputs; pitch in bytes. */
COFIT_INLINE void s8_window3(const int16_t *x, int32_t pitch, const uint32_t *k, int32_t acc[2],
                             const int stride)
{
    int32_t a0 = acc[0], a1 = acc[1];
    uint32_t x01, x23, k01, k12;
#if defined(__ARM_FEATURE_DSP)
    if (stride == 1)
        S8_WINDOW3(S8_NEXT_1);
    else
        S8_WINDOW3(S8_NEXT_2);
#else
    for (int32_t r = 0; r < 3; r++, x += pitch >> 1, k += 2) {
        k01 = k[0], k12 = k[1], x01 = cofit_word(x), x23 = cofit_word(x + 2);
        a0 = cofit_smlad(x01, k01, a0) + cofit_low(x23) * cofit_high(k12);
        if (stride == 1)
            a1 = cofit_smlad(x23, k12, a1) + cofit_high(x01) * cofit_low(k01);
        else
            a1 = cofit_smlad(x23, k01, a1) + x[4] * cofit_high(k12);
    }
#endif
    acc[0] = a0, acc[1] = a1;
}

COFIT_INLINE void s8_plane(const s8_window *w, const s8_planes *p, const s8_channel *channel,
                           const int16_t *plane, int32_t rows, int8_t *out, const int stride,
                           const int plain)
{
    const int32_t step = w->pitch, pitch = 2 * p->pitch, shift = channel->shift;
    const int32_t bias = channel->bias, multiplier = channel->multiplier;
    const int32_t round = (int32_t)((1u << (shift - 1)) + ((uint32_t)p->zero_point << shift));
    uint32_t taps[6];
    for (int32_t r = 0; r < 3; r++) {
        taps[2 * r] = cofit_sxtb16(channel->taps[r]);
        taps[2 * r + 1] = cofit_sxtb16(cofit_ror8(channel->taps[r]));
    }
    COFIT_UNROLL(1)
    for (; rows > 0; rows--, plane += w->stride_y * p->pitch) {
        const int16_t *x = plane;
        COFIT_UNROLL(1)
        for (int32_t left = w->out_width; left > 0; left -= 2) {
            int32_t acc[2] = {bias, bias};
            s8_window3(x, pitch, taps, acc, stride);
            x += 2 * stride;
            int32_t first = cofit_smmla(acc[0], multiplier, round) >> shift;
            int32_t second = cofit_smmla(acc[1], multiplier, round) >> shift;
            first = plain ? cofit_ssat8(first) : cofit_clamp(first, p->low, p->high);
            second = plain ? cofit_ssat8(second) : cofit_clamp(second, p->low, p->high);
            *out = (int8_t)first;
            out += step;
            if (left > 1) {
                *out = (int8_t)second;
                out += step;
            }
        }
    }
}

/* Rows from `first` on become the first rows of both planes. */
COFIT_INLINE void s8_keep_rows(const s8_planes *p, int32_t first, int32_t rows, int16_t *plane)
{
    for (int32_t i = 0; i < 2; i++, plane += p->plane) {
        const int16_t *const from = plane + first * p->pitch;
        COFIT_UNROLL(4)
        for (int32_t j = 0; j < rows * p->pitch; j += 2)
            __builtin_memcpy(plane + j, from + j, 4);
    }
}

COFIT_INLINE void s8_planes_any(const s8_window *w, const s8_planes *p, const int8_t *in,
                                int8_t *out, int16_t *plane, const int stride, const int plain)
{
    for (int32_t i = 0; i < 2 * p->plane; i++)
        plane[i] = 0;
    for (int32_t oy = 0; oy < w->out_height; oy += p->band) {
        const int32_t left = w->out_height - oy, rows = left < p->band ? left : p->band;
        int8_t *const to = out + oy * w->out_width * w->pitch;
        for (int32_t c = 0; c < w->channels; c += 2) {
            s8_fill_planes(w, p, in + c, oy * w->stride_y - w->top, (rows - 1) * w->stride_y + 3,
                           plane);
            for (int32_t i = 0; i < 2; i++)
                s8_plane(w, p, p->channel + c + i, plane + i * p->plane, rows, to + c + i, stride,
                         plain);
        }
    }
}

/* All bands of two channels, then the next two, stride 1: the planes hold what a band reads before
   any of its outputs is written, so `out` may be `in`. */
COFIT_INLINE void s8_planes_kept(const s8_window *w, const s8_planes *p, const int8_t *in,
                                 int8_t *out, int16_t *plane, const int plain)
{
    for (int32_t i = 0; i < 2 * p->plane; i++)
        plane[i] = 0;
    for (int32_t c = 0; c < w->channels; c += 2) {
        int32_t held = 0; /* input rows of the band that the planes hold already */
        for (int32_t oy = 0; oy < w->out_height; oy += p->band, held = 2) {
            const int32_t left = w->out_height - oy, rows = left < p->band ? left : p->band;
            if (held > 0)
                s8_keep_rows(p, p->band, held, plane);
            s8_fill_planes(w, p, in + c, oy - w->top + held, rows + 2 - held,
                           plane + held * p->pitch);
            for (int32_t i = 0; i < 2; i++)
                s8_plane(w, p, p->channel + c + i, plane + i * p->plane, rows,
                         out + oy * w->out_width * w->pitch + c + i, 1, plain);
        }
    }
}

COFIT_SHARED void s8_planes_1(const s8_window *w, const s8_planes *p, const int8_t *in, int8_t *out,
                              int16_t *plane)
{
    s8_planes_any(w, p, in, out, plane, 1, 1);
}

COFIT_SHARED void s8_planes_2(const s8_window *w, const s8_planes *p, const int8_t *in, int8_t *out,
                              int16_t *plane)
{
    s8_planes_any(w, p, in, out, plane, 2, 1);
}

COFIT_SHARED void s8_planes_1_bounded(const s8_window *w, const s8_planes *p, const int8_t *in,
                                      int8_t *out, int16_t *plane)
{
    s8_planes_any(w, p, in, out, plane, 1, 0);
}

COFIT_SHARED void s8_planes_2_bounded(const s8_window *w, const s8_planes *p, const int8_t *in,
                                      int8_t *out, int16_t *plane)
{
    s8_planes_any(w, p, in, out, plane, 2, 0);
}

COFIT_SHARED void s8_planes_1_kept(const s8_window *w, const s8_planes *p, const int8_t *in,
                                   int8_t *out, int16_t *plane)
{
    s8_planes_kept(w, p, in, out, plane, 1);
}

COFIT_SHARED void s8_planes_1_kept_bounded(const s8_window *w, const s8_planes *p,
                                           const int8_t *in, int8_t *out, int16_t *plane)
{
    s8_planes_kept(w, p, in, out, plane, 0);
}
