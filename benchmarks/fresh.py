"""A fresh stream from this machine: the example simulator against itself, through the real pair bench.

Every run has the same block of cases, so that rules which compare runs of different pairs meet nothing but noise.
"""

import csv
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from known_truth import BLOCK, CASE_LIMIT, build
from numpy.typing import NDArray

from nightfleet.harness.pairs import PairBench, valid_pairs
from nightfleet.native import Completed, Pair, Workload, give_tree

PROGRAM = ["target/release/sim"]
PATIENCE_S = 600.0


def record(pairs: int, path: Path, seed: int) -> str:
    """Time that many valid pairs, write their runs in the order they ran, and say under what load.

    Columns as in `streams.read`: `k` (0: nobody differs), `wall` (ns), `ut` (user and system µs), `st` (0).

    Raises:
        nightfleet.native.MachineError: when the leased core does not become calm, or too many pairs are void.
    """
    with tempfile.TemporaryDirectory(prefix="decision-rules-") as name, path.open("w", newline="") as file:
        scratch = Path(name)
        build(scratch / "example", None)
        give_tree(scratch / "example")
        columns = csv.writer(file, lineterminator="\n")
        columns.writerow(["k", "wall", "ut", "st"])
        for pair in _pairs(scratch, pairs, seed):
            columns.writerows(_row(trial) for trial in _in_order(pair))
    return f"{pairs} pairs, load {os.getloadavg()[1]:.1f} on {os.cpu_count()} processors"


def _pairs(scratch: Path, count: int, seed: int) -> Iterator[Pair]:
    tree = scratch / "example"
    block = np.random.default_rng(seed).choice(CASE_LIMIT, BLOCK, replace=False)
    bench = PairBench(
        tree,
        tree,
        Workload(PROGRAM),
        seed,
        scratch / "draws.jsonl",
        patience_s=PATIENCE_S,
        on_wait=lambda why, waited_s: print(f"waited {waited_s:.0f} s: {why}", file=sys.stderr, flush=True),
    )
    with bench:
        bench.warm_up(block)
        for done, pair in enumerate(valid_pairs(bench, _forever(block), count), 1):
            if done % 50 == 0:
                print(f"{done} of {count} pairs, {bench.counts.void} void", file=sys.stderr, flush=True)
            yield pair


def _forever(block: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    while True:
        yield block


def _in_order(pair: Pair) -> tuple[Completed, Completed]:
    return (pair.candidate, pair.baseline) if pair.draw.candidate_first else (pair.baseline, pair.candidate)


def _row(trial: Completed) -> tuple[int, int, int, int]:
    return 0, trial.wall_ns, trial.cpu_ns // 1000, 0
