/* The C ABI over a generated model: checks requests, lays rows out flat, runs the steps, hands results back.
 *
 * Invariants: nothing is allocated after infc_context_open; everything read from a caller is checked against the
 * model's tables before it is used; a request at fault is left out of the flat buffers and its neighbours go on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rt.h"

struct infc_model {
    const rt_model_info *info;
    const char *weights;
};

struct infc_context {
    const struct infc_model *model;
    infc_pool *pool;
    uint32_t threads;
    char *scratch, *blocks;
    uint64_t scratch_stride, block_stride;
    int profile;
    infc_step_time *times;
};

#define EXPORT __attribute__((visibility("default")))

static uint64_t aligned(uint64_t bytes) { return (bytes + RT_ALIGN - 1) & ~(uint64_t)(RT_ALIGN - 1); }

static uint32_t item_bytes(uint32_t dtype) {
    switch (dtype) {
    case INFC_FLOAT32: return 4;
    case INFC_INT64: return 8;
    case INFC_INT32: return 4;
    case INFC_BOOL: return 1;
    default: return 0;
    }
}

static const char *dtype_name(uint32_t dtype) {
    switch (dtype) {
    case INFC_FLOAT32: return "float32";
    case INFC_INT64: return "int64";
    case INFC_INT32: return "int32";
    case INFC_BOOL: return "bool";
    default: return "an unknown dtype";
    }
}

#define FAIL(error, kind_, code_, input_, ...)                                                                        \
    do {                                                                                                               \
        infc_error *e_ = (error);                                                                                      \
        if (e_) {                                                                                                      \
            e_->kind = (kind_);                                                                                        \
            e_->code = (code_);                                                                                        \
            e_->input = (input_);                                                                                      \
            snprintf(e_->message, sizeof e_->message, __VA_ARGS__);                                                    \
        }                                                                                                              \
        return (kind_);                                                                                                \
    } while (0)

static void clear(infc_error *error) {
    if (error) {
        error->kind = INFC_OK;
        error->code = INFC_CODE_NONE;
        error->input = -1;
        error->message[0] = 0;
    }
}

EXPORT uint32_t infc_abi_version(void) { return INFC_ABI_VERSION; }

EXPORT const char *infc_describe(void) { return infc_rt_model.describe; }

EXPORT int infc_open(const infc_open_args *args, infc_model **model, infc_error *error) {
    clear(error);
    if (!args || !model) FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_open: args and model must not be NULL");
    const char *missing = infc_cpu_missing();
    if (missing) FAIL(error, INFC_CALLER, INFC_CODE_CPU, -1, "this model needs a CPU with %s, and this one has none", missing);
    const rt_model_info *info = &infc_rt_model;
    if (args->weights_bytes != info->weights_bytes)
        FAIL(error, INFC_CALLER, INFC_CODE_WEIGHTS, -1, "weights have %llu bytes, and this model's have %llu",
             (unsigned long long)args->weights_bytes, (unsigned long long)info->weights_bytes);
    if (info->weights_bytes && (!args->weights || (uintptr_t)args->weights % RT_ALIGN))
        FAIL(error, INFC_CALLER, INFC_CODE_WEIGHTS, -1, "weights must lie at a multiple of %u bytes", RT_ALIGN);
    infc_model *m = malloc(sizeof *m);
    if (!m) FAIL(error, INFC_INTERNAL, INFC_CODE_MEMORY, -1, "out of memory for %zu bytes", sizeof *m);
    m->info = info;
    m->weights = args->weights;
    *model = m;
    return INFC_OK;
}

EXPORT void infc_close(infc_model *model) { free(model); }

/* Each symbol at its upper bound, and `longest` behind them. */
static void upper_bounds(const rt_model_info *info, int64_t *dim) {
    for (uint32_t s = 0; s < info->symbols; ++s) dim[s] = info->symbol[s].high;
    dim[info->symbols] = info->length_symbol >= 0 ? dim[info->length_symbol] : 1;
}

