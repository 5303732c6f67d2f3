/* Output in odd shapes, by argv[2]: `binary` (every byte, four times), `endless`, `endless-stderr`, `noisy` (10 MiB of
 * stderr, then an answer), `closed` (closes stdout, works on), `early` (exit 0 and nothing), `reopened` (answers, closes, and
 * opens its stdout anew by /proc), `deaf-pipe` (endless, ignoring SIGPIPE). CHEATS 20, 25, 30. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char block[65536];

static void endless(int fd) {
    memset(block, 'y', sizeof block);
    block[sizeof block - 1] = '\n';
    for (;;)
        if (write(fd, block, sizeof block) == -1 && fd == 1)
            usleep(1000);
}

int main(int count, char **argv) {
    const char *shape = count > 2 ? argv[2] : "early";
    if (!strcmp(shape, "binary"))
        for (int i = 0; i < 1024; i++)
            putchar(i & 255);
    if (!strcmp(shape, "deaf-pipe"))
        signal(SIGPIPE, SIG_IGN);
    if (!strcmp(shape, "endless") || !strcmp(shape, "deaf-pipe"))
        endless(1);
    if (!strcmp(shape, "endless-stderr"))
        endless(2);
    if (!strcmp(shape, "noisy")) {
        for (int i = 0; i < 160; i++) {
            memset(block, 'a' + i % 26, sizeof block);
            for (size_t at = 0; at < sizeof block; at += write(2, block + at, sizeof block - at)) {
            }
        }
        puts("answer");
    }
    if (!strcmp(shape, "closed")) {
        puts("answer");
        fclose(stdout);
        usleep(300000);
    }
    if (!strcmp(shape, "reopened")) {
        int again = open("/proc/self/fd/1", O_WRONLY);
        close(1);
        if (write(again, "again\n", 6) == -1)
            return 4;
    }
    return 0;
}
