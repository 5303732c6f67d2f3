/* Raises its own core limit, then aborts in a child: a core file or a core handler would carry memory out. CHEATS 45. */
#include "attempt.h"
#include <sys/resource.h>

static int raise_limit(const char *_) {
    (void)_;
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    return TRIED(setrlimit(RLIMIT_CORE, &all));
}

int main(void) {
    struct rlimit core;
    attempt("raise", raise_limit, 0);
    getrlimit(RLIMIT_CORE, &core);
    core.rlim_cur = core.rlim_max;
    setrlimit(RLIMIT_CORE, &core);
    chdir("/tmp");
    pid_t child = fork();
    if (child == 0)
        abort();
    int status;
    waitpid(child, &status, 0);
    printf("dumped: %s\n", WCOREDUMP(status) ? "done" : "refused EPERM");
}
