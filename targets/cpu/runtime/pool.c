/* See pool.h. A run is published by raising `epoch`; workers spin on it for a while and then sleep on it (futex), and the
 * caller waits for `running` to fall to zero in the same way. */
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

#define SPINS 2000

typedef struct worker {
    infc_pool *pool;
    pthread_t thread;
    uint32_t tid;
} worker;

struct infc_pool {
    uint32_t threads;
    void (*fn)(void *, uint32_t, uint32_t);
    void *arg;
    _Alignas(64) atomic_uint epoch;
    atomic_uint sleepers;
    atomic_uint stop;
    _Alignas(64) atomic_uint running;
    atomic_uint caller_sleeps;
    int spread;       /* workers keep off the caller's CPU by themselves */
    cpu_set_t allowed; /* the CPUs the process may use, where spread */
    int caller_cpu;
    worker workers[];
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

static void futex_wait(atomic_uint *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
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

static void *work(void *argument)
{
    worker *self = argument;
    infc_pool *pool = self->pool;
    uint32_t seen = 0;
    for (;;) {
        uint32_t epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire);
        for (int spin = 0; epoch == seen && spin < SPINS; spin++) {
            pause_briefly();
            epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire);
        }
        while (epoch == seen) {
            atomic_fetch_add(&pool->sleepers, 1);
            if (atomic_load(&pool->epoch) == seen) futex_wait(&pool->epoch, seen);
            atomic_fetch_sub(&pool->sleepers, 1);
            epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire);
        }
        seen = epoch;
        if (atomic_load_explicit(&pool->stop, memory_order_acquire)) return NULL;
        pool->fn(pool->arg, self->tid, pool->threads);
        if (atomic_fetch_sub(&pool->running, 1) == 1 && atomic_load(&pool->caller_sleeps)) futex_wake(&pool->running, 1);
    }
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

infc_pool *infc_pool_open(uint32_t threads, const int32_t *cpus, uint32_t n_cpus, infc_error *error)
{
    if (threads < 1 || threads > 4096) return refuse(error, INFC_CODE_THREADS, "threads must be 1..4096", EINVAL);
    if (cpus != NULL && n_cpus < threads) return refuse(error, INFC_CODE_THREADS, "fewer CPU numbers than threads", EINVAL);
    size_t bytes = (sizeof(infc_pool) + threads * sizeof(worker) + 63) / 64 * 64;
    infc_pool *pool = aligned_alloc(64, bytes);
    if (pool == NULL) return refuse(error, INFC_CODE_MEMORY, "no memory for the thread pool", ENOMEM);
    memset(pool, 0, bytes);
    pool->caller_cpu = -1;
    pool->threads = 1; /* grows as threads start, so that a failure closes just those */
    pool->spread = cpus == NULL && sched_getaffinity(0, sizeof pool->allowed, &pool->allowed) == 0;
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

void infc_pool_run(infc_pool *pool, void (*fn)(void *arg, uint32_t tid, uint32_t n), void *arg)
{
    if (pool->threads > 1) {
        if (pool->spread) keep_off_callers_cpu(pool);
        pool->fn = fn;
        pool->arg = arg;
        atomic_store_explicit(&pool->running, pool->threads - 1, memory_order_relaxed);
        atomic_fetch_add(&pool->epoch, 1);
        if (atomic_load(&pool->sleepers) != 0) futex_wake(&pool->epoch, INT32_MAX);
    }
    fn(arg, 0, pool->threads);
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&pool->running, memory_order_acquire) == 0) return;
        pause_briefly();
    }
    for (int turn = 0; turn < 50; turn++) {
        if (atomic_load_explicit(&pool->running, memory_order_acquire) == 0) return;
        sched_yield();
    }
    atomic_store(&pool->caller_sleeps, 1);
    for (;;) {
        uint32_t left = atomic_load(&pool->running);
        if (left == 0) break;
        futex_wait(&pool->running, left);
    }
    atomic_store(&pool->caller_sleeps, 0);
}

void infc_pool_close(infc_pool *pool)
{
    if (pool == NULL) return;
    atomic_store(&pool->stop, 1);
    atomic_fetch_add(&pool->epoch, 1);
    futex_wake(&pool->epoch, INT32_MAX);
    for (uint32_t i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
    free(pool);
}

uint32_t infc_pool_threads(const infc_pool *pool) { return pool->threads; }
