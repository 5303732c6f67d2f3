"""Measure the patches of the grid simulator, whose truth the judge is tested against.

Each patch in `tests/patches/grid-simulator` claims in its header what it does: how many of 20,000 cases change, and by
how much CPU or wall time falls. Here each one is built in a copy of the example, its output is compared with the
example's, and both are timed in pairs of processes, each pair on a fresh random block and in random order. A gain is
1 - exp(-m), where m is the median over pairs of ln(t_example / t_patch), with a 95% percentile-bootstrap interval;
"total" is untrimmed, from the sums over all pairs. Instructions are callgrind's, as a ratio to the example's.

    python benchmarks/known_truth.py                      # all: a quarter of an hour
    python benchmarks/known_truth.py gain-3 --pairs 400

Exits with 1 if a claim does not hold here. A busy machine widens every interval: repeat before believing a failure.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "grid-simulator"
PATCHES = ROOT / "tests" / "patches" / "grid-simulator"
CASES = 20_000
BLOCK = 200
CASE_LIMIT = 2**31
RESAMPLES = 2000
CLAIM = re.compile(r"^(Cases that differ|CPU gain|Wall gain): (-?[\d.]+) to (-?[\d.]+)", re.MULTILINE)

Range = tuple[float, float]
Series = NDArray[np.float64]


@dataclass(frozen=True)
class Patch:
    """A change of known truth: where it lies, and what its header claims (gains in percent, cases of 20,000)."""

    path: Path
    differing: Range
    cpu_gain: Range | None
    wall_gain: Range | None

    @property
    def name(self) -> str:
        """The patch's file name without its ending."""
        return self.path.stem


@dataclass(frozen=True)
class Gain:
    """A median gain in percent with its interval, and the gain of the untrimmed sums."""

    median: float
    low: float
    high: float
    total: float

    def cells(self) -> str:
        """Two cells of the table."""
        return f"{self.median:+.2f}% [{self.low:+.2f}, {self.high:+.2f}] | {self.total:+.1f}%"


def read_patch(path: Path) -> Patch:
    """Read the claims above the first `diff --git` of a patch; raises KeyError where it does not say what differs."""
    header = path.read_text(encoding="utf-8").split("diff --git", 1)[0]
    claims = {name: (float(low), float(high)) for name, low, high in CLAIM.findall(header)}
    return Patch(path, claims["Cases that differ"], claims.get("CPU gain"), claims.get("Wall gain"))


def build(folder: Path, patch: Path | None) -> Path:
    """Copy the example into a folder of its own (so that Cargo shares nothing), apply the patch, build; the program."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("target"))
    # Inside a repository, git would take the paths of a patch to be relative to its root, and skip them in silence.
    own = {"GIT_CEILING_DIRECTORIES": str(folder.parent), "CARGO_TARGET_DIR": str(folder / "target")}
    environment = {**os.environ, **own}
    if patch:
        subprocess.run(["git", "apply", str(patch)], cwd=folder, env=environment, check=True)
    subprocess.run(["cargo", "build", "--release", "--offline", "--quiet"], cwd=folder, env=environment, check=True)
    return folder / "target" / "release" / "sim"


def run(program: Path, cases: str) -> list[str]:
    """Run the program over the cases; its records."""
    return subprocess.run([program], input=cases, capture_output=True, text=True, check=True).stdout.splitlines()


def instructions(program: Path, cases: str) -> int:
    """Count the instructions that callgrind sees."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program)]
    report = subprocess.run(command, input=cases, capture_output=True, text=True, check=True).stderr
    found = re.search(r"Collected : (\d+)", report)
    assert found, report
    return int(found[1])


