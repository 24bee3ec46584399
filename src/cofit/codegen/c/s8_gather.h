#include "cofit_dsp.h"

/* A box of `size` elements, the last axis fastest; `from` and `to` hold strides per axis. */
COFIT_SHARED void s8_gather(const int8_t *x, const int32_t *from, int8_t *out, const int32_t *to,
                            const int32_t *size)
{
    for (int32_t i = 0; i < size[0]; i++)
        for (int32_t j = 0; j < size[1]; j++)
            for (int32_t k = 0; k < size[2]; k++) {
                const int8_t *p = x + i * from[0] + j * from[1] + k * from[2];
                int8_t *q = out + i * to[0] + j * to[1] + k * to[2];
                for (int32_t l = 0; l < size[3]; l++, p += from[3], q += to[3])
                    *q = *p;
            }
}
