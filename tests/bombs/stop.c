/* Stops itself: alive, silent, using nothing. CHEATS 30. */
#include <signal.h>

int main(void) {
    raise(SIGSTOP);
    return 0;
}
