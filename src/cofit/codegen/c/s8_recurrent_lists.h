#include "s8_recurrent.h"

/* A weight of which each `height` rows have columns of their own: index[start[i]] to
   index[start[i + 1]], and as many weights in a row. `height` is 0 where all rows have all. */
typedef struct {
    s8_gates gates;
    const uint32_t *start;
    const uint16_t *index;
    int32_t height;
} s8_listed_gates;

/* Gates of a vector of int16; `read` holds the most elements that a block reads, each once. */
COFIT_SHARED void s8_gates_by_lists(const s8_listed_gates *p, const int16_t *x, int16_t *read,
                                    int16_t *out)
{
    const s8_gates *const g = &p->gates;
    const int8_t *w = g->weights;
    for (int32_t block = 0, row = 0; row < g->rows; block++) {
        const uint16_t *const index = p->index + p->start[block];
        const int32_t count = (int32_t)(p->start[block + 1] - p->start[block]);
        const int32_t end = row + p->height < g->rows ? row + p->height : g->rows;
        for (int32_t c = 0; c < count; c++)
            read[c] = x[index[c]];
        for (; row < end; row++, w += count) {
            int32_t acc = g->bias[row];
            for (int32_t c = 0; c < count; c++)
                acc += w[c] * read[c];
            out[row] = (int16_t)s8_saturate16(
                s8_requantise(acc, g->multiplier[row], g->shift[row]));
        }
    }
}

/* GRU, or LSTM. `h` holds the state, the cell, the gates of both, an input, and what blocks read. */
COFIT_SHARED void s8_recurrent_by_lists(const s8_cell *p, const s8_listed_gates *layers,
                                        const int8_t *x, int16_t *h, int8_t *out, int lstm)
{
    const int32_t rows = layers->gates.rows;
    int16_t *const c = h + p->hidden, *const a = c + p->hidden, *const b = a + rows;
    int16_t *const wide = b + rows, *const read = wide + p->inputs;
    __builtin_memset(h, 0, (uint32_t)p->hidden * 2 * sizeof *h);
    for (int32_t t = 0; t < p->steps; t++, x += p->inputs, out += p->hidden) {
        for (int32_t i = 0; i < p->inputs; i++)
            wide[i] = (int16_t)(x[i] + p->offset);
        if (layers[0].height > 0)
            s8_gates_by_lists(&layers[0], wide, read, a);
        else
            s8_inner_gates(&layers[0].gates, x, p->offset, a);
        if (layers[1].height > 0)
            s8_gates_by_lists(&layers[1], h, read, b);
        else
            s8_outer_gates(&layers[1].gates, h, b);
        if (lstm)
            s8_lstm_rest(p, 0, a, b, h, c, out);
        else
            s8_gru_rest(p, 0, a, b, h, out);
    }
}
