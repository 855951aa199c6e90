/* See cpus.h. */
#define _GNU_SOURCE
#include "cpus.h"

#include <stdio.h>
#include <string.h>

uint32_t infc_cpus_allowed(cpu_set_t *allowed)
{
    CPU_ZERO(allowed);
    if (sched_getaffinity(0, sizeof *allowed, allowed) == 0) return (uint32_t)CPU_COUNT(allowed);
    CPU_ZERO(allowed);
    return UINT32_MAX;
}

/* The first line of folder/file, scanned by `format` for one or two numbers; how many were found. */
static int numbers(const char *folder, const char *file, const char *format, long long *a, long long *b)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "re");
    if (f == NULL) return 0;
    int found = fscanf(f, format, a, b);
    fclose(f);
    return found;
}

/* The least grant of the group `path` under `root` and of the groups that hold it. */
static uint32_t granted_by(const char *root, const char *path)
{
    char folder[1100];
    uint32_t least = UINT32_MAX;
    snprintf(folder, sizeof folder, "%s%s", root, path);
    for (size_t floor = strlen(root);;) {
        long long quota = 0, period = 0;
        int known = numbers(folder, "cpu.max", "%lld %lld", &quota, &period) == 2; /* "max 100000": no limit */
        if (!known)
            known = numbers(folder, "cpu.cfs_quota_us", "%lld", &quota, NULL) == 1
                    && numbers(folder, "cpu.cfs_period_us", "%lld", &period, NULL) == 1;
        if (known && quota > 0 && period > 0) {
            long long cpus = (quota + period - 1) / period;
            if (cpus < least) least = (uint32_t)cpus;
        }
        char *end = strrchr(folder, '/');
        if (end == NULL || (size_t)(end - folder) < floor) return least;
        *end = 0;
    }
}

uint32_t infc_cpus_granted(void)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL) return UINT32_MAX;
    char line[1024];
    uint32_t least = UINT32_MAX;
    while (fgets(line, sizeof line, f) != NULL) { /* "4:cpu,cpuacct:/path" (v1) or "0::/path" (v2) */
        line[strcspn(line, "\n")] = 0;
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (path == NULL) continue;
        *path++ = 0;
        uint32_t granted = UINT32_MAX;
        if (names[1] == 0) granted = granted_by("/sys/fs/cgroup", path);
        else if (strstr(names + 1, "cpu") != NULL && strstr(names + 1, "cpuset") == NULL)
            granted = granted_by("/sys/fs/cgroup/cpu", path);
        if (granted < least) least = granted;
    }
    fclose(f);
    return least;
}
