/* One forbidden thing, tried in a child of its own, and one line about how it went:
 *
 *     NAME: done | refused ERRNO | killed SIGNAL | stuck
 *
 * An attempt returns 0 when it got what it wanted, else the errno that stopped it. The child keeps a kill from ending
 * the other attempts; the alarm keeps a blocking one from holding the trial. */
#ifndef NIGHTFLEET_ATTEMPT_H
#define NIGHTFLEET_ATTEMPT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* The errno of a call that failed, 0 of one that did not. */
#define TRIED(call) ((long)(call) == -1 ? (errno ? errno : EIO) : 0)

__attribute__((unused)) static void attempt(const char *name, int (*act)(const char *), const char *argument) {
    fflush(stdout);
    pid_t child = fork();
    if (child == -1) {
        printf("%s: no child %s\n", name, strerrorname_np(errno));
        return;
    }
    if (child == 0) {
        alarm(5);
        _exit(act(argument));
    }
    int status = 0;
    while (waitpid(child, &status, 0) == -1 && errno == EINTR) {
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        printf("%s: stuck\n", name);
    else if (WIFSIGNALED(status))
        printf("%s: killed SIG%s\n", name, sigabbrev_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 0)
        printf("%s: done\n", name);
    else
        printf("%s: refused %s\n", name, strerrorname_np(WEXITSTATUS(status)));
    fflush(stdout);
}
#endif
