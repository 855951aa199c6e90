/* A small model behind runtime/abi/infc_model.h, for tests of the server. Compiled as one of
 *   -DKIND_SCORE  features float32[batch, 8], bias float32[batch, 1] (default 0)
 *                 -> score float32[batch, 1] = features . weights + bias, label int64[batch] = score > 0
 *   -DKIND_EMBED  input_ids, attention_mask (default 1), token_type_ids (default 0): int64[batch, tokens]
 *                 -> embedding float32[batch, 8], of length 1
 * and with
 *   -DDELAY_MS=n       each batch takes n milliseconds
 *   -DREFUSE_CPU       infc_open says that the CPU lacks a feature
 *   -DLOSE_DEVICE_AT=n the n-th batch and all later ones fail as if the device were lost
 *   -DEXIT_AT=n        the process ends at the n-th batch
 *   -DPER_PROCESS      answers after the first batch are another process's alone
 *   -DDRIFT            answers differ from the right ones
 *   -DREPEAT=n         score is float32[batch, n], the same value n times
 * A row of features that begins with 998 has NaN as its score, with 997 infinity, with -997 minus infinity; a row of ids
 * that begins with 101, 30520 has NaN as the last value of its embedding.
 */
#define _POSIX_C_SOURCE 200809L
#include "infc_model.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WIDTH 8
#ifndef REPEAT
#define REPEAT 1
#endif
#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#define MAX_BATCH 16
#define VOCABULARY 30522
#define EXPORT __attribute__((visibility("default")))

#ifdef KIND_EMBED
#define INPUTS 3
#define OUTPUTS 1
#define MAX_TOKENS 64
static const char *const description =
    "{\"abi\": 1, \"name\": \"fixture\", \"isa\": \"any\", \"batchable\": true, \"batch_invariant\": true,"
    "\"length_dim\": \"tokens\", \"batch_dim\": \"batch\", \"trim\": true, \"dims\": {\"batch\": [1, 16], \"tokens\": [1, 64]},"
    "\"inputs\": [{\"name\": \"input_ids\", \"dtype\": \"int64\", \"shape\": [\"batch\", \"tokens\"], \"default\": null, \"min\": 0,"
    "\"max\": 30521, \"nan\": false},"
    "{\"name\": \"attention_mask\", \"dtype\": \"int64\", \"shape\": [\"batch\", \"tokens\"], \"default\": 1, \"min\": 0, \"max\": 1,"
    "\"nan\": false, \"mask\": true},"
    "{\"name\": \"token_type_ids\", \"dtype\": \"int64\", \"shape\": [\"batch\", \"tokens\"], \"default\": 0, \"min\": 0, \"max\": 1,"
    "\"nan\": false}],"
    "\"outputs\": [{\"name\": \"embedding\", \"dtype\": \"float32\", \"shape\": [\"batch\", 8]}], \"steps\": []}";
#else
#define INPUTS 2
#define OUTPUTS 2
static const char *const description =
    "{\"abi\": 1, \"name\": \"fixture\", \"isa\": \"any\", \"batchable\": true, \"batch_invariant\": true,"
    "\"length_dim\": null, \"batch_dim\": \"batch\", \"trim\": false, \"dims\": {\"batch\": [1, 16]},"
    "\"inputs\": [{\"name\": \"features\", \"dtype\": \"float32\", \"shape\": [\"batch\", 8], \"default\": null, \"min\": -1000,"
    "\"max\": 1000, \"nan\": false},"
    "{\"name\": \"bias\", \"dtype\": \"float32\", \"shape\": [\"batch\", 1], \"default\": 0, \"min\": null, \"max\": null,"
    "\"nan\": false}],"
    "\"outputs\": [{\"name\": \"score\", \"dtype\": \"float32\", \"shape\": [\"batch\", " STRING(REPEAT) "]},"
    "{\"name\": \"label\", \"dtype\": \"int64\", \"shape\": [\"batch\"]}], \"steps\": []}";
#endif

struct infc_model {
    const float *weights;
};

struct infc_context {
    infc_model *model;
    unsigned batches;
};

static infc_model the_model;
static infc_context contexts[64];
static unsigned next_context;

static int fail(infc_error *error, infc_kind kind, infc_code code, int input, const char *message) {
    if (error != NULL) {
        error->kind = kind;
        error->code = code;
        error->input = input;
        snprintf(error->message, sizeof error->message, "%s", message);
    }
    return kind;
}

