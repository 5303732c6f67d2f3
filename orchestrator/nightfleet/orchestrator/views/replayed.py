"""A replay, commit by commit: what each message claims, and what came of it. From the ledger and the branch alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from nightfleet.agents.replay import CONFLICT, NOT_INSIDE, NOTHING_LEFT, Commit, claim_of
from nightfleet.orchestrator.ledger import Ledger, queries
from nightfleet.orchestrator.ledger.queries import Attempt, Given
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import columns, interval, percent, short
from nightfleet.orchestrator.views.standing import LONGEST_TITLE

# Fixed: of what strangers wrote, so much is shown in the table.
LONGEST_AUTHOR = 20
LONGEST_SUBJECT = 50
LONGEST_WHY = 100
# What came of a commit that no judge saw, by how the agent that tried it ended.
ENDINGS = (
    (f"failed: {CONFLICT}", "conflict"),
    (f"nothing: {NOT_INSIDE}", "outside edit"),
    (f"nothing: {NOTHING_LEFT}", "nothing left"),
    ("the same tree as candidate", "same tree"),
    ("out of scope", "out_of_scope"),
)


class Row(NamedTuple):
    """One commit of the branch.

    Attributes:
        claim: the gain that the message claims, as a fraction of the time; None where it claims none.
        verdict: the last of the commit's runs, or in words what became of it before it came to the judge.
        gain: with `low` and `high`, of that run's baseline, by `pairs` pairs.
        why: of the verdict.
        candidate: the number of the run that the verdict is about; None where there was none.
        report: of that run.
    """

    commit: str
    subject: str
    author: str
    claim: float | None
    verdict: str
    gain: float | None
    low: float | None
    high: float | None
    pairs: int
    why: str
    promoted: bool
    candidate: int | None
    report: str


def rows(ledger: Ledger, night: int, commits: Sequence[Commit]) -> list[Row]:
    """What came of the commits of a branch in a night, in their order. MachineError where it cannot be read."""
    with ledger.read() as reading:
        attempts = queries.attempts(reading, night)
        given = queries.given(reading, night)
    return [_row(one, attempts.get(one.fingerprint, []), given.get(one.fingerprint)) for one in commits]


def tell(found: Sequence[Row], console: Console) -> None:
    """Print a line for each commit, and one that sums up."""
    lines: list[tuple[str, ...]] = [
        ("commit", "author", "claims", "verdict", "gain", "interval", "pairs", "", "subject", "why")
    ]
    lines += [_cells(row) for row in found]
    for place, line in enumerate(columns(lines, left={0, 1, 3, 7, 8})):
        console.print(Text(line, style=_style(found[place - 1]) if place else "bold"), soft_wrap=True)
    console.print(Text(_sum(found), style="dim"), soft_wrap=True)


def to_json(found: Sequence[Row]) -> list[dict[str, Any]]:
    """All of it in plain values."""
    return [row._asdict() for row in found]


def _row(commit: Commit, attempts: Sequence[Attempt], given: Given | None) -> Row:
    judged = _counts(attempts)
    verdict, why = _ending(attempts, given) if judged is None else (str(judged.verdict), _why(judged, attempts[-1]))
    left_out = "" if given is None or judged is None or not given.notes else f"; {'; '.join(given.notes)}"
    return Row(
        commit=commit.id,
        subject=one_line(commit.subject, LONGEST_TITLE),
        author=one_line(commit.author, LONGEST_TITLE),
        claim=claim_of(commit.message),
        verdict=verdict,
        gain=None if judged is None else judged.gain,
        low=None if judged is None else judged.low,
        high=None if judged is None else judged.high,
        pairs=0 if judged is None else judged.pairs or 0,
        why=one_line(f"{why}{left_out}"),
        promoted=judged is not None and judged.promoted,
        candidate=None if judged is None else judged.number,
        report="" if judged is None else judged.report or "",
    )


def _counts(attempts: Sequence[Attempt]) -> Attempt | None:
    """The run that stands for the commit: what was promoted, or else the last that was judged."""
    judged = [one for one in attempts if one.verdict is not None]
    found = [one for one in judged if one.promoted] or judged
    return found[-1] if found else None


def _why(judged: Attempt, last: Attempt) -> str:
    """The judge's reason, and what happened to it afterwards if that was not the last word."""
    if judged.promoted or (last is judged and last.state != "stale"):
        return judged.why or ""
    later = last.reason if last.state == "stale" else "its run on the new baseline was not judged any more"
    return f"{judged.why}; then {later}" if judged.why else later


def _ending(attempts: Sequence[Attempt], given: Given | None) -> tuple[str, str]:
    """In words what became of a commit that no judge saw, and why."""
    if given is None:
        return "not tried", "the night was over before its turn"
    known = next((word for beginning, word in ENDINGS if given.reason.startswith(beginning)), None)
    if known is not None:
        return known, given.reason.partition(": ")[2] or given.reason
    if attempts:
        return attempts[-1].state, attempts[-1].reason or "the night was over before its verdict"
    return ("failed" if given.state == "done" else "not tried"), given.reason.removeprefix("failed: ")


def _cells(row: Row) -> tuple[str, ...]:
    gain = "" if row.gain is None else percent(row.gain)
    return (
        short(row.commit),
        one_line(row.author, LONGEST_AUTHOR),
        "-" if row.claim is None else percent(row.claim),
        row.verdict,
        gain,
        interval(row.low, row.high),
        f"{row.pairs}" if row.pairs else "",
        "promoted" if row.promoted else "",
        one_line(row.subject, LONGEST_SUBJECT),
        one_line(row.why, LONGEST_WHY),
    )


def _style(row: Row) -> str:
    return "bold green" if row.promoted else ""


def _sum(found: Sequence[Row]) -> str:
    promoted = sum(row.promoted for row in found)
    claimed = [row for row in found if row.claim is not None and row.claim > 0]
    held = sum(row.gain is not None and row.low is not None and row.low > 0 for row in claimed)
    return (
        f"{promoted} of {len(found)} commits are in the champion; {len(claimed)} claimed a gain, "
        f"and of those {held} were measured to have one"
    )
