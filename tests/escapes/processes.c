/* Prints the command line of every process that it can see in /proc, then signals all of them. CHEATS 28. */
#include "attempt.h"
#include <ctype.h>
#include <dirent.h>

int main(int count, char **argv) {
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        char path[300], line[4096];
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        int fd = open(path, O_RDONLY);
        ssize_t size = fd == -1 ? 0 : read(fd, line, sizeof line - 1);
        for (ssize_t i = 0; i < size; i++)
            if (!line[i] || line[i] == '\n')
                line[i] = ' ';
        printf("%.*s\n", (int)(size < 0 ? 0 : size), line);
        if (fd != -1)
            close(fd);
    }
    fflush(stdout);
    if (count > 1 && !strcmp(argv[1], "kill-all")) {
        kill(-1, SIGTERM);
        kill(-1, SIGKILL);
        kill(0, SIGCONT);
        printf("# still here\n");
    }
}
