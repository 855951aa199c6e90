/* What the machine can do: `peak KIND THREADS MILLISECONDS [BYTES]` prints one number, of all threads together.
 *
 *   fma                     float32 multiply-adds in vectors of -DBYTES bytes                       GFLOP/s
 *   bf16, int8, int8-256    dot products: vdpbf16ps, vpdpbusd of 64 and of 32 bytes; bfmmla, smmla   GFLOP/s (GOP/s)
 *   amx-bf16, amx-int8      tdpbf16ps, tdpbssd on tiles of 16 rows by 64 bytes                       GFLOP/s (GOP/s)
 *   read                    each thread reads its own BYTES again and again                          GB/s
 *
 * A multiply-add counts two. Each thread is pinned to one of the process's CPUs. Arithmetic runs in registers, in as many
 * independent chains as cover the latency of two units; its rate is that of the best slice of some two milliseconds. A
 * rate of reading is that of all passes but the first. The caller asks only for what the CPU has; exit 3 where this
 * program was compiled for another architecture or the kernel grants no tiles. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef BYTES
#define BYTES 16
#endif
#define CHAINS 16

typedef float vec __attribute__((vector_size(BYTES)));

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile float factor = 0.999f; /* volatile: nothing of a chain can be known before */
static volatile int word = 0x01020101;
static volatile float sink;

/* Each slice runs `rounds` rounds of CHAINS instructions. The loop's body is unrolled: the chains are registers. */
#define REPEAT16(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

static vec spread(float x) {
    vec v;
    for (unsigned i = 0; i < BYTES / sizeof(float); i++)
        v[i] = x;
    return v;
}

static void fma_slice(long rounds) {
#pragma clang fp contract(fast)
    float x = factor;
    vec a = spread(x), b = spread(1.0f - x), c[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        c[i] = spread(2.0f + (float)i);
    for (long r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++)
            c[i] = c[i] * a + b;
    }
    float sum = 0;
    for (int i = 0; i < CHAINS; i++)
        sum += c[i][0];
    sink += sum;
}

#if defined(__x86_64__)
#define HAS_DOT 1
#define TARGET(features) __attribute__((target(features)))

/* The instruction itself, so that no compiler turns a chain into something else. */
#define DOT_SLICE(name, features, type, zero, spread_word, text, reg)                                                   \
    TARGET(features) static void name(long rounds) {                                                                    \
        type a = spread_word(word), b = spread_word(word), c[CHAINS];                                                   \
        for (int i = 0; i < CHAINS; i++)                                                                                \
            c[i] = zero();                                                                                              \
        for (long r = 0; r < rounds; r++)                                                                               \
            __asm__ volatile(text(0) text(1) text(2) text(3) text(4) text(5) text(6) text(7) text(8) text(9) text(10)   \
                                 text(11) text(12) text(13) text(14) text(15)                                           \
                             : reg(c[0]), reg(c[1]), reg(c[2]), reg(c[3]), reg(c[4]), reg(c[5]), reg(c[6]), reg(c[7]),  \
                               reg(c[8]), reg(c[9]), reg(c[10]), reg(c[11]), reg(c[12]), reg(c[13]), reg(c[14]),        \
                               reg(c[15])                                                                               \
                             : "v"(a), "v"(b));                                                                         \
        int first;                                                                                                      \
        memcpy(&first, &c[0], sizeof first);                                                                            \
        sink += (float)first;                                                                                           \
    }
#define OUT(x) "+v"(x)
#define BF16_TEXT(i) "vdpbf16ps %16, %17, %" #i "\n\t"
#define INT8_TEXT(i) "vpdpbusd %16, %17, %" #i "\n\t"
#define AVX_TEXT(i) "%{vex%} vpdpbusd %16, %17, %" #i "\n\t"
DOT_SLICE(bf16_slice, "avx512f,avx512bf16", __m512i, _mm512_setzero_si512, _mm512_set1_epi32, BF16_TEXT, OUT)
DOT_SLICE(int8_slice, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512, _mm512_set1_epi32, INT8_TEXT, OUT)

#define NARROW(x) "+x"(x)
TARGET("avx2,avxvnni") static void int8_narrow_slice(long rounds) {
    __m256i a = _mm256_set1_epi32(word), b = a, c[12];
    for (int i = 0; i < 12; i++)
        c[i] = _mm256_setzero_si256();
    for (long r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < 12; i++)
            __asm__ volatile("%{vex%} vpdpbusd %1, %2, %0" : "+x"(c[i]) : "x"(a), "x"(b));
    }
    sink += (float)_mm256_extract_epi32(c[0], 0);
}
#define NARROW_CHAINS 12

struct tiles {
    uint8_t palette, start, reserved[14];
    uint16_t columns[16];
    uint8_t rows[16];
};

TARGET("amx-tile") static void set_tiles(void) {
    struct tiles t = {.palette = 1};
    for (int i = 0; i < 8; i++)
        t.columns[i] = 64, t.rows[i] = 16;
    _tile_loadconfig(&t);
    _tile_zero(4), _tile_zero(5), _tile_zero(6), _tile_zero(7);
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
}

