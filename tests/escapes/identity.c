/* Prints all that a program can easily learn about where it runs, one `name=value` a line. Two candidates must see the
 * same. CHEATS 21, 24, 28, 45. */
#include "attempt.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>

extern char **environ;

static void file(const char *path, const char *keys) {
    char line[4096];
    FILE *in = fopen(path, "r");
    while (in && fgets(line, sizeof line, in)) {
        char *colon = strchr(line, ':');
        if (*keys && (!colon || (*colon = 0, !strstr(keys, line))))
            continue;
        if (colon && *keys)
            *colon = ':';
        printf("%s=%s", path, line);
    }
    if (in)
        fclose(in);
}

int main(int count, char **argv) {
    struct utsname system;
    uname(&system);
    printf("hostname=%s\ndomain=%s\n", system.nodename, system.domainname);
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    printf("uid=%d %d %d\n", real, effective, saved);
    gid_t gids[3];
    getresgid(gids, gids + 1, gids + 2);
    printf("gid=%d %d %d\n", gids[0], gids[1], gids[2]);
    for (int i = 0; i < count; i++)
        printf("argv=%s\n", argv[i]);
    for (char **e = environ; *e; e++)
        printf("env=%s\n", *e);
    char cwd[4096];
    printf("cwd=%s\n", getcwd(cwd, sizeof cwd) ? cwd : "?");
    printf("tracer=%d dumpable=%d no_new_privs=%d securebits=%#x\n", getppid() == 0, prctl(PR_GET_DUMPABLE),
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECUREBITS));
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    printf("core=%ld %ld\n", (long)core.rlim_cur, (long)core.rlim_max);
    file("/proc/self/status", "CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Groups");
    file("/proc/self/uid_map", "");
    file("/proc/self/gid_map", "");
    file("/proc/self/setgroups", "");
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, 0, &blocked);
    for (int s = 1; s < 32; s++) {
        struct sigaction action;
        sigaction(s, 0, &action);
        if (sigismember(&blocked, s) || action.sa_handler == SIG_IGN)
            printf("signal=%s %s\n", sigabbrev_np(s), sigismember(&blocked, s) ? "blocked" : "ignored");
    }
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("fd=%d\n", fd);
}
