/* Starts threads until refused, then says so and leaves with success. CHEATS 30. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *idle(void *nothing) {
    for (;;)
        pause();
    return nothing;
}

int main(void) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int threads = 0; threads < 20000; threads++) {
        pthread_t thread;
        int error = pthread_create(&thread, &small, idle, 0);
        if (error) {
            printf("%s after %d\n", strerrorname_np(error), threads);
            return 0;
        }
    }
    return 3;
}
