/* Islands: breadth-first engines that close regions off behind hubs, and the reuse of sums inside
 * islands. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef uint64_t u64;

enum { FREE = -1, HUB = -2, ISLAND = -3, DEAD = -4 }; /* 0 and above: the engine that claimed it */

typedef struct { /* in the order of the Python side */
    const i64 *indptr, *indices;
    int32_t *state;
    const i64 *task;
    i64 tasks, next, largest;
    i64 *member, *start, *size;
    i64 members, islands;
} search_t;

typedef struct {
    i64 busy, head, count, visits, wasted, began;
    i64 *queue; /* room for largest + 1 */
} engine_t;

static int claim(search_t *s, i64 node, i64 engine) {
    int32_t expected = FREE;
    return __atomic_compare_exchange_n(
        &s->state[node], &expected, (int32_t)engine, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void leave(search_t *s, engine_t *e, int32_t state) {
    for (i64 i = 0; i < e->count; i++)
        __atomic_store_n(&s->state[e->queue[i]], state, __ATOMIC_SEQ_CST);
    e->busy = 0;
}

static void emit(search_t *s, engine_t *e) {
    i64 start = __atomic_fetch_add(&s->members, e->count, __ATOMIC_SEQ_CST);
    i64 island = __atomic_fetch_add(&s->islands, 1, __ATOMIC_SEQ_CST);
    memcpy(s->member + start, e->queue, (size_t)e->count * sizeof(i64));
    s->start[island] = start;
    s->size[island] = e->count;
    leave(s, e, ISLAND);
}

/* Take a task, or visit the neighbours of one node; 0 when there is nothing left to do.
 * A region that grew too large, or meets one that did, is dead for this round: whoever enters it
 * would fail as well. One that meets another engine is free at once, for that engine to take. */
static int advance(search_t *s, engine_t *e, i64 self) {
    if (!e->busy) {
        i64 t = __atomic_fetch_add(&s->next, 1, __ATOMIC_SEQ_CST);
        if (t >= s->tasks) return 0;
        if (!claim(s, s->task[t], self)) return 1;
        e->queue[0] = s->task[t];
        e->busy = e->count = 1;
        e->head = 0;
        e->began = e->visits;
        return 1;
    }
    i64 node = e->queue[e->head++];
    for (i64 i = s->indptr[node]; i < s->indptr[node + 1]; i++) {
        i64 w = s->indices[i];
        int32_t state = __atomic_load_n(&s->state[w], __ATOMIC_SEQ_CST);
        e->visits++;
        if (state == HUB || state == self) continue;
        int claimed = state == FREE && claim(s, w, self);
        if (claimed) e->queue[e->count++] = w;
        if (!claimed || e->count > s->largest) {
            leave(s, e, claimed || state == DEAD ? DEAD : FREE);
            e->wasted += e->visits - e->began;
            return 1;
        }
    }
    if (e->head == e->count) emit(s, e);
    return 1;
}

/* One engine to its end, as a thread of its own. */
void cofit_islands_engine(search_t *s, engine_t *engines, i64 self) {
    while (advance(s, &engines[self], self)) {}
}

/* All engines in turn, a node each. */
void cofit_islands_lockstep(search_t *s, engine_t *engines, i64 count) {
    for (int going = 1; going;) {
        going = 0;
        for (i64 e = 0; e < count; e++) going |= advance(s, &engines[e], e);
    }
}

/* Operations in the order of execution: out[to] += sign * in[from]. Numbers from n on are partial
 * sums. A sign of 2 copies: the first term of a partial sum is no addition. */
typedef struct {
    i64 *to, *from;
    int8_t *sign;
    i64 count, partial;
} ops_t;

static void push(ops_t *ops, i64 to, i64 from, int sign) {
    ops->to[ops->count] = to;
    ops->from[ops->count] = from;
    ops->sign[ops->count++] = (int8_t)sign;
}

static int shared(const u64 *a, const u64 *b, i64 words) {
    int bits = 0;
    for (i64 w = 0; w < words; w++) bits += __builtin_popcountll(a[w] & b[w]);
    return bits;
}

/* Each next column is the one that shares most rows with the last. */
static void similar(i64 *order, i64 count, const u64 *column, i64 words) {
    i64 best = 0;
    for (i64 i = 1, most = shared(column, column, words); i < count; i++) {
        int bits = shared(column + i * words, column + i * words, words);
        if (bits > most) most = bits, best = i;
    }
    for (i64 i = 0; i < count; i++) order[i] = i;
    for (i64 k = 0; k < count; k++) {
        if (k) {
            const u64 *last = column + order[k - 1] * words;
            int most = -1;
            for (i64 i = k; i < count; i++) {
                int bits = shared(last, column + order[i] * words, words);
                if (bits > most || (bits == most && order[i] < order[best])) most = bits, best = i;
            }
        }
        i64 chosen = order[best];
        order[best] = order[k];
        order[k] = chosen;
    }
}

/* Windows of `window` columns over a bitmap of `rows` rows; see the Python side for the rule. */
static void windows(
    ops_t *ops, const u64 *column, const i64 *order, i64 columns, i64 rows, i64 words, i64 window,
    const i64 *column_node, const i64 *row_node
) {
    for (i64 first = 0; first < columns; first += window) {
        i64 width = columns - first < window ? columns - first : window, gain = 0;
        for (int emitting = 0; emitting < 2; emitting++) {
            int grouped = emitting && gain > width - 1;
            if (grouped) {
                for (i64 j = 0; j < width; j++)
                    push(ops, ops->partial, column_node[order[first + j]], j ? 1 : 2);
            }
            for (i64 word = 0; word < words; word++) {
                u64 any = 0;
                for (i64 j = 0; j < width; j++) any |= column[order[first + j] * words + word];
                for (; any; any &= any - 1) {
                    i64 bit = __builtin_ctzll(any), row = word * 64 + bit, count = 0;
                    if (row >= rows) break;
                    for (i64 j = 0; j < width; j++)
                        count += column[order[first + j] * words + word] >> bit & 1;
                    i64 saved = 2 * count - width - 1;
                    if (!emitting) {
                        if (saved > 0) gain += saved;
                        continue;
                    }
                    int reuse = grouped && saved > 0;
                    if (reuse) push(ops, row_node[row], ops->partial, 1);
                    for (i64 j = 0; j < width; j++) {
                        i64 c = order[first + j];
                        int present = column[c * words + word] >> bit & 1;
                        if (present != reuse)
                            push(ops, row_node[row], column_node[c], present ? 1 : -1);
                    }
                }
            }
            if (grouped) ops->partial++;
        }
    }
}

static void set(u64 *column, i64 row) { column[row / 64] |= (u64)1 << (row % 64); }

/* Operations of one island: its nodes' own rows, and what it adds to its hubs. `local` is n long,
 * -1 everywhere; it is left so. Returns 0 without memory. */
int cofit_island_ops(
    ops_t *ops, const i64 *indptr, const i64 *indices, const int32_t *state, const i64 *member,
    i64 members, i64 window, int sorted, i64 *local
) {
    i64 hubs = 0, edges = 0, done = 0;
    for (i64 i = 0; i < members; i++) {
        local[member[i]] = i;
        edges += indptr[member[i] + 1] - indptr[member[i]];
    }
    i64 *node = malloc((size_t)(members + edges) * 2 * sizeof(i64)), *order = NULL;
    u64 *own = NULL, *others = NULL;
    if (!node) goto end;
    memcpy(node, member, (size_t)members * sizeof(i64));
    for (i64 i = 0; i < members; i++) {
        for (i64 e = indptr[member[i]]; e < indptr[member[i] + 1]; e++) {
            i64 w = indices[e];
            if (state[w] != HUB || local[w] >= 0) continue;
            local[w] = members + hubs;
            node[members + hubs++] = w;
        }
    }
    order = node + members + edges;
    i64 words = (members + hubs + 63) / 64, narrow = (members + 63) / 64;
    own = calloc((size_t)(members * words), sizeof(u64));
    others = calloc((size_t)(hubs * narrow + 1), sizeof(u64));
    if (!own || !others) goto end;
    for (i64 i = 0; i < members; i++) {
        set(own + i * words, i);
        for (i64 e = indptr[member[i]]; e < indptr[member[i] + 1]; e++) {
            i64 w = local[indices[e]];
            set(own + i * words, w);
            if (w >= members) set(others + (w - members) * narrow, i);
        }
    }
    for (i64 i = 0; i < members + hubs; i++) order[i] = i;
    if (sorted) similar(order, members, own, words);
    windows(ops, own, order, members, members + hubs, words, window, node, node);
    for (i64 i = 0; i < hubs; i++) order[i] = i;
    if (sorted && hubs) similar(order, hubs, others, narrow);
    windows(ops, others, order, hubs, members, narrow, window, node + members, node);
    done = 1;
end:
    if (node) for (i64 i = 0; i < members + hubs; i++) local[node[i]] = -1;
    free(node);
    free(own);
    free(others);
    return (int)done;
}

/* Operations of a bitmap given as columns of `words` words each. */
void cofit_bitmap_ops(
    ops_t *ops, const u64 *column, const i64 *order, i64 columns, i64 rows, i64 words, i64 window,
    const i64 *node
) {
    windows(ops, column, order, columns, rows, words, window, node, node);
}
