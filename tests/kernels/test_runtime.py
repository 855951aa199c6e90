"""The thread pool and the CPU check that go into every model.so."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from kernel_harness import QEMU, need

from infc.targets.cpu.compile import compile_objects, link_executable
from infc.targets.cpu.isa import ISAS, Isa, machine_features, native
from infc.targets.cpu.kernels.runtime import cpu_check, pool_sources

ABI = Path(__file__).parents[2] / "runtime" / "abi" / "infc_model.h"

POOL_TEST = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "pool.h"

typedef struct { infc_pool *pool; uint32_t seen[64], n; uint64_t sum[64]; int cpu[64], wrong; uint64_t input; } state;

static void work(void *argument, uint32_t tid, uint32_t n)
{
    state *s = argument;
    s->seen[tid] += 1;
    s->cpu[tid] = sched_getcpu();
    if (tid == 0) s->n = n;
    for (uint64_t i = tid; i < s->input; i += n) s->sum[tid] += i;
}

/* Phases that each read what all threads wrote in the one before; thread `late` sometimes takes its time. */
static void phases(void *argument, uint32_t tid, uint32_t n)
{
    state *s = argument;
    if (tid == 0) s->n = n;
    for (uint32_t phase = 1; phase <= 20; phase++) {
        if (s->input % 50 == 0 && phase % 7 == 0 && tid == phase % n) usleep(300);
        s->sum[tid] += phase;
        infc_pool_barrier(s->pool, tid);
        for (uint32_t t = 0; t < n; t++) {
            if (s->sum[t] != phase * (phase + 1) / 2) s->wrong = 1;
        }
        infc_pool_barrier(s->pool, tid);
    }
}

static int check(infc_pool *pool, int turns)
{
    uint32_t threads = infc_pool_threads(pool);
    for (int turn = 0; turn < turns; turn++) {
        state s;
        memset(&s, 0, sizeof s);
        s.input = 100 + (uint64_t)turn;
        if (turn % 1000 == 999) usleep(20000); /* long enough for the workers to fall asleep */
        infc_pool_run(pool, work, &s);
        uint64_t sum = 0;
        for (uint32_t t = 0; t < s.n; t++) {
            if (s.seen[t] != 1) return 2;
            sum += s.sum[t];
        }
        if (s.n < 1 || s.n > threads || s.seen[s.n] != 0 || sum != s.input * (s.input - 1) / 2) return 3;
        memset(&s, 0, sizeof s);
        s.pool = pool;
        s.input = (uint64_t)turn;
        if (turn % 10 == 0) infc_pool_run(pool, phases, &s);
        if (s.wrong) return 4;
    }
    return 0;
}

static void *check_one(void *pool) { return (void *)(long)check(pool, 3000); }

int main(void)
{
    infc_error error;
    for (uint32_t threads = 1; threads <= 5; threads++) {
        infc_pool *pool = infc_pool_open(threads, NULL, 0, &error);
        if (!pool || infc_pool_threads(pool) != threads) return 1;
        int wrong = check(pool, 3000);
        if (wrong) return wrong;
        infc_pool_close(pool);
    }
    infc_pool_close(NULL);

    pthread_t user[3]; /* pools used at once share the CPUs */
    infc_pool *pools[3];
    for (int i = 0; i < 3; i++) {
        pools[i] = infc_pool_open(2 + (uint32_t)i, NULL, 0, &error);
        if (!pools[i] || pthread_create(&user[i], NULL, check_one, pools[i])) return 10;
    }
    for (int i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(user[i], &wrong);
        if (wrong) return 11;
        infc_pool_close(pools[i]);
    }

    int32_t here[3] = {0, 0, 0}; /* CPU 0 may not be ours: then starting is an error with a message, not a crash */
    infc_pool *pinned = infc_pool_open(3, here, 3, &error);
    if (pinned) {
        state s;
        memset(&s, 0, sizeof s);
        infc_pool_run(pinned, work, &s);
        if (s.n != 3 || s.cpu[1] != 0) return 12;
        cpu_set_t one; /* all three on one CPU: slow, and right */
        CPU_ZERO(&one);
        CPU_SET(0, &one);
        sched_setaffinity(0, sizeof one, &one);
        memset(&s, 0, sizeof s);
        s.pool = pinned;
        infc_pool_run(pinned, phases, &s);
        if (s.n != 3 || s.wrong) return 13;
        infc_pool_close(pinned);

        infc_pool *alone = infc_pool_open(3, NULL, 0, &error); /* no more threads than CPUs */
        memset(&s, 0, sizeof s);
        if (alone) infc_pool_run(alone, work, &s);
        if (s.n != 1 || s.seen[0] != 1 || s.seen[1]) return 14;
        infc_pool_close(alone);
    } else if (error.code != INFC_CODE_THREADS) return 15;

    int32_t wrong[2] = {0, 100000};
    if (infc_pool_open(2, wrong, 2, &error) || error.code != INFC_CODE_THREADS) return 6;
    puts(error.message);
    if (infc_pool_open(0, NULL, 0, &error) || error.code != INFC_CODE_THREADS) return 7;
    puts(error.message);
    if (infc_pool_open(2, here, 1, &error) || error.code != INFC_CODE_THREADS) return 8;
    puts(error.message);
    return infc_pool_open(0, NULL, 0, NULL) != NULL;
}
"""


def run(isa: Isa, program: Path) -> subprocess.CompletedProcess[str]:
    command = [str(program)] if isa.arch == machine_features()[0] else [*QEMU, str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("name", [native().name, "aarch64-neon"])
def test_pool_runs_each_thread_once_a_turn_in_step_and_refuses_bad_arguments(name: str, tmp_path: Path) -> None:
    isa = ISAS[name]
    need(isa)
    sources = [("infc_model.h", ABI.read_text()), *pool_sources(), ("main.c", POOL_TEST)]
    objects = compile_objects(isa, sources, tmp_path, jobs=2)
    done = run(isa, link_executable(isa, objects, tmp_path / "pool", ["-lpthread"]))
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert done.stdout.splitlines() == [
        "thread 1 of 2 could not be started: Invalid argument",
        "threads must be 1..4096: Invalid argument",
        "fewer CPU numbers than threads: Invalid argument",
    ]


MAIN = '#include <stdio.h>\nconst char *infc_cpu_missing(void);\nint main(void) { const char *m = infc_cpu_missing(); puts(m ? m : ""); return 0; }\n'


@pytest.mark.parametrize("name", ISAS)
def test_cpu_check_names_the_first_missing_feature(name: str, tmp_path: Path) -> None:
    isa = ISAS[name]
    arch, have = machine_features()
    if isa.arch != arch:
        need(ISAS[isa.float32])
        have = frozenset(isa.features)  # qemu-user's default CPU has every feature that we name
    sources = [("cpu_check.c", cpu_check(isa)), ("main.c", MAIN)]
    objects = compile_objects(isa, sources, tmp_path, baseline=("cpu_check.c", "main.c"))
    done = run(isa, link_executable(isa, objects, tmp_path / "check"))
    assert done.returncode == 0, done.stderr
    lacking = [f for f in isa.features if f not in have]
    assert done.stdout.strip() == (lacking[0] if lacking else "")


def test_cpu_check_is_free_of_vector_code_beyond_the_baseline(tmp_path: Path) -> None:
    isa = ISAS["x86-64-v4"]
    (built,) = compile_objects(isa, [("cpu_check.c", cpu_check(isa))], tmp_path)
    assert b"\x62" + b"\xf1" not in built.read_bytes()  # an EVEX prefix
    assert ctypes.sizeof(ctypes.c_void_p) == 8