EXPORT uint32_t infc_abi_version(void) { return INFC_ABI_VERSION; }

EXPORT const char *infc_describe(void) { return description; }

EXPORT int infc_open(const infc_open_args *args, infc_model **model, infc_error *error) {
#ifdef REFUSE_CPU
    return fail(error, INFC_INTERNAL, INFC_CODE_CPU, -1, "this CPU lacks avx1024, which the code needs");
#endif
    if (args->weights_bytes != WIDTH * sizeof(float) || (uintptr_t)args->weights % 64 != 0)
        return fail(error, INFC_INTERNAL, INFC_CODE_WEIGHTS, -1, "weights of the wrong size or alignment");
    the_model.weights = args->weights;
    *model = &the_model;
    return INFC_OK;
}

EXPORT void infc_close(infc_model *model) { (void)model; }

EXPORT int infc_context_open(infc_model *model, const infc_context_args *args, infc_context **context, infc_error *error) {
    unsigned slot = __atomic_fetch_add(&next_context, 1, __ATOMIC_RELAXED);
    if (slot >= sizeof contexts / sizeof *contexts || args->threads == 0)
        return fail(error, INFC_INTERNAL, INFC_CODE_THREADS, -1, "too many contexts, or no thread");
    contexts[slot].model = model;
    *context = &contexts[slot];
    return INFC_OK;
}

EXPORT void infc_context_close(infc_context *context) { (void)context; }

EXPORT int infc_workspace(const infc_model *model, const infc_limits *limits, uint64_t *bytes, infc_error *error) {
    (void)model;
    (void)error;
    *bytes = 64 + limits->rows * 64 + limits->tokens * 8;
    return INFC_OK;
}

static int check(const infc_tensor *inputs, int64_t *rows, int64_t *length, infc_error *error) {
    *rows = 0;
    *length = 1;
    for (int i = 0; i < INPUTS; i++) {
        const infc_tensor *t = &inputs[i];
        if (t->data == NULL) {
            if (i == 0) return fail(error, INFC_CALLER, INFC_CODE_MISSING, i, "the input is missing");
            continue;
        }
        if (t->rank != 2) return fail(error, INFC_CALLER, INFC_CODE_RANK, i, "expected two dimensions");
        if (i == 0) {
            *rows = t->shape[0];
            *length = t->shape[1];
        } else if (t->shape[0] != *rows) {
            return fail(error, INFC_CALLER, INFC_CODE_SHAPE, i, "other rows than the first input");
        }
        if (t->shape[0] > MAX_BATCH) return fail(error, INFC_CALLER, INFC_CODE_SHAPE, i, "too many rows");
    }
    return INFC_OK;
}

static void shape(infc_tensor *t, uint32_t dtype, uint32_t rank, int64_t rows, int64_t width, uint64_t size) {
    t->dtype = dtype;
    t->rank = rank;
    t->shape[0] = rows;
    if (rank > 1) t->shape[1] = width;
    t->bytes = (uint64_t)rows * (uint64_t)width * size;
}

static void output_shapes(int64_t rows, infc_tensor *outputs) {
#ifdef KIND_EMBED
    shape(&outputs[0], INFC_FLOAT32, 2, rows, WIDTH, sizeof(float));
#else
    shape(&outputs[0], INFC_FLOAT32, 2, rows, REPEAT, sizeof(float));
    shape(&outputs[1], INFC_INT64, 1, rows, 1, sizeof(int64_t));
#endif
}

EXPORT int infc_output_shapes(const infc_model *model, const infc_tensor *inputs, infc_tensor *outputs, infc_error *error) {
    int64_t rows, length;
    (void)model;
    int kind = check(inputs, &rows, &length, error);
    if (kind == INFC_OK) output_shapes(rows, outputs);
    return kind;
}

