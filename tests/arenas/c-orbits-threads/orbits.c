/* Reads case numbers, one per line; two threads share them, and one record per line is written in their order. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 2, MAX_CASES = 1 << 16, BODIES = 6, STEPS = 4500, CASE_LIMIT_BITS = 31 };

static unsigned long numbers[MAX_CASES];
static char records[MAX_CASES][96];
static int count;

/* Fixed-point bodies on a torus that pull at each other; integers, so that every machine agrees. */
static void play(int index) {
    uint64_t state = numbers[index];
    int64_t place[BODIES][2], speed[BODIES][2];
    for (int body = 0; body < BODIES; body++) {
        for (int axis = 0; axis < 2; axis++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            place[body][axis] = (int64_t)(state >> 44);
            speed[body][axis] = (int64_t)(state >> 34 & 1023) - 512;
        }
    }
    for (int step = 0; step < STEPS; step++) {
        for (int body = 0; body < BODIES; body++) {
            for (int other = 0; other < BODIES; other++) {
                for (int axis = 0; axis < 2; axis++) {
                    int64_t apart = place[other][axis] - place[body][axis];
                    speed[body][axis] += apart / (4096 + llabs(apart) / 16);
                }
            }
        }
        for (int body = 0; body < BODIES; body++) {
            for (int axis = 0; axis < 2; axis++) {
                place[body][axis] = (place[body][axis] + speed[body][axis]) & 0xFFFFF;
            }
        }
    }
    uint64_t sum = 14695981039346656037u;
    for (int body = 0; body < BODIES; body++) {
        for (int axis = 0; axis < 2; axis++) {
            sum = (sum ^ (uint64_t)place[body][axis]) * 1099511628211u;
        }
    }
    snprintf(records[index], sizeof records[index], "%lu first=%lld,%lld sum=%016llx\n", numbers[index],
             (long long)place[0][0], (long long)place[0][1], (unsigned long long)sum);
}

static void *share(void *first) {
    for (int index = (int)(intptr_t)first; index < count; index += THREADS) {
        play(index);
    }
    return NULL;
}

int main(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long number = strtoul(line, NULL, 10);
        if (number >> CASE_LIMIT_BITS || count == MAX_CASES) {
            fprintf(stderr, "orbits: at most 65536 cases, integers from 0 to 2147483647; got %s", line);
            return 2;
        }
        numbers[count++] = number;
    }
    pthread_t threads[THREADS];
    for (intptr_t thread = 0; thread < THREADS; thread++) {
        if (pthread_create(&threads[thread], NULL, share, (void *)thread)) {
            perror("orbits: pthread_create");
            return 2;
        }
    }
    for (int thread = 0; thread < THREADS; thread++) {
        pthread_join(threads[thread], NULL);
    }
    for (int index = 0; index < count; index++) {
        fputs(records[index], stdout);
    }
    return ferror(stdin) || fflush(stdout) ? 2 : 0;
}
