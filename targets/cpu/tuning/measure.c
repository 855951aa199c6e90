/* Times candidates for one linear layer: `measure MILLISECONDS COPIES`. candidates.c, generated, has the kernels.
 *
 * stdout: the rounds made, then a line a candidate and number of rows: least nanoseconds of the even rounds, and of the odd
 * ones. A round calls every candidate once, one after the other, so that a neighbour's noise meets all alike; each round
 * begins with another, and with a call that is not counted. Weights lie in COPIES places that are taken in turn, so that
 * they come from memory. Everything holds 1.0, about. The thread stays on the last of the process's CPUs. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "candidates.h"

#define MOST_ROUNDS 400

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void pin(void) {
    cpu_set_t set, one;
    if (sched_getaffinity(0, sizeof set, &set)) return;
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
        if (!CPU_ISSET(cpu, &set)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

#define PAGE ((size_t)2 << 20)

/* On large pages where the kernel has some, as a model's weights. 0x3f80 is 1.0 in bfloat16, 0x3f803f80 nearly so in float32. */
static char *filled(int64_t bytes) {
    const size_t whole = ((size_t)bytes + PAGE - 1) / PAGE * PAGE;
    uint32_t *p = aligned_alloc(PAGE, whole);
    if (!p) exit(4);
    madvise(p, whole, MADV_HUGEPAGE);
    for (int64_t i = 0; i < bytes / 4; i++) p[i] = 0x3f803f80;
    return (char *)p;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const int64_t copies = atoi(argv[2]), most = tuned_rows[TUNED_ROWS - 1];
    char *a = filled(TUNED_A_BYTES * most), *w = filled(TUNED_W_BYTES * copies), *c = filled(TUNED_C_BYTES * most);
    char *bias = filled(TUNED_C_BYTES + 4 * 64);
    static double least[2][TUNED_ROWS][TUNED_CANDIDATES];
    pin();
    const double end = now() + 1e6 * atof(argv[1]);
    int64_t round = 0, turn = 0;
    for (; round < MOST_ROUNDS && (round < 2 || now() < end); round++)
        for (int r = 0; r < TUNED_ROWS; r++)
            for (int j = -1; j < TUNED_CANDIDATES; j++) {
                const int i = (int)((round + j + TUNED_CANDIDATES) % TUNED_CANDIDATES);
                const char *at = w + TUNED_W_BYTES * (turn++ % copies);
                const double start = now();
                tuned_candidates[i](a, at, (const float *)bias, c, tuned_rows[r]);
                const double took = now() - start;
                double *best = &least[round % 2][r][i];
                if (j >= 0 && (*best == 0 || took < *best)) *best = took;
            }
    printf("%lld\n", (long long)round);
    for (int i = 0; i < TUNED_CANDIDATES; i++)
        for (int r = 0; r < TUNED_ROWS; r++) printf("%.0f %.0f\n", least[0][r][i], least[1][r][i]);
    return 0;
}
