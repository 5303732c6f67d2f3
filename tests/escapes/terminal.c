/* Types into the terminal of whoever started the sandbox, by any descriptor or device that leads to one. CHEATS 38. */
#include "attempt.h"
#include <sys/ioctl.h>

static int type_into(int fd) { return fd == -1 ? errno : TRIED(ioctl(fd, TIOCSTI, "x")); }
static int controlling(const char *path) { return TRIED(open(path, O_RDWR)); }
static int standard(const char *number) { return isatty(atoi(number)) ? 0 : errno; }
static int inject(const char *path) { return type_into(open(path, O_RDWR)); }
static int inject_standard(const char *number) { return type_into(atoi(number)); }
static int take(const char *number) { setsid(); return TRIED(ioctl(atoi(number), TIOCSCTTY, 1)); }

int main(void) {
    attempt("open-tty", controlling, "/dev/tty");
    attempt("open-console", controlling, "/dev/console");
    attempt("inject-tty", inject, "/dev/tty");
    const char *numbers[] = {"0", "1", "2"};
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "is-tty-%d", i);
        attempt(name, standard, numbers[i]);
        snprintf(name, sizeof name, "inject-%d", i);
        attempt(name, inject_standard, numbers[i]);
        snprintf(name, sizeof name, "take-%d", i);
        attempt(name, take, numbers[i]);
    }
}
