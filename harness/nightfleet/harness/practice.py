"""Practice: build a changed tree and run practice cases in it, for the eyes of whoever changed it.

It passes no judgement and leaves no report. Its cases are the judge's smoke block: of the practice salt, or lines of a
manifest that the agent has before it anyway. Behaviour and timing cases are drawn from salts that nothing here uses.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from nightfleet.harness import behaviour, sameness
from nightfleet.harness.behaviour import Behaviour
from nightfleet.harness.divergence import Divergence, Record
from nightfleet.harness.ground import Ground
from nightfleet.harness.overlay import overlay
from nightfleet.harness.passing import Ended, Passing
from nightfleet.harness.request import Request
from nightfleet.harness.tree import printable
from nightfleet.harness.workspace import BuildFailedError

# The index of the salt that record hashes are keyed by here: no verification ever has it.
INDEX = (1 << 64) - 1
# Fixed: of an objection list, a build's log, what a crash said and each record, so much is told.
MOST_OBJECTIONS = 10
LAST_LINES = 40
STDERR_LETTERS = 2_000
RECORD_BYTES = 600
BEFORE_BYTES = 120

Stage: TypeAlias = Literal["build", "run", "same", "different"]


@dataclass(frozen=True)
class Practised:
    """How far a tree came, and readable words about it, line by line; harmless to show."""

    stage: Stage
    lines: tuple[str, ...]


def practise(request: Request) -> Practised:
    """Build a tree as the judge would, and run one block of practice cases of each workload in it and in its baseline.

    Args:
        request: what would be asked of the judge; its index is not used.

    Raises:
        nightfleet.native.UserError: the baseline does not build or run.
        nightfleet.native.MachineError: the machine could not do its part.
    """
    arena, baseline = request.arena, request.baseline
    laid = overlay(baseline, request.candidate, arena.scope)
    if laid.tree is None:
        said = [objection.text for objection in laid.objections[:MOST_OBJECTIONS]]
        return Practised("build", ("out of scope, so it is not built:", *said))
    ground = Ground(arena, baseline, request.source, request.state, salts=(request.master, INDEX))
    built = ground.workspace.build(baseline)
    try:
        # From nothing, as the judge does: if it is handed in as it is, the judge finds it built.
        changed = ground.workspace.build(laid.tree, baseline=built, from_nothing=True)
    except BuildFailedError as failed:
        return Practised("build", (f"it does not build: {failed.outcome}", *failed.tail[-LAST_LINES:]))
    seen = behaviour.compare(ground.side(built), ground.side(changed), ground.cases.practice(), ground.work)
    nothing = () if laid.changed else ("nothing is changed in what `edit` names",)
    found = _found(seen)
    return replace(found, lines=(*found.lines, *nothing))


def _found(seen: Behaviour) -> Practised:
    gate = Passing("practice")
    try:
        sameness.judge(gate, seen)
    except Ended as ended:
        # A block with a record too few differs in every record after it: that it is short is the news.
        stage: Stage = "run" if seen.failed else "different"
        return Practised(stage, (ended.reason, *_records(seen), *_stderr(seen)))
    return Practised("same", (f"{seen.cases} practice cases, every record the same", _rough_time(seen)))


def _rough_time(seen: Behaviour) -> str:
    """What the runs took. One run each among noise: two digits are more than it is worth."""
    baseline, candidate = (
        sum(reading.wall_ns for reading in side) / 1e9
        for side in zip(*((both.baseline, both.candidate) for both in seen.blocks), strict=True)
    )
    return f"a rough time, not evidence: {candidate:.2g} s, the baseline {baseline:.2g} s"


def _stderr(seen: Behaviour) -> tuple[str, ...]:
    said = next((block.stderr for block in seen.failed if block.side == "candidate"), "")
    return tuple(map(printable, said[-STDERR_LETTERS:].strip("\n").split("\n"))) if said.strip() else ()


def _records(seen: Behaviour) -> tuple[str, ...]:
    """The first records that differ, side by side."""
    if not seen.shown:
        return ()
    shown = seen.shown[0]
    lines = [f"case {shown.case} of workload {shown.workload}, given {printable(shown.fed)!r}"]
    for whose, record in (("the baseline", shown.baseline), ("your tree", shown.candidate)):
        lines += _record(whose, record, shown)
    if shown.first is not None:
        lines.append(f"the first byte that differs is {shown.first}")
    if shown.note:
        lines.append(printable(shown.note))
    return tuple(lines)


def _record(whose: str, record: Record | None, shown: Divergence) -> list[str]:
    if record is None:
        return [f"{whose}: no record"]
    at = max(0, (shown.first or 0) - BEFORE_BYTES - record.start)
    part = Record(record.data[at : at + RECORD_BYTES], record.start + at, record.size)
    whole = len(part.data) == record.size
    where = "" if whole else f" (bytes {part.start} to {part.start + len(part.data)} of {record.size})"
    return [f"{whose}{where}:", *(f"  | {printable(line)}" for line in part.text.rstrip("\n").split("\n"))]
