/* Calls generated kernels as stdin says and answers with the buffers they wrote. Every buffer ends at a page that cannot
 * be touched and begins after bytes that must not change, so reading past an end or writing outside is found.
 *
 * stdin:  calls { int64 function, arguments; each { int64 kind, value } and, for a buffer, its bytes }
 *         kind 0: an integer. 1: a buffer of `value` bytes that is read. 2: one that is written, too.
 * stdout: for each call a byte and then the bytes of its kind-2 buffers. The end of stdin ends it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST 24
#define FENCE 64

void infc_test_call(int64_t function, void **p, const int64_t *v);

static int read_int(int64_t *value) { return fread(value, sizeof *value, 1, stdin) == 1; }

static char *guarded(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), span = (bytes + FENCE + page - 1) / page * page;
    char *base = mmap(NULL, span + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + span, page, PROT_NONE) != 0) exit(4);
    char *start = base + span - bytes;
    memset(start - FENCE, 0xA5, FENCE);
    return start;
}

int main(void)
{
    for (;;) {
        int64_t function, count;
        if (!read_int(&function)) return 0;
        void *p[MOST] = {0};
        int64_t v[MOST] = {0}, kind[MOST] = {0};
        if (!read_int(&count) || count > MOST) return 2;
        for (int64_t i = 0; i < count; i++) {
            if (!read_int(&kind[i]) || !read_int(&v[i])) return 2;
            if (kind[i] == 0) continue;
            p[i] = guarded((size_t)v[i]);
            if (fread(p[i], 1, (size_t)v[i], stdin) != (size_t)v[i]) return 2;
        }
        infc_test_call(function, p, v);
        putchar('.');
        for (int64_t i = 0; i < count; i++) {
            if (kind[i] == 0) continue;
            for (int j = 1; j <= FENCE; j++) {
                if (((unsigned char *)p[i])[-j] == 0xA5) continue;
                fprintf(stderr, "argument %d was written before its start\n", (int)i);
                return 3;
            }
            if (kind[i] == 2) fwrite(p[i], 1, (size_t)v[i], stdout);
            size_t page = (size_t)sysconf(_SC_PAGESIZE), span = ((size_t)v[i] + FENCE + page - 1) / page * page;
            munmap((char *)p[i] + v[i] - span, span + page);
        }
        fflush(stdout);
    }
}
