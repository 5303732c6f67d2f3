/* Reads case numbers, one per line; plays the Game of Life from each, and writes one record per line. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 32, GENERATIONS = 40, CASE_LIMIT_BITS = 31 };

typedef unsigned char board[SIZE][SIZE];

static void fill(board cells, uint64_t state) {
    for (int y = 0; y < SIZE; y++) {
        for (int x = 0; x < SIZE; x++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            cells[y][x] = (state >> 60) < 5;
        }
    }
}

static int neighbours(board cells, int y, int x) {
    int count = 0;
    for (int dy = -1; dy <= 1; dy++) {
        for (int dx = -1; dx <= 1; dx++) {
            if (dy != 0 || dx != 0) {
                count += cells[(y + dy + SIZE) % SIZE][(x + dx + SIZE) % SIZE];
            }
        }
    }
    return count;
}

static void step(board from, board to) {
    for (int y = 0; y < SIZE; y++) {
        for (int x = 0; x < SIZE; x++) {
            int around = neighbours(from, y, x);
            to[y][x] = around == 3 || (around == 2 && from[y][x]);
        }
    }
}

int main(void) {
    static board boards[2];
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long number = strtoul(line, NULL, 10);
        if (number >> CASE_LIMIT_BITS) {
            fprintf(stderr, "life: a case is an integer from 0 to 2147483647, got %s", line);
            return 2;
        }
        fill(boards[0], number);
        for (int generation = 0; generation < GENERATIONS; generation++) {
            step(boards[generation % 2], boards[(generation + 1) % 2]);
        }
        int alive = 0;
        uint64_t sum = 14695981039346656037u;
        for (int cell = 0; cell < SIZE * SIZE; cell++) {
            unsigned char value = boards[GENERATIONS % 2][cell / SIZE][cell % SIZE];
            alive += value;
            sum = (sum ^ value) * 1099511628211u;
        }
        printf("%lu alive=%d sum=%016llx\n", number, alive, (unsigned long long)sum);
    }
    return ferror(stdin) ? 2 : 0;
}
