/* Takes argv[3] MiB and touches every page: `heap`, `children` (eight of them share the sum) or `shm` (files in /dev/shm)
 * by argv[2], then holds all of it for a second. CHEATS 10, 30. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int take(int megabytes) {
    for (int i = 0; i < megabytes; i++) {
        char *block = malloc(1 << 20);
        if (!block)
            return 4;
        memset(block, i + 1, 1 << 20);
    }
    sleep(1);
    return 0;
}

static int fill(int megabytes) {
    static char block[1 << 20];
    char name[64];
    for (int i = 0; i < megabytes; i++) {
        snprintf(name, sizeof name, "/dev/shm/block-%d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        if (fd == -1 || write(fd, block, sizeof block) != sizeof block) {
            perror("/dev/shm");
            return 5;
        }
        close(fd);
    }
    sleep(1);
    return 0;
}

int main(int count, char **argv) {
    if (count < 4)
        return 2;
    int megabytes = atoi(argv[3]), worst = 0;
    if (!strcmp(argv[2], "shm"))
        return fill(megabytes);
    if (!strcmp(argv[2], "heap"))
        return take(megabytes);
    for (int i = 0; i < 8; i++)
        if (fork() == 0)
            _exit(take(megabytes / 8));
    for (int status; wait(&status) != -1;)
        if (status)
            worst = 1;
    return worst;
}