EXPORT int infc_context_open(infc_model *model, const infc_context_args *args, infc_context **context, infc_error *error) {
    clear(error);
    if (!model || !args || !context)
        FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_context_open: model, args and context must not be NULL");
    if (args->threads < 1 || args->threads > 1024)
        FAIL(error, INFC_CALLER, INFC_CODE_THREADS, -1, "threads is %u, and must be 1 to 1024", args->threads);
    if (args->cpus && args->n_cpus < args->threads)
        FAIL(error, INFC_CALLER, INFC_CODE_THREADS, -1, "%u CPUs are given for %u threads", args->n_cpus, args->threads);
    infc_context *c = calloc(1, sizeof *c);
    if (!c) FAIL(error, INFC_INTERNAL, INFC_CODE_MEMORY, -1, "out of memory for %zu bytes", sizeof *c);
    c->model = model;
    c->threads = args->threads;
    c->scratch_stride = aligned(model->info->scratch_bytes);
    uint64_t bytes = c->scratch_stride * args->threads;
    c->scratch = bytes ? aligned_alloc(RT_ALIGN, bytes) : NULL;
    c->block_stride = aligned(model->info->block_bytes);
    uint64_t block_bytes = c->block_stride * args->threads;
    c->blocks = block_bytes ? aligned_alloc(RT_ALIGN, block_bytes) : NULL;
    c->times = calloc(model->info->steps ? model->info->steps : 1, sizeof *c->times);
    if ((bytes && !c->scratch) || (block_bytes && !c->blocks) || !c->times) {
        infc_context_close(c);
        FAIL(error, INFC_INTERNAL, INFC_CODE_MEMORY, -1, "out of memory for %llu bytes", (unsigned long long)(bytes + block_bytes));
    }
    c->pool = infc_pool_open(args->threads, args->cpus, args->n_cpus, error);
    if (!c->pool) {
        infc_context_close(c);
        return error && error->kind ? (int)error->kind : INFC_INTERNAL;
    }
    *context = c;
    return INFC_OK;
}

EXPORT void infc_context_close(infc_context *context) {
    if (!context) return;
    if (context->pool) infc_pool_close(context->pool);
    free(context->scratch);
    free(context->blocks);
    free(context->times);
    free(context);
}

/* The workspace: row table, slot pointers, row and position of each token, slots. */
typedef struct layout {
    uint64_t rows, requests, slots, row_of, pos_of, data, total;
} layout;

static layout lay_out(const rt_model_info *info, const int64_t *dim, uint64_t requests, uint64_t rows, uint64_t tokens) {
    layout l;
    uint64_t at = 0;
    l.rows = at, at += aligned(rows * sizeof(rt_row));
    l.requests = at, at += aligned(requests * RT_MAX_SYMBOLS * sizeof(int64_t));
    l.slots = at, at += aligned(info->slots * (sizeof(char *) + sizeof(uint64_t)));
    l.row_of = at, at += aligned(tokens * sizeof(int32_t));
    l.pos_of = at, at += aligned(tokens * sizeof(int32_t));
    l.data = at;
    uint64_t bytes[info->slots ? info->slots : 1];
    info->slot_bytes(dim, (int64_t)rows, (int64_t)tokens, bytes);
    for (uint32_t s = 0; s < info->slots; ++s) at += aligned(bytes[s]);
    l.total = at + RT_ALIGN;
    return l;
}

