/* Changes the directory in argv[1] in every way there is; it may hold a file `victim`. What works is not undone.
 * CHEATS 9, 11, 24, 40. */
#include "attempt.h"
#include <limits.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <utime.h>

static const char *in(const char *directory, const char *name) {
    static char paths[2][PATH_MAX + 32];
    static int turn;
    turn = !turn;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", directory, name);
    return paths[turn];
}

static int create(const char *d) { return TRIED(open(in(d, "created"), O_WRONLY | O_CREAT | O_EXCL, 0644)); }
static int unnamed(const char *d) { return TRIED(open(d, O_TMPFILE | O_RDWR, 0600)); }
static int make_directory(const char *d) { return TRIED(mkdir(in(d, "directory"), 0755)); }
static int soft_link(const char *d) { return TRIED(symlink("/etc/shadow", in(d, "soft"))); }
static int hard_link(const char *d) { return TRIED(link(in(d, "victim"), in(d, "hard"))); }
static int fifo(const char *d) { return TRIED(mkfifo(in(d, "fifo"), 0600)); }
static int overwrite(const char *d) {
    int fd = open(in(d, "victim"), O_WRONLY);
    return fd == -1 ? errno : TRIED(write(fd, "X", 1));
}
static int append(const char *d) {
    int fd = open(in(d, "victim"), O_WRONLY | O_APPEND);
    return fd == -1 ? errno : TRIED(write(fd, "X", 1));
}
/* A read-only descriptor, reopened for writing by its /proc name. */
static int reopen(const char *d) {
    int fd = open(in(d, "victim"), O_RDONLY);
    char door[64];
    snprintf(door, sizeof door, "/proc/self/fd/%d", fd);
    return fd == -1 ? errno : TRIED(open(door, O_RDWR));
}
static int shared_map(const char *d) {
    int fd = open(in(d, "victim"), O_RDWR);
    if (fd == -1)
        return errno;
    char *page = mmap(0, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return errno;
    *page = 'M';
    return 0;
}
static int cut(const char *d) { return TRIED(truncate(in(d, "victim"), 1)); }
static int mode(const char *d) { return TRIED(chmod(in(d, "victim"), 0777)); }
static int directory_mode(const char *d) { return TRIED(chmod(d, 0777)); }
static int owner(const char *d) { return TRIED(chown(in(d, "victim"), getuid(), getgid())); }
static int times(const char *d) { return TRIED(utime(in(d, "victim"), 0)); }
static int attribute(const char *d) { return TRIED(setxattr(in(d, "victim"), "user.mark", "1", 1, 0)); }
static int move(const char *d) { return TRIED(rename(in(d, "victim"), in(d, "moved"))); }
static int delete(const char *d) { return TRIED(unlink(in(d, "moved"))) ? TRIED(unlink(in(d, "victim"))) : 0; }

int main(int count, char **argv) {
    if (count != 2)
        return 2;
    char *d = argv[1];
    attempt("create", create, d);
    attempt("unnamed", unnamed, d);
    attempt("mkdir", make_directory, d);
    attempt("symlink", soft_link, d);
    attempt("link", hard_link, d);
    attempt("fifo", fifo, d);
    attempt("overwrite", overwrite, d);
    attempt("append", append, d);
    attempt("reopen", reopen, d);
    attempt("mmap", shared_map, d);
    attempt("truncate", cut, d);
    attempt("chmod", mode, d);
    attempt("chmod-directory", directory_mode, d);
    attempt("chown", owner, d);
    attempt("utime", times, d);
    attempt("setxattr", attribute, d);
    attempt("rename", move, d);
    attempt("unlink", delete, d);
}
