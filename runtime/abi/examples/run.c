/* Calls a bundle's model.so directly: one request, no server.
 *
 *   cc -I include examples/run.c -o run -ldl
 *   ./run models/0/variants/0/model.so models/0/variants/0/weights.bin int64:1x4:ids.bin - > out.bin
 *
 * One argument an input, in the order of infc_describe(): DTYPE:SHAPE:FILE with raw little-endian values in FILE, or `-` for
 * an input that is left to its default. Outputs go to stdout one after the other, raw; their shapes to stderr.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "infc_model.h"

#define MOST 32

static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void *map_file(const char *path, uint64_t *bytes) {
    struct stat info;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &info)) die(path, "cannot be opened");
    *bytes = (uint64_t)info.st_size;
    void *at = info.st_size ? mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, file, 0) : NULL;
    if (at == MAP_FAILED) die(path, "cannot be mapped");
    close(file);
    return at;
}

static infc_tensor parse_input(const char *text) {
    static const char *const names[] = {"", "float32", "int64", "int32", "bool"};
    infc_tensor t = {.size = sizeof t};
    if (!strcmp(text, "-")) return t;
    const char *shape = strchr(text, ':'), *file = shape ? strchr(shape + 1, ':') : NULL;
    if (!file) die(text, "expected DTYPE:SHAPE:FILE, such as int64:1x4:ids.bin");
    for (uint32_t d = 1; d <= 4; ++d)
        if (strlen(names[d]) == (size_t)(shape - text) && !strncmp(text, names[d], strlen(names[d]))) t.dtype = d;
    for (const char *p = shape; p < file && t.rank < INFC_MAX_RANK;) {
        char *end;
        t.shape[t.rank++] = strtoll(p + 1, &end, 10);
        p = end;
    }
    t.data = map_file(file + 1, &t.bytes);
    return t;
}

#define FUNCTION(name) __typeof__(&name) call_##name = (__typeof__(&name))dlsym(library, #name)

int main(int argc, char **argv) {
    if (argc < 3) die(argv[0], "expected model.so weights.bin [INPUT ...]");
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) die(argv[1], dlerror());
    FUNCTION(infc_open);
    FUNCTION(infc_close);
    FUNCTION(infc_context_open);
    FUNCTION(infc_context_close);
    FUNCTION(infc_workspace);
    FUNCTION(infc_output_shapes);
    FUNCTION(infc_run);
    FUNCTION(infc_describe);
    infc_error error = {.size = sizeof error}, status = error;
    infc_open_args open_args = {.size = sizeof open_args};
    open_args.weights = map_file(argv[2], &open_args.weights_bytes);
    infc_tensor inputs[MOST] = {{0}}, outputs[MOST] = {{0}};
    int64_t rows = 1, length = 1;
    for (int i = 3; i < argc && i < MOST + 3; ++i) {
        inputs[i - 3] = parse_input(argv[i]);
        if (inputs[i - 3].rank > 0 && inputs[i - 3].shape[0] > rows) rows = inputs[i - 3].shape[0];
        if (inputs[i - 3].rank > 1 && inputs[i - 3].shape[1] > length) length = inputs[i - 3].shape[1];
    }
    uint32_t count = 0; /* outputs: as many as describe lists */
    const char *at = strstr(call_infc_describe(), "\"outputs\":[");
    for (int depth = 0; at && *at && !(depth == 1 && *at == ']' && at[1] != ','); ++at) {
        if (*at == '[' || *at == '{') count += *at == '{' && depth == 1, ++depth;
        if (*at == ']' || *at == '}') --depth;
        if (depth == 0 && *at == ']') break;
    }
    infc_model *model;
    infc_context *context;
    infc_context_args context_args = {.size = sizeof context_args, .threads = 1};
    if (call_infc_open(&open_args, &model, &error)) die("infc_open", error.message);
    if (call_infc_context_open(model, &context_args, &context, &error)) die("infc_context_open", error.message);
    if (call_infc_output_shapes(model, inputs, outputs, &error)) die("inputs", error.message);
    for (uint32_t o = 0; o < count; ++o) outputs[o].data = calloc(1, outputs[o].bytes ? outputs[o].bytes : 1);
    infc_limits limits = {.size = sizeof limits, .requests = 1, .rows = (uint64_t)rows, .tokens = (uint64_t)(rows * length),
                          .longest = (uint64_t)length};
    infc_batch batch = {.size = sizeof batch, .requests = 1, .inputs = inputs, .outputs = outputs, .status = &status};
    if (call_infc_workspace(model, &limits, &batch.workspace_bytes, &error)) die("infc_workspace", error.message);
    batch.workspace = aligned_alloc(64, (batch.workspace_bytes + 63) / 64 * 64);
    if (call_infc_run(context, &batch, &error)) die("infc_run", error.message);
    if (status.kind) die("request", status.message);
    for (uint32_t o = 0; o < count; ++o) {
        fprintf(stderr, "output %u:", o);
        for (uint32_t a = 0; a < outputs[o].rank; ++a) fprintf(stderr, " %lld", (long long)outputs[o].shape[a]);
        fputc('\n', stderr);
        fwrite(outputs[o].data, 1, outputs[o].bytes, stdout);
    }
    call_infc_context_close(context);
    call_infc_close(model);
    return 0;
}
