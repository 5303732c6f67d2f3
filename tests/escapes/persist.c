/* `plant DIR...` leaves a note for the next trial in every directory given, in System V shared memory, semaphores and
 * messages, in a POSIX queue and in POSIX shared memory; `look DIR...` says what it finds; `clear` takes the keys back.
 * CHEATS 3, 7, 11. */
#include "attempt.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

enum { KEY = 0x6e666c74 };
static const char *name = "/nightfleet-note";
static int planting;

static int in_directory(const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/nightfleet-note", directory);
    return TRIED(open(path, planting ? O_CREAT | O_WRONLY : O_RDONLY, 0644));
}
static int flags(void) { return planting ? IPC_CREAT | 0600 : 0; }
static int memory(const char *_) { (void)_; return TRIED(shmget(KEY, 4096, flags())); }
static int semaphore(const char *_) { (void)_; return TRIED(semget(KEY, 1, flags())); }
static int message(const char *_) { (void)_; return TRIED(msgget(KEY, flags())); }
static int queue(const char *_) { (void)_; return TRIED(mq_open(name, planting ? O_CREAT | O_RDWR : O_RDWR, 0600, 0)); }
static int posix(const char *_) { (void)_; return TRIED(shm_open(name, planting ? O_CREAT | O_RDWR : O_RDWR, 0600)); }

int main(int count, char **argv) {
    if (count < 2)
        return 2;
    if (!strcmp(argv[1], "clear")) {
        shmctl(shmget(KEY, 0, 0), IPC_RMID, 0);
        semctl(semget(KEY, 0, 0), 0, IPC_RMID);
        msgctl(msgget(KEY, 0), IPC_RMID, 0);
        mq_unlink(name);
        shm_unlink(name);
        return 0;
    }
    planting = !strcmp(argv[1], "plant");
    for (int i = 2; i < count; i++)
        attempt(argv[i], in_directory, argv[i]);
    attempt("sysv-memory", memory, 0);
    attempt("sysv-semaphore", semaphore, 0);
    attempt("sysv-message", message, 0);
    attempt("posix-queue", queue, 0);
    attempt("posix-memory", posix, 0);
}
