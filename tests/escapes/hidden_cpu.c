/* Burns argv[1] milliseconds of CPU in a child that is reaped unseen (SIGCHLD ignored), so that rusage of the children
 * never hears of it. CHEATS 5, 32. */
#include "attempt.h"
#include <sys/resource.h>
#include <time.h>

static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int count, char **argv) {
    double wanted = (count > 1 ? atof(argv[1]) : 300) / 1e3;
    signal(SIGCHLD, SIG_IGN);
    if (fork() == 0) {
        while (cpu_s() < wanted) {
        }
        _exit(0);
    }
    while (wait(0) != -1 || errno != ECHILD) {
    }
    struct rusage children;
    getrusage(RUSAGE_CHILDREN, &children);
    printf("admitted_us=%ld\n", children.ru_utime.tv_sec * 1000000 + children.ru_utime.tv_usec);
}