EXPORT int infc_workspace(const infc_model *model, const infc_limits *limits, uint64_t *bytes, infc_error *error) {
    clear(error);
    if (!model || !limits || !bytes)
        FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_workspace: model, limits and bytes must not be NULL");
    const rt_model_info *info = model->info;
    if (limits->rows > INT32_MAX || limits->tokens > INT32_MAX)
        FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "limits: rows and tokens must be below 2^31");
    int64_t dim[RT_MAX_SYMBOLS + 1] = {0};
    upper_bounds(info, dim);
    if (info->length_symbol >= 0) {
        int64_t most = info->symbol[info->length_symbol].high;
        int64_t longest = limits->longest && (int64_t)limits->longest < most ? (int64_t)limits->longest : most;
        dim[info->length_symbol] = dim[info->symbols] = longest;
    }
    if (info->batchable) dim[0] = 1;
    else if (info->batched && (int64_t)limits->rows < dim[0]) dim[0] = (int64_t)limits->rows;
    *bytes = lay_out(info, dim, limits->requests, limits->rows, limits->tokens).total;
    return INFC_OK;
}

/* Binds symbols from one request's shapes. `given` tells which symbols an input that was given names. */
static int bind_shapes(const rt_model_info *info, const infc_tensor *inputs, int64_t *dim, infc_error *error) {
    for (uint32_t s = 0; s < info->symbols; ++s) dim[s] = -1;
    for (uint32_t i = 0; i < info->inputs; ++i) {
        const rt_input *in = &info->input[i];
        const infc_tensor *t = &inputs[i];
        if (!t->data && in->has_default) continue;
        if (!t->data) FAIL(error, INFC_CALLER, INFC_CODE_MISSING, (int32_t)i, "input '%s' is missing", in->name);
        if (t->dtype != in->dtype)
            FAIL(error, INFC_CALLER, INFC_CODE_DTYPE, (int32_t)i, "input '%s' is %s, and must be %s", in->name,
                 dtype_name(t->dtype), dtype_name(in->dtype));
        if (t->rank != in->rank)
            FAIL(error, INFC_CALLER, INFC_CODE_RANK, (int32_t)i, "input '%s' has %u dimensions, and must have %u", in->name,
                 t->rank, in->rank);
        uint64_t elements = 1;
        for (uint32_t a = 0; a < in->rank; ++a) {
            int64_t value = t->shape[a];
            const rt_dim *want = &in->shape[a];
            if (want->symbol < 0) {
                if (value != want->value)
                    FAIL(error, INFC_CALLER, INFC_CODE_SHAPE, (int32_t)i, "input '%s' has %lld at dimension %u, and must have %lld",
                         in->name, (long long)value, a, (long long)want->value);
            } else {
                const rt_symbol *symbol = &info->symbol[want->symbol];
                int64_t low = info->batched && want->symbol == 0 && symbol->low > 0 ? 0 : symbol->low; /* zero rows: zero rows back */
                if (value < low || value > symbol->high || (value < symbol->low && value != 0))
                    FAIL(error, INFC_CALLER, INFC_CODE_SHAPE, (int32_t)i,
                         "input '%s' has %lld at dimension %u (%s), and must have %lld to %lld", in->name, (long long)value, a,
                         symbol->name, (long long)symbol->low, (long long)symbol->high);
                if (dim[want->symbol] >= 0 && dim[want->symbol] != value)
                    FAIL(error, INFC_CALLER, INFC_CODE_SHAPE, (int32_t)i,
                         "input '%s' has %lld at dimension %u (%s), and another input has %lld", in->name, (long long)value, a,
                         symbol->name, (long long)dim[want->symbol]);
                dim[want->symbol] = value;
            }
            elements *= (uint64_t)value;
        }
        if (t->bytes != elements * item_bytes(in->dtype))
            FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, (int32_t)i, "input '%s' has %llu bytes, and its shape says %llu", in->name,
                 (unsigned long long)t->bytes, (unsigned long long)(elements * item_bytes(in->dtype)));
    }
    for (uint32_t s = 0; s < info->symbols; ++s)
        if (dim[s] < 0)
            FAIL(error, INFC_CALLER, INFC_CODE_MISSING, -1, "dimension '%s' is not known: no input that has it was given",
                 info->symbol[s].name);
    return INFC_OK;
}

