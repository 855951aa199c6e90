/* See pool.h. Each thread has a line of its own with two counters: `posted`, raised by the caller to start a run, and
 * `arrived`, raised by the thread at each barrier and at the end of each run. To wait is to spin on a counter for a while,
 * to yield for a while, and then to sleep on it (futex). So a barrier among n threads writes one line and reads n - 1. */
#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpus.h"

#define SPINS 2000 /* 20 to 90 microseconds */
#define YIELDS 200
#define LOOK_EVERY 1024 /* runs after which the process's CPUs are counted again */

typedef struct worker {
    _Alignas(64) atomic_uint posted;
    atomic_uint asleep; /* on `posted` */
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) infc_pool *pool;
    pthread_t thread;
    uint32_t tid;
} worker;

struct infc_pool {
    uint32_t threads, active; /* threads of the pool, and of the run now (or last) */
    void (*fn)(void *, uint32_t, uint32_t);
    void *arg;
    int stop;
    int pinned;
    uint32_t looked; /* runs until the CPUs are counted again */
    uint32_t cpus;   /* that the process may use, `granted` by its control groups and among `allowed` */
    uint32_t granted;
    cpu_set_t allowed;
    int caller_cpu; /* that the workers keep off; -1: none yet */
    _Alignas(64) atomic_uint sleepers; /* threads that sleep on somebody's `arrived` */
    worker workers[];
};

/* Threads of runs that are under way in all pools of this library. */
static atomic_uint in_use;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("isb");
#endif
}

static void futex_wait(atomic_uint *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static infc_pool *refuse(infc_error *error, int32_t code, const char *what, int number)
{
    if (error != NULL) {
        memset(error, 0, sizeof *error);
        error->size = sizeof *error;
        error->kind = INFC_INTERNAL;
        error->code = code;
        error->input = -1;
        snprintf(error->message, sizeof error->message, "%s: %s", what, strerror(number));
    }
    return NULL;
}

static void arrive(infc_pool *pool, uint32_t tid)
{
    atomic_fetch_add(&pool->workers[tid].arrived, 1);
    if (atomic_load(&pool->sleepers) != 0) futex_wake(&pool->workers[tid].arrived);
}

static int behind(atomic_uint *arrived, uint32_t turn)
{
    return (int32_t)(atomic_load_explicit(arrived, memory_order_acquire) - turn) < 0;
}

/* Returns when thread `tid` has arrived `turn` times; in long waits the CPU is left to whoever wants it. */
static void wait_for(infc_pool *pool, uint32_t tid, uint32_t turn)
{
    atomic_uint *arrived = &pool->workers[tid].arrived;
    for (int spin = 0; spin < SPINS; spin++) {
        if (!behind(arrived, turn)) return;
        pause_briefly();
    }
    for (int yields = 0; yields < YIELDS; yields++) {
        if (!behind(arrived, turn)) return;
        sched_yield();
    }
    while (behind(arrived, turn)) {
        atomic_fetch_add(&pool->sleepers, 1);
        uint32_t value = atomic_load(arrived);
        if ((int32_t)(value - turn) < 0) futex_wait(arrived, value);
        atomic_fetch_sub(&pool->sleepers, 1);
    }
}

void infc_pool_barrier(infc_pool *pool, uint32_t tid)
{
    uint32_t n = pool->active;
    if (n == 1) return;
    arrive(pool, tid);
    uint32_t turn = atomic_load_explicit(&pool->workers[tid].arrived, memory_order_relaxed);
    for (uint32_t i = 0; i < n; i++) {
        if (i != tid) wait_for(pool, i, turn);
    }
}

static void *work(void *argument)
{
    worker *self = argument;
    infc_pool *pool = self->pool;
    for (uint32_t seen = 0;; seen++) {
        for (int spin = 0; spin < SPINS; spin++) {
            if (atomic_load_explicit(&self->posted, memory_order_acquire) != seen) break;
            pause_briefly();
        }
        while (atomic_load_explicit(&self->posted, memory_order_acquire) == seen) {
            atomic_store(&self->asleep, 1);
            if (atomic_load(&self->posted) == seen) futex_wait(&self->posted, seen);
            atomic_store(&self->asleep, 0);
        }
        if (pool->stop) return NULL;
        pool->fn(pool->arg, self->tid, pool->active);
        arrive(pool, self->tid);
    }
}

static void post(worker *to)
{
    atomic_fetch_add(&to->posted, 1);
    if (atomic_load(&to->asleep)) futex_wake(&to->posted);
}

/* The kernel wakes a sleeper on the waker's CPU, where the caller then spins: milliseconds pass before it is moved. */
static void keep_off_callers_cpu(infc_pool *pool)
{
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu == pool->caller_cpu) return;
    pool->caller_cpu = cpu;
    cpu_set_t rest = pool->allowed;
    CPU_CLR(cpu, &rest);
    if (CPU_COUNT(&rest) == 0) return;
    for (uint32_t i = 1; i < pool->threads; i++) {
        (void)pthread_setaffinity_np(pool->workers[i].thread, sizeof rest, &rest); /* a wish: where refused, only slower */
    }
}

