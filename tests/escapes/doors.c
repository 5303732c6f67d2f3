/* Calls that reach past a process's own business: asynchronous rings that dodge filters, kernel keys, tracing, another
 * process's memory, the scheduler, the kernel itself. With an argument those are left out that would change a host.
 * CHEATS 9, 11, 21, 33, 37. */
#include "attempt.h"
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <grp.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>

static char page[4096];

static int ring(const char *_) { (void)_; memset(page, 0, 512); return TRIED(syscall(SYS_io_uring_setup, 4, page)); }
/* A bad descriptor is reached only where the call is let through. */
static int ring_enter(const char *_) {
    (void)_;
    return syscall(SYS_io_uring_enter, -1, 0, 0, 0, 0, 0) == -1 && errno != EBADF ? errno : 0;
}
static int ring_register(const char *_) {
    (void)_;
    return syscall(SYS_io_uring_register, -1, 0, 0, 0) == -1 && errno != EBADF && errno != EINVAL ? errno : 0;
}
static int faults(const char *_) { (void)_; return TRIED(syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */)); }
static int bpf(const char *_) {
    (void)_;
    union bpf_attr a = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return TRIED(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a));
}
static int perf(const char *_) {
    (void)_;
    struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK};
    a.exclude_kernel = 1;
    return TRIED(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}
