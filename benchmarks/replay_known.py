"""The whole night on a branch of known truth: twelve commits replayed, and whether the champion is what it has to be.

The branch is `known_branch.py`'s: 4 gains, 2 near-misses, 3 changes of nothing, 2 slow-downs, 1 that is wrong in one
case of 300. What each commit is truly worth is counted by construction and measured apart from the judge, by bare pairs
of processes. Then `nightfleet launch --replay` is run again and again, each time in a repository of its own.

    python benchmarks/replay_known.py                      # 10 replays: an hour on two quiet cores
    python benchmarks/replay_known.py --runs 3
    python benchmarks/replay_known.py --keep runs.jsonl    # go on where a stopped run was
    python benchmarks/replay_known.py --write              # the committed figures

Prints Markdown; exits with 1 if anything but a gain was promoted, or the champion was right in fewer than 9 of 10.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from known_branch import BRANCH, FILE, MAKEFILE, PROGRAM, SOURCE, Turn, branch, champion, turns
from known_truth import Gain, gain_of, pairs, pinned

REPORT, FIGURES = (Path(__file__).parent / name for name in ("REPLAYS.md", "replay_known.json"))
RUNS = 10
# Of ten replays, the champion is the right one in so many at least.
LEAST_RIGHT = 0.9
PAIRS = 60
ATTEMPTS = 5
SEED = 20261120
WORK, CHAMPION = "work", "champion"
# Nothing of whoever runs this: their identity, hooks or signing.
WHO = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
CLEAN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


@dataclass(frozen=True)
class Run:
    """One replay.

    Attributes:
        rows: of the table that `launch` prints, the oldest commit first.
        promoted: the places in the branch of what was promoted.
        right: whether the champion's tree is the root's with the four gains.
        gain: of the champion over the root, as the morning measured it.
    """

    rows: list[dict[str, Any]]
    promoted: list[int]
    right: bool
    gain: float | None
    seconds: float
    load: float

    @property
    def wrong(self) -> list[int]:
        """The promoted ones that are no gains."""
        return [place for place in self.promoted if BRANCH[place].kind != "gain"]


@dataclass(frozen=True)
class Truth:
    """What one commit is worth at its turn, in shares: by count of steps, and measured in per cent."""

    turn: Turn
    measured: Gain


def git(folder: Path, *arguments: str) -> str:
    """Run git in a repository; what it prints."""
    command = ["git", "-C", str(folder), *WHO, *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **CLEAN}
    ).stdout.strip()


def repository(folder: Path) -> str:
    """The program on `main`, the branch beside it; the id of the tree that the champion has to have."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "program.md").write_text(PROGRAM)
    (folder / "Makefile").write_text(MAKEFILE)
    commit(folder, "Begin", champion())
    wanted = git(folder, "rev-parse", "HEAD^{tree}")
    git(folder, "update-ref", "-d", "HEAD")
    commit(folder, "Begin", SOURCE)
    git(folder, "switch", "--quiet", "--create", WORK)
    for message, source in branch():
        commit(folder, message, source)
    git(folder, "switch", "--quiet", "main")
    return wanted


def commit(folder: Path, message: str, source: str) -> None:
    """Commit the program as it is now."""
    (folder / FILE).write_text(source)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def replay(folder: Path) -> Run:
    """One night on a repository of its own."""
    wanted = repository(folder)
    command = [sys.executable, "-m", "nightfleet.orchestrator", "launch", "--replay", WORK, "--json"]
    started = time.monotonic()
    found = launched([*command, "--branch", CHAMPION], folder)
    promoted = [place for place, row in enumerate(found["replay"]) if row["promoted"]]
    right = git(folder, "rev-parse", f"{CHAMPION}^{{tree}}") == wanted
    gain = None if found["morning"] is None else found["morning"]["gain"]
    return Run(found["replay"], promoted, right, gain, time.monotonic() - started, os.getloadavg()[1])


def launched(command: list[str], folder: Path) -> dict[str, Any]:
    """What `launch` said at the end of a night; where the machine was too loaded to time, the same night goes on."""
    for attempt in range(1, ATTEMPTS + 1):
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        say(f"launch exited with {done.returncode}, attempt {attempt} of {ATTEMPTS}")
    raise SystemExit(f"launch could not hold the night in {ATTEMPTS} attempts")


def truths(folder: Path, count: int) -> Iterator[Truth]:
    """Every commit at its turn, in bare pairs of processes on one core."""
    for place, turn in enumerate(turns()):
        before, after = (
            build(folder / f"{place}-{side}", source)
            for side, source in (("before", turn.before), ("after", turn.after))
        )
        with pinned(max(os.sched_getaffinity(0))):
            pairs(before, after, 3, SEED)
            times = pairs(before, after, count, SEED + place)
        yield Truth(turn, gain_of(times[:, 0, 0], times[:, 1, 0], SEED))


def build(folder: Path, source: str) -> Path:
    """The program of a source."""
    folder.mkdir()
    (folder / FILE).write_text(source)
    (folder / "Makefile").write_text(MAKEFILE)
    subprocess.run(["make", "--silent"], cwd=folder, check=True)
    return folder / "parcels"


