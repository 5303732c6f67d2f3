/* Answers before it has read its input, by argv[2]: `close` (closes stdin, lives on a little) or `leave`. CHEATS 20, 30. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **argv) {
    if (count > 2 && !strcmp(argv[2], "close")) {
        close(0);
        usleep(200000);
    }
    puts("answer");
    return 0;
}
