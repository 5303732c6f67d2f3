"""The contract between the night and whoever works in it: a brief goes out, a report comes back.

Pydantic models, not dataclasses: every one of these crosses the edge of a process (a coding CLI, an MCP client,
somebody with `curl`), and pydantic is what the harness reads `program.md` with already. They are frozen, refuse unknown
keys, and bound every text and list, because a report is written by a stranger. What they hold is text for people and
machines to judge, never an instruction; strip it with `nightfleet.harness.tree.printable` before it is shown.

As JSON both carry `format`; a newer one is refused with a word about it rather than half understood.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nightfleet.harness.arena import Arena
from nightfleet.harness.scope import Scope
from nightfleet.native import UserError

FORMAT = 1
# Fixed: a brief holds the goal, the profile and what was tried; a report holds strategies and notes, never a tree.
BRIEF_BYTES = 4 << 20
REPORT_BYTES = 1 << 20
GOAL_CHARACTERS = 1 << 16
MOST_STRATEGIES = 100
MOST_TRIED = 2_000
MOST_SHARES = 200
# A recipe may hold a new file of the largest size that a candidate may have, escaped as JSON.
RECIPE_CHARACTERS = 1 << 19
# Where a profiler has no debugging information, it knows functions and no files.
UNKNOWN = "?"

Role = Literal["scout", "worker"]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Line: TypeAlias = Annotated[str, Field(max_length=500)]
Text: TypeAlias = Annotated[str, Field(max_length=8_000)]
Path_: TypeAlias = Annotated[str, Field(min_length=1, max_length=1_024)]
Paths: TypeAlias = Annotated[tuple[Path_, ...], Field(max_length=1_000)]
Fingerprint: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
LEAST_RATIO = -100.0
Ratio: TypeAlias = Annotated[float, Field(ge=LEAST_RATIO, le=1.0, allow_inf_nan=False)]
"""A gain as a fraction of the baseline's time: 0.05 is 5% less, -1.0 is twice as much."""


class Sheet(BaseModel):
    """One part of a brief or a report."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="null")


class Evidence(Sheet):
    """A place in the tree, and what it shows."""

    path: Path_
    line: Annotated[int, Field(ge=1)]
    shows: Line


class Knob(Sheet):
    """A setting that can be moved on after this move won: its name, and the values that it is moved between."""

    name: Name
    before: Line
    after: Line


class Strategy(Sheet):
    """A scout's proposal.

    Attributes:
        title: one line, in the imperative.
        hypothesis: why this should save time.
        files: that it would change, relative to the tree.
        functions: that it would change.
        evidence: where to look.
        expected_gain: a guess.
        risk: what it costs if it works: readability, memory, binding to a machine.
        how_it_could_fail: what would make it wrong or no gain.
        fingerprint: hexadecimal; the same idea at the same place has the same one on every baseline.
        who: backend and, if there is one, model.
        knob: set where a win should be continued in the same direction.
        recipe: for workers of the same backend alone: how exactly; empty where the words above are all.
    """

    title: Line
    hypothesis: Text
    files: Paths = ()
    functions: Annotated[tuple[Name, ...], Field(max_length=200)] = ()
    evidence: Annotated[tuple[Evidence, ...], Field(max_length=50)] = ()
    expected_gain: Ratio = 0.0
    risk: Text = ""
    how_it_could_fail: Text = ""
    fingerprint: Fingerprint
    who: Name
    knob: Knob | None = None
    recipe: Annotated[str, Field(max_length=RECIPE_CHARACTERS)] = ""


class Tried(Sheet):
    """A strategy that somebody tried or is trying, and what came of it.

    Attributes:
        verdict: the judge's word; "running" while there is none, "failed" where no tree came of it, "stale" where it
            no longer fitted the baseline.
        gain: measured; None where it was not timed.
    """

    fingerprint: Fingerprint
    title: Line
    verdict: Name
    gain: Ratio | None = None
    files: Paths = ()
    knob: Knob | None = None
    reason: Line = ""


class Share(Sheet):
    """How much of the baseline's work happens at one place, and in what is called from there.

    Attributes:
        path: relative to the tree; `UNKNOWN` where a symbol is all there is.
        function: as the profiler names it, with modules before `::`; empty for a whole line.
        line: from 1; 0 for a whole function.
    """

    path: Path_
    function: Annotated[str, Field(max_length=500)] = ""
    line: Annotated[int, Field(ge=0)] = 0
    share: Annotated[float, Field(ge=0.0, le=1.0)]


class Profile(Sheet):
    """Where the baseline spends its work, the largest share first.

    Attributes:
        source: the profiler; "none" where none was at hand, with the reason in `remark`.
        unit: what was counted: instructions, seconds of CPU, samples.
    """

    source: Name
    unit: Line = ""
    shares: Annotated[tuple[Share, ...], Field(max_length=MOST_SHARES)] = ()
    remark: Text = ""


class WorkloadSummary(Sheet):
    """One way in which the program is run."""

    name: Name
    run: tuple[str, ...]
    cases: str
    block: int
    unit: str


class ArenaSummary(Sheet):
    """What an agent has to know of the arena. Gains are fractions.

    Attributes:
        edit: patterns of the files that may change; every other file is frozen.
        frozen: paths that stay frozen whatever `edit` says.
    """

    name: Name
    edit: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    build: tuple[tuple[str, ...], ...] = ()
    tests: tuple[tuple[str, ...], ...] = ()
    workloads: tuple[WorkloadSummary, ...]
    metric: str
    over: str
    clock: str
    cores: int
    promote_ratio: Ratio
    incremental_ratio: Ratio
    diff_lines: int

    @classmethod
    def of(cls, arena: Arena) -> "ArenaSummary":
        """The judge's contract, without what only the judge needs."""
        return cls(
            name=arena.name,
            edit=arena.edit,
            frozen=tuple(sorted(arena.scope.frozen)),
            build=arena.build,
            tests=arena.tests,
            workloads=tuple(
                WorkloadSummary(
                    name=workload.name,
                    run=workload.run,
                    cases=str(workload.cases if isinstance(workload.cases, int) else workload.cases.path),
                    block=workload.block,
                    unit=workload.unit,
                )
                for workload in arena.workloads
            ),
            metric=arena.metric.kind,
            over=arena.metric.over,
            clock=arena.clock,
            cores=arena.cores,
            promote_ratio=arena.thresholds.promote_ratio,
            incremental_ratio=arena.thresholds.incremental_ratio,
            diff_lines=arena.guards.diff_lines,
        )

    @property
    def scope(self) -> Scope:
        """What may be changed."""
        return Scope(self.edit, frozenset(self.frozen))


