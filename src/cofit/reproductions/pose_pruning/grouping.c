/*
 * From maps to people, decision by decision as in grouping.py. No heap and no globals: the caller
 * owns the workspace. The constants of grouping.py are defined on the command line.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define KINDS 32 /* keypoints that a workspace has room for */

typedef struct {
    double x, y, score;
} peak;

typedef struct {
    double score;
    int start, end;
} limb;

typedef struct {
    int count;
    int8_t peak[KINDS]; /* -1: not there */
    double score;
} body;

typedef struct {
    float value;
    int y, x;
} cell;

typedef struct {
    peak peaks[KINDS][MAX_PEAKS];
    int counts[KINDS];
    limb limbs[MAX_PEAKS * MAX_PEAKS];
    body bodies[MAX_PEOPLE];
} workspace;

size_t cofit_group_bytes(void) { return sizeof(workspace); }

static int is_peak(const float *v, int h, int w, int y, int x) {
    const float c = v[y * w + x];
    return c > THRESHOLD && (x == 0 || c > v[y * w + x - 1]) &&
           (x + 1 == w || c > v[y * w + x + 1]) && (y == 0 || c > v[(y - 1) * w + x]) &&
           (y + 1 == h || c > v[(y + 1) * w + x]);
}

static double offset(const float *v, int at, int size, int step) {
    if (at == 0 || at == size - 1) return 0;
    const double left = v[-step], middle = v[0], right = v[step];
    return (right - left) / (2 * (2 * middle - left - right));
}

/* The best cell after (value, index) in descending order; 0 if there is none. */
static int next_cell(const float *v, int h, int w, cell *last) {
    int found = 0;
    cell best = {0, 0, 0};
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            const float c = v[y * w + x];
            if (found && c <= best.value) continue;
            const int behind = y * w + x > last->y * w + last->x;
            if (c > last->value || (c == last->value && !behind) || !is_peak(v, h, w, y, x))
                continue;
            best = (cell){c, y, x};
            found = 1;
        }
    }
    *last = best;
    return found;
}

static int find_peaks(const float *v, int h, int w, double near, peak *kept) {
    int count = 0;
    cell at = {INFINITY, -1, 0};
    while (count < MAX_PEAKS && next_cell(v, h, w, &at)) {
        const float *c = v + at.y * w + at.x;
        const peak p = {at.x + offset(c, at.x, w, 1), at.y + offset(c, at.y, h, w), at.value};
        int alone = 1;
        for (int i = 0; i < count && alone; i++) {
            const double dx = p.x - kept[i].x, dy = p.y - kept[i].y;
            alone = dx * dx + dy * dy >= near;
        }
        if (alone) kept[count++] = p;
    }
    return count;
}

static double bilinear(const float *v, int h, int w, double x, double y) {
    const int left = (int)x, top = (int)y;
    const int right = left + 1 < w ? left + 1 : w - 1, bottom = top + 1 < h ? top + 1 : h - 1;
    const double s = x - left, t = y - top;
    const double upper = v[top * w + left] * (1 - s) + v[top * w + right] * s;
    const double lower = v[bottom * w + left] * (1 - s) + v[bottom * w + right] * s;
    return upper * (1 - t) + lower * t;
}

static double clamp(double v, double high) { return v < 0 ? 0 : v > high ? high : v; }

static double limb_score(const peak *a, const peak *b, const float *field, int h, int w) {
    const double dx = b->x - a->x, dy = b->y - a->y, length = sqrt(dx * dx + dy * dy);
    if (length < 1e-9) return 0;
    int passed = 0;
    double total = 0;
    for (int sample = 0; sample < SAMPLES; sample++) {
        const double share = (double)sample / (SAMPLES - 1);
        const double x = clamp(a->x + share * dx, w - 1), y = clamp(a->y + share * dy, h - 1);
        const double along = bilinear(field, h, w, x, y) * dx;
        const double dot = (along + bilinear(field + h * w, h, w, x, y) * dy) / length;
        if (dot > LEAST_DOT) {
            passed++;
            total += dot;
        }
    }
    if (passed <= LEAST_SUCCESS * SAMPLES) return 0;
    const double far = 0.5 * h / length - 1;
    return total / passed + (far < 0 ? far : 0);
}

static int better(const limb *a, const limb *b) {
    if (a->score != b->score) return a->score > b->score;
    return a->start != b->start ? a->start < b->start : a->end < b->end;
}

