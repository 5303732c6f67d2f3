/* Takes every resource from init that a process may take from another of the same user, then asks init for work: a
 * candidate must not be able to turn its own trial into the machine's failure. CHEATS 35. */
#include "attempt.h"
#include <sys/resource.h>
#include <sys/socket.h>

static int starve(const char *number) {
    struct rlimit none = {0, 0};
    return TRIED(prlimit(1, atoi(number), &none, 0));
}

int main(void) {
    const struct { const char *name, *number; } limits[] = {
        {"cpu", "0"}, {"file-size", "1"}, {"data", "2"}, {"stack", "3"}, {"core", "4"}, {"tasks", "6"},
        {"open-files", "7"}, {"locked", "8"}, {"address-space", "9"}, {"signals", "11"}, {"queues", "12"},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        attempt(limits[i].name, starve, limits[i].number);
    for (int i = 0; i < 1000; i++) {
        socket(AF_INET, SOCK_STREAM, 0);
        if (fork() == 0)
            _exit(0);
        wait(0);
    }
    printf("# still here\n");
}
