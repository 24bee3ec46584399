#include "s8_softmax.h"

/* Softmax of `rows` rows of `count`, as s8_softmax; exponentials[255 + d] is that of the
   difference d, zero where it is not counted. `e` holds a row of them. No value is negative, so
   that halves round up; the loops are plain, for the compiler to vectorise. */
COFIT_SHARED void s8_host_softmax(const uint32_t *exponentials, const int8_t *x, int32_t rows,
                                  int32_t count, uint32_t *e, int8_t *out)
{
    for (int32_t row = 0; row < rows; row++, x += count, out += count) {
        int8_t most = -128;
        uint32_t total = 0;
        for (int32_t i = 0; i < count; i++)
            most = x[i] > most ? x[i] : most;
        const int32_t last = 255 - most;
        for (int32_t i = 0; i < count; i++)
            e[i] = exponentials[last + x[i]];
        for (int32_t i = 0; i < count; i++)
            total += (e[i] + (1u << 11)) >> 12;
        const int32_t headroom = __builtin_clz(total), bits = 35 - headroom;
        const uint32_t twice =
            2u * (uint32_t)s8_reciprocal((int32_t)((total << headroom) - 0x80000000u));
        /* a quotient by 2^32 or more is zero */
        const uint32_t half = bits > 31 ? 0 : 1u << (bits - 1), kept = bits > 31 ? 0 : ~0u;
        const int32_t right = bits & 31;
        for (int32_t i = 0; i < count; i++) {
            const uint32_t scaled = (uint32_t)(((uint64_t)e[i] * twice + (1u << 31)) >> 32);
            const uint32_t value = ((scaled & kept) + half) >> right;
            out[i] = (int8_t)((int32_t)(value < 255 ? value : 255) - 128);
        }
    }
}
