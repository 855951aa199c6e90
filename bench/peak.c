/* What the machine's multipliers can do: `peak THREADS MILLISECONDS` prints float32 GFLOP/s of all threads together.
 *
 * Each thread is pinned to one of the process's CPUs and runs chains of independent fused multiply-adds in registers
 * (16 chains cover the latency of two units); the rate is that of the best slice of some two milliseconds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifndef BYTES
#define BYTES 16
#endif
#define CHAINS 16
#define ROUNDS 20000

typedef float vec __attribute__((vector_size(BYTES)));

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static vec spread(float x) {
    vec v;
    for (unsigned i = 0; i < BYTES / sizeof(float); i++)
        v[i] = x;
    return v;
}

static float slice(float x) {
#pragma clang fp contract(fast)
    vec a = spread(x), b = spread(1.0f - x), c[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        c[i] = spread(2.0f + (float)i);
    for (int r = 0; r < ROUNDS; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++)
            c[i] = c[i] * a + b;
    }
    float sum = 0;
    for (int i = 0; i < CHAINS; i++)
        sum += c[i][0];
    return sum;
}

static double limit_s;
static volatile float factor = 0.999f; /* volatile: nothing of a chain can be known before */
static pthread_barrier_t start;

struct thread {
    int cpu;
    double best; /* GFLOP/s */
    float sink;
};

static void *work(void *argument) {
    struct thread *t = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(t->cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    pthread_barrier_wait(&start);
    double flops = 2.0 * CHAINS * ROUNDS * (BYTES / sizeof(float)), end = seconds() + limit_s;
    do {
        double begin = seconds();
        t->sink += slice(factor);
        double rate = 1e-9 * flops / (seconds() - begin);
        if (rate > t->best)
            t->best = rate;
    } while (seconds() < end);
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    limit_s = 1e-3 * (argc > 2 ? atof(argv[2]) : 50);
    if (threads < 1 || threads > 256)
        return 2;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return 1;
    static struct thread all[256];
    pthread_t handles[256];
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0, cpu = 0; i < threads; i++, cpu++) {
        while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &allowed))
            cpu++;
        if (cpu == CPU_SETSIZE) {
            fprintf(stderr, "peak: fewer than %d CPUs\n", threads);
            return 1;
        }
        all[i].cpu = cpu;
        if (pthread_create(&handles[i], NULL, work, &all[i]))
            return 1;
    }
    double sum = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        sum += all[i].best;
    }
    printf("%.1f\n", sum);
    return all[0].sink == 12345.0f; /* the result is used, so it is computed */
}
