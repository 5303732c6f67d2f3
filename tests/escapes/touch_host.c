/* Asks about, and changes, the metadata of one host file outside every mount: what Landlock alone would allow.
 * CHEATS 13, 36. */
#include "attempt.h"
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <utime.h>

static int status(const char *p) { struct stat s; return TRIED(stat(p, &s)); }
static int link_status(const char *p) { struct stat s; return TRIED(lstat(p, &s)); }
static int extended_status(const char *p) { struct statx s; return TRIED(statx(AT_FDCWD, p, 0, STATX_ALL, &s)); }
static int filesystem(const char *p) { struct statvfs s; return TRIED(statvfs(p, &s)); }
static int exists(const char *p) { return TRIED(access(p, F_OK)); }
static int handle(const char *p) { return TRIED(open(p, O_PATH)); }
static int attribute(const char *p) { return getxattr(p, "user.absent", 0, 0) == -1 && errno != ENODATA ? errno : 0; }
static int mode(const char *p) { return TRIED(chmod(p, 0606)); }
static int owner(const char *p) { return TRIED(chown(p, getuid(), getgid())); }
static int times(const char *p) { return TRIED(utime(p, 0)); }
static int enter(const char *p) {
    char directory[4096];
    snprintf(directory, sizeof directory, "%s", p);
    *strrchr(directory, '/') = 0;
    return TRIED(chdir(directory));
}
static int run(const char *p) { execl(p, p, (char *)0); return errno == EACCES ? 0 : errno; }

int main(int count, char **argv) {
    if (count != 2)
        return 2;
    char *p = argv[1];
    attempt("stat", status, p);
    attempt("lstat", link_status, p);
    attempt("statx", extended_status, p);
    attempt("statvfs", filesystem, p);
    attempt("access", exists, p);
    attempt("o-path", handle, p);
    attempt("getxattr", attribute, p);
    attempt("chmod", mode, p);
    attempt("chown", owner, p);
    attempt("utime", times, p);
    attempt("chdir", enter, p);
    attempt("exec", run, p);
}
