/*
 * Controllers of DRAM, command by command: open rows, first ready first come, one command per cycle.
 *
 * Time goes from event to event. Every waiting request has one next command (read if its row is
 * open, activate if the bank is closed, precharge otherwise) and a first cycle at which all
 * constraints allow it; the earliest goes, reads before activates before precharges, older requests
 * before younger. A row is not closed while a waiting request wants it. Refreshes go before all.
 */
#include <stdint.h>
#include <string.h>

typedef int64_t i64;
typedef int32_t i32;

enum { MOST_RANKS = 64, MOST_BANKS = 64, MOST_GROUPS = 16, MOST_QUEUE = 256 };
enum { READ, ACTIVATE, PRECHARGE, REFRESH, PRECHARGE_ALL };
static const i64 NEVER = INT64_MAX / 4;

typedef struct { /* in the order of the Python side */
    i64 cl, rcd, rp, ras, rrd_s, rrd_l, ccd_s, ccd_l, faw, rtp, burst, rtrs, refi, rfc, queue;
    i64 ranks, groups, banks_per_group;
} timing_t;

typedef struct {
    i64 row, activate_ok, read_ok, precharge_ok;
    i32 wanted; /* waiting requests for the open row */
} bank_t;

typedef struct {
    bank_t bank[MOST_BANKS];
    i64 activates[4], activate_ok, read_ok, group_activate_ok[MOST_GROUPS],
        group_read_ok[MOST_GROUPS], refresh_due;
    i32 oldest;
} rank_t;

typedef struct {
    i64 request, soonest; /* its next command cannot go before: constraints only move on */
    i32 rank, bank, group, row, left;
} waiting_t;

typedef struct {
    rank_t rank[MOST_RANKS];
    waiting_t queue[MOST_QUEUE]; /* older first */
    i64 used, next, front;       /* requests: waiting, next to come, and when it may */
    i64 now, bus_free;
    i32 bus_rank;
} channel_t;

typedef struct { /* one per request, in the order in which they come */
    const i32 *rank, *bank, *row, *bursts;
    const uint8_t *hit;
} requests_t;

typedef struct {
    i64 activates, reads, refreshes;
    i64 *log; /* cycle, command, rank, bank, row; or none */
    i64 logged, room;
} record_t;

static i64 most(i64 a, i64 b) { return a > b ? a : b; }

static void record(record_t *to, i64 cycle, i64 command, i64 rank, i64 bank, i64 row) {
    if (!to->log || to->logged >= to->room) return;
    i64 *at = to->log + 5 * to->logged++;
    at[0] = cycle, at[1] = command, at[2] = rank, at[3] = bank, at[4] = row;
}

static void reset(const timing_t *t, channel_t *c) {
    memset(c, 0, sizeof *c);
    c->bus_rank = -1;
    for (i64 r = 0; r < t->ranks; r++) {
        rank_t *rank = &c->rank[r];
        rank->refresh_due = t->refi * (r + 1) / t->ranks; /* ranks of one bus take turns */
        for (i32 b = 0; b < MOST_BANKS; b++) rank->bank[b].row = -1;
        for (i32 k = 0; k < 4; k++) rank->activates[k] = -NEVER;
    }
}

/* The next command of a request and the first cycle at which it may go. */
static i64 next_command(const timing_t *t, const channel_t *c, waiting_t *w, i32 *command) {
    const rank_t *rank = &c->rank[w->rank];
    const bank_t *bank = &rank->bank[w->bank];
    const i32 group = w->group;
    i64 at = c->now;
    if (bank->row == w->row) {
        *command = READ;
        at = most(most(at, bank->read_ok), most(rank->read_ok, rank->group_read_ok[group]));
        at = most(at, c->bus_free + (c->bus_rank >= 0 && c->bus_rank != w->rank ? t->rtrs : 0)
                          - t->cl);
    } else if (bank->row < 0) {
        *command = ACTIVATE;
        at = most(most(at, bank->activate_ok), rank->group_activate_ok[group]);
        at = most(most(at, rank->activate_ok), rank->activates[rank->oldest] + t->faw);
    } else {
        *command = PRECHARGE;
        at = most(at, bank->precharge_ok);
    }
    w->soonest = at;
    return at < rank->refresh_due && (*command != PRECHARGE || !bank->wanted) ? at : NEVER;
}

/* The next command of a rank's refresh. */
static i64 next_refresh(const timing_t *t, const channel_t *c, const rank_t *rank, i32 *command) {
    i64 at = most(c->now, rank->refresh_due);
    i64 closed = at;
    *command = REFRESH;
    for (i64 b = 0; b < t->groups * t->banks_per_group; b++) {
        if (rank->bank[b].row >= 0) *command = PRECHARGE_ALL;
        at = most(at, rank->bank[b].row >= 0 ? rank->bank[b].precharge_ok : 0);
        closed = most(closed, rank->bank[b].activate_ok);
    }
    return *command == REFRESH ? closed : at;
}

