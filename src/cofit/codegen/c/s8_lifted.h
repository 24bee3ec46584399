#include "s8_scaled.h"

/* Dense layers over lifted columns (see s8_lift.h). Weights are words of four columns: word by word
   of two rows for two pixels, of four rows for one. */
#define S8_TILE_ROW(w, a, b)                                                                       \
    "smlad %[" a "], %[" w "], r3, %[" a "]\n\tsmlad %[" b "], %[" w "], r5, %[" b "]\n\t"         \
    "sxtb16 %[" w "], %[" w "]\n\t"                                                                \
    "smlad %[" a "], %[" w "], r2, %[" a "]\n\tsmlad %[" b "], %[" w "], r4, %[" b "]\n\t"
#define S8_TILE_CHUNK                                                                              \
    "ldm %[x]!, {r2-r5}\n\tldrd %[w0], %[w1], [%[w]], #8\n\t" S8_TILE_ROW("w0", "a0", "b0")        \
        S8_TILE_ROW("w1", "a1", "b1")
#define S8_TILE(text)                                                                              \
    __asm__ volatile(text : [x] "+r"(x), [w] "+r"(w), [a0] "+r"(a0), [b0] "+r"(b0),                \
                            [a1] "+r"(a1), [b1] "+r"(b1), [w0] "=&r"(w0), [w1] "=&r"(w1)           \
                          : [end] "r"(end) : "r2", "r3", "r4", "r5", "cc", "memory")

/* Adds the products of two rows and two pixels, `chunks` times four columns; gives the end of the
   weights read. */
COFIT_INLINE const int8_t *s8_tile(const int8_t *w, const uint32_t *x, int32_t chunks,
                                   int32_t acc[4])
{
    int32_t a0 = acc[0], b0 = acc[1], a1 = acc[2], b1 = acc[3];
    uint32_t w0, w1;
    const uint32_t *end = x + 4 * (chunks & 3);
#if defined(__ARM_FEATURE_DSP)
    if (x != end)
        S8_TILE("1: " S8_TILE_CHUNK "cmp %[x], %[end]\n\tbne 1b");
    end += 4 * (chunks & ~3);
    if (x != end)
        S8_TILE("1: " S8_TILE_CHUNK S8_TILE_CHUNK S8_TILE_CHUNK S8_TILE_CHUNK
                "cmp %[x], %[end]\n\tbne 1b");
#else
    for (end += 4 * (chunks & ~3); x != end; x += 4) {
        w = cofit_take(w, &w0, &w1);
        const uint32_t w0b = cofit_sxtb16(w0), w1b = cofit_sxtb16(w1);
        a0 = cofit_smlad(w0b, x[0], cofit_smlad(w0, x[1], a0));
        b0 = cofit_smlad(w0b, x[2], cofit_smlad(w0, x[3], b0));
        a1 = cofit_smlad(w1b, x[0], cofit_smlad(w1, x[1], a1));
        b1 = cofit_smlad(w1b, x[2], cofit_smlad(w1, x[3], b1));
    }
#endif
    acc[0] = a0, acc[1] = b0, acc[2] = a1, acc[3] = b1;
    return w;
}

COFIT_SHARED void s8_lifted_2(const s8_scaled *layer, const uint32_t *x, int8_t *ya, int8_t *yb)
{
    const int8_t *w = layer->weights;
    const int32_t *bias = layer->bias;
    for (int32_t row = 0; row < layer->rows; row += 2, bias += 4) {
        int32_t acc[4] = {bias[0], bias[0], bias[1], bias[1]};
        w = s8_tile(w, x, layer->chunks, acc);
        s8_settle_pair(layer, row, bias + 2, acc, ya, yb);
    }
}

#define S8_STRIP_ROW(w, a)                                                                         \
    "smlad %[" a "], " w ", %[z], %[" a "]\n\tsxtb16 " w ", " w "\n\t"                             \
    "smlad %[" a "], " w ", %[v], %[" a "]\n\t"
#define S8_STRIP_CHUNK                                                                             \
    "ldrd %[v], %[z], [%[x]], #8\n\tldm %[w]!, {r2-r5}\n\t" S8_STRIP_ROW("r2", "a0")               \
        S8_STRIP_ROW("r3", "a1") S8_STRIP_ROW("r4", "a2") S8_STRIP_ROW("r5", "a3")
#define S8_STRIP(text)                                                                             \
    __asm__ volatile(text : [x] "+r"(x), [w] "+r"(w), [a0] "+r"(a0), [a1] "+r"(a1),                \
                            [a2] "+r"(a2), [a3] "+r"(a3), [v] "=&r"(v), [z] "=&r"(z)               \
                          : [end] "r"(end) : "r2", "r3", "r4", "r5", "cc", "memory")

/* As s8_tile, for four rows and one pixel. */
COFIT_INLINE const int8_t *s8_strip(const int8_t *w, const uint32_t *x, int32_t chunks,
                                    int32_t acc[4])
{
    int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    const uint32_t *end = x + 2 * (chunks & 3);
#if defined(__ARM_FEATURE_DSP)
    uint32_t v, z;
    if (x != end)
        S8_STRIP("1: " S8_STRIP_CHUNK "cmp %[x], %[end]\n\tbne 1b");
    end += 2 * (chunks & ~3);
    if (x != end)
        S8_STRIP("1: " S8_STRIP_CHUNK S8_STRIP_CHUNK S8_STRIP_CHUNK S8_STRIP_CHUNK
                 "cmp %[x], %[end]\n\tbne 1b");
#else
    for (end += 2 * (chunks & ~3); x != end; x += 2) {
        uint32_t w0, w1, w2, w3;
        w = cofit_take(w, &w0, &w1);
        w = cofit_take(w, &w2, &w3);
        a0 = cofit_smlad(cofit_sxtb16(w0), x[0], cofit_smlad(w0, x[1], a0));
        a1 = cofit_smlad(cofit_sxtb16(w1), x[0], cofit_smlad(w1, x[1], a1));
        a2 = cofit_smlad(cofit_sxtb16(w2), x[0], cofit_smlad(w2, x[1], a2));
        a3 = cofit_smlad(cofit_sxtb16(w3), x[0], cofit_smlad(w3, x[1], a3));
    }
#endif
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
    return w;
}

COFIT_SHARED void s8_lifted_1(const s8_scaled *layer, const uint32_t *x, int8_t *y)
{
    const int8_t *w = layer->weights;
    const int32_t *bias = layer->bias;
    for (int32_t row = 0; row < layer->rows; row += 4, bias += 8) {
        int32_t acc[4] = {bias[0], bias[1], bias[2], bias[3]};
        w = s8_strip(w, x, layer->chunks, acc);
        if (row + 4 <= layer->plain) {
            const int32_t round = layer->round, shift = layer->shift;
            for (int32_t i = 0; i < 4; i++)
                y[row + i] = s8_settle(acc[i], bias[4 + i], round, shift);
        } else {
            for (int32_t i = 0; i < 4; i++)
                s8_settle_one(layer, row + i, acc[i], bias[4 + i], y);
        }
    }
}
