/* A parallel sum on two cores: prints the processors that OpenMP believes in, its threads, and the sum. */
#include <omp.h>
#include <stdio.h>

int main(void) {
    long total = 0;
    int threads = 0;
#pragma omp parallel reduction(+ : total)
    {
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for
        for (long i = 0; i < 1000000; i++)
            total += i;
    }
    printf("processors %d\nthreads %d\ntotal %ld\n", omp_get_num_procs(), threads, total);
}
