/* One Bayesian layer on a CPU. Noise is read from a table at a place that depends on voter and row,
   so that neither flow waits for memory or for a generator. */
#include <stddef.h>
#include <stdint.h>

static inline const float *row_noise(const float *pool, uint32_t voter, uint32_t row) {
    return pool + ((voter * UINT32_C(2654435761) ^ row * UINT32_C(2246822519)) >> 18);
}

void layer_standard(const float *mu, const float *sigma, const float *x, const float *pool,
                    float *out, int rows, int columns, int voters) {
    for (int k = 0; k < voters; k++)
        for (int i = 0; i < rows; i++) {
            const float *m = mu + (size_t)i * columns, *s = sigma + (size_t)i * columns;
            const float *e = row_noise(pool, (uint32_t)k, (uint32_t)i);
            float sum = 0;
            for (int j = 0; j < columns; j++) sum += (m[j] + s[j] * e[j]) * x[j];
            out[k * rows + i] = sum;
        }
}

/* `beta` holds one row: the memory-friendly flow with alpha = 1 / rows. */
void layer_memorised(const float *mu, const float *sigma, const float *x, const float *pool,
                     float *out, int rows, int columns, int voters, float *beta) {
    for (int i = 0; i < rows; i++) {
        const float *m = mu + (size_t)i * columns, *s = sigma + (size_t)i * columns;
        float eta = 0;
        for (int j = 0; j < columns; j++) {
            eta += m[j] * x[j];
            beta[j] = s[j] * x[j];
        }
        for (int k = 0; k < voters; k++) {
            const float *e = row_noise(pool, (uint32_t)k, (uint32_t)i);
            float sum = 0;
            for (int j = 0; j < columns; j++) sum += beta[j] * e[j];
            out[k * rows + i] = eta + sum;
        }
    }
}