def table(known: list[Truth], runs: list[Run]) -> Iterator[str]:
    """A row for each commit: what is true of it, and what was said."""
    yield "| commit | kind | claims | by count | bare pairs | in the end | verdicts | gain: least to most | promoted |"
    yield "|---|---|---:|---:|---:|---:|---|---|---:|"
    for place, truth in enumerate(known):
        rows = [run.rows[place] for run in runs]
        verdicts = Counter(row["verdict"] for row in rows)
        gains = [100 * row["gain"] for row in rows if row["gain"] is not None]
        claim = rows[0]["claim"] if rows else None
        cells = [
            truth.turn.known.subject,
            truth.turn.known.kind,
            "-" if claim is None else f"{100 * claim:+.1f}%",
            f"{100 * truth.turn.share:+.1f}%",
            f"{truth.measured.median:+.2f}% [{truth.measured.low:+.2f}, {truth.measured.high:+.2f}]",
            f"{100 * truth.turn.at_last:+.1f}%",
            ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common()),
            f"{min(gains):+.1f}% to {max(gains):+.1f}%" if gains else "",
            f"{sum(place in run.promoted for run in runs)}",
        ]
        yield f"| {' | '.join(cells)} |"


def piece(known: list[Truth], runs: list[Run], count: int) -> Iterator[str]:
    """The figures in Markdown."""
    yield "## Replays of a branch of known truth\n"
    yield f"{len(runs)} nights of `nightfleet launch --replay`, each in its own repository. Gains are of the baseline"
    yield f"at the commit's turn: by count of steps, and by {count} bare pairs with 95% intervals; 'in the end' is by"
    yield "count once all gains are in. Promoted are gains of 5% and more.\n"
    yield from table(known, runs)
    yield ""
    wrong, right = sum(bool(run.wrong) for run in runs), sum(run.right for run in runs)
    minutes = sorted(run.seconds / 60 for run in runs)
    for name, figure, promise, holds in (
        ("replays with a wrong promotion", wrong, "0", not wrong),
        ("replays with the right champion", right, f"≥ {LEAST_RIGHT:.0%}", right >= LEAST_RIGHT * len(runs)),
    ):
        yield f"- {name}: {figure} of {len(runs)}, promised {promise}{'' if holds else ' **not kept**'}"
    yield f"- minutes a replay: {minutes[0]:.1f} to {minutes[-1]:.1f}; load {max(run.load for run in runs):.1f} at most"


def heading() -> str:
    """What the figures were measured on."""
    machine = f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} processors"
    return f"# Replays\n\nWritten by `benchmarks/replay_known.py --write`; do not edit. {machine}.\n"


def kept(runs: list[Run]) -> bool:
    """Whether what is promised holds."""
    right = sum(run.right for run in runs)
    return not any(run.wrong for run in runs) and right >= LEAST_RIGHT * len(runs)


def figures(known: list[Truth], runs: list[Run]) -> Mapping[str, Any]:
    """The same for machines."""
    return {
        "commits": [
            {
                "subject": truth.turn.known.subject,
                "kind": truth.turn.known.kind,
                "share": truth.turn.share,
                "at_last": truth.turn.at_last,
                "bare_percent": asdict(truth.measured),
            }
            for truth in known
        ],
        "runs": [asdict(run) for run in runs],
    }


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Replay a branch of known truth many times over.")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="bare ones that each commit is measured by")
    parser.add_argument("--keep", type=Path, help="a file of runs: what it holds counts, what is run is added")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name} and {FIGURES.name} beside this file")
    return parser.parse_args()


def say(words: str) -> None:
    """A line for whoever waits."""
    print(words, file=sys.stderr, flush=True)


def tell(number: int, run: Run) -> None:
    """One replay in a few lines."""
    how = "right" if run.right else "NOT RIGHT"
    say(f"{number}: {how}, {run.seconds:.0f} s, wrong promotions: {run.wrong or 'none'}")
    for known, row in zip(BRANCH, run.rows, strict=True):
        gain = "" if row["gain"] is None else f" {100 * row['gain']:+.1f}%"
        say(f"   {known.kind:8}{row['verdict']}{gain}{' (promoted)' if row['promoted'] else ''}: {row['why']}")


def main() -> int:
    """Measure, replay, and print."""
    options = read_options()
    keep = options.keep
    runs = [Run(**json.loads(line)) for line in keep.read_text().splitlines()] if keep and keep.exists() else []
    with tempfile.TemporaryDirectory(prefix="replay-known-") as scratch:
        known = []
        for truth in truths(Path(scratch), options.pairs):
            known.append(truth)
            one = truth.measured
            say(f"{truth.turn.known.kind:8}{100 * truth.turn.share:+6.1f}% by count, {one.median:+.2f}% measured")
        while len(runs) < options.runs:
            runs.append(replay(Path(scratch) / f"run-{len(runs) + 1}"))
            tell(len(runs), runs[-1])
            if keep:
                with keep.open("a") as file:
                    file.write(json.dumps(asdict(runs[-1])) + "\n")
    said = "\n".join(piece(known, runs, options.pairs)) + "\n"
    print(said, end="")
    if options.write:
        REPORT.write_text(f"{heading()}\n{said}", encoding="utf-8")
        FIGURES.write_text(json.dumps(figures(known, runs), indent=1) + "\n", encoding="utf-8")
    return 0 if kept(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
