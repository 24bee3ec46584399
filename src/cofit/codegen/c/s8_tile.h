#include "s8_scaled.h"

/* Whether tiles are blocks of instructions: they take every register that an optimised function
   has, and one of the floating-point unit. */
#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && defined(__OPTIMIZE__)
#define S8_TILE_BLOCKS
#endif

/* What a run of tiles of two rows and two pixels works on, in the order its loads expect. */
typedef struct {
    const int32_t *bias, *bias_end;
    const void *from, *few, *all; /* what is walked; up to `few` one step at a time, then more */
    int32_t round, shift;
    int8_t *ya, *yb;
    const int8_t *weights;
    const uint32_t *x;
} s8_tiles;

/* Row w times the lifted columns in r2 to r5. */
#define S8_ROW(w, a, b)                                                                            \
    "smlad %[" a "], %[" w "], r3, %[" a "]\n\tsmlad %[" b "], %[" w "], r5, %[" b "]\n\t"         \
    "sxtb16 %[" w "], %[" w "]\n\t"                                                                \
    "smlad %[" a "], %[" w "], r2, %[" a "]\n\tsmlad %[" b "], %[" w "], r4, %[" b "]\n\t"
#define S8_ROWS                                                                                    \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t" S8_ROW("w0", "a0", "b0") S8_ROW("w1", "a1", "b1")

/* Sums begin; the walk, by `step` and by the unrolled `steps`. */
#define S8_WALK(step, steps)                                                                       \
    "1: ldr %[w0], [%[f]]\n\tldrd %[a0], %[a1], [%[w0]]\n\tldrd %[from], %[end], [%[f], #8]\n\t"   \
    "mov %[b0], %[a0]\n\tmov %[b1], %[a1]\n\t"                                                     \
    "cmp %[from], %[end]\n\tbeq 3f\n\t"                                                            \
    "2: " step "cmp %[from], %[end]\n\tbne 2b\n\t"                                                 \
    "3: ldr %[end], [%[f], #16]\n\tcmp %[from], %[end]\n\tbeq 5f\n\t"                              \
    "4: " steps "cmp %[from], %[end]\n\tbne 4b\n\t"                                                \
    "5: "

/* Outputs of the tile; on to the next. */
#define S8_SCALE(a, m) "smmla %[" a "], %[" a "], %[" m "], r4\n\t"
#define S8_ROUND(a) "asr %[" a "], %[" a "], r5\n\t"
#define S8_BOUND(a) "ssat %[" a "], #8, %[" a "]\n\t"
#define S8_SETTLE(step)                                                                            \
    "ldrd r2, r3, [%[f]]\n\tldrd %[w0], %[w1], [r2, #8]\n\tldrd r4, r5, [%[f], #20]\n\t"           \
    S8_SCALE("a0", "w0") S8_SCALE("b0", "w0") S8_SCALE("a1", "w1") S8_SCALE("b1", "w1")            \
    S8_ROUND("a0") S8_ROUND("b0") S8_ROUND("a1") S8_ROUND("b1")                                    \
    S8_BOUND("a0") S8_BOUND("b0") S8_BOUND("a1") S8_BOUND("b1")                                    \
    "ldrd %[from], %[end], [%[f], #28]\n\t"                                                        \
    "strb %[a0], [%[from]], #1\n\tstrb %[b0], [%[end]], #1\n\t"                                    \
    "strb %[a1], [%[from]], #1\n\tstrb %[b1], [%[end]], #1\n\t" S8_NEXT(step)
#define S8_SETTLE_ONE(step)                                                                        \
    "ldrd r2, r3, [%[f]]\n\tldr %[w0], [r2, #4]\n\tldrd r4, r5, [%[f], #20]\n\t"                   \
    S8_SCALE("a0", "w0") S8_SCALE("b0", "w0") S8_ROUND("a0") S8_ROUND("b0")                        \
    S8_BOUND("a0") S8_BOUND("b0") "ldrd %[from], %[end], [%[f], #28]\n\t"                          \
    "strb %[a0], [%[from]], #1\n\tstrb %[b0], [%[end]], #1\n\t" S8_NEXT(step)
#define S8_NEXT(step)                                                                              \
    "strd %[from], %[end], [%[f], #28]\n\tadd r2, r2, #" step "\n\tstr r2, [%[f]]\n\t"             \
    "cmp r2, r3\n\tbne 1b"

#if !defined(S8_TILE_BLOCKS)
/* Adds one word of weights of each of one or two rows at two pixels. */
COFIT_INLINE void s8_chunk(const int8_t **w, const uint32_t *x, int32_t acc[4], const int rows)
{
    for (int32_t i = 0; i < rows; i++, *w += 4) {
        const uint32_t word = cofit_word(*w), low = cofit_sxtb16(word);
        acc[2 * i] = cofit_smlad(low, x[0], cofit_smlad(word, x[1], acc[2 * i]));
        acc[2 * i + 1] = cofit_smlad(low, x[2], cofit_smlad(word, x[3], acc[2 * i + 1]));
    }
}

/* Stores the outputs of a tile and goes on to the next. */
COFIT_INLINE void s8_settle_tile(s8_tiles *t, const int32_t acc[4], const int rows)
{
    for (int32_t i = 0; i < rows; i++) {
        *t->ya++ = s8_settle(acc[2 * i], t->bias[rows + i], t->round, t->shift);
        *t->yb++ = s8_settle(acc[2 * i + 1], t->bias[rows + i], t->round, t->shift);
    }
    t->bias += 2 * rows;
}
#endif
