/* What abi.c (the same for every model) and the generated model.c know of each other. */
#ifndef INFC_RT_H
#define INFC_RT_H

#include <stddef.h>
#include <stdint.h>

#include "infc_model.h"
#include "pool.h"

#define RT_ALIGN 64u
#define RT_MAX_SYMBOLS 16
#define RT_MAX_INPUTS 32

/* Where a value lives; the same words as the compiler's Place. */
enum { RT_SHARED, RT_PREFIX, RT_ROW, RT_TOKEN, RT_LOCAL };

typedef struct rt_dim {
    int32_t symbol; /* index of a symbol, or -1: the constant `value` */
    int64_t value;
} rt_dim;

typedef struct rt_input {
    const char *name;
    uint32_t dtype, rank;
    const rt_dim *shape;
    uint8_t has_default, has_range, nan, mask;
    double fallback, low, high;
    int32_t place, slot;
    int64_t inner; /* elements of one token (TOKEN) or of one row (ROW); 0 for LOCAL */
} rt_input;

typedef struct rt_output {
    const char *name;
    uint32_t dtype, rank;
    int32_t place, slot;
    int64_t inner; /* elements of one token (TOKEN) or of one row (ROW); 0 for LOCAL */
} rt_output;

typedef struct rt_symbol {
    const char *name;
    int64_t low, high;
} rt_symbol;

/* One row: a batch row of a request; where rows are not independent, a whole request. */
typedef struct rt_row {
    uint32_t request;
    uint8_t dead; /* every position masked out: its outputs are zeros */
    int64_t index, count;   /* first row within the request, rows (1 where rows are independent) */
    int64_t full, length, offset; /* the request's length, the length that is computed, first token in the flat buffers */
} rt_row;

typedef struct rt_env {
    const char *weights;
    char *const *slot;
    const rt_row *row_table;
    const int64_t *request_dim; /* [requests][RT_MAX_SYMBOLS]: the symbols' values of each request */
    const int32_t *row_of, *pos_of; /* [tokens] */
    int64_t rows, tokens, longest;
    const rt_row *row;              /* the island's current row; NULL outside islands */
    int64_t dim[RT_MAX_SYMBOLS + 1]; /* value of each symbol, and `longest` behind them */
    const void *local_input[RT_MAX_INPUTS];
    char *scratch;
    uint64_t scratch_stride;
    char *blocks; /* each thread's block buffer, for the values of a chain */
    uint64_t block_stride;
    infc_step_time *times; /* of each step; NULL where nothing is profiled */
    const infc_batch *batch;
    const struct rt_model_info *info;
    struct infc_context *context;
} rt_env;

typedef struct rt_model_info {
    const char *name, *describe;
    uint32_t inputs, outputs, symbols, slots, steps;
    const rt_input *input;
    const rt_output *output;
    const rt_symbol *symbol;
    int32_t length_symbol; /* -1: none. The batch symbol is symbol 0 */
    uint8_t batched; /* symbol 0 is the batch dimension */
    uint8_t batchable, trim;
    int32_t mask; /* index of the mask input, or -1 */
    uint64_t weights_bytes, scratch_bytes; /* scratch: of one thread */
    const int64_t *block_at;               /* by slot: where it lies in a thread's block buffer; -1: it is in the arena */
    uint64_t block_bytes;
    void (*slot_bytes)(const int64_t *dim, int64_t rows, int64_t tokens, uint64_t *bytes);
    int64_t (*output_dim)(uint32_t output, uint32_t axis, const int64_t *dim);
    void (*run)(rt_env *env);
} rt_model_info;

extern const rt_model_info infc_rt_model; /* model.c */
const char *infc_cpu_missing(void);       /* cpu_check.c */

/* Used by model.c. */
typedef void (*rt_step_fn)(void *env, uint32_t tid, uint32_t threads);
/* Runs one step on the pool, or on the caller alone where `work` (about: nanoseconds of one core) is small; keeps its time. */
void rt_step(rt_env *env, uint32_t step, rt_step_fn fn, int64_t rows, int64_t work);
/* Runs the steps first..last as one chain on the pool, or on the caller alone where `work` is small. */
void rt_chain(rt_env *env, uint32_t first, uint32_t last, rt_step_fn fn, int64_t work);
/* Whether a chain of so many rows has too few for the threads: its steps then run one by one and split columns. */
int rt_narrow(const rt_env *env, int64_t rows, int64_t work);
uint64_t rt_now(void);
/* Makes row r the current row of an island; 0 where there is nothing to compute. */
int rt_enter_row(rt_env *env, int64_t r);
void rt_leave_rows(rt_env *env);
/* Copies the current row's value of a LOCAL output to its request. */
void rt_store_local(rt_env *env, uint32_t output, const void *from);

/* The time a chain's steps are measured from, and the time that step has taken since; thread 0 stands for all. */
static inline uint64_t rt_start(const rt_env *e, uint32_t tid) { return e->times && tid == 0 ? rt_now() : 0; }
static inline uint64_t rt_lap(const rt_env *e, uint32_t tid, uint32_t step, uint64_t since) {
    if (!e->times || tid) return 0;
    uint64_t at = rt_now();
    e->times[step].nanoseconds += at - since;
    return at;
}
/* Bytes before the current row in a flat buffer of `inner` bytes a token (or a row); 0 outside islands. */
static inline int64_t rt_token_at(const rt_env *e, int64_t inner) { return e->row ? e->row->offset * inner : 0; }
static inline int64_t rt_row_at(const rt_env *e, int64_t inner) { return e->row ? (e->row - e->row_table) * inner : 0; }
/* Tokens, or rows, that a flat step computes here: all of them, or the current row's. */
static inline int64_t rt_tokens(const rt_env *e) { return e->row ? e->row->length : e->tokens; }
static inline int64_t rt_rows(const rt_env *e) { return e->row ? 1 : e->rows; }
/* Part tid of n things, in units of `unit`, over `threads`: static, contiguous. */
static inline void rt_split(int64_t n, int64_t unit, uint32_t tid, uint32_t threads, int64_t *begin, int64_t *end) {
    int64_t units = (n + unit - 1) / unit;
    int64_t b = units * tid / threads * unit, e = units * (tid + 1) / threads * unit;
    *begin = b < n ? b : n;
    *end = e < n ? e : n;
}

#endif
