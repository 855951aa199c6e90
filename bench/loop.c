/* Calls one C function again and again and notes what each call took: a peer without an interpreter around it.
 *
 * `kind` says what the function is: 0 int (a, b, c), 1 void *(a, b, c), 2 int (a). Anything but 0 or NULL ends the loop
 * and is returned. The loop ends after `seconds` and at least `least` calls, or when `nanoseconds` is full; *count is how
 * many there were. Reading the clock costs some 20 ns a call, in the figure of everyone alike. */
#define _GNU_SOURCE
#include <stdint.h>
#include <time.h>

typedef int (*three_to_int)(void *, void *, void *);
typedef void *(*three_to_pointer)(void *, void *, void *);
typedef int (*one_to_int)(void *);

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uintptr_t call(int kind, void *function, void *a, void *b, void *c) {
    if (kind == 0)
        return (uintptr_t)((three_to_int)function)(a, b, c);
    if (kind == 1)
        return (uintptr_t)((three_to_pointer)function)(a, b, c);
    return (uintptr_t)((one_to_int)function)(a);
}

__attribute__((visibility("default"))) uintptr_t call_for(int kind, void *function, void *a, void *b, void *c,
                                                          double seconds, uint64_t least, uint64_t *nanoseconds,
                                                          uint64_t capacity, uint64_t *count) {
    uint64_t before = now(), end = before + (uint64_t)(seconds * 1e9);
    *count = 0;
    while (*count < capacity && (*count < least || before < end)) {
        uintptr_t status = call(kind, function, a, b, c);
        if (status)
            return status;
        uint64_t after = now();
        nanoseconds[(*count)++] = after - before;
        before = after;
    }
    return 0;
}
