#include <pthread.h>
#include <stdint.h>

/* Threads that share a step. They are created at the first run and live as long as the process; a
   child of fork() creates its own. A waiting thread spins for a few hundred microseconds,
   longer than a step that one thread runs alone, then sleeps: waking it takes some fifty.
   The caller computes each share that no thread has begun when its own is done, so that threads
   which find no free core, or could not be created, hold up nothing. Runs take turns. */
enum { COFIT_MOST_THREADS = 64, COFIT_SPINS = 30000 };

typedef void (*cofit_task)(uint8_t *base, int share);

/* One thread's place: a task is offered, then it is busy, then null again. */
typedef struct {
    cofit_task task;
    uint8_t *base;
    int share;
    int asleep; /* threads that wait for a change of `task` and do not spin */
    pthread_mutex_t lock;
    pthread_cond_t change;
} __attribute__((aligned(128))) cofit_seat;

/* The task of a seat whose thread has begun. */
static void cofit_busy(uint8_t *base, int share)
{
    (void)base;
    (void)share;
}

static struct {
    pthread_mutex_t turn;
    int handler; /* of fork() is in place */
    int workers;
    cofit_seat seats[COFIT_MOST_THREADS - 1];
} cofit_pool = {.turn = PTHREAD_MUTEX_INITIALIZER};

#if defined(__x86_64__) || defined(__i386__)
#define COFIT_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define COFIT_PAUSE() __asm__ volatile("yield")
#else
#define COFIT_PAUSE() ((void)0)
#endif

/* Until the seat has a task, or has none. */
static void cofit_await(cofit_seat *seat, int some)
{
    for (int i = 0; i < COFIT_SPINS; ++i) {
        if ((__atomic_load_n(&seat->task, __ATOMIC_ACQUIRE) != 0) == some)
            return;
        COFIT_PAUSE();
    }
    pthread_mutex_lock(&seat->lock);
    /* the other side writes `task`, then reads `asleep`: one of the two sees the other */
    __atomic_add_fetch(&seat->asleep, 1, __ATOMIC_SEQ_CST);
    while ((__atomic_load_n(&seat->task, __ATOMIC_SEQ_CST) != 0) != some)
        pthread_cond_wait(&seat->change, &seat->lock);
    __atomic_sub_fetch(&seat->asleep, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&seat->lock);
}

/* Makes an offered task of a seat the next; whether nobody else has. */
static int cofit_claim(cofit_seat *seat, cofit_task task, cofit_task next)
{
    return __atomic_compare_exchange_n(&seat->task, &task, next, 0, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

static void cofit_tell(cofit_seat *seat, cofit_task task)
{
    __atomic_store_n(&seat->task, task, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&seat->asleep, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&seat->lock);
        pthread_cond_signal(&seat->change);
        pthread_mutex_unlock(&seat->lock);
    }
}

static void *cofit_work(void *argument)
{
    cofit_seat *const seat = argument;
    for (;;) {
        cofit_await(seat, 1);
        const cofit_task task = __atomic_load_n(&seat->task, __ATOMIC_SEQ_CST);
        if (task && cofit_claim(seat, task, cofit_busy)) {
            task(seat->base, seat->share);
            cofit_tell(seat, 0);
        }
    }
    return 0;
}

/* The child has the memory of the pool, but none of its threads. */
static void cofit_forked(void)
{
    cofit_pool.workers = 0;
    pthread_mutex_init(&cofit_pool.turn, 0);
}

/* Begins a run of so many threads; waits while another is under way. */
static void cofit_open(int threads)
{
    pthread_mutex_lock(&cofit_pool.turn);
    if (!cofit_pool.handler)
        cofit_pool.handler = pthread_atfork(0, 0, cofit_forked) == 0;
    while (cofit_pool.workers < threads - 1) {
        cofit_seat *const seat = cofit_pool.seats + cofit_pool.workers;
        pthread_t thread;
        __builtin_memset(seat, 0, sizeof *seat);
        pthread_mutex_init(&seat->lock, 0);
        pthread_cond_init(&seat->change, 0);
        if (pthread_create(&thread, 0, cofit_work, seat) != 0)
            break;
        pthread_detach(thread);
        ++cofit_pool.workers;
    }
}

static void cofit_close(void)
{
    pthread_mutex_unlock(&cofit_pool.turn);
}

/* All shares of a task, the first by the caller; returns when all are done. */
static void cofit_share(cofit_task task, uint8_t *base, int shares)
{
    const int others = shares - 1 < cofit_pool.workers ? shares - 1 : cofit_pool.workers;
    for (int i = 0; i < others; ++i) {
        cofit_pool.seats[i].base = base;
        cofit_pool.seats[i].share = i + 1;
        cofit_tell(cofit_pool.seats + i, task);
    }
    task(base, 0);
    for (int share = others + 1; share < shares; ++share)
        task(base, share);
    for (int i = 0; i < others; ++i)
        if (cofit_claim(cofit_pool.seats + i, task, 0))
            task(base, i + 1);
    for (int i = 0; i < others; ++i)
        cofit_await(cofit_pool.seats + i, 0);
}
