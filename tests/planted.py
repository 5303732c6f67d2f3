"""Small C programs with one planted truth each: how much they work, where they lie, where they crash."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nightfleet.native import give_tree

# A case is answered by its own number mixed up; the work in between leaves no trace in the answer.
SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#ifndef LIES_FROM
#define LIES_FROM 2147483648L
#endif
#ifndef CRASHES_FROM
#define CRASHES_FROM 2147483648L
#endif
#ifndef CHATTERS_FROM
#define CHATTERS_FROM 2147483648L
#endif
static volatile unsigned long sink;
int main(void) {
    long number;
    while (scanf("%ld", &number) == 1) {
        unsigned long x = (unsigned long)number;
        for (long i = 0; i < LOOPS; i++) x = x * 6364136223846793005UL + 1442695040888963407UL;
        sink = x;
        if (number >= CRASHES_FROM) { fprintf(stderr, "cannot do %ld\n", number); fflush(stdout); abort(); }
        if (number >= CHATTERS_FROM) puts("one record more");
#ifdef UNSTEADY
        if (number % 10 == UNSTEADY) {
            struct timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            printf("%ld at %ld\n", number, now.tv_nsec);
            continue;
        }
#endif
        printf("%ld %lu%s\n", number, (unsigned long)number * 2654435761UL, number >= LIES_FROM ? " lie" : "");
    }
    return 0;
}
"""


def planted(folder: Path, name: str, *, loops: int = 1000, **truth: int) -> Path:
    """A tree with the program `p` in it, made with these macros."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang")
    tree = folder / name
    tree.mkdir()
    macros = [f"-D{macro.upper()}={value}L" for macro, value in {"loops": loops, **truth}.items()]
    command = [compiler, "-O1", *macros, "-x", "c", "-", "-o", str(tree / "p")]
    subprocess.run(command, input=SOURCE.encode(), check=True)
    give_tree(tree)
    return tree
