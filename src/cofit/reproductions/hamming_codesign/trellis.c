/*
 * Columns of weights that toggle few bits from row to row, each near its given value: minimises
 * sum (q - u)^2 + price * flips exactly, column by column (Viterbi), q within REACH levels of u.
 */
#include <math.h>
#include <stdint.h>

enum { STATES = 2 * REACH + 1, TOP = 127 };

/*
 * levels: (rows, columns), -TOP to TOP. pattern: of values -128 to 127. back: rows * STATES bytes.
 * Values of magnitude TOP stay: they carry their channel's scale.
 */
void cofit_trellis(
    int rows, int columns, const float *levels, double price, const uint8_t *pattern, int8_t *back,
    int8_t *out
) {
    for (int c = 0; c < columns; c++) {
        double cost[2][STATES];
        for (int k = 0; k < rows; k++) {
            const double u = levels[(int64_t)k * columns + c];
            const int centre = (int)nearbyint(u), held = centre >= TOP || centre <= -TOP;
            const int was = k ? (int)nearbyint(levels[(int64_t)(k - 1) * columns + c]) : 0;
            const double *before = cost[(k + 1) & 1];
            for (int s = 0; s < STATES; s++) {
                const int q = centre + s - REACH;
                double least = k ? INFINITY : 0;
                int from = 0;
                if (q < -TOP || q > TOP || (held && s != REACH)) {
                    cost[k & 1][s] = INFINITY;
                    continue;
                }
                for (int i = 0; i < STATES && k; i++) {
                    const int t = (i + REACH) % STATES; /* among equals the nearest level */
                    if (before[t] == INFINITY) continue;
                    const unsigned x = pattern[q + 128] ^ pattern[was + t - REACH + 128];
                    const double found = before[t] + price * __builtin_popcount(x);
                    if (found < least) least = found, from = t;
                }
                back[k * STATES + s] = (int8_t)from;
                cost[k & 1][s] = least + (q - u) * (q - u);
            }
        }
        const double *last = cost[(rows - 1) & 1];
        int s = REACH;
        for (int t = 0; t < STATES; t++)
            if (last[t] < last[s]) s = t;
        for (int k = rows - 1; k >= 0; k--) {
            const int centre = (int)nearbyint(levels[(int64_t)k * columns + c]);
            out[(int64_t)k * columns + c] = (int8_t)(centre + s - REACH);
            s = back[k * STATES + s];
        }
    }
}