TARGET("amx-tile,amx-bf16") static void amx_bf16_slice(long rounds) {
    set_tiles();
    for (long r = 0; r < rounds; r++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

TARGET("amx-tile,amx-int8") static void amx_int8_slice(long rounds) {
    set_tiles();
    for (long r = 0; r < rounds; r++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
}

static int may_use_tiles(void) {
    const long request = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}
#elif defined(__aarch64__)
#define HAS_DOT 1
#define NEON_SLICE(name, features, text)                                                                                \
    __attribute__((target(features))) static void name(long rounds) {                                                   \
        int32x4_t a = vdupq_n_s32(word), c[CHAINS];                                                                     \
        for (int i = 0; i < CHAINS; i++)                                                                                \
            c[i] = vdupq_n_s32(0);                                                                                      \
        for (long r = 0; r < rounds; r++) {                                                                             \
            _Pragma("clang loop unroll(full)") for (int i = 0; i < CHAINS; i++)                                         \
                __asm__ volatile(text : "+w"(c[i]) : "w"(a), "w"(a));                                                   \
        }                                                                                                               \
        sink += (float)vgetq_lane_s32(c[0], 0);                                                                         \
    }
NEON_SLICE(bf16_slice, "bf16", "bfmmla %0.4s, %1.8h, %2.8h")
NEON_SLICE(int8_slice, "i8mm", "smmla %0.4s, %1.16b, %2.16b")
NEON_SLICE(int8_narrow_slice, "dotprod", "sdot %0.4s, %1.16b, %2.16b")
#define NARROW_CHAINS 16
static int may_use_tiles(void) { return 0; }
#endif

struct kind {
    const char *name;
    void (*slice)(long rounds);
    double flops; /* of one round */
    int tiles;
};

static const struct kind kinds[] = {
    {"fma", fma_slice, 2.0 * CHAINS * BYTES / sizeof(float), 0},
#if defined(__x86_64__)
    {"bf16", bf16_slice, 2.0 * CHAINS * 32, 0},
    {"int8", int8_slice, 2.0 * CHAINS * 64, 0},
    {"int8-256", int8_narrow_slice, 2.0 * NARROW_CHAINS * 32, 0},
    {"amx-bf16", amx_bf16_slice, 4 * 2.0 * 16 * 16 * 32, 1},
    {"amx-int8", amx_int8_slice, 4 * 2.0 * 16 * 16 * 64, 1},
#elif defined(__aarch64__)
    {"bf16", bf16_slice, 2.0 * CHAINS * 16, 0},
    {"int8", int8_slice, 2.0 * CHAINS * 32, 0},
    {"int8-256", int8_narrow_slice, 2.0 * NARROW_CHAINS * 16, 0},
#endif
};

static const struct kind *kind; /* NULL: reading */
static size_t bytes;
static double limit_s;
static pthread_barrier_t start;

struct thread {
    int cpu;
    double rate; /* 1e9 a second */
};

static double read_pass(const vec *data) {
    vec sum[8];
    for (int i = 0; i < 8; i++)
        sum[i] = spread(0);
    for (size_t at = 0; at + 8 <= bytes / sizeof(vec); at += 8) {
#pragma clang loop unroll(full)
        for (int i = 0; i < 8; i++)
            sum[i] += data[at + (size_t)i];
    }
    for (int i = 1; i < 8; i++)
        sum[0] += sum[i];
    return sum[0][0];
}

static double read_rate(void) {
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return 0;
    madvise(data, bytes, MADV_HUGEPAGE);
    memset(data, 1, bytes);
    sink += (float)read_pass(data);
    pthread_barrier_wait(&start);
    double begin = seconds(), now;
    long passes = 0;
    do {
        sink += (float)read_pass(data);
        passes++;
        now = seconds();
    } while (now < begin + limit_s);
    munmap(data, bytes);
    return 1e-9 * (double)passes * (double)bytes / (now - begin);
}

static double compute_rate(void) {
    long rounds = 1000;
    double begin = seconds(), took, best = 0;
    kind->slice(rounds);
    took = seconds() - begin;
    rounds = (long)(2e-3 / (took / (double)rounds)) + 1;
    pthread_barrier_wait(&start);
    double end = seconds() + limit_s;
    do {
        begin = seconds();
        kind->slice(rounds);
        took = seconds() - begin;
        double rate = 1e-9 * kind->flops * (double)rounds / took;
        best = rate > best ? rate : best;
    } while (seconds() < end);
    return best;
}

static void *work(void *argument) {
    struct thread *t = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(t->cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    t->rate = kind ? compute_rate() : read_rate();
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    int threads = atoi(argv[2]);
    limit_s = 1e-3 * atof(argv[3]);
    if (threads < 1 || threads > 256)
        return 2;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(argv[1], kinds[i].name))
            kind = &kinds[i];
    if (!kind && (strcmp(argv[1], "read") || argc < 5))
        return 3;
    if (!kind)
        bytes = strtoull(argv[4], NULL, 10);
    if (kind && kind->tiles && !may_use_tiles())
        return 3;
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
        sum += all[i].rate;
    }
    printf("%.2f\n", sum);
    return 0;
}
