/* Forks until refused, says so, and leaves with success: only the judge can know that something was amiss. CHEATS 30. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    for (int children = 0;; children++) {
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        if (child == -1) {
            printf("%s after %d\n", strerrorname_np(errno), children);
            return 0;
        }
        if (children > 20000)
            return 3;
    }
}
