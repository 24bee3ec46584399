/* Matrix products with weights of a few bits: a row is unpacked to int8, then used for every column
   of x. Codes lie lowest bit first without gaps, as in the format "packed". */
#include <stddef.h>
#include <stdint.h>

static int32_t level(const uint8_t *codes, size_t at, int32_t bits)
{
    const size_t bit = at * (size_t)bits;
    uint32_t pair = codes[bit >> 3];
    if ((bit & 7) + (size_t)bits > 8)
        pair |= (uint32_t)codes[(bit >> 3) + 1] << 8;
    const int32_t code = (int32_t)(pair >> (bit & 7) & ((1u << bits) - 1));
    return bits == 1 ? 2 * code - 1 : code - ((1 << (bits - 1)) - 1);
}

/* out[row][column] = sum over i of w[row][i] x[column][i]; `unpacked` has room for a row. */
void packed_gemm(const uint8_t *codes, int32_t bits, int32_t rows, int32_t length,
                 const int8_t *x, int32_t columns, int8_t *unpacked, int32_t *out)
{
    for (int32_t row = 0; row < rows; row++) {
        for (int32_t i = 0; i < length; i++)
            unpacked[i] = (int8_t)level(codes, (size_t)row * (size_t)length + (size_t)i, bits);
        for (int32_t column = 0; column < columns; column++) {
            const int8_t *const from = x + (size_t)column * (size_t)length;
            int32_t sum = 0;
            for (int32_t i = 0; i < length; i++)
                sum += unpacked[i] * from[i];
            out[(size_t)row * (size_t)columns + (size_t)column] = sum;
        }
    }
}
