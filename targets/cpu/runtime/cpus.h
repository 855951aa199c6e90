/* How many CPUs the process may use. */
#ifndef INFC_CPUS_H
#define INFC_CPUS_H
#include <sched.h> /* with _GNU_SOURCE */
#include <stdint.h>

/* CPUs that the calling thread may run on, and their number; UINT32_MAX and an empty set where that is not known. */
uint32_t infc_cpus_allowed(cpu_set_t *allowed);

/* CPUs' worth of time that the process's control groups (v1 or v2) grant, rounded up; UINT32_MAX without a limit. */
uint32_t infc_cpus_granted(void);
#endif
