/* Leaves the core it was given: asks for each and for all of them, then spins on two threads for argv[1] milliseconds of wall time.
 * Prints the cores seen and the CPU seconds gained for each second of wall. CHEATS 10, 33. */
#include "attempt.h"
#include <pthread.h>
#include <sched.h>
#include <time.h>

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double end;
static unsigned char seen[CPU_SETSIZE];

static void *spin(void *_) {
    cpu_set_t one, all;
    for (int cpu = 0; cpu < 256; cpu++) {
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        seen[sched_getcpu()] = 1;
    }
    memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
    while (now(CLOCK_MONOTONIC) < end)
        seen[sched_getcpu()] = 1;
    return _;
}

int main(int count, char **argv) {
    double start = now(CLOCK_MONOTONIC);
    end = start + (count > 1 ? atof(argv[1]) : 300) / 1e3;
    pthread_t other;
    if (pthread_create(&other, 0, spin, 0))
        return 2;
    spin(0);
    pthread_join(other, 0);
    printf("cores=");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (seen[cpu])
            printf("%d,", cpu);
    printf("\nspeed=%.3f\n", now(CLOCK_PROCESS_CPUTIME_ID) / (now(CLOCK_MONOTONIC) - start));
}
