/* Row operations one after the other, counted where they are done. */
#include <stdint.h>
#include <string.h>

typedef int64_t i64;

#define EXECUTE(NAME, T)                                                                         \
    i64 NAME(                                                                                    \
        i64 count, const i64 *to, const i64 *from, const int8_t *sign, i64 n, i64 width,         \
        const T *x, T *partial, T *y                                                             \
    ) {                                                                                          \
        i64 additions = 0;                                                                       \
        for (i64 i = 0; i < count; i++) {                                                        \
            const T *in = from[i] < n ? x + from[i] * width : partial + (from[i] - n) * width;   \
            T *out = to[i] < n ? y + to[i] * width : partial + (to[i] - n) * width;              \
            if (sign[i] == 2) {                                                                  \
                memcpy(out, in, (size_t)width * sizeof(T));                                      \
                continue;                                                                        \
            }                                                                                    \
            additions++;                                                                         \
            if (sign[i] == 1) for (i64 j = 0; j < width; j++) out[j] += in[j];                   \
            else for (i64 j = 0; j < width; j++) out[j] -= in[j];                                \
        }                                                                                        \
        return additions;                                                                        \
    }

EXECUTE(cofit_execute_float, float)
EXECUTE(cofit_execute_int, int32_t)
