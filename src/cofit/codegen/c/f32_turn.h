#include <stdint.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX__)
static inline void f32_turn8(const float *from, int pitch, float *to, int out)
{
    __m256 v[8], u[8];
    for (int i = 0; i < 8; ++i)
        v[i] = _mm256_loadu_ps(from + i * pitch);
    for (int i = 0; i < 8; i += 2) {
        u[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
        u[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        v[i] = _mm256_shuffle_ps(u[i], u[i + 2], 0x44);
        v[i + 1] = _mm256_shuffle_ps(u[i], u[i + 2], 0xEE);
        v[i + 2] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0x44);
        v[i + 3] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(to + i * out, _mm256_permute2f128_ps(v[i], v[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * out, _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
    }
}
#else
static inline void f32_turn8(const float *from, int pitch, float *to, int out)
{
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j)
            to[i * out + j] = from[j * pitch + i];
}
#endif

/* to[c][r] = from[r][c] for so many rows and columns; pitches in floats. */
static inline void f32_turn(const float *from, int pitch, int rows, int columns, float *to, int out)
{
    const int r1 = rows / 8 * 8, c1 = columns / 8 * 8;
    for (int r = 0; r < r1; r += 8) {
        for (int c = 0; c < c1; c += 8)
            f32_turn8(from + r * pitch + c, pitch, to + c * out + r, out);
        for (int c = c1; c < columns; ++c)
            for (int i = 0; i < 8; ++i)
                to[c * out + r + i] = from[(r + i) * pitch + c];
    }
    for (int r = r1; r < rows; ++r)
        for (int c = 0; c < columns; ++c)
            to[c * out + r] = from[r * pitch + c];
}
