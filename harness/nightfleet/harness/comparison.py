"""One workload's behaviour trials, read: what differs, what did not end well, and what is not repeated."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nightfleet.harness import arena
from nightfleet.harness.cases import Cases
from nightfleet.harness.reading import BothSides, Reading
from nightfleet.native import Trials, Workload

SideName: TypeAlias = Literal["baseline", "candidate"]
SIDES: tuple[SideName, SideName] = ("baseline", "candidate")


@dataclass(frozen=True)
class Span:
    """The behaviour cases of one workload, of shape (n,), in the random order in which they are to run.

    `manifest`: the lines of the file that names the cases, if one does.
    """

    workload: arena.Workload
    form: arena.Behaviour
    cases: Cases
    manifest: Sequence[str] | None = None

    @cached_property
    def native(self) -> Workload:
        """As the trial runner takes it."""
        return self.workload.native(self.form, self.manifest)

    @cached_property
    def blocks(self) -> list[Cases]:
        """The cases, cut."""
        size = self.workload.block
        return [self.cases[at : at + size] for at in range(0, len(self.cases), size)]


@dataclass(frozen=True)
class Digests:
    """What one workload's cases gave: `cases` of shape (C,), both sides uint64 of shape (C, 2), zeros for no record."""

    cases: Cases
    baseline: NDArray[np.uint64]
    candidate: NDArray[np.uint64]


@dataclass(frozen=True)
class FailedBlock:
    """A block that did not end well on one side. `again`: of the runs that looked for it once more, how many failed."""

    workload: str
    side: SideName
    cases: Cases
    outcome: str
    status: int
    stderr: str
    again: int = 0


class Comparison:
    """One workload's trials on both sides."""

    def __init__(self, span: Span, trials: Trials) -> None:
        self._name, self._blocks, self._trials = span.workload.name, span.blocks, trials
        # Each of these is made anew whenever it is asked for.
        self._digests, self._outcomes, self._status = trials.digests, trials.outcome, trials.status
        self._figures = trials.wall_ns, trials.cpu_ns, trials.peak_bytes
        self._done = [index for index, done in enumerate(trials.done) if done]
        self._ends = np.cumsum([len(block) for block in span.blocks])
        done = np.repeat(trials.done, [len(block) for block in span.blocks])
        self.digests = Digests(span.cases[done], self._digests[0][done], self._digests[1][done])

    @property
    def bad(self) -> list[int]:
        """The blocks that differ or did not end well on a side."""
        return [index for index in self._done if not self._well(index) or self._differing(index)]

    @property
    def diverged(self) -> list[int]:
        """The cases whose records differ, where both sides came to an end of their own."""
        sound = [
            index for index in self._done if {self._outcome(0, index), self._outcome(1, index)} <= {"ok", "records"}
        ]
        return [case for index in sound for case in self._differing(index)]

    @property
    def both_sides(self) -> list[BothSides]:
        """What each block that ended well took."""
        return [
            BothSides(self._reading(0, index), self._reading(1, index), self._name)
            for index in self._done
            if self._well(index)
        ]

    def failed(self, again: Sequence[int], later: Sequence[Trials]) -> list[FailedBlock]:
        """The blocks that did not end well; `later` are further runs of the blocks `again`."""
        stderr = self._trials.stderr
        return [
            FailedBlock(
                self._name,
                SIDES[side],
                self._blocks[index],
                self._outcome(side, index),
                int(self._status[side, index]),
                stderr[side][index].decode("utf-8", "backslashreplace"),
                sum(run.outcome[side][again.index(index)] != "ok" for run in later) if index in again else 0,
            )
            for index in self._done
            for side in (0, 1)
            if self._outcome(side, index) != "ok"
        ]

    def unsteady(self, side: int, again: Sequence[int], later: Sequence[Trials]) -> list[int]:
        """The cases of the blocks `again` whose records one side did not repeat in every later run."""
        found: list[int] = []
        for place, index in enumerate(again):
            start = sum(len(self._blocks[other]) for other in again[:place])
            rows = slice(start, start + len(self._blocks[index]))
            runs = [run.digests[side][rows] for run in later if run.outcome[side][place] == "ok"]
            if self._outcome(side, index) == "ok":
                moved = [np.any(run != self._rows(side, index), axis=1) for run in runs]
                found += self._blocks[index][np.any(moved, axis=0)].tolist() if moved else []
        return found

    def _outcome(self, side: int, index: int) -> str:
        return self._outcomes[side][index]

    def _well(self, index: int) -> bool:
        return self._outcome(0, index) == self._outcome(1, index) == "ok"

    def _rows(self, side: int, index: int) -> NDArray[np.uint64]:
        end = int(self._ends[index])
        rows: NDArray[np.uint64] = self._digests[side][end - len(self._blocks[index]) : end]
        return rows

    def _differing(self, index: int) -> list[int]:
        differs = np.any(self._rows(0, index) != self._rows(1, index), axis=1)
        cases: list[int] = self._blocks[index][differs].tolist()
        return cases

    def _reading(self, side: int, index: int) -> Reading:
        wall, cpu, peak = (int(figures[side, index]) for figures in self._figures)
        return Reading(wall, None if cpu < 0 else cpu, None if peak < 0 else peak)