static int fill_outputs(const rt_model_info *info, const int64_t *dim, infc_tensor *outputs) {
    for (uint32_t o = 0; o < info->outputs; ++o) {
        infc_tensor *t = &outputs[o];
        t->dtype = info->output[o].dtype;
        t->rank = info->output[o].rank;
        for (uint32_t a = 0; a < t->rank; ++a) t->shape[a] = info->output_dim(o, a, dim);
    }
    return INFC_OK;
}

static uint64_t tensor_bytes(const infc_tensor *t) {
    uint64_t bytes = item_bytes(t->dtype);
    for (uint32_t a = 0; a < t->rank; ++a) bytes *= (uint64_t)t->shape[a];
    return bytes;
}

EXPORT int infc_output_shapes(const infc_model *model, const infc_tensor *inputs, infc_tensor *outputs, infc_error *error) {
    clear(error);
    if (!model || !inputs || !outputs)
        FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_output_shapes: model, inputs and outputs must not be NULL");
    int64_t dim[RT_MAX_SYMBOLS + 1];
    int kind = bind_shapes(model->info, inputs, dim, error);
    if (kind) return kind;
    fill_outputs(model->info, dim, outputs);
    for (uint32_t o = 0; o < model->info->outputs; ++o) outputs[o].bytes = tensor_bytes(&outputs[o]);
    return INFC_OK;
}

/* Checks one input's values: ranges, and NaN and infinity where they are not allowed. */
static int check_values(const rt_input *in, uint32_t index, const infc_tensor *t, infc_error *error) {
    uint64_t n = t->bytes / item_bytes(in->dtype);
    if (in->dtype == INFC_FLOAT32) {
        const uint32_t *bits = t->data;
        const float *value = t->data;
        if (!in->nan)
            for (uint64_t i = 0; i < n; ++i)
                if ((bits[i] & 0x7f800000u) == 0x7f800000u)
                    FAIL(error, INFC_CALLER, INFC_CODE_NAN, (int32_t)index, "input '%s' has %s at element %llu, and must be finite",
                         in->name, (bits[i] & 0x7fffffu) ? "NaN" : "an infinity", (unsigned long long)i);
        if (in->has_range)
            for (uint64_t i = 0; i < n; ++i)
                if (value[i] < in->low || value[i] > in->high)
                    FAIL(error, INFC_CALLER, INFC_CODE_RANGE, (int32_t)index,
                         "input '%s' has %g at element %llu, and must lie in %g..%g", in->name, (double)value[i],
                         (unsigned long long)i, in->low, in->high);
        return INFC_OK;
    }
    for (uint64_t i = 0; i < n; ++i) {
        int64_t value = in->dtype == INFC_INT64   ? ((const int64_t *)t->data)[i]
                        : in->dtype == INFC_INT32 ? ((const int32_t *)t->data)[i]
                                                  : ((const uint8_t *)t->data)[i];
        int64_t low = in->dtype == INFC_BOOL ? 0 : (int64_t)in->low, high = in->dtype == INFC_BOOL ? 1 : (int64_t)in->high;
        if ((in->has_range || in->dtype == INFC_BOOL) && (value < low || value > high))
            FAIL(error, INFC_CALLER, INFC_CODE_RANGE, (int32_t)index,
                 "input '%s' has %lld at element %llu, and must lie in %lld..%lld", in->name, (long long)value,
                 (unsigned long long)i, (long long)low, (long long)high);
    }
    return INFC_OK;
}