#ifdef KIND_EMBED
static void run_one(const float *weights, const infc_tensor *in, infc_tensor *out, int64_t rows, int64_t length, unsigned batches) {
    (void)batches;
    const int64_t *ids = in[0].data, *mask = in[1].data, *types = in[2].data;
    float *to = out[0].data;
    for (int64_t r = 0; r < rows; r++) {
        double sums[WIDTH] = {0}, norm = 0;
        for (int64_t t = 0; t < length; t++) {
            int64_t at = r * length + t;
            if (mask != NULL && mask[at] == 0) continue;
            for (int h = 0; h < WIDTH; h++) {
                int64_t mixed = (ids[at] * 31 + (t + 1) * 17 + h * 7 + (types != NULL ? types[at] * 3 : 0)) % 101;
                sums[h] += weights[h] * (double)mixed / 101.0;
            }
        }
        for (int h = 0; h < WIDTH; h++) norm += sums[h] * sums[h];
        norm = norm > 0 ? sqrt(norm) : 1;
        for (int h = 0; h < WIDTH; h++) to[r * WIDTH + h] = (float)(sums[h] / norm);
        if (length > 1 && ids[r * length + 1] == 30520) to[r * WIDTH + WIDTH - 1] = NAN;
    }
}
#else
static void run_one(const float *weights, const infc_tensor *in, infc_tensor *out, int64_t rows, int64_t length, unsigned batches) {
    (void)batches;
    const float *x = in[0].data, *bias = in[1].data;
    float *score = out[0].data;
    int64_t *label = out[1].data;
    for (int64_t r = 0; r < rows; r++) {
        double sum = bias != NULL ? bias[r] : 0;
        for (int64_t i = 0; i < length; i++) sum += (double)weights[i] * x[r * length + i];
#ifdef DRIFT
        sum += 0.5;
#endif
#ifdef PER_PROCESS
        if (batches > 1) sum += getpid();
#endif
        float value = (float)sum;
        if (length > 0 && x[r * length] == 998.0f) value = NAN;
        if (length > 0 && fabsf(x[r * length]) == 997.0f) value = copysignf(INFINITY, x[r * length]);
        for (int i = 0; i < REPEAT; i++) score[r * REPEAT + i] = value;
        label[r] = sum > 0;
    }
}
#endif

EXPORT int infc_run(infc_context *context, const infc_batch *batch, infc_error *error) {
    context->batches++;
#ifdef EXIT_AT
    if (context->batches >= EXIT_AT) _exit(9);
#endif
#ifdef LOSE_DEVICE_AT
    if (context->batches >= LOSE_DEVICE_AT) return fail(error, INFC_DEVICE_LOST, INFC_CODE_NONE, -1, "the device is gone");
#endif
    if (batch->workspace == NULL || (uintptr_t)batch->workspace % 64 != 0)
        return fail(error, INFC_CAPACITY, INFC_CODE_WORKSPACE, -1, "no workspace");
#ifdef DELAY_MS
    struct timespec delay = {DELAY_MS / 1000, (DELAY_MS % 1000) * 1000000L};
    if (context->batches > 1) nanosleep(&delay, NULL); /* the known answer at the start is quick */
#endif
    for (uint32_t r = 0; r < batch->requests; r++) {
        const infc_tensor *in = batch->inputs + (size_t)r * INPUTS;
        infc_tensor *out = batch->outputs + (size_t)r * OUTPUTS;
        int64_t rows, length;
        infc_error *status = &batch->status[r];
        status->kind = (uint32_t)check(in, &rows, &length, status);
        if (status->kind != INFC_OK) continue;
#ifndef KIND_EMBED
        /* A fault that only the model can see: the server must hand it to this request alone. */
        if (rows > 0 && ((const float *)in[0].data)[0] == 999.0f) {
            status->kind = (uint32_t)fail(status, INFC_CALLER, INFC_CODE_RANGE, 0, "999 is not taken by this model");
            continue;
        }
#endif
        output_shapes(rows, out);
        run_one(context->model->weights, in, out, rows, length, context->batches);
    }
    return INFC_OK;
}

EXPORT int infc_profile_enable(infc_context *context, int on, infc_error *error) {
    (void)context;
    (void)on;
    (void)error;
    return INFC_OK;
}

EXPORT int infc_profile(infc_context *context, infc_step_time *times, uint32_t capacity, uint32_t *count, infc_error *error) {
    (void)context;
    (void)times;
    (void)capacity;
    (void)error;
    *count = 0;
    return INFC_OK;
}

EXPORT int infc_submit(infc_context *context, const infc_batch *batch, uint64_t *ticket, infc_error *error) {
    (void)context;
    (void)batch;
    (void)ticket;
    return fail(error, INFC_INTERNAL, INFC_CODE_NONE, -1, "not provided");
}

EXPORT int infc_wait(infc_context *context, uint64_t ticket, infc_error *error) {
    (void)context;
    (void)ticket;
    return fail(error, INFC_INTERNAL, INFC_CODE_NONE, -1, "not provided");
}
