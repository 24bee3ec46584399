#include "s8_tile.h"

/* Dense layers over lifted columns (see s8_lift.h). Weights are words of four columns: word by
   word of two rows for two pixels, of four rows for one. Where outputs are not plain, a row of them
   for each pixel lies behind the columns. */
#define S8_CHUNK "ldm %[from]!, {r2-r5}\n\t" S8_ROWS

/* Not inlined: the block of instructions takes every register there is. */
COFIT_SHARED void s8_dense_tiles(s8_tiles *t)
{
#if defined(S8_TILE_BLOCKS)
    int32_t a0, b0, a1, b1;
    uint32_t w0, w1;
    const void *from, *end;
    const int8_t *w = t->weights;
    __asm__ volatile(S8_WALK(S8_CHUNK, S8_CHUNK S8_CHUNK S8_CHUNK S8_CHUNK) S8_SETTLE("16")
                     : [from] "=&r"(from), [end] "=&r"(end), [a0] "=&r"(a0), [b0] "=&r"(b0),
                       [a1] "=&r"(a1), [b1] "=&r"(b1), [w0] "=&r"(w0), [w1] "=&r"(w1),
                       [w] "+r"(w)
                     : [f] "r"(t) : "r2", "r3", "r4", "r5", "cc", "memory");
#else
    while (t->bias != t->bias_end) {
        int32_t acc[4] = {t->bias[0], t->bias[0], t->bias[1], t->bias[1]};
        for (const uint32_t *x = t->from; x != t->all; x += 4)
            s8_chunk(&t->weights, x, acc, 2);
        s8_settle_tile(t, acc, 2);
    }
#endif
}

COFIT_SHARED void s8_lifted_2(const s8_scaled *layer, const uint32_t *x, int8_t *ya, int8_t *yb)
{
    const uint32_t *const all = x + 4 * layer->chunks;
    int8_t *const spare = (int8_t *)(uintptr_t)all, *const other = spare + layer->filled;
    const int32_t plain = layer->plain;
    s8_tiles t = {layer->bias, layer->bias + 2 * layer->filled, x, x + 4 * (layer->chunks & 3), all,
                  layer->round, layer->shift, plain ? ya : spare, plain ? yb : other,
                  layer->weights, x};
    s8_dense_tiles(&t);
    if (!plain) {
        s8_place(layer, spare, ya);
        s8_place(layer, other, yb);
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

/* Adds the products of four rows and one pixel, `chunks` times four columns; gives the end of the
   weights read. */
COFIT_INLINE const int8_t *s8_strip(const int8_t *w, const uint32_t *x, int32_t chunks,
                                    int32_t acc[4])
{
    int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    const uint32_t *end = x + 2 * (chunks & 3);
#if defined(S8_TILE_BLOCKS)
    uint32_t v, z;
    if (x != end)
        S8_STRIP("1: " S8_STRIP_CHUNK "cmp %[x], %[end]\n\tbne 1b");
    end += 2 * (chunks & ~3);
    if (x != end)
        S8_STRIP("1: " S8_STRIP_CHUNK S8_STRIP_CHUNK S8_STRIP_CHUNK S8_STRIP_CHUNK
                 "cmp %[x], %[end]\n\tbne 1b");
#else
    for (end += 2 * (chunks & ~3); x != end; x += 2, w += 16) {
        const uint32_t w0 = cofit_word(w), w1 = cofit_word(w + 4);
        const uint32_t w2 = cofit_word(w + 8), w3 = cofit_word(w + 12);
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
    const int32_t *bias = layer->bias, *const end = bias + 2 * layer->filled;
    const int32_t round = layer->round, shift = layer->shift;
    int8_t *const spare = (int8_t *)(uintptr_t)(x + 2 * layer->chunks);
    int8_t *to = layer->plain ? y : spare;
    COFIT_UNROLL(1)
    for (; bias != end; bias += 8, to += 4) {
        int32_t acc[4] = {bias[0], bias[1], bias[2], bias[3]};
        w = s8_strip(w, x, layer->chunks, acc);
        to[0] = s8_settle(acc[0], bias[4], round, shift);
        to[1] = s8_settle(acc[1], bias[5], round, shift);
        to[2] = s8_settle(acc[2], bias[6], round, shift);
        to[3] = s8_settle(acc[3], bias[7], round, shift);
    }
    if (!layer->plain)
        s8_place(layer, spare, y);
}
