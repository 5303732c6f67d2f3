/* Changes what is mounted where, by the old and the new interface. With an argument it first makes namespaces of its
 * own: outside the sandbox that lets an ordinary user succeed and leaves the host's mounts alone. CHEATS 15, 24, 39. */
#include "attempt.h"
#include <linux/mount.h>
#include <sched.h>

/* <sys/mount.h> and <linux/mount.h> do not go together here. */
enum { BIND = 4096, REMOUNT = 32, RECURSIVE = 16384, PRIVATE = 1 << 18, DETACH = 2 };

static int classic(const char *source, const char *target, const char *type, unsigned long flags) {
    return TRIED(syscall(SYS_mount, source, target, type, flags, 0));
}
static int tmpfs(const char *_) { (void)_; return classic("none", "/tmp", "tmpfs", 0); }
static int proc(const char *_) { (void)_; return classic("none", "/tmp", "proc", 0); }
static int bind(const char *_) { (void)_; return classic("/usr", "/tmp", 0, BIND | RECURSIVE); }
static int writable(const char *_) { (void)_; return classic("none", "/", 0, REMOUNT | BIND); }
static int unmount(const char *_) {
    (void)_;
    classic("none", "/tmp", "tmpfs", 0);
    return TRIED(syscall(SYS_umount2, "/tmp", DETACH));
}
/* Uncovering what a mount hides is the point of an attack, so /proc and the tree itself are tried too. */
static int unmount_proc(const char *_) { (void)_; return TRIED(syscall(SYS_umount2, "/proc", DETACH)); }
static int pivot(const char *_) {
    (void)_;
    classic("none", "/tmp", "tmpfs", 0);
    mkdir("/tmp/old", 0700);
    return TRIED(syscall(SYS_pivot_root, "/tmp", "/tmp/old"));
}
static int change_root(const char *_) { (void)_; return TRIED(chroot("/tmp")); }
static int open_filesystem(const char *_) { (void)_; return TRIED(syscall(SYS_fsopen, "tmpfs", 0)); }
static int pick_filesystem(const char *_) { (void)_; return TRIED(syscall(SYS_fspick, AT_FDCWD, "/", 0)); }
static int whole_mount(const char *_) {
    (void)_;
    int fs = syscall(SYS_fsopen, "tmpfs", 0);
    if (fs == -1)
        return errno;
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0) == -1)
        return errno;
    int mount = syscall(SYS_fsmount, fs, 0, 0);
    if (mount == -1)
        return errno;
    return TRIED(syscall(SYS_move_mount, mount, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH));
}
static int tree(const char *_) { (void)_; return TRIED(syscall(SYS_open_tree, AT_FDCWD, "/", 0)); }
static int tree_copy(const char *_) { (void)_; return TRIED(syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | 0x8000 /* AT_RECURSIVE */)); }
static int move(const char *_) {
    (void)_;
    int from = syscall(SYS_open_tree, AT_FDCWD, "/usr", OPEN_TREE_CLONE | 0x8000 /* AT_RECURSIVE */);
    if (from == -1 && errno != ENOSYS)
        from = open("/usr", O_PATH);
    return TRIED(syscall(SYS_move_mount, from, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH));
}
static int attributes(const char *_) {
    (void)_;
    struct mount_attr set = {.attr_clr = MOUNT_ATTR_RDONLY};
    return TRIED(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &set, sizeof set));
}

static void put(const char *path, const char *format, int id) {
    char text[32];
    int size = snprintf(text, sizeof text, format, id);
    if (write(open(path, O_WRONLY), text, size) != size)
        exit(2);
}

int main(int count, char **_) {
    (void)_;
    if (count > 1) {
        uid_t uid = geteuid(), gid = getegid();
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) == -1)
            return 2;
        put("/proc/self/setgroups", "deny", 0);
        put("/proc/self/uid_map", "0 %d 1", uid);
        put("/proc/self/gid_map", "0 %d 1", gid);
        syscall(SYS_mount, "none", "/", 0, RECURSIVE | PRIVATE, 0);
        pid_t first = fork(); /* pid 1 of the new pid namespace, which a mount of proc needs */
        if (first) {
            waitpid(first, 0, 0);
            return 0;
        }
    }
    attempt("tmpfs", tmpfs, 0);
    attempt("proc", proc, 0);
    attempt("bind", bind, 0);
    attempt("remount", writable, 0);
    attempt("umount", unmount, 0);
    attempt("umount-proc", unmount_proc, 0);
    attempt("fsopen", open_filesystem, 0);
    attempt("fspick", pick_filesystem, 0);
    attempt("fsmount", whole_mount, 0);
    attempt("open-tree", tree, 0);
    attempt("open-tree-clone", tree_copy, 0);
    attempt("move-mount", move, 0);
    attempt("mount-setattr", attributes, 0);
    attempt("chroot", change_root, 0);
    attempt("pivot-root", pivot, 0);
}