static void refresh(const timing_t *t, rank_t *rank, i32 command, i64 at) {
    for (i64 b = 0; b < t->groups * t->banks_per_group; b++) {
        bank_t *bank = &rank->bank[b];
        if (command == REFRESH) bank->activate_ok = at + t->rfc;
        else if (bank->row >= 0) bank->activate_ok = most(bank->activate_ok, at + t->rp);
        bank->row = -1;
        bank->wanted = 0;
    }
    if (command == REFRESH) rank->refresh_due += t->refi;
}

/*
 * Goes on with the requests of one controller until all before `until` are done; those before
 * `last` may come, each at its arrival, one per cycle. Hits of a cache take a cycle per burst and no
 * command. done[i] is the cycle after the last operand of request i.
 */
static void serve(const timing_t *t, channel_t *c, requests_t in, i64 until, i64 last,
                  const i64 *arrival, i64 *done, i64 log_rank, record_t *to) {
    waiting_t *queue = c->queue;
    while (c->next < until || (c->used > 0 && queue[0].request < until)) {
        const i64 i = c->next;
        i64 enter = NEVER;
        if (i < last) {
            enter = most(c->front, arrival ? arrival[i] : 0);
            if (in.hit[i]) {
                done[i] = c->front = enter + in.bursts[i];
                c->next++;
                continue;
            }
        }
        if (c->used == t->queue) enter = NEVER;
        if (enter <= c->now) {
            const i32 group = (i32)(in.bank[i] / t->banks_per_group);
            queue[c->used++] =
                (waiting_t){i, enter, in.rank[i], in.bank[i], group, in.row[i], in.bursts[i]};
            bank_t *bank = &c->rank[in.rank[i]].bank[in.bank[i]];
            bank->wanted += bank->row == in.row[i];
            c->front = enter + 1;
            c->now = most(c->now, enter);
            c->next++;
            continue;
        }
        i64 best = NEVER, chosen = -1;
        i32 command = PRECHARGE_ALL;
        for (i64 k = 0; k < c->used; k++) {
            if (queue[k].soonest > best) continue;
            i32 wanted;
            const i64 at = next_command(t, c, &queue[k], &wanted);
            if (at < best || (at == best && at < NEVER && wanted < command))
                best = at, chosen = k, command = wanted;
            if (best == c->now && command == READ) break; /* nothing goes before it */
        }
        i64 refreshed = -1;
        for (i64 r = 0; r < t->ranks; r++) {
            if (c->rank[r].refresh_due > best) continue;
            i32 wanted;
            const i64 at = next_refresh(t, c, &c->rank[r], &wanted);
            if (at <= best && (at < best || refreshed < 0))
                best = at, refreshed = r, command = wanted;
        }
        if (enter <= best) { /* it may want to go first */
            c->now = enter;
            continue;
        }
        c->now = best + 1;
        if (refreshed >= 0) {
            record(to, best, command, log_rank + refreshed, -1, -1);
            to->refreshes += command == REFRESH;
            refresh(t, &c->rank[refreshed], command, best);
            continue;
        }
        waiting_t *w = &queue[chosen];
        rank_t *rank = &c->rank[w->rank];
        bank_t *bank = &rank->bank[w->bank];
        const i32 group = w->group;
        record(to, best, command, log_rank + w->rank, w->bank, w->row);
        if (command == PRECHARGE) {
            bank->row = -1;
            bank->activate_ok = most(bank->activate_ok, best + t->rp);
        } else if (command == ACTIVATE) {
            to->activates++;
            bank->row = w->row;
            bank->read_ok = best + t->rcd;
            bank->precharge_ok = best + t->ras;
            bank->activate_ok = best + t->ras + t->rp;
            rank->activate_ok = best + t->rrd_s;
            rank->group_activate_ok[group] = best + t->rrd_l;
            rank->activates[rank->oldest] = best;
            rank->oldest = (rank->oldest + 1) % 4;
            for (i64 k = 0; k < c->used; k++)
                bank->wanted += queue[k].rank == w->rank && queue[k].bank == w->bank
                                && queue[k].row == w->row;
        } else {
            to->reads++;
            rank->read_ok = best + t->ccd_s;
            rank->group_read_ok[group] = best + t->ccd_l;
            bank->precharge_ok = most(bank->precharge_ok, best + t->rtp);
            c->bus_free = best + t->cl + t->burst;
            c->bus_rank = w->rank;
            if (--w->left == 0) {
                done[w->request] = c->bus_free;
                bank->wanted--;
                if (c->used == t->queue) c->front = most(c->front, best + 1);
                memmove(w, w + 1, (size_t)(c->used - chosen - 1) * sizeof *w);
                c->used--;
            }
        }
    }
}