/* Limbs best first, each peak in one of them at most. */
static int connect(
    workspace *s, int a, int b, const float *field, int h, int w
) {
    int count = 0, kept = 0;
    uint32_t starts = 0, ends = 0; /* MAX_PEAKS bits */
    for (int i = 0; i < s->counts[a]; i++) {
        for (int j = 0; j < s->counts[b]; j++) {
            const limb found = {limb_score(&s->peaks[a][i], &s->peaks[b][j], field, h, w), i, j};
            if (!(found.score > 0)) continue;
            int place = count++;
            for (; place > 0 && better(&found, &s->limbs[place - 1]); place--)
                s->limbs[place] = s->limbs[place - 1];
            s->limbs[place] = found;
        }
    }
    for (int i = 0; i < count; i++) {
        const limb l = s->limbs[i];
        const uint32_t start = (uint32_t)1 << l.start, end = (uint32_t)1 << l.end;
        if (starts & start || ends & end) continue;
        starts |= start;
        ends |= end;
        s->limbs[kept++] = l;
    }
    return kept;
}

static int holder(const workspace *s, int people, int kind, int index) {
    for (int i = 0; i < people; i++)
        if (s->bodies[i].peak[kind] == index) return i;
    return -1;
}

static void put(workspace *s, body *to, int kind, int index) {
    to->peak[kind] = (int8_t)index;
    to->count++;
    to->score += s->peaks[kind][index].score;
}

static int disjoint(const body *a, const body *b, int kinds) {
    for (int k = 0; k < kinds; k++)
        if (a->peak[k] >= 0 && b->peak[k] >= 0) return 0;
    return 1;
}

/* Adds a limb to the body that has one of its ends, joins two, or begins one. */
static int assemble(workspace *s, int people, int kinds, int a, int b, const limb *l) {
    const int first = holder(s, people, a, l->start), second = holder(s, people, b, l->end);
    if (first < 0 && second < 0) {
        if (people == MAX_PEOPLE) return people;
        body *new = &s->bodies[people];
        memset(new->peak, -1, sizeof new->peak);
        new->count = 0;
        new->score = l->score;
        put(s, new, a, l->start);
        put(s, new, b, l->end);
        return people + 1;
    }
    if (first >= 0 && second >= 0) {
        body *x = &s->bodies[first], *y = &s->bodies[second];
        if (first == second) {
            x->score += l->score;
        } else if (disjoint(x, y, kinds)) {
            for (int k = 0; k < kinds; k++)
                if (y->peak[k] >= 0) x->peak[k] = y->peak[k];
            x->count += y->count;
            x->score += y->score + l->score;
            memmove(y, y + 1, (size_t)(people - second - 1) * sizeof *y);
            return people - 1;
        }
        return people;
    }
    body *known = &s->bodies[first >= 0 ? first : second];
    const int kind = first >= 0 ? b : a;
    if (known->peak[kind] < 0) {
        put(s, known, kind, first >= 0 ? l->end : l->start);
        known->score += l->score;
    }
    return people;
}

/*
 * maps: (kinds + 1 + 2 * limbs, h, w). out: MAX_PEOPLE rows of score and (x, y) in pixels per
 * keypoint, NaN where it is not there. Returns the number of people, -1 if a map is not finite.
 */
int cofit_group(
    const float *maps, int h, int w, int kinds, int limbs, const int32_t *ends, double stride,
    void *memory, double *out
) {
    workspace *s = memory;
    const int area = h * w;
    for (int64_t i = 0; i < (int64_t)(kinds + 1 + 2 * limbs) * area; i++)
        if (!isfinite(maps[i])) return -1;
    const double near = (RADIUS_PX / stride) * (RADIUS_PX / stride);
    for (int k = 0; k < kinds; k++)
        s->counts[k] = find_peaks(maps + k * area, h, w, near, s->peaks[k]);
    int people = 0;
    for (int l = 0; l < limbs; l++) {
        const int a = ends[2 * l], b = ends[2 * l + 1];
        const int found = connect(s, a, b, maps + (kinds + 1 + 2 * l) * area, h, w);
        for (int i = 0; i < found; i++) people = assemble(s, people, kinds, a, b, &s->limbs[i]);
    }
    int kept = 0;
    for (int i = 0; i < people; i++) {
        const body *p = &s->bodies[i];
        if (p->count < LEAST_KEYPOINTS || !(p->score / p->count >= LEAST_SCORE)) continue;
        double *row = out + (size_t)kept++ * (1 + 2 * (size_t)kinds);
        row[0] = p->score;
        for (int k = 0; k < kinds; k++) {
            const peak *q = &s->peaks[k][p->peak[k] < 0 ? 0 : p->peak[k]];
            row[1 + 2 * k] = p->peak[k] < 0 ? NAN : (q->x + 0.5) * stride - 0.5;
            row[2 + 2 * k] = p->peak[k] < 0 ? NAN : (q->y + 0.5) * stride - 0.5;
        }
    }
    return kept;
}
