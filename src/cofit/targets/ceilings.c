/* What this CPU can do at most: multiply-adds out of registers, loads from a working set.

   Each function does the same work n times and returns the seconds of it. OPAQUE hides a register's
   value from the compiler, so that no work is moved out of a loop; nothing is computed by it. */
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define OPAQUE(v) __asm__ volatile("" : "+v"(v))
#elif defined(__x86_64__)
#define OPAQUE(v) __asm__ volatile("" : "+x"(v))
#elif defined(__aarch64__)
#define OPAQUE(v) __asm__ volatile("" : "+w"(v))
#else
#define OPAQUE(v) __asm__ volatile("" : "+m"(v))
#endif

/* LANES is given on the command line: float32 lanes of a vector register. */
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t words __attribute__((vector_size(4 * LANES)));

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 12 * LANES multiply-adds an iteration: enough chains to hide their latency. */
double ceiling_float32(long n)
{
    vec x = {0.0f}, a[12];
    x += 0.999f;
    for (int j = 0; j < 12; ++j) {
        a[j] = x;
        OPAQUE(a[j]);
    }
    const double start = now();
    for (long i = 0; i < n; ++i) {
        OPAQUE(x);
        for (int j = 0; j < 12; ++j)
            a[j] = a[j] * x + x;
    }
    const double end = now();
    for (int j = 0; j < 12; ++j)
        OPAQUE(a[j]);
    return end - start;
}

#if defined(__AVX512VNNI__)
#define INT8_NAME "vpdpbusd, 512 bits"
#define INT8_MACS 64
typedef __m512i ints;
#define ZERO _mm512_setzero_si512()
#define MULTIPLY_ADD(a, x, y) _mm512_dpbusd_epi32(a, x, y)
#elif defined(__AVXVNNI__)
#define INT8_NAME "vpdpbusd, 256 bits"
#define INT8_MACS 32
typedef __m256i ints;
#define ZERO _mm256_setzero_si256()
#define MULTIPLY_ADD(a, x, y) _mm256_dpbusd_avx_epi32(a, x, y)
#elif defined(__AVX512BW__)
#define INT8_NAME "pmaddwd and paddd, 512 bits"
#define INT8_MACS 32
typedef __m512i ints;
#define ZERO _mm512_setzero_si512()
#define MULTIPLY_ADD(a, x, y) _mm512_add_epi32(a, _mm512_madd_epi16(x, y))
#elif defined(__AVX2__)
#define INT8_NAME "pmaddwd and paddd, 256 bits"
#define INT8_MACS 16
typedef __m256i ints;
#define ZERO _mm256_setzero_si256()
#define MULTIPLY_ADD(a, x, y) _mm256_add_epi32(a, _mm256_madd_epi16(x, y))
#else
#define INT8_NAME "int32 multiply and add"
#define INT8_MACS LANES
typedef words ints;
#define ZERO ((words){0})
#define MULTIPLY_ADD(a, x, y) ((a) + (x) * (y))
#endif

const char *ceiling_int8_name(void) { return INT8_NAME; }

int ceiling_int8_macs(void) { return INT8_MACS; }

/* 12 * INT8_MACS products an iteration, two vectors by six as in the register tile of a kernel. */
double ceiling_int8(long n)
{
    ints x0 = ZERO, x1 = ZERO, y = ZERO, a[12];
    for (int j = 0; j < 12; ++j)
        a[j] = ZERO;
    const double start = now();
    for (long i = 0; i < n; ++i) {
        OPAQUE(x0);
        OPAQUE(x1);
        for (int j = 0; j < 12; j += 2) {
            OPAQUE(y);
            a[j] = MULTIPLY_ADD(a[j], x0, y);
            a[j + 1] = MULTIPLY_ADD(a[j + 1], x1, y);
        }
    }
    const double end = now();
    for (int j = 0; j < 12; ++j)
        OPAQUE(a[j]);
    return end - start;
}

/* Reads `bytes`, a multiple of 8 vectors, n times. */
double ceiling_read(const void *from, size_t bytes, long n)
{
    const words *const p = from;
    const size_t vectors = bytes / sizeof(words);
    words a[8] = {{0}};
    const double start = now();
    for (long i = 0; i < n; ++i) {
        for (size_t v = 0; v < vectors; v += 8)
            for (int j = 0; j < 8; ++j)
                a[j] ^= p[v + (size_t)j];
        __asm__ volatile("" : : : "memory");
    }
    const double end = now();
    for (int j = 0; j < 8; ++j)
        OPAQUE(a[j]);
    return end - start;
}

static __attribute__((noinline)) void nothing(void)
{
    __asm__ volatile("" : : : "memory");
}

/* n calls of an empty step, each timed as a step of a program is. */
double ceiling_step(long n)
{
    double then = now(), sum = 0.0;
    for (long i = 0; i < n; ++i) {
        nothing();
        const double t = now();
        sum += t - then;
        then = t;
    }
    return sum;
}