/* The CPUs may become fewer or more than they were. */
static void look_at_cpus(infc_pool *pool)
{
    cpu_set_t now;
    uint32_t cpus = infc_cpus_allowed(&now);
    if (!CPU_EQUAL(&now, &pool->allowed)) pool->caller_cpu = -1;
    pool->allowed = now;
    pool->cpus = cpus < pool->granted ? cpus : pool->granted;
    pool->looked = LOOK_EVERY;
}

infc_pool *infc_pool_open(uint32_t threads, const int32_t *cpus, uint32_t n_cpus, infc_error *error)
{
    if (threads < 1 || threads > 4096) return refuse(error, INFC_CODE_THREADS, "threads must be 1..4096", EINVAL);
    if (cpus != NULL && n_cpus < threads) return refuse(error, INFC_CODE_THREADS, "fewer CPU numbers than threads", EINVAL);
    size_t bytes = sizeof(infc_pool) + threads * sizeof(worker);
    infc_pool *pool = aligned_alloc(64, bytes);
    if (pool == NULL) return refuse(error, INFC_CODE_MEMORY, "no memory for the thread pool", ENOMEM);
    memset(pool, 0, bytes);
    pool->threads = pool->active = 1; /* grows as threads start, so that a failure closes just those */
    pool->pinned = cpus != NULL;
    pool->granted = infc_cpus_granted();
    look_at_cpus(pool);
    for (uint32_t i = 1; i < threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->tid = i;
        pthread_attr_t attributes;
        int failed = pthread_attr_init(&attributes);
        if (failed == 0) {
            if (cpus != NULL) {
                cpu_set_t one;
                CPU_ZERO(&one);
                if (cpus[i] < 0 || cpus[i] >= CPU_SETSIZE) failed = EINVAL;
                else {
                    CPU_SET(cpus[i], &one);
                    failed = pthread_attr_setaffinity_np(&attributes, sizeof one, &one);
                }
            }
            if (failed == 0) failed = pthread_create(&w->thread, &attributes, work, w);
            pthread_attr_destroy(&attributes);
        }
        if (failed != 0) {
            char what[64];
            snprintf(what, sizeof what, "thread %u of %u could not be started", i, threads);
            infc_pool_close(pool);
            return refuse(error, INFC_CODE_THREADS, what, failed);
        }
        pool->threads = i + 1;
    }
    return pool;
}

/* Takes this run's threads out of the process's CPUs; the caller's own is always granted. */
static uint32_t take_threads(infc_pool *pool)
{
    if (pool->pinned) return pool->threads;
    if (pool->looked-- == 0) look_at_cpus(pool);
    uint32_t wanted = pool->threads < pool->cpus ? pool->threads : pool->cpus;
    uint32_t before = atomic_fetch_add(&in_use, wanted);
    uint32_t free_cpus = before < pool->cpus ? pool->cpus - before : 1;
    if (free_cpus >= wanted) return wanted;
    atomic_fetch_sub(&in_use, wanted - free_cpus);
    return free_cpus;
}

void infc_pool_run(infc_pool *pool, void (*fn)(void *arg, uint32_t tid, uint32_t n), void *arg)
{
    if (pool->threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    uint32_t n = take_threads(pool);
    uint32_t turn = atomic_load_explicit(&pool->workers[0].arrived, memory_order_relaxed);
    for (uint32_t i = pool->active; i < n; i++) {
        atomic_store_explicit(&pool->workers[i].arrived, turn, memory_order_relaxed); /* they were left out of some runs */
    }
    pool->active = n;
    if (n > 1) {
        if (!pool->pinned) keep_off_callers_cpu(pool);
        pool->fn = fn;
        pool->arg = arg;
        for (uint32_t i = 1; i < n; i++) post(&pool->workers[i]);
    }
    fn(arg, 0, n);
    if (n > 1) {
        arrive(pool, 0);
        turn = atomic_load_explicit(&pool->workers[0].arrived, memory_order_relaxed);
        for (uint32_t i = 1; i < n; i++) wait_for(pool, i, turn);
    }
    if (!pool->pinned) atomic_fetch_sub(&in_use, n);
}

void infc_pool_close(infc_pool *pool)
{
    if (pool == NULL) return;
    pool->stop = 1;
    for (uint32_t i = 1; i < pool->threads; i++) post(&pool->workers[i]);
    for (uint32_t i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
    free(pool);
}

uint32_t infc_pool_threads(const infc_pool *pool) { return pool->threads; }
