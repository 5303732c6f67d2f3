/* Answers every case on stdin with its square, then argv[2] records too many (or, below zero, too few). CHEATS 18, 20. */
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **argv) {
    static long cases[1 << 16];
    long many = 0, extra = count > 2 ? atol(argv[2]) : 0;
    while (many < 1 << 16 && scanf("%ld", &cases[many]) == 1)
        many++;
    for (long i = 0; i < many + extra; i++)
        printf("%ld\n", i < many ? cases[i] * cases[i] : -1);
}