static int check_request(const rt_model_info *info, const infc_tensor *inputs, infc_tensor *outputs, int64_t *dim,
                         infc_error *error) {
    int kind = bind_shapes(info, inputs, dim, error);
    if (kind) return kind;
    for (uint32_t i = 0; i < info->inputs; ++i)
        if (inputs[i].data && (kind = check_values(&info->input[i], i, &inputs[i], error))) return kind;
    fill_outputs(info, dim, outputs);
    for (uint32_t o = 0; o < info->outputs; ++o) {
        uint64_t bytes = tensor_bytes(&outputs[o]);
        if (outputs[o].bytes < bytes || (bytes && !outputs[o].data))
            FAIL(error, INFC_CAPACITY, INFC_CODE_ARGUMENT, -1, "output '%s' needs %llu bytes, and %llu are given", info->output[o].name,
                 (unsigned long long)bytes, (unsigned long long)outputs[o].bytes);
    }
    return INFC_OK;
}

static int mask_at(const infc_tensor *t, uint64_t i) {
    switch (t->dtype) {
    case INFC_INT64: return ((const int64_t *)t->data)[i] != 0;
    case INFC_INT32: return ((const int32_t *)t->data)[i] != 0;
    case INFC_FLOAT32: return ((const float *)t->data)[i] != 0;
    default: return ((const uint8_t *)t->data)[i] != 0;
    }
}

/* Length to compute of one row: its kept prefix where the mask is 1...10...0 and that is known to be the same. */
static void measure_row(const rt_model_info *info, const infc_tensor *inputs, rt_row *row) {
    row->length = row->full;
    if (info->mask < 0 || info->length_symbol < 0) return;
    const infc_tensor *t = &inputs[info->mask];
    if (!t->data || !info->batchable) return;
    uint64_t base = (uint64_t)row->index * (uint64_t)row->full;
    int64_t kept = 0, last = 0;
    for (int64_t p = 0; p < row->full; ++p)
        if (mask_at(t, base + (uint64_t)p)) ++kept, last = p + 1;
    row->dead = kept == 0;
    if (info->trim && kept == last) row->length = kept;
}

static void fill_default(const rt_input *in, char *to, int64_t elements) {
    for (int64_t i = 0; i < elements; ++i) switch (in->dtype) {
        case INFC_FLOAT32: ((float *)to)[i] = (float)in->fallback; break;
        case INFC_INT64: ((int64_t *)to)[i] = (int64_t)in->fallback; break;
        case INFC_INT32: ((int32_t *)to)[i] = (int32_t)in->fallback; break;
        default: ((uint8_t *)to)[i] = in->fallback != 0; break;
        }
}

static const infc_tensor *request_input(const rt_env *e, uint32_t request, uint32_t input) {
    return &e->batch->inputs[(uint64_t)request * e->info->inputs + input];
}

/* Copies TOKEN and ROW inputs of all rows into their flat slots. */
static void gather(rt_env *e) {
    for (uint32_t i = 0; i < e->info->inputs; ++i) {
        const rt_input *in = &e->info->input[i];
        if (in->place == RT_LOCAL || in->slot < 0) continue;
        int64_t inner = in->inner * item_bytes(in->dtype);
        for (int64_t r = 0; r < e->rows; ++r) {
            const rt_row *row = &e->row_table[r];
            const infc_tensor *t = request_input(e, row->request, i);
            int64_t count = in->place == RT_TOKEN ? row->length : 1;
            char *to = e->slot[in->slot] + (in->place == RT_TOKEN ? row->offset : r) * inner;
            if (!t->data) fill_default(in, to, count * in->inner);
            else
                memcpy(to, (const char *)t->data + row->index * (in->place == RT_TOKEN ? row->full : 1) * inner,
                       (size_t)(count * inner));
        }
    }
}

