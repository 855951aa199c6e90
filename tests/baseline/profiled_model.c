/* The model of the server's tests with two steps that take their time: -DLINEAR_US=n and -DTAIL_US=n microseconds, by sleeping,
 * so that a busy machine makes neither of two models slower than the other. -DQUIT ends the process at the first run,
 * -DNO_STEPS tells no steps. */
#define infc_describe plain_describe
#define infc_run plain_run
#define infc_profile_enable plain_profile_enable
#define infc_profile plain_profile
#include "../server/fixture_model.c"
#undef infc_describe
#undef infc_run
#undef infc_profile_enable
#undef infc_profile

#include <stdlib.h>

#ifdef NO_STEPS
#define STEPS "[]}"
#else
#define STEPS \
    "[{\"name\":\"a\",\"op\":\"linear\",\"provider\":\"test\"},{\"name\":\"b\",\"op\":\"tail\",\"provider\":\"test\"}]}"
#endif

static uint64_t taken[2];

EXPORT const char *infc_describe(void) {
    static char text[8192];
    const char *plain = plain_describe();
    snprintf(text, sizeof text, "%.*s" STEPS, (int)(strlen(plain) - 3), plain);
    return text;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_us(int step, long us) {
    uint64_t begin = now();
    struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
    taken[step] = now() - begin;
}

EXPORT int infc_run(infc_context *context, const infc_batch *batch, infc_error *error) {
#ifdef QUIT
    abort();
#endif
    wait_us(0, LINEAR_US);
    wait_us(1, TAIL_US);
    static _Alignas(64) char space[1 << 16];
    infc_batch with = *batch;
    with.workspace = space;
    with.workspace_bytes = sizeof space;
    return plain_run(context, &with, error);
}

EXPORT int infc_profile_enable(infc_context *context, int on, infc_error *error) {
    return plain_profile_enable(context, on, error);
}

EXPORT int infc_profile(infc_context *context, infc_step_time *times, uint32_t capacity, uint32_t *count, infc_error *error) {
    (void)context;
    (void)error;
    *count = capacity < 2 ? capacity : 2;
    for (uint32_t i = 0; i < *count; i++) times[i] = (infc_step_time){.step = i, .nanoseconds = taken[i], .rows = 1};
    return INFC_OK;
}
