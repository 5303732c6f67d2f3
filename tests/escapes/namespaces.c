/* Makes or enters a namespace: unshare, clone and setns with each flag. A user namespace of its own comes along with the
 * others, so that an ordinary user succeeds where nothing stops it. CHEATS 5, 29. */
#include "attempt.h"
#include <linux/sched.h>
#include <sched.h>
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static unsigned long flag(const char *text) { return strtoul(text, 0, 0); }

static int by_unshare(const char *flags) { return TRIED(syscall(SYS_unshare, flag(flags))); }
static int by_clone(const char *flags) {
    long child = syscall(SYS_clone, flag(flags) | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return TRIED(child);
}
static int by_clone3(const char *flags) {
    struct clone_args arguments = {.flags = flag(flags), .exit_signal = SIGCHLD};
    long child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return TRIED(child);
}
static int enter(const char *name) {
    int fd = open(name, O_RDONLY);
    return fd == -1 ? errno : TRIED(syscall(SYS_setns, fd, 0));
}
static int enter_by_pidfd(const char *pid) {
    int fd = syscall(SYS_pidfd_open, atoi(pid), 0);
    return fd == -1 ? errno : TRIED(syscall(SYS_setns, fd, CLONE_NEWNS | CLONE_NEWNET));
}

static const struct { const char *name; unsigned long flag; } kinds[] = {
    {"user", 0},          {"mount", CLONE_NEWNS},   {"pid", CLONE_NEWPID},       {"net", CLONE_NEWNET},
    {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},   {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME},
};

int main(void) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[32], flags[32];
        snprintf(flags, sizeof flags, "%lu", kinds[i].flag | CLONE_NEWUSER);
        snprintf(name, sizeof name, "unshare-%s", kinds[i].name);
        attempt(name, by_unshare, flags);
        if (kinds[i].flag == CLONE_NEWTIME)
            continue; /* its bits are the exit signal in clone */
        snprintf(name, sizeof name, "clone-%s", kinds[i].name);
        attempt(name, by_clone, flags);
        snprintf(name, sizeof name, "clone3-%s", kinds[i].name);
        attempt(name, by_clone3, flags);
    }
    attempt("clone3-plain", by_clone3, "0");
    attempt("setns-own", enter, "/proc/self/ns/net");
    attempt("setns-init", enter, "/proc/1/ns/mnt");
    attempt("setns-pidfd", enter_by_pidfd, "1");
}