static int key(const char *_) {
    (void)_;
    return TRIED(syscall(SYS_add_key, "user", "nightfleet", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}
static int keyring(const char *_) {
    (void)_;
    return TRIED(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}
/* ENOKEY is the answer of a kernel that looked. */
static int ask_key(const char *_) {
    (void)_;
    return syscall(SYS_request_key, "user", "absent", 0, 0) == -1 && errno != ENOKEY ? errno : 0;
}
static int fixed_addresses(const char *_) { (void)_; return TRIED(personality(ADDR_NO_RANDOMIZE)); }
static int executable_reads(const char *_) { (void)_; return TRIED(personality(READ_IMPLIES_EXEC)); }
static int handle(const char *_) {
    (void)_;
    struct file_handle *h = (void *)page;
    int mount;
    h->handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, "/", h, &mount, 0) == -1)
        memset(page, 0, sizeof page), h->handle_bytes = 8, h->handle_type = 1;
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    return TRIED(open_by_handle_at(fd, h, O_RDONLY));
}
static pid_t own_child(void) {
    pid_t child = fork();
    if (child == 0) {
        alarm(5);
        pause();
        _exit(0);
    }
    return child;
}
static int vm_read(const char *_) {
    (void)_;
    pid_t child = own_child();
    char got[8];
    struct iovec here = {got, 8}, there = {page, 8};
    int error = TRIED(process_vm_readv(child, &here, 1, &there, 1, 0));
    kill(child, SIGKILL);
    return error;
}
static int get_descriptor(const char *_) {
    (void)_;
    pid_t child = own_child();
    int fd = syscall(SYS_pidfd_open, child, 0);
    int error = fd == -1 ? errno : TRIED(syscall(SYS_pidfd_getfd, fd, 1, 0));
    kill(child, SIGKILL);
    return error;
}
static int trace_child(const char *_) {
    (void)_;
    pid_t child = own_child();
    int error = TRIED(ptrace(PTRACE_SEIZE, child, 0, 0));
    kill(child, SIGKILL);
    return error;
}
static int trace_me(const char *_) { (void)_; return TRIED(ptrace(PTRACE_TRACEME, 0, 0, 0)); }
static int affinity(const char *_) {
    (void)_;
    cpu_set_t set;
    memset(&set, 0xff, sizeof set);
    return TRIED(sched_setaffinity(0, sizeof set, &set));
}
static int batch(const char *_) {
    (void)_;
    struct sched_param p = {0};
    return TRIED(sched_setscheduler(0, SCHED_BATCH, &p));
}
static int parameters(const char *_) { (void)_; struct sched_param p = {0}; return TRIED(sched_setparam(0, &p)); }
static int attributes(const char *_) {
    (void)_;
    struct { /* sched_attr, version 0 */
        unsigned size, policy;
        unsigned long long flags;
        int nice;
        unsigned priority;
        unsigned long long runtime, deadline, period;
    } a = {.size = sizeof a, .policy = SCHED_BATCH};
    return TRIED(syscall(SYS_sched_setattr, 0, &a, 0));
}
static int realtime(const char *_) {
    (void)_;
    struct sched_param p = {.sched_priority = 1};
    return TRIED(sched_setscheduler(0, SCHED_FIFO, &p));
}
static int priority(const char *_) { (void)_; return TRIED(setpriority(PRIO_PROCESS, 0, 1)); }
static int others_priority(const char *_) { (void)_; return TRIED(setpriority(PRIO_USER, 0, 19)); }
static int kernel_log(const char *_) { (void)_; return TRIED(syscall(SYS_syslog, 3, page, sizeof page)); }
static int kexec(const char *_) { (void)_; return TRIED(syscall(SYS_kexec_load, 0, 0, 0, 0)); }
static int kexec_file(const char *_) { (void)_; return TRIED(syscall(SYS_kexec_file_load, -1, -1, 0, 0, 0)); }
static int module(const char *_) { (void)_; return TRIED(syscall(SYS_init_module, page, sizeof page, "")); }
static int module_file(const char *_) { (void)_; return TRIED(syscall(SYS_finit_module, -1, "", 0)); }
static int unload(const char *_) { (void)_; return TRIED(syscall(SYS_delete_module, "nightfleet_absent", O_NONBLOCK)); }
static int ports(const char *_) { (void)_; return TRIED(syscall(SYS_ioperm, 0x80, 1, 1)); }
static int host_name(const char *_) { (void)_; return TRIED(sethostname("marked", 6)); }
static int clock_set(const char *_) { (void)_; struct timespec t = {1, 0}; return TRIED(clock_settime(CLOCK_REALTIME, &t)); }
static int accounting(const char *_) { (void)_; return TRIED(syscall(SYS_acct, "/tmp/acct")); }
static int swap(const char *_) { (void)_; return TRIED(syscall(SYS_swapon, "/tmp/swap", 0)); }
static int device(const char *_) { (void)_; return TRIED(mknod("/tmp/kmem", S_IFCHR | 0600, (1 << 8) | 2)); }
static int become_root(const char *_) { (void)_; return TRIED(setuid(0)); }
static int groups(const char *_) { (void)_; gid_t none = 0; return TRIED(setgroups(1, &none)); }

static const struct { const char *name; int (*act)(const char *); int alters_host; } doors[] = {
    {"io-uring-setup", ring, 0}, {"io-uring-enter", ring_enter, 0}, {"io-uring-register", ring_register, 0},
    {"userfaultfd", faults, 0}, {"bpf", bpf, 0}, {"perf", perf, 0},
    {"add-key", key, 0}, {"keyctl", keyring, 0}, {"request-key", ask_key, 0},
    {"personality-aslr", fixed_addresses, 0}, {"personality-exec", executable_reads, 0},
    {"open-by-handle", handle, 0}, {"vm-read", vm_read, 0}, {"pidfd-getfd", get_descriptor, 0},
    {"ptrace-child", trace_child, 0}, {"ptrace-me", trace_me, 0},
    {"setaffinity", affinity, 0}, {"setscheduler", batch, 0}, {"setparam", parameters, 0}, {"setattr", attributes, 0},
    {"realtime", realtime, 0}, {"setpriority", priority, 0}, {"setpriority-user", others_priority, 1},
    {"syslog", kernel_log, 0},
    {"kexec", kexec, 1}, {"kexec-file", kexec_file, 1}, {"init-module", module, 1}, {"finit-module", module_file, 1},
    {"delete-module", unload, 1}, {"ioperm", ports, 1}, {"sethostname", host_name, 1}, {"clock-settime", clock_set, 1},
    {"acct", accounting, 1}, {"swapon", swap, 1}, {"mknod-device", device, 1}, {"setuid", become_root, 1},
    {"setgroups", groups, 1},
};

int main(int count, char **_) {
    (void)_;
    for (size_t i = 0; i < sizeof doors / sizeof *doors; i++)
        if (count == 1 || !doors[i].alters_host)
            attempt(doors[i].name, doors[i].act, 0);
}