/* Copies TOKEN and ROW outputs to their requests; positions and rows that are excluded hold zeros. */
static void scatter(rt_env *e) {
    for (uint32_t o = 0; o < e->info->outputs; ++o) {
        const rt_output *out = &e->info->output[o];
        if (out->place == RT_LOCAL) continue;
        int64_t item = item_bytes(out->dtype), inner = out->inner * item;
        for (int64_t r = 0; r < e->rows; ++r) {
            const rt_row *row = &e->row_table[r];
            char *base = e->batch->outputs[(uint64_t)row->request * e->info->outputs + o].data;
            int64_t positions = out->place == RT_TOKEN ? row->full : 1;
            char *to = base + row->index * positions * inner;
            const char *from = e->slot[out->slot] + (out->place == RT_TOKEN ? row->offset : r) * inner;
            int64_t have = row->dead ? 0 : out->place == RT_TOKEN ? row->length : 1;
            memcpy(to, from, (size_t)(have * inner));
            memset(to + have * inner, 0, (size_t)((positions - have) * inner));
            if (out->place == RT_TOKEN && e->info->mask >= 0 && have == row->full) {
                const infc_tensor *mask = request_input(e, row->request, (uint32_t)e->info->mask);
                for (int64_t p = 0; mask->data && p < have; ++p)
                    if (!mask_at(mask, (uint64_t)(row->index * row->full + p))) memset(to + p * inner, 0, (size_t)inner);
            }
        }
    }
}

void rt_store_local(rt_env *e, uint32_t output, const void *from) {
    const rt_row *row = e->row;
    infc_tensor *t = &e->batch->outputs[(uint64_t)row->request * e->info->outputs + output];
    uint64_t bytes = tensor_bytes(t);
    if (!e->info->batchable) memcpy(t->data, from, bytes);
    else {
        uint64_t one = bytes / (uint64_t)t->shape[0];
        char *to = (char *)t->data + (uint64_t)row->index * one;
        if (row->dead) memset(to, 0, one);
        else memcpy(to, from, one);
    }
}

int rt_enter_row(rt_env *e, int64_t r) {
    const rt_row *row = &e->row_table[r];
    e->row = row;
    if (e->info->length_symbol >= 0 && row->length == 0) return 0;
    memcpy(e->dim, e->request_dim + (uint64_t)row->request * RT_MAX_SYMBOLS, e->info->symbols * sizeof(int64_t));
    if (e->info->batchable) e->dim[0] = 1;
    if (e->info->length_symbol >= 0) e->dim[e->info->length_symbol] = row->length;
    for (uint32_t i = 0; i < e->info->inputs; ++i) {
        const rt_input *in = &e->info->input[i];
        if (in->place != RT_LOCAL) continue;
        const infc_tensor *t = request_input(e, row->request, i);
        int64_t elements = 1, given = 1; /* of this row: as computed, as the request stores it */
        for (uint32_t a = 0; a < in->rank; ++a) {
            const rt_dim *d = &in->shape[a];
            elements *= d->symbol < 0 ? d->value : e->dim[d->symbol];
            given *= d->symbol < 0 ? d->value : d->symbol == e->info->length_symbol ? row->full : e->dim[d->symbol];
        }
        if (!t->data) {
            fill_default(in, e->slot[in->slot], elements);
            e->local_input[i] = e->slot[in->slot];
        } else {
            e->local_input[i] = (const char *)t->data + row->index * given * item_bytes(in->dtype);
        }
    }
    return 1;
}

void rt_leave_rows(rt_env *e) {
    e->row = NULL;
    e->dim[0] = e->rows;
    if (e->info->length_symbol >= 0) e->dim[e->info->length_symbol] = e->longest;
}

uint64_t rt_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds of work from which the pool is worth its turnaround. */
#define WORTH_SHARING 4000
/* Rows a thread needs so that reading all weights itself costs less than a barrier a step. */
#define ENOUGH_ROWS 8

static void run_shared(rt_env *e, rt_step_fn fn, int64_t work) {
    infc_context *c = e->context;
    if (c->threads == 1 || work < WORTH_SHARING) fn(e, 0, 1);
    else infc_pool_run(c->pool, fn, e);
}

void rt_step(rt_env *e, uint32_t step, rt_step_fn fn, int64_t rows, int64_t work) {
    uint64_t start = rt_start(e, 0);
    run_shared(e, fn, work);
    if (e->times) e->times[step].rows += (uint64_t)rows;
    rt_lap(e, 0, step, start);
}

