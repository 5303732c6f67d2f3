"""200 pairs of the same program, and what a hostile one cannot do to its figures."""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, mannwhitneyu
from table import Figure, report

from nightfleet.harness.pairs import PairBench, valid_pairs
from nightfleet.native import Sandbox, Workload, give_tree

PAIRS = 200
KNOWN_CPU_NS = 100_000_000
ROUNDS = 15

WORK = """
#include <stdio.h>
int main(void) {
    unsigned case_number; unsigned long x = 1;
    while (scanf("%u", &case_number) == 1) {
        for (long i = 0; i < 2500000; i++) x = x * 6364136223846793005UL + case_number;
        printf("%lu\\n", x);
    }
    return 0;
}
"""
# Burns CPU until its own clock says how much: the truth to hold the control group against.
BURN = """
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static void burn(long ns) {
    struct timespec t;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); while (t.tv_sec * 1000000000L + t.tv_nsec < ns);
}
static void escape(void) {
    cpu_set_t all; memset(&all, 0xff, sizeof all); sched_setaffinity(0, sizeof all, &all);
}
int main(int argc, char **argv) {
    long ns = atol(argv[2]);
    if (argc != 3) return 1;
    if (!strcmp(argv[1], "plain")) burn(ns);
    if (!strcmp(argv[1], "hidden")) {
        int done[2]; char byte;
        signal(SIGCHLD, SIG_IGN);
        if (pipe(done)) return 1;
        if (!fork()) { burn(ns); _exit(0); }
        close(done[1]);
        while (read(done[0], &byte, 1) > 0) {}
    }
    if (!strcmp(argv[1], "escape")) {
        for (int i = 0; i < 2; i++) if (!fork()) { escape(); burn(ns / 2); _exit(0); }
        while (wait(0) > 0) {}
    }
    return 0;
}
"""


def compile_into(tree: Path, name: str, source: str) -> None:
    """Compile one C file into the tree."""
    (tree / f"{name}.c").write_text(source)
    subprocess.run(["cc", "-O2", "-o", tree / name, tree / f"{name}.c"], check=True)
    give_tree(tree)


def same_program(tree: Path, scratch: Path) -> list[Figure]:
    """The same program on both sides, one after the other in random order."""
    blocks = (np.arange(start, start + 20) for start in range(0, 10**9, 20))
    with PairBench(tree, tree, Workload(["./work"]), 5, scratch / "draws.jsonl", patience_s=300) as bench:
        bench.warm_up(next(blocks))
        pairs = list(valid_pairs(bench, blocks, PAIRS))
        void = bench.counts.void
    assert all(pair.identical for pair in pairs)
    first = np.array([pair.draw.candidate_first for pair in pairs])
    figures = [
        Figure("void pairs", void, ""),
        Figure("p of a fair order coin", float(binomtest(int(first.sum()), PAIRS).pvalue), "", least=1e-3),
    ]
    for clock in ("cpu_ns", "wall_ns"):
        gains = np.log([getattr(p.baseline, clock) / getattr(p.candidate, clock) for p in pairs])
        spread = 1.4826 * float(np.median(np.abs(gains)))
        agree = float(mannwhitneyu(gains[first], gains[~first]).pvalue)
        name = clock.removesuffix("_ns")
        figures += [
            Figure(f"{name}: a run", statistics.median(getattr(p.baseline, clock) for p in pairs) / 1e6, "ms"),
            Figure(f"{name}: the program is faster than itself by", 100 * float(np.median(gains)), "%", -1, 1),
            Figure(f"{name}: spread of a pair (robust sd)", 100 * spread, "%"),
            Figure(f"{name}: p that both orders give the same gain", agree, "", least=1e-3),
        ]
    return figures


def hostile(tree: Path) -> list[Figure]:
    """A known load, a hidden child and an affinity escape."""
    runs: dict[str, list[tuple[int, int]]] = {"plain": [], "hidden": [], "escape": []}
    with Sandbox(tree, cores=[max_core()]) as sandbox:
        grouped = sandbox.facts["cpu_source"].startswith("cgroup")
        for _ in range(ROUNDS):
            for kind, seen in runs.items():
                done = sandbox.run(["./burn", kind, str(KNOWN_CPU_NS)])
                assert done.outcome == "ok", done
                seen.append((done.cpu_ns, done.wall_ns))
    cpu = {kind: statistics.median(c for c, _ in seen) / KNOWN_CPU_NS for kind, seen in runs.items()}
    wall = {kind: statistics.median(w for _, w in seen) for kind, seen in runs.items()}
    bounds = (0.98, 1.02) if grouped else (0.0, float("inf"))
    return [
        Figure("CPU measured / known load of 100 ms", cpu["plain"], "x", *bounds),
        Figure("CPU measured / known, in a child reaped with SIGCHLD ignored", cpu["hidden"], "x", *bounds),
        Figure("CPU measured / known, two children that try to leave their core", cpu["escape"], "x", *bounds),
        Figure("wall of those two / wall of one process doing it all", wall["escape"] / wall["plain"], "x", least=0.95),
    ]


def max_core() -> int:
    """The core that a lease would prefer."""
    import os

    return max(os.sched_getaffinity(0))


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        tree = scratch / "tree"
        tree.mkdir()
        compile_into(tree, "work", WORK)
        compile_into(tree, "burn", BURN)
        remark = f"{PAIRS} valid pairs of one program against itself; {ROUNDS} rounds of each hostile one, medians."
        return report("Timed pairs", remark, same_program(tree, scratch) + hostile(tree))


if __name__ == "__main__":
    sys.exit(main())