def trial(program: Path, cases: IO[bytes]) -> tuple[float, float]:
    """Run one process over a block; its CPU (user + system) and wall time in seconds."""
    cases.seek(0)
    started = time.perf_counter()
    with subprocess.Popen([program], stdin=cases, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, program
    return usage.ru_utime + usage.ru_stime, wall


def pairs(example: Path, patched: Path, count: int, seed: int) -> Series:
    """Time `count` pairs, each on a fresh block and in the order of a coin: [pair, example or patched, CPU or wall].

    Two copies of one and the same program differed by up to 3% for as long as the files were there, so every pair runs
    fresh copies, at paths of one length.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible blocks, no secrets
    times = np.empty((count, 2, 2))
    for pair in range(count):
        with tempfile.TemporaryFile() as cases, tempfile.TemporaryDirectory() as folder:
            cases.write(lines(dice.sample(range(CASE_LIMIT), BLOCK)).encode())
            cases.flush()
            for side in dice.sample([0, 1], 2):
                program = Path(folder) / "ab"[side]
                shutil.copy((example, patched)[side], program)
                times[pair, side] = trial(program, cases)
    return times


def lines(cases: Iterable[int]) -> str:
    """Write cases as a program reads them, a line each."""
    return "".join(f"{case}\n" for case in cases)


def gain_of(example: Series, patched: Series, seed: int) -> Gain:
    """Summarise paired times in seconds."""
    logs = np.log(example / patched)
    chance = np.random.default_rng(seed)
    medians = np.median(chance.choice(logs, (RESAMPLES, len(logs))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    ratios = [np.median(logs), low, high, np.log(example.sum() / patched.sum())]
    return Gain(*(100 * (1 - float(np.exp(-ratio))) for ratio in ratios))


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Keep this process and its children on one core; with None, leave them all."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def holds(claim: Range | None, value: float) -> bool:
    """Say whether a value lies within what was claimed; no claim always holds."""
    return claim is None or claim[0] <= value <= claim[1]


def measure(patch: Patch, example: Path, folder: Path, options: argparse.Namespace) -> bool:
    """Build, compare and time one patch, print its row, and say whether its claims hold."""
    patched = build(folder / patch.name, patch.path)
    expected, got = (run(program, lines(range(CASES))) for program in (example, patched))
    differing = sum(left != right for left, right in zip(expected, got, strict=True))
    ratio = float("nan")
    if options.instructions:
        ratio = instructions(patched, lines(range(BLOCK))) / instructions(example, lines(range(BLOCK)))
    # What claims a gain of wall time is given every core.
    with pinned(None if patch.wall_gain else options.core):
        pairs(example, patched, 3, options.seed)
        times = pairs(example, patched, options.pairs, options.seed + 1)
    cpu, wall = (gain_of(times[:, 0, clock], times[:, 1, clock], options.seed) for clock in (0, 1))
    claims = [(patch.differing, differing), (patch.cpu_gain, cpu.median), (patch.wall_gain, wall.median)]
    kept = all(holds(claim, value) for claim, value in claims)
    row = [patch.name, differing, f"{ratio:.4f}", cpu.cells(), wall.cells(), "yes" if kept else "**no**"]
    print("|", " | ".join(map(str, row)), "|", flush=True)
    return kept


def read_options(known: list[str]) -> argparse.Namespace:
    """Read the command line; `known` are the patches that there are."""
    parser = argparse.ArgumentParser(description="Measure the grid simulator's patches of known truth.")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(known)} (default: all)")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="default: the last")
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--no-instructions", dest="instructions", action="store_false", help="without valgrind")
    options = parser.parse_args()
    if options.instructions and not shutil.which("valgrind"):
        parser.error("valgrind is not on PATH: install it, or add --no-instructions")
    if unknown := set(options.names) - set(known):
        parser.error(f"no such patch: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return options


def main() -> int:
    """Measure the named patches, or all, and print a table in Markdown."""
    patches = [read_patch(path) for path in sorted(PATCHES.glob("*.patch"))]
    options = read_options([patch.name for patch in patches])
    chosen = [patch for patch in patches if not options.names or patch.name in options.names]
    print("## Patches of known truth\n")
    print(
        f"{options.pairs} pairs of blocks of {BLOCK} cases, load {os.getloadavg()[0]:.1f}; gains against the example,"
    )
    print(f"with 95% intervals; cases that differ, of {CASES}.\n")
    print("| patch | differ | instructions | CPU gain | in total | wall gain | in total | as claimed |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="known-truth-") as name:
        example = build(Path(name) / "example", None)
        kept = [measure(patch, example, Path(name), options) for patch in chosen]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
