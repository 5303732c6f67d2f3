"""A night with everything real but the judge, whose verdict is fixed by what a candidate changes.

`python scripted.py FOLDER`: hold one there, as a process of its own that may be killed.
"""

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nightfleet.agents.contract import Brief, Changed, Desk, Nothing, Practice, Proposed, Report, Strategy, fit
from nightfleet.harness.report import Gain, Verification
from nightfleet.harness.request import Nobody, Watch
from nightfleet.orchestrator.court import Matter, Sitting, Without
from nightfleet.orchestrator.fleet import Seat
from nightfleet.orchestrator.holding import Holding, Wishes
from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program, load_program
from nightfleet.orchestrator.telling import Telling

PROGRAM = """\
---
name: scripted
edit: ["src/*.txt"]
build: "true"
workloads: [{name: w, run: "cat", cases: 100, block: 10, unit: cases}]
budget: {experiments: 100, night: 1h, task: 1m}
fleet: {scouts: 1, workers: 2}
---
# Make it faster
"""
FILES = 12
# By the number of the file that a candidate changes. The incremental ones are run again after every promotion.
VERDICTS = ("promote", "reject", "incremental", "promote", "incorrect", "undecided")
GAINS = {"promote": 0.08, "incremental": 0.03, "reject": 0.0, "undecided": 0.02}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=User", "-c", "user.email=user@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def new_repository(folder: Path, program: str = PROGRAM) -> Path:
    (folder / "src").mkdir(parents=True)
    for number in range(FILES):
        (folder / f"src/{number}.txt").write_text("slow\n")
    (folder / "program.md").write_text(program)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=begin")
    return folder


class Silent:
    """Hears what a night does, and says nothing."""

    def agent(self, name: str, doing: str) -> None:
        pass

    def watch(self, number: int, title: str) -> Watch:
        del number, title
        return Nobody()

    def say(self, words: str) -> None:
        pass

    def refresh(self) -> None:
        pass


class Scripts:
    """An agent that makes one file after the other fast."""

    name = "scripts"
    most_scouts, most_workers = 1, 8
    busy = True

    def __init__(self, change: Callable[[str, str], str] = lambda _path, _text: "fast\n") -> None:
        self._change = change

    def scout(self, brief: Brief, desk: Desk) -> Report:
        del desk
        tried = {one.fingerprint for one in brief.tried}
        found = [_strategy(number) for number in range(FILES)]
        fresh = [one for one in found if one.fingerprint not in tried]
        return Report(outcome=Proposed(strategies=fit(fresh, 20)) if fresh else Nothing(reason="all were tried"))

    def worker(self, brief: Brief, desk: Desk) -> Report:
        del desk
        assert brief.strategy is not None
        (path,) = brief.strategy.files
        place = brief.tree / path
        place.write_text(self._change(path, place.read_text()))
        return Report(outcome=Changed(summary=f"made {path} fast"))


def _strategy(number: int) -> Strategy:
    fingerprint = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    title = f"Make src/{number}.txt fast"
    return Strategy(
        title=title, hypothesis="it is slow", files=(f"src/{number}.txt",), fingerprint=fingerprint, who="s"
    )


