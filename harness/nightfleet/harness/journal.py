"""The journal of a timing: every draw before it is run, every result before the next draw.

A line is on disk before what comes after it happens. So whatever ended the harness, a later one knows what was drawn,
what came of it, and which draw has to be run once more, with the same coin. A killed writer can leave its last line
torn; any other line that cannot be read is damage.

A draw that was begun twice and left neither a result nor a bad end belongs to nobody: from within the sandbox no
candidate can end the harness, so it was the machine, and the timing is given up without a verdict. It is not run a
third time: if something did get out, it would choose which of its trials count.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeAlias

from nightfleet.harness.cases import Cases
from nightfleet.harness.evidence import plain, read_pair
from nightfleet.harness.reading import Pair, Reading
from nightfleet.native import Draw, MachineError, UserError

__all__ = ["BadEnd", "Entry", "Journal", "OtherTimingError", "Recorded", "Result", "read_journal"]

FORMAT = 1
# How often a draw is begun before the machine is taken for unable to time it.
MOST_TRIES = 2

Line: TypeAlias = Mapping[str, Any]
SideName: TypeAlias = Literal["baseline", "candidate"]


class OtherTimingError(UserError):
    """What is to be timed is not what a journal's timing was begun with; begin a new one, under another name."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one pair gave. `void`, `diverged` and `tasks` as in `rounds.Round`, of this pair alone."""

    pair: Pair
    void: str | None
    diverged: tuple[int, ...]
    tasks: int


@dataclass(frozen=True, slots=True)
class BadEnd:
    """How a side ended badly in a timed trial that nothing voided."""

    side: SideName
    workload: str
    why: str


@dataclass
class Entry:
    """One round. A warm-up has no draws: nothing that counts hangs on its coin, so it is never repeated.

    Attributes:
        number: counts a journal's rounds from 0.
        draws: by workload; one coin and the same copies for all.
        references: the extra baseline trials that were run before the coin.
        results: by workload, as far as they came.
        again: how often each pair was begun once more because the harness had ended in it.
    """

    number: int
    draws: Mapping[str, Draw]
    references: Mapping[str, Reading]
    results: dict[str, Result] = field(default_factory=dict)
    again: Counter[str] = field(default_factory=Counter)

    @property
    def void(self) -> str | None:
        """Why the round does not count, if so."""
        return next((result.void for result in self.results.values() if result.void), None)

    @property
    def diverged(self) -> dict[str, tuple[int, ...]]:
        """Of each workload that has any, the cases whose records differ."""
        return {name: result.diverged for name, result in self.results.items() if result.diverged}

    @property
    def unfinished(self) -> str | None:
        """The first workload that still has to be run; none after a void pair."""
        return None if self.void else next((name for name in self.draws if name not in self.results), None)


@dataclass
class Recorded:
    """What stands in a journal. `heading`: of what timing it is; `entries`: its rounds, in order."""

    heading: Mapping[str, Any] | None = None
    entries: list[Entry] = field(default_factory=list)
    bad_ends: list[BadEnd] = field(default_factory=list)
    resumed: int = 0

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that count, of whole rounds, in the order they ran: what `Speed.previous` goes on from.

        A round whose records differ does not count: it ended the timing, and see `PairBench.bound`.
        """
        whole = [
            entry
            for entry in self.entries
            if entry.draws and not entry.void and not entry.diverged and entry.unfinished is None
        ]
        return tuple(result.pair for entry in whole for result in entry.results.values())

    @property
    def void(self) -> int:
        """Rounds that did not count."""
        return sum(entry.void is not None for entry in self.entries if entry.draws)

    @property
    def next_block(self) -> int:
        """The first block number that is fresh, if the journal's first round had block 0: `Speed.first_block`."""
        return len(self.entries) + self.resumed

    @property
    def unfinished(self) -> Entry | None:
        """The last round that was drawn, if it has yet to be run, or to be run to its end."""
        last = next((entry for entry in reversed(self.entries) if entry.draws), None)
        return last if last is not None and last.unfinished is not None else None

    @property
    def diverged(self) -> Entry | None:
        """The last round in which a timed record differed."""
        return next((entry for entry in reversed(self.entries) if entry.diverged), None)

    def take(self, line: Line) -> None:
        """One line more. KeyError, TypeError or ValueError for a line that cannot stand there."""
        what = line["what"]
        if what == "timing":
            if self.heading is not None or line["format"] != FORMAT:
                raise ValueError(f"a heading of format {line['format']}")
            self.heading = {name: value for name, value in line.items() if name not in {"what", "format"}}
        elif self.heading is None:
            raise ValueError("no heading")
        elif what in {"warm-up", "draw"}:
            self.entries.append(_entry(len(self.entries), line))
        elif what == "bad end":
            self.bad_ends.append(BadEnd(line["side"], line["workload"], line["why"]))
        else:
            self._take_outcome(what, line)

    def _take_outcome(self, what: str, line: Line) -> None:
        entry = self.entries[line["round"]]
        if what == "result":
            pair = read_pair(line["pair"])
            entry.results[pair.workload] = Result(pair, line["void"], tuple(line["diverged"]), line["tasks"])
        elif what == "again":
            entry.again[line["workload"]] += 1
            self.resumed += 1
        elif what == "stopped":
            entry.again[line["workload"]] -= 1
        else:
            raise ValueError(f"a line of kind {what!r}")