class TaskLimits(Sheet):
    """What one task may spend; 0 tokens or money means none at all."""

    seconds: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 900.0
    tokens: Annotated[int, Field(ge=0)] = 0
    micro_dollars: Annotated[int, Field(ge=0)] = 0
    strategies: Annotated[int, Field(ge=1, le=MOST_STRATEGIES)] = 20


class Brief(Sheet):
    """All that an agent is told.

    Attributes:
        task: names the task to the desk.
        goal: the prose of `program.md`, in full.
        area: for a scout: where or how to look; may be empty.
        strategy: for a worker: what to do.
        tried: the most recent last.
        profile: of the tree.
        profile_before: of the baseline that the night began with, where that is another: a function that the compiler
            inlines now may have a name there.
        tree: absolute path of a tree of the baseline that is this agent's own.
        seed: the same seed, the same work, where the backend can promise that.
    """

    format: Literal[1] = 1
    task: Name
    role: Role
    goal: Annotated[str, Field(max_length=GOAL_CHARACTERS)]
    arena: ArenaSummary
    area: Text = ""
    strategy: Strategy | None = None
    tried: Annotated[tuple[Tried, ...], Field(max_length=MOST_TRIED)] = ()
    profile: Profile | None = None
    profile_before: Profile | None = None
    tree: Annotated[Path, Field(strict=False)]
    limits: TaskLimits = TaskLimits()
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0


class Spend(Sheet):
    """What a task cost. Money in millionths of a US dollar; None where the price is unknown."""

    tokens: Annotated[int, Field(ge=0)] = 0
    micro_dollars: Annotated[int, Field(ge=0)] | None = 0
    seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0


class Proposed(Sheet):
    """A scout found something; the best first."""

    kind: Literal["proposed"] = "proposed"
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1, max_length=MOST_STRATEGIES)]


class Changed(Sheet):
    """A worker changed its tree: what it did, in one sentence."""

    kind: Literal["changed"] = "changed"
    summary: Line


class Nothing(Sheet):
    """Nothing worth doing, which is a good answer."""

    kind: Literal["nothing"] = "nothing"
    reason: Text


class Failed(Sheet):
    """The task came to no end."""

    kind: Literal["failed"] = "failed"
    cause: Text


