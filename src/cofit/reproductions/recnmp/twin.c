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

/* Rows below zero are in the compact table: -1 is its first. */
double cofit_pool_packed(i64 bags, const i64 *offsets, const i64 *rows, const float *table,
                         const float *compact, float *out, i64 ahead) {
    const double start = now();
    const i64 last = offsets[bags] - 1;
    for (i64 b = 0; b < bags; b++) {
        float sum[DIM] = {0};
        for (i64 i = offsets[b]; i < offsets[b + 1]; i++) {
            const i64 far = rows[i + ahead < last ? i + ahead : last], row = rows[i];
            if (far >= 0)
                for (int d = 0; d < DIM; d += 16) __builtin_prefetch(table + far * DIM + d);
            add(sum, row < 0 ? compact + (-1 - row) * DIM : table + row * DIM);
        }
        memcpy(out + b * DIM, sum, sizeof sum);
    }
    return now() - start;
}

/*
 * The profile of a batch: rows asked for `threshold` times or more are copied to the compact table,
 * up to its room, and their lookups are renamed. count has a place per row of the table and is zero
 * before and after. Gives the rows that were copied.
 */
i64 cofit_profile(i64 lookups, const i64 *rows, const float *table, int32_t *count, i64 threshold,
                  i64 room, i64 *renamed, float *compact, double *seconds) {
    const double start = now();
    i64 used = 0;
    for (i64 i = 0; i < lookups; i++) count[rows[i]]++;
    for (i64 i = 0; i < lookups; i++) {
        int32_t *seen = &count[rows[i]];
        if (*seen >= threshold && used < room) {
            memcpy(compact + used * DIM, table + rows[i] * DIM, DIM * sizeof(float));
            *seen = (int32_t)(-1 - used++);
        }
        renamed[i] = *seen < 0 ? *seen : rows[i];
    }
    for (i64 i = 0; i < lookups; i++) count[rows[i]] = 0;
    *seconds = now() - start;
    return used;
}