int rt_narrow(const rt_env *e, int64_t rows, int64_t work) {
    uint32_t threads = e->context->threads;
    return threads > 1 && work >= WORTH_SHARING && rows < (int64_t)threads * ENOUGH_ROWS;
}

/* A thread that waits at the end for others waits in the last step's time. */
void rt_chain(rt_env *e, uint32_t first, uint32_t last, rt_step_fn fn, int64_t work) {
    uint64_t start = rt_start(e, 0), before = 0, after = 0;
    for (uint32_t s = first; e->times && s <= last; ++s) before += e->times[s].nanoseconds;
    run_shared(e, fn, work);
    for (uint32_t s = first; e->times && s <= last; ++s) after += e->times[s].nanoseconds;
    if (e->times) e->times[last].nanoseconds += rt_now() - start - (after - before);
}

/* Rows that a request adds to the batch. One that is not split is a single row, whatever its sizes, unless it has no rows;
   without a batch dimension the first symbol says nothing of rows (and there may be none). */
static int64_t rows_of(const rt_model_info *info, const int64_t *dim) {
    if (!info->batched) return 1;
    return info->batchable ? dim[0] : dim[0] > 0;
}

EXPORT int infc_run(infc_context *context, const infc_batch *batch, infc_error *error) {
    clear(error);
    if (!context || !batch) FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_run: context and batch must not be NULL");
    const rt_model_info *info = context->model->info;
    if (batch->requests && (!batch->inputs || !batch->outputs || !batch->status))
        FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_run: inputs, outputs and status must not be NULL");
    for (uint32_t s = 0; s < info->steps; ++s) context->times[s].nanoseconds = context->times[s].rows = 0;

    int64_t largest[RT_MAX_SYMBOLS + 1] = {0}, dim[RT_MAX_SYMBOLS + 1];
    uint64_t rows = 0, tokens = 0;
    for (uint32_t q = 0; q < batch->requests; ++q) { /* check, and count an upper bound of rows and tokens */
        infc_error *status = &batch->status[q];
        clear(status);
        const infc_tensor *inputs = batch->inputs + (uint64_t)q * info->inputs;
        if (check_request(info, inputs, batch->outputs + (uint64_t)q * info->outputs, dim, status)) continue;
        uint64_t n = (uint64_t)rows_of(info, dim);
        rows += n;
        if (info->length_symbol >= 0) tokens += n * (uint64_t)dim[info->length_symbol];
        for (uint32_t s = 0; s < info->symbols; ++s) largest[s] = dim[s] > largest[s] ? dim[s] : largest[s];
    }
    if (rows > INT32_MAX || tokens > INT32_MAX)
        FAIL(error, INFC_CAPACITY, INFC_CODE_WORKSPACE, -1, "a batch may have at most 2^31 - 1 rows and tokens");
    if (info->batchable) largest[0] = 1;
    largest[info->symbols] = info->length_symbol >= 0 ? largest[info->length_symbol] : 1;
    layout l = lay_out(info, largest, batch->requests, rows, tokens);
    if (l.total > batch->workspace_bytes || !batch->workspace)
        FAIL(error, INFC_CAPACITY, INFC_CODE_WORKSPACE, -1, "this batch needs %llu bytes of workspace, and %llu are given",
             (unsigned long long)l.total, (unsigned long long)batch->workspace_bytes);

    char *base = (char *)(((uintptr_t)batch->workspace + RT_ALIGN - 1) & ~(uintptr_t)(RT_ALIGN - 1));
    rt_row *table = (rt_row *)(base + l.rows);
    int64_t *dims = (int64_t *)(base + l.requests);
    char **slot = (char **)(base + l.slots);
    int32_t *row_of = (int32_t *)(base + l.row_of), *pos_of = (int32_t *)(base + l.pos_of);
    int64_t r = 0, offset = 0, longest = 0;
    for (uint32_t q = 0; q < batch->requests; ++q) {
        if (batch->status[q].kind) continue;
        const infc_tensor *inputs = batch->inputs + (uint64_t)q * info->inputs;
        int64_t *own = dims + (uint64_t)q * RT_MAX_SYMBOLS;
        bind_shapes(info, inputs, own, NULL);
        int64_t n = rows_of(info, own);
        for (int64_t i = 0; i < n; ++i, ++r) {
            rt_row *row = &table[r];
            memset(row, 0, sizeof *row);
            row->request = q;
            row->index = i;
            row->count = info->batchable || !info->batched ? 1 : own[0];
            row->full = info->length_symbol >= 0 ? own[info->length_symbol] : 0;
            measure_row(info, inputs, row);
            row->offset = offset;
            for (int64_t p = 0; p < row->length; ++p) row_of[offset + p] = (int32_t)r, pos_of[offset + p] = (int32_t)p;
            offset += row->length;
            longest = row->length > longest ? row->length : longest;
        }
    }
    if (r == 0) return INFC_OK;

    rt_env env;
    memset(&env, 0, sizeof env);
    env.weights = context->model->weights;
    env.slot = slot;
    env.row_table = table;
    env.request_dim = dims;
    env.row_of = row_of;
    env.pos_of = pos_of;
    env.rows = r;
    env.tokens = offset;
    env.longest = info->length_symbol >= 0 ? longest : 1;
    env.scratch = context->scratch;
    env.scratch_stride = context->scratch_stride;
    env.blocks = context->blocks;
    env.block_stride = context->block_stride;
    env.times = context->profile ? context->times : NULL;
    env.batch = batch;
    env.info = info;
    env.context = context;
    memcpy(env.dim, largest, sizeof largest);
    env.dim[info->symbols] = env.longest;
    rt_leave_rows(&env);
    uint64_t *bytes = (uint64_t *)(slot + info->slots);
    info->slot_bytes(largest, r, offset, bytes);
    char *at = base + l.data;
    for (uint32_t s = 0; s < info->slots; ++s) {
        /* The steps of a chain that run one by one share all threads' block buffers: its rows fit into one of them a thread. */
        slot[s] = info->block_at[s] < 0 ? at : env.blocks + info->block_at[s] * context->threads;
        at += aligned(bytes[s]);
    }
    gather(&env);
    info->run(&env);
    scatter(&env);
    return INFC_OK;
}