Outcome: TypeAlias = Annotated[Proposed | Changed | Nothing | Failed, Field(discriminator="kind")]


class Report(Sheet):
    """All that an agent says. Its tree speaks for itself: nothing in here is believed about speed or behaviour."""

    format: Literal[1] = 1
    outcome: Outcome
    spend: Spend = Spend()
    notes: Annotated[tuple[Line, ...], Field(max_length=100)] = ()


class Practice(Sheet):
    """What came of building a tree and running practice cases in it: for the agent's eyes, worth nothing to the judge.

    Attributes:
        stage: how far it came: "build", "run" (records are missing), "same" or "different".
        said: readable words: the end of a log, or records that differ.
    """

    stage: Literal["build", "run", "same", "different"]
    said: Text = ""


class Desk(Protocol):
    """Whom an agent can talk to while it works."""

    def heartbeat(self, doing: str) -> None:
        """Say that the task is alive, and in a few words what is being done."""

    def practice(self) -> Practice:
        """Build the task's tree and run practice cases."""

    def spend(self, spent: Spend) -> None:
        """Add to what the task has cost. Raises UserError when the budget is used up."""

    def cancelled(self) -> bool:
        """Whether the task should end as soon as it can."""


class Backend(Protocol):
    """A kind of agent.

    Attributes:
        name: what `fleet` in program.md, the ledger and reports call it.
        most_scouts: how many scouts make sense side by side; 1 where they would all say the same.
        most_workers: the same for workers.
        busy: whether it keeps this machine's cores busy for as long as it works, like a search; else it mostly waits
            for answers from elsewhere, and may go on while something is timed.
    """

    name: str
    most_scouts: int
    most_workers: int
    busy: bool

    def scout(self, brief: Brief, desk: Desk) -> Report:
        """Look for strategies. Whatever goes wrong is a `Failed`, not an exception."""

    def worker(self, brief: Brief, desk: Desk) -> Report:
        """Carry out one strategy in the brief's tree."""


SheetT = TypeVar("SheetT", bound=Sheet)


def write_brief(brief: Brief) -> str:
    """One JSON document.

    Raises:
        UserError: it is larger than a brief may be.
    """
    return _written(brief, BRIEF_BYTES)


def read_brief(text: str | bytes) -> Brief:
    """Read what `write_brief` wrote.

    Raises:
        UserError: too large, of a newer format, or not a brief; the message names the first key that is wrong.
    """
    return _read(text, Brief, BRIEF_BYTES)


def write_report(report: Report) -> str:
    """One JSON document.

    Raises:
        UserError: it is larger than a report may be.
    """
    return _written(report, REPORT_BYTES)


def read_report(text: str | bytes) -> Report:
    """Read what an agent said.

    Raises:
        UserError: too large, of a newer format, or not a report; the message names the first key that is wrong.
    """
    return _read(text, Report, REPORT_BYTES)


def fit(strategies: Sequence[Strategy], most: int) -> tuple[Strategy, ...]:
    """As many of the first strategies as one report can hold, at most `most`."""
    kept: list[Strategy] = []
    room = REPORT_BYTES - 4096
    for strategy in strategies:
        room -= len(strategy.model_dump_json().encode()) + 1
        if room < 0 or len(kept) == min(most, MOST_STRATEGIES):
            break
        kept.append(strategy)
    return tuple(kept)


def _written(sheet: Sheet, most_bytes: int) -> str:
    text = sheet.model_dump_json()
    _check_size(text.encode(), type(sheet).__name__, most_bytes)
    return text


def _read(text: str | bytes, kind: type[SheetT], most_bytes: int) -> SheetT:
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    _check_size(data, kind.__name__, most_bytes)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        _check_format(data, kind.__name__)
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UserError(f"no {kind.__name__.lower()}: {place}: {first['msg'][:500]}") from None


def _check_size(data: bytes, name: str, most_bytes: int) -> None:
    if len(data) > most_bytes:
        raise UserError(f"a {name.lower()} may have {most_bytes} bytes; this one has {len(data)}")


def _check_format(data: bytes, name: str) -> None:
    """Say so where a document is of another version: that explains every other oddity in it."""
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    found = document.get("format", FORMAT) if isinstance(document, dict) else FORMAT
    if found != FORMAT:
        raise UserError(
            f"this {name.lower()} has format {str(found)[:40]!r}; this version of nightfleet reads {FORMAT}"
        )
