"""The behaviour gate against the bare program: 20,000 cases on both sides, with and without the judge around them.

Bare: one process after the other on each core, fed from a file, records to /dev/null: no sandbox, no hash, no report.
Both do the same blocks on the same cores, in turn.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from known_truth import BLOCK, CASES, EXAMPLE, build, lines
from table import Figure, report

from nightfleet.harness.behaviour import Work, compare
from nightfleet.harness.cases import Cases
from nightfleet.harness.folder import find_tree
from nightfleet.harness.ground import Ground
from nightfleet.harness.sides import Side
from nightfleet.orchestrator.program import load_program

ROUNDS = 5
MOST = 1.10


def bare(program: Path, blocks: list[Path]) -> float:
    """Both sides of every block, on all cores; elapsed seconds."""
    cores = sorted(os.sched_getaffinity(0))

    def work(core: int) -> None:
        for block in blocks[cores.index(core) :: len(cores)]:
            for _ in ("baseline", "candidate"):
                with block.open("rb") as cases:
                    command = ["taskset", "-c", str(core), str(program)]
                    subprocess.run(command, stdin=cases, stdout=subprocess.DEVNULL, check=True)

    started = time.perf_counter()
    with ThreadPoolExecutor(len(cores)) as pool:
        list(pool.map(work, cores))
    return time.perf_counter() - started


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="behaviour-") as scratch:
        folder = Path(scratch)
        program = build(folder / "tree", None)
        arena = load_program(EXAMPLE / "program.md").arena
        ground = Ground(arena, find_tree(str(EXAMPLE), None), EXAMPLE, folder / "state", salts=(bytes(32), 0))
        (name,) = ground.cases.by_name
        cases: Cases = np.random.default_rng(1).choice(2**31, CASES, replace=False)
        span, side = ground.cases.span(name, cases), Side(program.parents[2])
        files = []
        for number, block in enumerate(span.blocks):
            files.append(folder / f"{number}.txt")
            files[-1].write_text(lines(block.tolist()))
        ratios, judged = [], []
        for turn in range(ROUNDS):
            both = {}
            for which in ("bare", "gate") if turn % 2 else ("gate", "bare"):
                if which == "bare":
                    both[which] = bare(program, files)
                    continue
                started = time.perf_counter()
                seen = compare(side, side, [span], Work(7))
                both[which] = time.perf_counter() - started
                assert seen.identical, seen.ending
                assert seen.cases == CASES
            ratios.append(both["gate"] / both["bare"])
            judged.append(both["gate"])
    cores = len(os.sched_getaffinity(0))
    remark = f"{CASES} cases in blocks of {BLOCK} on both sides, {cores} cores, {ROUNDS} rounds in turn."
    return report(
        "The behaviour gate",
        remark,
        [
            Figure("the gate: sandboxed, every record hashed and compared", statistics.median(judged), "s"),
            Figure("the gate / the bare program", statistics.median(ratios), "x", most=MOST),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
