/* Short open paths through n points, d[i * n + j] symmetric and not below zero. */
#include <stdint.h>
#include <string.h>

typedef int32_t i32;
enum { SMALL = 32 };

static void reverse(i32 *p, i32 i, i32 j) {
    for (; i < j; i++, j--) {
        const i32 t = p[i];
        p[i] = p[j];
        p[j] = t;
    }
}

/* p[i..j] goes behind p[q], q > j; its own order stays. */
static void move_up(i32 *p, i32 i, i32 j, i32 q) {
    reverse(p, i, q);
    reverse(p, i, i + q - j - 1);
    reverse(p, i + q - j, q);
}

/* p[i..j] goes before p[q], q < i. */
static void move_down(i32 *p, i32 i, i32 j, i32 q) {
    reverse(p, q, j);
    reverse(p, q, q + j - i);
    reverse(p, q + j - i + 1, j);
}

static int64_t length(i32 n, const i32 *d, const i32 *p) {
    int64_t sum = 0;
    for (i32 i = 0; i + 1 < n; i++) sum += d[(int64_t)p[i] * n + p[i + 1]];
    return sum;
}

static void nearest(i32 n, const i32 *d, i32 start, i32 *p, i32 *rest) {
    for (i32 i = 0; i < n; i++) rest[i] = i;
    i32 left = n, at = start, found = start;
    for (i32 place = 0; place < n; place++) {
        p[place] = at = rest[found];
        rest[found] = rest[--left];
        const i32 *row = d + (int64_t)at * n;
        found = 0;
        for (i32 i = 1; i < left; i++) {
            const i32 less = row[rest[i]] - row[rest[found]];
            if (less < 0 || (less == 0 && rest[i] < rest[found])) found = i;
        }
    }
}

#define D(a, b) d[(int64_t)(a) * n + (b)]

/* One sweep of 2-opt: reversals of p[i..j] that shorten. */
static int two_opt(i32 n, const i32 *d, i32 *p) {
    int better = 0;
    for (i32 i = 0; i + 1 < n; i++) {
        for (i32 j = i + 1; j < n; j++) {
            i32 gain = 0;
            if (i > 0) gain += D(p[i - 1], p[i]) - D(p[i - 1], p[j]);
            if (j + 1 < n) gain += D(p[j], p[j + 1]) - D(p[i], p[j + 1]);
            if (gain > 0) {
                reverse(p, i, j);
                better = 1;
            }
        }
    }
    return better;
}

/* One sweep of Or-opt: runs of up to three points move elsewhere, either way round. */
static int or_opt(i32 n, const i32 *d, i32 *p) {
    int better = 0;
    for (i32 size = 1; size <= 3; size++) {
        for (i32 i = 0; i + size <= n; i++) {
            const i32 j = i + size - 1, a = p[i], b = p[j];
            i32 out = 0;
            if (i > 0) out += D(p[i - 1], a);
            if (j + 1 < n) out += D(b, p[j + 1]);
            if (i > 0 && j + 1 < n) out -= D(p[i - 1], p[j + 1]);
            i32 best = 0, where = -1, flip = 0;
            for (i32 gap = 0; gap <= n; gap++) { /* between p[gap - 1] and p[gap] */
                if (gap >= i && gap <= j + 1) continue;
                const i32 cut = gap > 0 && gap < n ? D(p[gap - 1], p[gap]) : 0;
                i32 same = cut, turned = cut;
                if (gap > 0) {
                    same -= D(p[gap - 1], a);
                    turned -= D(p[gap - 1], b);
                }
                if (gap < n) {
                    same -= D(b, p[gap]);
                    turned -= D(a, p[gap]);
                }
                if (out + same > best) best = out + same, where = gap, flip = 0;
                if (out + turned > best) best = out + turned, where = gap, flip = 1;
            }
            if (where < 0) continue;
            if (flip) reverse(p, i, j);
            if (where > j) move_up(p, i, j, where - 1);
            else move_down(p, i, j, where);
            better = 1;
        }
    }
    return better;
}

static int64_t improved(i32 n, const i32 *d, i32 *p) {
    while (two_opt(n, d, p) | or_opt(n, d, p)) {
    }
    return length(n, d, p);
}

/*
 * `order` is a permutation on entry and one at least as short on return: the better of itself and
 * the best of the greedy paths, both improved; few points afford to improve every greedy path. `work`
 * has 3n places.
 */
void cofit_short_path(i32 n, const i32 *d, i32 count, const i32 *starts, i32 *order, i32 *work) {
    i32 *greedy = work, *p = work + n, *rest = work + 2 * n;
    int64_t least = INT64_MAX;
    for (i32 s = 0; s < count; s++) {
        nearest(n, d, starts[s], p, rest);
        const int64_t found = n <= SMALL ? improved(n, d, p) : length(n, d, p);
        if (found < least) {
            least = found;
            memcpy(greedy, p, (size_t)n * sizeof(i32));
        }
    }
    if (improved(n, d, greedy) < improved(n, d, order))
        memcpy(order, greedy, (size_t)n * sizeof(i32));
}

/* Length of a minimum spanning tree (Prim); `work` has 2n places. */
int64_t cofit_spanning_tree(i32 n, const i32 *d, i32 *work) {
    i32 *reach = work, *rest = work + n;
    int64_t sum = 0;
    for (i32 i = 1; i < n; i++) {
        rest[i - 1] = i;
        reach[i] = d[i];
    }
    for (i32 left = n - 1; left > 0; left--) {
        i32 near = 0;
        for (i32 i = 1; i < left; i++)
            if (reach[rest[i]] < reach[rest[near]]) near = i;
        const i32 at = rest[near];
        sum += reach[at];
        rest[near] = rest[left - 1];
        for (i32 i = 0; i + 1 < left; i++) {
            const i32 over = D(at, rest[i]);
            if (over < reach[rest[i]]) reach[rest[i]] = over;
        }
    }
    return sum;
}
