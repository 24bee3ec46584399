/* Pooling of embedding rows of DIM floats on a CPU; every variant adds in the order of the bag. */
#include <stdint.h>
#include <string.h>
#include <time.h>

typedef int64_t i64;

static void add(float *sum, const float *row) {
    for (int d = 0; d < DIM; d++) sum[d] += row[d];
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Each function gives the seconds it took. Rows are row numbers of one table that holds all. */
double cofit_pool_plain(i64 bags, const i64 *offsets, const i64 *rows, const float *table,
                        float *out) {
    const double start = now();
    for (i64 b = 0; b < bags; b++) {
        float sum[DIM] = {0};
        for (i64 i = offsets[b]; i < offsets[b + 1]; i++) add(sum, table + rows[i] * DIM);
        memcpy(out + b * DIM, sum, sizeof sum);
    }
    return now() - start;
}

double cofit_pool_prefetch(i64 bags, const i64 *offsets, const i64 *rows, const float *table,
                           float *out, i64 ahead) {
    const double start = now();
    const i64 last = offsets[bags] - 1;
    for (i64 b = 0; b < bags; b++) {
        float sum[DIM] = {0};
        for (i64 i = offsets[b]; i < offsets[b + 1]; i++) {
            const float *next = table + rows[i + ahead < last ? i + ahead : last] * DIM;
            for (int d = 0; d < DIM; d += 16) __builtin_prefetch(next + d);
            add(sum, table + rows[i] * DIM);
        }
        memcpy(out + b * DIM, sum, sizeof sum);
    }
    return now() - start;
}

/* Lookups by address, of the table or of the compact one, so that no branch tells them apart. */
double cofit_pool_packed(i64 bags, const i64 *offsets, const float *const *rows, float *out,
                         i64 ahead) {
    const double start = now();
    const i64 last = offsets[bags] - 1;
    for (i64 b = 0; b < bags; b++) {
        float sum[DIM] = {0};
        for (i64 i = offsets[b]; i < offsets[b + 1]; i++) {
            const float *next = rows[i + ahead < last ? i + ahead : last];
            for (int d = 0; d < DIM; d += 16) __builtin_prefetch(next + d);
            add(sum, rows[i]);
        }
        memcpy(out + b * DIM, sum, sizeof sum);
    }
    return now() - start;
}

/* Spreads row numbers over 2^bits places. */
static i64 place_of(i64 row, int bits) {
    return (i64)((uint64_t)row * 0x9e3779b97f4a7c15u >> (64 - bits));
}

/*
 * The profile of a batch: rows asked for `threshold` times or more are copied to the compact table,
 * up to its room, and their lookups get its addresses. Counts are kept by hash, so that they stay in a
 * cache: rows that share a place with others may be copied without need, which changes no result. Of
 * rows that share a place in `owner` (2^owner_bits rows, with their slots) the first is copied. Gives
 * the rows that were copied.
 */
i64 cofit_profile(i64 lookups, const i64 *rows, const float *table, uint8_t *count, int bits,
                  i64 *owner, i64 *slot, int owner_bits, i64 threshold, i64 room,
                  const float **address, float *compact, double *seconds) {
    const double start = now();
    i64 used = 0;
    memset(count, 0, (size_t)1 << bits);
    memset(owner, -1, sizeof(i64) << owner_bits);
    for (i64 i = 0; i < lookups; i++) {
        uint8_t *seen = &count[place_of(rows[i], bits)];
        *seen += *seen < 255;
    }
    for (i64 i = 0; i < lookups; i++) {
        const i64 row = rows[i];
        address[i] = table + row * DIM;
        if (count[place_of(row, bits)] < threshold) continue;
        const i64 at = place_of(row, owner_bits);
        if (owner[at] < 0 && used < room) {
            memcpy(compact + used * DIM, table + row * DIM, DIM * sizeof(float));
            owner[at] = row;
            slot[at] = used++;
        }
        if (owner[at] == row) address[i] = compact + slot[at] * DIM;
    }
    *seconds = now() - start;
    return used;
}