class Journal:
    """A journal that is written on: everything that is recorded is on disk when the call returns.

    Args:
        path: of the file, which is made where there is none. Nobody else may write to it meanwhile.
        heading: what is timed, as plain JSON values.

    Raises:
        OtherTimingError: the file is the journal of another timing.
        nightfleet.native.MachineError: the file is damaged.
    """

    def __init__(self, path: Path, heading: Mapping[str, Any]) -> None:
        self.path = path
        self.recorded, end = _read(path) if path.exists() else (Recorded(), 0)
        if self.recorded.heading is not None and self.recorded.heading != heading:
            raise OtherTimingError(f"{path} is the journal of another timing; give this one a file of its own")
        self._file: IO[bytes] = path.open("ab")
        # What is torn would run into the next line.
        self._file.truncate(end)
        if self.recorded.heading is None:
            self._write({"what": "timing", "format": FORMAT, **heading})
            _sync_folder(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def warm_up(self, blocks: Mapping[str, Cases]) -> Entry:
        """A round that is never counted is about to be drawn and run."""
        return self._begin({"what": "warm-up", "blocks": {name: _cases(block) for name, block in blocks.items()}})

    def draw(self, draws: Mapping[str, Draw], references: Mapping[str, Reading]) -> Entry:
        """A round was drawn, under one coin and from the same copies, and is about to run."""
        one = next(iter(draws.values()))
        return self._begin(
            {
                "what": "draw",
                "candidate_first": one.candidate_first,
                "baseline_copy": one.baseline_copy,
                "candidate_copy": one.candidate_copy,
                "pairs": {name: _pair(draw) for name, draw in draws.items()},
                "references": {name: asdict(reading) for name, reading in references.items()},
            }
        )

    def again(self) -> Entry:
        """The unfinished round is about to be run once more, from its first pair without a result on.

        Raises:
            nightfleet.native.MachineError: that pair was begun twice already.
        """
        entry = self.recorded.unfinished
        workload = None if entry is None else entry.unfinished
        if entry is None or workload is None:
            raise ValueError(f"{self.path}: no round is unfinished")
        if 1 + entry.again[workload] >= MOST_TRIES:
            raise MachineError(
                f"the harness was ended {MOST_TRIES} times in one pair and left no result (round {entry.number} of "
                f"{self.path}); no candidate can do that from within the sandbox: see whether this machine lacks "
                "memory, or who stops it, and time the candidate anew"
            )
        self._write({"what": "again", "round": entry.number, "workload": workload})
        return entry

    def result(self, entry: Entry, result: Result) -> None:
        """A pair of a round ran to its end."""
        self._write(
            {
                "what": "result",
                "round": entry.number,
                "pair": plain(result.pair),
                "void": result.void,
                "diverged": list(result.diverged),
                "tasks": result.tasks,
            }
        )

    def bad_end(self, bad: BadEnd) -> None:
        """A side ended badly in a timed pair."""
        self._write({"what": "bad end", **asdict(bad)})

    def stopped(self, entry: Entry, workload: str) -> None:
        """Somebody stopped the harness in a pair of a round: that is no failed try."""
        self._write({"what": "stopped", "round": entry.number, "workload": workload})

    def _begin(self, line: Line) -> Entry:
        self._write(line)
        return self.recorded.entries[-1]

    def _write(self, line: Line) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.recorded.take(line)


def read_journal(path: Path) -> Recorded:
    """What stands in a journal; a torn last line does not.

    Raises:
        nightfleet.native.MachineError: any other line cannot be read.
        OSError: the file cannot be read.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Recorded, int]:
    """What stands in it, and how many bytes that is."""
    recorded, end = Recorded(), 0
    with path.open("rb") as file:
        lines = file.readlines()
    for number, text in enumerate(lines, 1):
        line = _line(text)
        if line is None and number == len(lines):
            break
        try:
            recorded.take(line or {})
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise MachineError(
                f"{path}, line {number}, is damaged ({error!r}); move the file away to time anew"
            ) from error
        end += len(text)
    return recorded, end


def _line(text: bytes) -> Line | None:
    """A whole line; None for a torn one."""
    try:
        line = json.loads(text) if text.endswith(b"\n") else None
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _entry(number: int, line: Line) -> Entry:
    if line["what"] == "warm-up":
        return Entry(number, {}, {})
    shared = {name: line[name] for name in ("candidate_first", "baseline_copy", "candidate_copy")}
    draws = {name: Draw(**pair, **shared) for name, pair in line["pairs"].items()}
    return Entry(number, draws, {name: Reading(**reading) for name, reading in line["references"].items()})


def _pair(draw: Draw) -> dict[str, Any]:
    """What a draw has beyond coin and copies; whether it is trimmed is only said where it is."""
    trimmed = {"candidate_cases": draw.candidate_cases} if draw.candidate_cases != draw.baseline_cases else {}
    return {"index": draw.index, "block": _cases(draw.block), **trimmed}


def _cases(block: Cases) -> list[int]:
    return [int(case) for case in block]


def _sync_folder(folder: Path) -> None:
    """A new file's name is on disk as well."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
