/* Dies by the signal whose number is argv[2], after some output. CHEATS 20. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **argv) {
    puts("before");
    fflush(stdout);
    kill(getpid(), count > 2 ? atoi(argv[2]) : SIGSEGV);
    pause();
    return 0;
}
