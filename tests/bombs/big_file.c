/* Writes argv[2] MiB into one file in /tmp; with `deaf` it ignores SIGXFSZ and carries on after the error. CHEATS 30. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **argv) {
    static char block[1 << 20];
    if (count > 3 && !strcmp(argv[3], "deaf"))
        signal(SIGXFSZ, SIG_IGN);
    int fd = open("/tmp/big", O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < atoi(argv[2]); i++)
        if (write(fd, block, sizeof block) == -1) {
            printf("errno %s\n", errno == EFBIG ? "EFBIG" : strerror(errno));
            return 0;
        }
    return 0;
}