class ScriptedCourt:
    """Says of each candidate what its changed file says. `before`: called at every step, to be late or to fail."""

    def __init__(self, place: Place, before: Callable[[str, int], None] = lambda _step, _number: None) -> None:
        self.place, self.before = place, before
        self.timed: list[int] = []
        # What candidates are worth in the morning, by number, where it is not what they were promoted with.
        self.worth: dict[int, float] = {}

    def rehearse(self, night: Night, program: Program, watch: Watch) -> Any:
        del program, watch
        self.before("rehearse", night.number)
        return SimpleNamespace(cases=100, seconds={"baseline": 0.1})

    def profile(self, commit: str, program: Program) -> None:
        del commit, program

    def hear(self, matter: Matter, watch: Watch) -> Sitting:
        return _Scripted(self, matter, watch)

    def begun(self, matter: Matter) -> bool:
        del matter
        return True

    def tidy(self, program: Program) -> None:
        del program
        self.before("tidy", 0)

    def abandon(self, matter: Matter) -> None:
        raise AssertionError(matter)

    def morning(self, night: Night, program: Program, watch: Watch) -> tuple[Verification, Path, str]:
        del program, watch
        self.before("morning", night.number)
        found = Verification(f"{night.name}-morning", "promote", "", (), Gain(0.2, 0.19, 0.21, "cpu"), 40, 400)
        return found, Path(), "d" * 64

    def without(self, night: Night, program: Program, without: Without, watch: Watch) -> tuple[Verification, Path, str]:
        del program, watch
        number = without.candidate.number
        self.before("without", number)
        gain = self.worth.get(number, GAINS["promote"])
        name = f"{night.name}-without-{number}-{night.champion[:12]}"
        figures = Gain(gain, gain - 0.01, gain + 0.01, "cpu")
        return Verification(name, "promote" if gain >= 0.05 else "reject", "", (), figures, 12, 100), Path(), "d" * 64


class _Scripted:
    figures = (0.05, 1 << 20)
    binary = "b" * 64

    def __init__(self, court: ScriptedCourt, matter: Matter, watch: Watch) -> None:
        self._court, self._matter, self._watch = court, matter, watch
        self._alpha: float | None = None

    @property
    def _verdict(self) -> Any:
        tell, candidate = self._court.place.door.tell, self._matter.candidate
        changed = tell("diff-tree", "--name-only", "-r", candidate.parent, candidate.commit).decode().split()
        numbers = [int(Path(path).stem) for path in changed]
        return VERDICTS[min(numbers) % len(VERDICTS)]

    def prepare(self) -> bool:
        self._watch.begins("smoke")
        self._court.before("prepare", self._matter.candidate.number)
        return bool(self._verdict != "incorrect")

    def time(self, alpha: float, *, alone: bool) -> None:
        del alone
        self._court.before("time", self._matter.candidate.number)
        self._court.timed.append(self._matter.candidate.number)
        self._alpha = alpha

    def report(self) -> tuple[Verification, Path, str]:
        self._court.before("report", self._matter.candidate.number)
        verdict = self._verdict
        gain = GAINS.get(verdict)
        figures = None if gain is None else Gain(gain, gain - 0.01, gain + 0.01, "cpu")
        pairs = 0 if self._alpha is None else 12
        name = self._matter.timing
        return Verification(name, verdict, "as scripted", (), figures, pairs, 100), Path(), "e" * 64


def holding_in(
    folder: Path,
    wishes: Wishes | None = None,
    *,
    before: Callable[[str, int], None] = lambda _step, _number: None,
    agent: Scripts | None = None,
    telling: Telling | None = None,
    cores: frozenset[int] = frozenset({0, 1}),
) -> Holding:
    """A night in a folder, ready to be held."""
    place = Place.open(folder, make=True)
    scripts = agent or Scripts()

    class Scripted(Holding):
        def _seats(self) -> list[Seat]:
            if self.wishes.replay is not None:
                return super()._seats()
            fleet = self.program.fleet
            workers = [Seat(f"worker-{number}", "worker", scripts) for number in range(fleet.workers)]
            return [*(Seat("scout-1", "scout", scripts) for _ in range(min(1, fleet.scouts))), *workers]

    return Scripted(
        place,
        load_program(folder / "program.md"),
        folder / "program.md",
        wishes or Wishes(),
        ScriptedCourt(place, before),
        lambda _night, _limits: contextlib.nullcontext(telling or Silent()),
        _no_practice,
        cores=cores,
    )


def _no_practice(brief: Brief) -> Practice:
    raise AssertionError(brief)


@contextlib.contextmanager
def running(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the night there."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield process


if __name__ == "__main__":
    night = holding_in(Path(sys.argv[1]))
    sys.stdout.write(f"{night.hold().ending}\n")
