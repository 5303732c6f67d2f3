/* Reads, signals, traces and slows down the process in argv[1]: init, or a process of the host. SIGKILL comes last.
 * CHEATS 9, 13, 25, 28. */
#include "attempt.h"
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

static pid_t prey;
static char word[8];

static int proc(const char *name, int flags) {
    char path[64], byte;
    snprintf(path, sizeof path, "/proc/%d/%s", prey, name);
    int fd = open(path, flags);
    if (fd == -1)
        return errno;
    return flags == O_RDONLY && read(fd, &byte, 1) == -1 ? errno : 0;
}
static int environment(const char *_) { (void)_; return proc("environ", O_RDONLY); }
static int maps(const char *_) { (void)_; return proc("maps", O_RDONLY); }
static int auxiliary(const char *_) { (void)_; return proc("auxv", O_RDONLY); }
static int memory_write(const char *_) { (void)_; return proc("mem", O_RDWR); }
/* Offset 0 is never mapped: EIO from read() means that the open went through. */
static int memory_read(const char *_) { (void)_; int e = proc("mem", O_RDONLY); return e == EIO ? 0 : e; }
static int descriptors(const char *_) { (void)_; return proc("fd", O_RDONLY | O_DIRECTORY); }
static int descriptor(const char *_) { (void)_; return proc("fd/0", O_PATH); }
static int root(const char *_) { (void)_; return proc("root/", O_RDONLY | O_DIRECTORY); }
static int directory(const char *_) { (void)_; return proc("cwd/", O_RDONLY | O_DIRECTORY); }
static int program(const char *_) { (void)_; return proc("exe", O_RDONLY); }
static int score(const char *_) { (void)_; return proc("oom_score_adj", O_WRONLY); }
static int attach(const char *_) { (void)_; return TRIED(ptrace(PTRACE_ATTACH, prey, 0, 0)); }
static int seize(const char *_) { (void)_; return TRIED(ptrace(PTRACE_SEIZE, prey, 0, 0)); }
/* EFAULT comes after the permission check: the target would have been readable. */
static int vm(long number) {
    struct iovec here = {word, 8}, there = {word, 8};
    return syscall(number, prey, &here, 1L, &there, 1L, 0L) == -1 && errno != EFAULT ? errno : 0;
}
static int vm_read(const char *_) { (void)_; return vm(SYS_process_vm_readv); }
static int vm_write(const char *_) { (void)_; return vm(SYS_process_vm_writev); }
static int steal(const char *_) {
    (void)_;
    int fd = syscall(SYS_pidfd_open, prey, 0);
    return fd == -1 ? errno : TRIED(syscall(SYS_pidfd_getfd, fd, 0, 0));
}
static int affinity(const char *_) {
    (void)_;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    return TRIED(sched_setaffinity(prey, sizeof set, &set));
}
static int priority(const char *_) { (void)_; return TRIED(setpriority(PRIO_PROCESS, prey, 19)); }
static int limits(const char *_) {
    (void)_;
    struct rlimit none = {0, 0};
    return TRIED(prlimit(prey, RLIMIT_CORE, &none, 0));
}
static int interrupt(const char *_) { (void)_; return TRIED(kill(prey, SIGSTOP)) ? errno : TRIED(kill(prey, SIGCONT)); }
static int by_descriptor(const char *_) {
    (void)_;
    int fd = syscall(SYS_pidfd_open, prey, 0);
    return fd == -1 ? errno : TRIED(syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
}
static int deadly(const char *_) { (void)_; return TRIED(kill(prey, SIGKILL)); }

int main(int count, char **argv) {
    if (count != 2)
        return 2;
    prey = atoi(argv[1]);
    attempt("environ", environment, 0);
    attempt("maps", maps, 0);
    attempt("auxv", auxiliary, 0);
    attempt("mem-read", memory_read, 0);
    attempt("mem-write", memory_write, 0);
    attempt("fd", descriptors, 0);
    attempt("fd-0", descriptor, 0);
    attempt("root", root, 0);
    attempt("cwd", directory, 0);
    attempt("exe", program, 0);
    attempt("oom-score", score, 0);
    attempt("ptrace-attach", attach, 0);
    attempt("ptrace-seize", seize, 0);
    attempt("vm-read", vm_read, 0);
    attempt("vm-write", vm_write, 0);
    attempt("pidfd-getfd", steal, 0);
    attempt("affinity", affinity, 0);
    attempt("priority", priority, 0);
    attempt("prlimit", limits, 0);
    attempt("signal-stop", interrupt, 0);
    attempt("signal-pidfd", by_descriptor, 0);
    attempt("signal-kill", deadly, 0);
    usleep(50000);
    printf("# still here\n");
}
