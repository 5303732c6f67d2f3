/* Fills each directory in argv[2...] with small files and says what stopped it there. CHEATS 30. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *fill(const char *directory) {
    static char block[65536], name[4096];
    for (int i = 0; i < 4096; i++) {
        snprintf(name, sizeof name, "%s/%d", directory, i);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        ssize_t wrote = fd == -1 ? -1 : write(fd, block, sizeof block);
        if (wrote == -1)
            return strerrorname_np(errno);
        close(fd);
    }
    return "unlimited";
}

int main(int count, char **argv) {
    for (int i = 2; i < count; i++)
        printf("%s %s\n", argv[i], fill(argv[i]));
}
