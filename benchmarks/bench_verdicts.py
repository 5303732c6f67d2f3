"""The whole judge on patches of known truth: the grid simulator against each of them, many times over, on real clocks.

What each patch does was measured apart from the judge (`known_truth.py`; the headers of the patches say what). Every
run is a verification of its own: new salt, new cases, new pairs. The patches take turns, so that a bad quarter of an
hour is everybody's.

    python benchmarks/bench_verdicts.py                    # 20 runs of each: half an hour and more
    python benchmarks/bench_verdicts.py gain-3 --runs 3
    python benchmarks/bench_verdicts.py --keep runs.jsonl  # go on where a stopped run was

Exits with 1 if a promise is not kept.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from known_truth import EXAMPLE, PATCHES

from nightfleet.harness.cases import new_master
from nightfleet.harness.folder import find_tree
from nightfleet.harness.request import Nobody, Request
from nightfleet.harness.verify import verify
from nightfleet.orchestrator.program import load_program

RUNS = 20


@dataclass(frozen=True)
class Promise:
    """How the verdicts on one patch have to fall: of so many runs in 20, at least and at most."""

    least: tuple[tuple[str, int], ...] = ()
    most: tuple[tuple[str, int], ...] = ()
    says: str = ""

    def kept(self, verdicts: Counter[str], reasons: list[str]) -> bool:
        """Whether they did; shares of what was run count where that is not 20."""
        runs = verdicts.total()
        enough = all(sum(verdicts[name] for name in names.split("|")) * RUNS >= of * runs for names, of in self.least)
        few = all(verdicts[name] * RUNS <= of * runs for name, of in self.most)
        return enough and few and all(self.says in reason for reason in reasons)

    @property
    def words(self) -> str:
        """The promise, for the table."""
        least = [f"{names.replace('|', ' or ')} ≥ {of}" for names, of in self.least]
        most = [f"{name} ≤ {of}" if of else f"never {name}" for name, of in self.most]
        return ", ".join([*least, *most])


# Right for the last but one: "faster by 8% in three blocks of four" is a loss in total. It is refused as a loss, or,
# where its slow blocks were rare by chance, nothing is decided; and what trades CPU for wall is a loss on one core.
PROMISES = {
    "gain-8": Promise(least=(("promote", 19),)),
    "gain-3": Promise(most=(("promote", 0), ("reject", 2)), least=(("incremental|undecided|reject", 20),)),
    "same": Promise(least=(("reject", 20),)),
    "slowdown-6": Promise(least=(("reject", 20),)),
    "rare-bug": Promise(least=(("incorrect", 20),), says="gives another record"),
    "nondeterministic": Promise(least=(("incorrect", 20),), says="gives another record"),
    "mostly-faster": Promise(least=(("reject|undecided", 20),)),
    "threads": Promise(least=(("reject", 20),)),
}


@dataclass(frozen=True)
class Run:
    """One verification."""

    patch: str
    verdict: str
    reason: str
    gain: float | None
    pairs: int
    seconds: float
    timed_s: float


def trees(folder: Path, names: list[str]) -> None:
    """The example, and a copy with each patch applied."""
    # Inside a repository, git would take the paths of a patch to be relative to its root, and skip them in silence.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder)}
    for name in ["example", *names]:
        shutil.copytree(EXAMPLE, folder / name, ignore=shutil.ignore_patterns("target", ".nightfleet"))
        if name in names:
            patch = PATCHES / f"{name}.patch"
            subprocess.run(["git", "apply", str(patch)], cwd=folder / name, env=environment, check=True)


def judge(folder: Path, name: str) -> Run:
    """One verification, with everything that `nightfleet verify` does."""
    program = load_program(folder / "example" / "program.md")
    baseline, candidate = (find_tree(str(folder / side), None) for side in ("example", name))
    request = Request(
        program.arena,
        baseline,
        candidate,
        source=folder / "example",
        state=folder / "state",
        program_text=program.front.text,
        master=new_master(),
    )
    started = time.monotonic()
    found, _ = verify(request, Nobody())
    timed = sum(gate.seconds for gate in found.gates if gate.name == "speed")
    gain = None if found.gain is None else found.gain.estimate
    return Run(name, found.verdict, found.reason, gain, found.pairs, time.monotonic() - started, timed)


def rows(runs: list[Run], names: list[str]) -> int:
    """Print a row for each patch; how many promises were broken."""
    broken = 0
    print("| patch | verdicts | promised of 20 | gain: median [least, most] | pairs | timing | in all | a reason |")
    print("|---|---|---|---|---:|---:|---:|---|")
    for name in names:
        own = [run for run in runs if run.patch == name]
        if not own:
            continue
        verdicts = Counter(run.verdict for run in own)
        kept = PROMISES[name].kept(verdicts, [run.reason for run in own])
        broken += not kept
        gains = [100 * run.gain for run in own if run.gain is not None]
        spread = f"{statistics.median(gains):+.1f}% [{min(gains):+.1f}, {max(gains):+.1f}]" if gains else ""
        cells = [
            name,
            ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common()),
            PROMISES[name].words + ("" if kept else " **not kept**"),
            spread,
            f"{statistics.mean(run.pairs for run in own):.0f}",
            f"{statistics.median(run.timed_s for run in own):.0f} s",
            f"{statistics.median(run.seconds for run in own):.0f} s",
            own[-1].reason.replace("|", "/")[:160],
        ]
        print("|", " | ".join(cells), "|")
    return broken


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Verify the patches of known truth many times over.")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(PROMISES)} (default: all)")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each patch")
    parser.add_argument(
        "--keep", type=Path, help="a file of runs: what it holds is not run again, what is run is added"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(PROMISES):
        parser.error(f"no such patch: {', '.join(sorted(unknown))}; there are {', '.join(PROMISES)}")
    options.names = options.names or list(PROMISES)
    return options


def main() -> int:
    """Run, and print the table."""
    options = read_options()
    keep = options.keep
    runs = [Run(**json.loads(line)) for line in keep.read_text().splitlines()] if keep and keep.exists() else []
    with tempfile.TemporaryDirectory(prefix="verdicts-") as scratch:
        folder = Path(scratch)
        trees(folder, options.names)
        for turn in range(options.runs):
            for name in options.names:
                if sum(run.patch == name for run in runs) > turn:
                    continue
                run = judge(folder, name)
                runs.append(run)
                print(
                    f"{turn + 1} {name}: {run.verdict}, {run.seconds:.0f} s: {run.reason}", file=sys.stderr, flush=True
                )
                if keep:
                    with keep.open("a") as file:
                        file.write(json.dumps(asdict(run)) + "\n")
    print("## Verdicts on patches of known truth\n")
    print(f"Up to {options.runs} verifications of each, in turn, each as sure as `verify` is.\n")
    return 1 if rows(runs, options.names) else 0


if __name__ == "__main__":
    sys.exit(main())
