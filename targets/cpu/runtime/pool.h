/* A pool of threads that run one function at a time, the caller being one of them. */
#ifndef INFC_POOL_H
#define INFC_POOL_H
#include "infc_model.h"

typedef struct infc_pool infc_pool;

/* `threads` >= 1 counts the caller. cpus: NULL, or n_cpus >= threads CPU numbers; worker i is pinned to cpus[i] and the
 * caller pins itself to cpus[0]. Without cpus the workers stay off the CPU that the caller is on, where there is another.
 * NULL on failure, with *error (may be NULL) filled: INFC_CODE_THREADS or INFC_CODE_MEMORY. */
infc_pool *infc_pool_open(uint32_t threads, const int32_t *cpus, uint32_t n_cpus, infc_error *error);

/* Calls fn(arg, tid, n) once for each tid in 0..n-1; returns when all have returned. The caller is tid 0. n is 1 to the
 * pool's threads: fewer than those where the process has fewer CPUs, or where other pools of this library use them now;
 * a pool with `cpus` always uses all. One run at a time; no allocation; what the caller wrote before is seen by fn and the
 * other way round. */
void infc_pool_run(infc_pool *pool, void (*fn)(void *arg, uint32_t tid, uint32_t n), void *arg);

/* Within fn, called by all n threads of the run: returns when all have called it; what each wrote before is seen by all. */
void infc_pool_barrier(infc_pool *pool, uint32_t tid);

/* Joins the threads and frees the pool; NULL is ignored. */
void infc_pool_close(infc_pool *pool);

/* The threads the pool was opened with. */
uint32_t infc_pool_threads(const infc_pool *pool);
#endif