EXPORT int infc_profile_enable(infc_context *context, int on, infc_error *error) {
    clear(error);
    if (!context) FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_profile_enable: context must not be NULL");
    context->profile = on != 0;
    return INFC_OK;
}

EXPORT int infc_profile(infc_context *context, infc_step_time *times, uint32_t capacity, uint32_t *count, infc_error *error) {
    clear(error);
    if (!context || !count || (capacity && !times))
        FAIL(error, INFC_CALLER, INFC_CODE_ARGUMENT, -1, "infc_profile: context, times and count must not be NULL");
    *count = context->model->info->steps;
    for (uint32_t s = 0; s < *count && s < capacity; ++s) {
        times[s] = context->times[s];
        times[s].size = sizeof *times;
        times[s].step = s;
    }
    return INFC_OK;
}

EXPORT int infc_submit(infc_context *context, const infc_batch *batch, uint64_t *ticket, infc_error *error) {
    (void)context, (void)batch, (void)ticket;
    FAIL(error, INFC_INTERNAL, INFC_CODE_ARGUMENT, -1, "this target runs batches with infc_run only");
}

EXPORT int infc_wait(infc_context *context, uint64_t ticket, infc_error *error) {
    (void)context, (void)ticket;
    FAIL(error, INFC_INTERNAL, INFC_CODE_ARGUMENT, -1, "this target runs batches with infc_run only");
}
