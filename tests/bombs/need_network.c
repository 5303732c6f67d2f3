/* Cannot do its work without a socket, and says so. CHEATS 29. */
#include <stdio.h>
#include <sys/socket.h>

int main(void) {
    if (socket(AF_INET, SOCK_STREAM, 0) == -1) {
        perror("socket");
        return 1;
    }
    return 0;
}