static i64 latest(const i64 *done, i64 from, i64 until, i64 least) {
    for (i64 i = from; i < until; i++) least = most(least, done[i]);
    return least;
}

/* All requests through one controller for all ranks. */
i64 cofit_host(const timing_t *t, channel_t *c, i64 n, const requests_t *in, i64 *done,
               record_t *to) {
    reset(t, c);
    serve(t, c, *in, n, n, 0, done, 0, to);
    return latest(done, 0, n, 0);
}

/*
 * Packets through one controller per rank. Requests are sorted by rank, then as they are sent;
 * starts[r * (packets + 1) + p] is the first of a rank and packet, place[i] the place of request i
 * in its packet. When a packet is done in all ranks, the channel carries its sums, which takes
 * readback[p] cycles, and then the instructions of the packet that gets its tags, `in_flight` later.
 */
i64 cofit_near(const timing_t *t, channel_t *channels, i64 packets, const i64 *starts,
               const requests_t *in, const i64 *place, const i64 *readback, i64 per_cycle,
               i64 pipeline, i64 in_flight, i64 *arrival, i64 *done, record_t *to) {
    timing_t one = *t;
    one.ranks = 1;
    for (i64 r = 0; r < t->ranks; r++) {
        reset(&one, &channels[r]);
        channels[r].next = starts[r * (packets + 1)];
    }
    i64 link = 0;
    for (i64 p = 0; p < packets + in_flight; p++) {
        const i64 old = p - in_flight;
        if (old >= 0) { /* whose tags packet p gets */
            i64 end = 0;
            for (i64 r = 0; r < t->ranks; r++) {
                const i64 *s = starts + r * (packets + 1);
                const i64 last = s[p < packets ? p : packets];
                serve(&one, &channels[r], *in, s[old + 1], last, arrival, done, r, to);
                end = latest(done, s[old], s[old + 1], end);
            }
            link = most(link, end + pipeline) + readback[old];
        }
        if (p >= packets) continue;
        i64 count = 0;
        for (i64 r = 0; r < t->ranks; r++) {
            const i64 *s = starts + r * (packets + 1);
            for (i64 i = s[p]; i < s[p + 1]; i++) arrival[i] = link + place[i] / per_cycle;
            count += s[p + 1] - s[p];
        }
        link += (count + per_cycle - 1) / per_cycle;
    }
    return link;
}

i64 cofit_channel_bytes(void) { return sizeof(channel_t); }

/*
 * Stack distances: distinct ids between an access and the last one of the same id, before[i], or -1
 * where there is none. tree has n + 1 places, all zero.
 */
void cofit_stack_distances(i64 n, const i64 *before, i32 *tree, i64 *distance) {
    i64 marked = 0;
    for (i64 i = 0; i < n; i++) {
        distance[i] = -1;
        if (before[i] >= 0) {
            i64 upto = 0;
            for (i64 k = before[i] + 1; k > 0; k -= k & -k) upto += tree[k];
            distance[i] = marked - upto;
            for (i64 k = before[i] + 1; k <= n; k += k & -k) tree[k]--;
            marked--;
        }
        for (i64 k = i + 1; k <= n; k += k & -k) tree[k]++;
        marked++;
    }
}

/* Largest first: positions of the next use, those never used again above all others. */
static void sift_up(i64 *heap, i64 k) {
    i64 value = heap[k];
    for (; k > 0 && heap[(k - 1) / 2] < value; k = (k - 1) / 2) heap[k] = heap[(k - 1) / 2];
    heap[k] = value;
}

static void sift_down(i64 *heap, i64 size) {
    i64 value = heap[0], k = 0;
    for (i64 child = 1; child < size; child = 2 * k + 1) {
        if (child + 1 < size && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= value) break;
        heap[k] = heap[child];
        k = child;
    }
    heap[k] = value;
}

/* Belady's rule. `after`: position of the next access of the same id, or n + id if there is none.
 * `heap` has room for n. A hit leaves its old entry behind; it lies in the past and thus below
 * every id in the cache, so what is taken from the top is always cached. */
void cofit_optimal_hits(
    i64 n, const i64 *id, const i64 *after, i64 lines, i64 *heap, uint8_t *cached, uint8_t *hit
) {
    i64 size = 0, used = 0;
    for (i64 i = 0; i < n; i++) {
        hit[i] = cached[id[i]];
        if (!hit[i]) {
            if (used == lines) {
                i64 far = heap[0];
                cached[far < n ? id[far] : far - n] = 0;
                heap[0] = heap[--size];
                if (size) sift_down(heap, size);
                used--;
            }
            cached[id[i]] = 1;
            used++;
        }
        heap[size] = after[i];
        sift_up(heap, size++);
    }
}
