/* infc model ABI, version 1 (C11). Every model.so implements it, whatever the target.
 *
 * A model runs requests. A request gives each input as one contiguous row-major tensor of its own
 * shape; requests of one batch may differ in rows and in length, and nothing is computed for padding.
 * The result of a request is the model run on that request alone, bit for bit, whoever shares its batch
 * (where describe says "batch_invariant": true).
 *
 * Rules for every struct: `size` is sizeof the struct as the caller knows it; a tail unknown to the
 * other side is zero; enum values are never reused. No function exits, aborts, installs a signal handler
 * or allocates after infc_context_open. Functions are safe to call from several threads on different
 * contexts; one context runs one batch at a time.
 */
#ifndef INFC_MODEL_H
#define INFC_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INFC_ABI_VERSION 1u
#define INFC_MAX_RANK 8

typedef struct infc_model infc_model;
typedef struct infc_context infc_context;

typedef enum infc_kind {
    INFC_OK = 0,
    INFC_CALLER = 1,      /* the caller's fault: wrong shape, dtype, range, NaN */
    INFC_CAPACITY = 2,    /* more than the workspace or the declared limits hold */
    INFC_DEVICE_LOST = 3, /* the accelerator failed; open again */
    INFC_INTERNAL = 4     /* ours */
} infc_kind;

typedef enum infc_code { /* what exactly; stable numbers for INFC_CALLER and INFC_CAPACITY */
    INFC_CODE_NONE = 0,
    INFC_CODE_ARGUMENT = 1,  /* a NULL or inconsistent argument struct */
    INFC_CODE_DTYPE = 2,
    INFC_CODE_RANK = 3,
    INFC_CODE_SHAPE = 4,
    INFC_CODE_RANGE = 5,     /* a value outside the range that describe declares */
    INFC_CODE_NAN = 6,
    INFC_CODE_MISSING = 7,   /* an input without default was not given */
    INFC_CODE_WORKSPACE = 8,
    INFC_CODE_WEIGHTS = 9,   /* weights of the wrong size or alignment */
    INFC_CODE_CPU = 10,      /* this CPU lacks a feature that the code needs; the message names it */
    INFC_CODE_THREADS = 11,  /* threads could not be started or pinned */
    INFC_CODE_MEMORY = 12
} infc_code;

typedef enum infc_dtype {
    INFC_FLOAT32 = 1,
    INFC_INT64 = 2,
    INFC_INT32 = 3,
    INFC_BOOL = 4 /* one byte, 0 or 1 */
} infc_dtype;

typedef struct infc_error {
    uint32_t size;
    uint32_t kind; /* infc_kind */
    int32_t code;  /* infc_code */
    int32_t input; /* index of the input at fault, or -1 */
    char message[496];
} infc_error;

typedef struct infc_tensor {
    uint32_t size;
    uint32_t dtype; /* infc_dtype */
    uint32_t rank;
    uint32_t reserved;
    int64_t shape[INFC_MAX_RANK];
    void *data;     /* inputs: read only; NULL where the input is left to its default. outputs: written */
    uint64_t bytes; /* bytes at data; outputs: capacity */
} infc_tensor;

typedef struct infc_open_args {
    uint32_t size;
    uint32_t reserved;
    const void *weights; /* mapped weights.bin, 64-byte aligned; must outlive the model */
    uint64_t weights_bytes;
} infc_open_args;

typedef struct infc_context_args {
    uint32_t size;
    uint32_t threads;    /* >= 1: the caller's thread counts as one of them */
    const int32_t *cpus; /* NULL, or `threads` CPU numbers; the caller pins itself to cpus[0] */
    uint32_t n_cpus;
    uint32_t reserved;
} infc_context_args;

typedef struct infc_limits {
    uint32_t size;
    uint32_t requests; /* most requests in one batch */
    uint64_t rows;     /* most rows of the batch dimension, all requests together */
    uint64_t tokens;   /* most tokens (rows times their lengths), all requests together; 0 if no length dim */
    uint64_t longest;  /* longest length of one row; 0 if no length dim */
} infc_limits;

typedef struct infc_batch {
    uint32_t size;
    uint32_t requests;
    const infc_tensor *inputs; /* [requests][inputs], in the order of describe */
    infc_tensor *outputs;      /* [requests][outputs]: data and bytes given; dtype, rank and shape are filled */
    infc_error *status;        /* [requests]: one request's fault never fails its neighbours */
    void *workspace;           /* 64-byte aligned */
    uint64_t workspace_bytes;
} infc_batch;

typedef struct infc_step_time {
    uint32_t size;
    uint32_t step;        /* index into describe's "steps" */
    uint64_t rows;        /* rows the step computed in the last run (sum over islands) */
    uint64_t nanoseconds; /* wall time of the step in the last run */
} infc_step_time;

/* INFC_ABI_VERSION of the library. */
uint32_t infc_abi_version(void);

/* Static JSON: inputs, outputs, dims, steps, flags. Valid as long as the library is loaded. */
const char *infc_describe(void);

/* Each of the following returns infc_kind and fills *error (may be NULL) when it is not INFC_OK. */
int infc_open(const infc_open_args *args, infc_model **model, infc_error *error);
void infc_close(infc_model *model);

int infc_context_open(infc_model *model, const infc_context_args *args, infc_context **context, infc_error *error);
void infc_context_close(infc_context *context);

/* Bytes of workspace that a batch within the limits needs. Several contexts need one each. */
int infc_workspace(const infc_model *model, const infc_limits *limits, uint64_t *bytes, infc_error *error);

/* Checks one request's inputs ([inputs]) and fills dtype, rank, shape and bytes of its outputs ([outputs]; data untouched). */
int infc_output_shapes(const infc_model *model, const infc_tensor *inputs, infc_tensor *outputs, infc_error *error);

/* Runs a batch. Not INFC_OK only when no request could be run (bad structs, too small a workspace); else each request
 * has its own status, and outputs of requests whose status is INFC_OK are complete. */
int infc_run(infc_context *context, const infc_batch *batch, infc_error *error);

/* Turns timing on (1) or off (0, the default) for later runs of this context. */
int infc_profile_enable(infc_context *context, int on, infc_error *error);

/* The last run's times: fills up to `capacity` entries, one a step, and sets *count to the number of steps. */
int infc_profile(infc_context *context, infc_step_time *times, uint32_t capacity, uint32_t *count, infc_error *error);

/* Reserved for targets that overlap copies with compute: INFC_INTERNAL where not provided. */
int infc_submit(infc_context *context, const infc_batch *batch, uint64_t *ticket, infc_error *error);
int infc_wait(infc_context *context, uint64_t ticket, infc_error *error);

#ifdef __cplusplus
}
#endif
#endif
