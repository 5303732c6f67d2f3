/* Leaves a daemon behind: forked twice, in a session of its own, deaf to signals, holding stdout and writing to it now
 * and then, and touching argv[2] if it lives to see half a second. argv[1] marks it for whoever counts. CHEATS 5, 9, 30. */
#include "attempt.h"

int main(int count, char **argv) {
    printf("started\n");
    fflush(stdout);
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            for (int s = 1; s < 32; s++)
                signal(s, SIG_IGN);
            usleep(500000);
            if (count > 2)
                close(open(argv[2], O_CREAT | O_WRONLY, 0644));
            for (;;) {
                sleep(1);
                if (write(1, "late\n", 5) == -1 && errno != EPIPE)
                    break;
            }
        }
        _exit(0);
    }
    wait(0);
}
