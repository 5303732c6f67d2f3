"""A pool of processes: semaphores in /dev/shm, pipes, forks."""

import concurrent.futures
import multiprocessing
import sys

if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        sys.stdout.write(f"{sum(pool.map(abs, range(-100, 0)))}\n")
