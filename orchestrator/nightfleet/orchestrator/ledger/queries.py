"""What the views show, each in a few queries whatever the night's size."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Exists, func, inspect, select

from nightfleet.orchestrator.ledger import errorbudget, promotions, spending, tasks
from nightfleet.orchestrator.ledger.session import Reading
from nightfleet.orchestrator.ledger.tables import (
    Candidate,
    Entry,
    GateTime,
    Lease,
    Night,
    Promotion,
    Strategy,
    Submission,
    Table,
    Task,
    Verification,
)


@dataclass(frozen=True)
class Status:
    """Where a night stands.

    Attributes:
        states: candidates by state.
        verdicts: judged ones by their latest verdict.
        tasks: by role and state; "free" are those that may be claimed now.
        holders: who holds which task until when (us).
        reserved: indices of the error budget and their alpha, by purpose.
        spent: all that is spent or reserved.
        promotions: that moved the champion.
        awaiting_sign_off: of those, the numbers of the ones that a person has to look at.
    """

    night: Night
    states: dict[str, int]
    verdicts: dict[str, int]
    tasks: dict[tuple[str, str], int]
    holders: dict[int, tuple[str, int]]
    reserved: dict[errorbudget.Purpose, tuple[int, float]]
    spent: spending.Amounts
    promotions: int
    awaiting_sign_off: tuple[int, ...]


class Result(NamedTuple):
    """One row of results: a candidate, with its latest verification where there is one, which was made `at_us`."""

    id: int
    number: int
    commit: str
    state: str
    verdict: str | None
    description: str
    made_by: str
    strategy: int | None
    depth: int
    rebased_from: int | None
    created_us: int
    moved_us: int
    metric: float | None
    memory_bytes: int | None
    gain: float | None
    low: float | None
    high: float | None
    pairs: int | None
    cases: int | None
    extraordinary: bool | None
    baseline: str | None
    at_us: int | None
    promoted: bool


class Known(NamedTuple):
    """A candidate in as few words as a list needs; `gain` is its latest verification's."""

    id: int
    number: int
    description: str
    state: str
    verdict: str | None
    gain: float | None
    moved_us: int


class Attempt(NamedTuple):
    """One run of an idea before the judge; `why` is its verdict's reason, `reason` what was said when it moved last."""

    fingerprint: str
    number: int
    state: str
    reason: str
    verdict: str | None
    gain: float | None
    low: float | None
    high: float | None
    pairs: int | None
    why: str | None
    report: str | None
    promoted: bool


class Given(NamedTuple):
    """The last task in which an agent had an idea: what was said of it, and what the agent noted."""

    state: str
    reason: str
    notes: tuple[str, ...]


class Holder(NamedTuple):
    """Who has a task until when (us)."""

    holder: str
    role: str
    task: int
    expires_us: int


def status(reading: Reading, night: int) -> Status:
    """Where a night stands now."""
    count = reading.session.execute
    of_night = Candidate.night == night
    states = count(select(Candidate.state, func.count()).where(of_night).group_by(Candidate.state))
    verdicts = count(
        select(Candidate.verdict, func.count())
        .where(of_night, Candidate.verdict.is_not(None))
        .group_by(Candidate.verdict)
    )
    by_state = count(
        select(Task.role, Task.state, func.count()).where(Task.night == night).group_by(Task.role, Task.state)
    )
    tallies = {(role, state): number for role, state, number in by_state}
    free = tasks.free_tasks(reading.now_us).where(Task.night == night).subquery()
    for role, number in count(select(free.c.role, func.count()).group_by(free.c.role)):
        tallies[role, "free"] = number
    held = select(Task.id, Task.holder, Lease.expires_us).join(Lease, Lease.task == Task.id)
    holders = count(held.where(Task.night == night, Task.state == "claimed"))
    swapped = select(func.count()).where(Promotion.night == night, Promotion.result == "swapped")
    return Status(
        night=reading.get(Night, night),
        states=dict(states.all()),
        verdicts={str(verdict): number for verdict, number in verdicts},
        tasks=tallies,
        holders={task: (str(holder), expires_us) for task, holder, expires_us in holders},
        reserved=errorbudget.used(reading, night),
        spent=spending.total(reading, night),
        promotions=reading.session.scalar(swapped) or 0,
        awaiting_sign_off=tuple(row.id for row in promotions.awaiting_sign_off(reading, night)),
    )


def results(reading: Reading, night: int, after: int = 0) -> list[Result]:
    """A night's candidates by number, those above `after`."""
    columns = [getattr(Candidate if hasattr(Candidate, name) else Verification, name) for name in Result._fields[:-1]]
    found = (
        select(*columns, _promoted())
        .outerjoin(Verification, Verification.id == Candidate.verification)
        .where(Candidate.night == night, Candidate.number > after)
        .order_by(Candidate.number)
    )
    return [Result._make(row) for row in reading.session.execute(found)]


def attempts(reading: Reading, night: int) -> dict[str, list[Attempt]]:
    """Every run of every idea, by the idea's fingerprint; the first run first."""
    row, found = Candidate, Verification
    runs = (
        select(row.fingerprint, row.number, row.state, row.reason, row.verdict)
        .add_columns(found.gain, found.low, found.high, found.pairs, found.reason, found.report, _promoted())
        .outerjoin(found, found.id == row.verification)
        .where(row.night == night, row.fingerprint.is_not(None))
        .order_by(row.number)
    )
    by_idea = defaultdict[str, list[Attempt]](list)
    for run in reading.session.execute(runs):
        by_idea[run[0]].append(Attempt._make(run))
    return by_idea


def given(reading: Reading, night: int) -> dict[str, Given]:
    """What came of the last task of each idea that an agent was given, by the idea's fingerprint."""
    tasks_of = (
        select(Strategy.fingerprint, Task.state, Task.reason, Entry.payload)
        .join(Task, Task.strategy == Strategy.id)
        .outerjoin(Submission, Submission.task == Task.id)
        .outerjoin(Entry, Entry.sequence == Submission.sequence)
        .where(Task.night == night, Strategy.fingerprint.is_not(None))
        .order_by(Task.id)
    )
    return {
        str(fingerprint): Given(state, reason, _notes(payload))
        for fingerprint, state, reason, payload in reading.session.execute(tasks_of)
    }


def steps(reading: Reading, night: int) -> list[tuple[Promotion, Candidate, Verification]]:
    """The staircase: every promotion that moved the champion, in order."""
    found = (
        select(Promotion, Candidate, Verification)
        .join(Candidate, Candidate.id == Promotion.candidate)
        .join(Verification, Verification.id == Promotion.verification)
        .where(Promotion.night == night, Promotion.result == "swapped")
        .order_by(Promotion.id)
    )
    return [
        (promotion, candidate, verification) for promotion, candidate, verification in reading.session.execute(found)
    ]


def gate_seconds(reading: Reading, night: int) -> dict[str, float]:
    """Where the time went: the seconds of each gate, over all verifications."""
    found = (
        select(GateTime.gate, func.sum(GateTime.seconds))
        .join(Verification, Verification.id == GateTime.verification)
        .join(Candidate, Candidate.id == Verification.candidate)
        .where(Candidate.night == night)
        .group_by(GateTime.gate)
    )
    return dict(reading.session.execute(found).all())


def entries_after(reading: Reading, sequence: int, limit: int = 1000) -> list[Entry]:
    """What was written after an entry, at most `limit` entries: for whoever watches."""
    found = select(Entry).where(Entry.sequence > sequence).order_by(Entry.sequence).limit(limit)
    return list(reading.session.scalars(found))


def entries_of(reading: Reading, kinds: Iterable[str], after: int) -> list[Entry]:
    """Entries of some kinds after an entry: for whoever follows a night and needs no briefs and reports."""
    found = select(Entry).where(Entry.sequence > after, Entry.kind.in_(kinds)).order_by(Entry.sequence)
    return list(reading.session.scalars(found))


def proposals(reading: Reading, night: int, after: int = 0) -> list[tuple[int, str]]:
    """The strategies whose ids are above `after`, with who proposed them; what they say may be long."""
    found = select(Strategy.id, Strategy.made_by).where(Strategy.night == night, Strategy.id > after)
    return [(number, made_by) for number, made_by in reading.session.execute(found.order_by(Strategy.id))]


def holders(reading: Reading, night: int) -> list[Holder]:
    """Who holds which task, by task."""
    held = select(Task.holder, Task.role, Task.id, Lease.expires_us).join(Lease, Lease.task == Task.id)
    found = reading.session.execute(held.where(Task.night == night, Task.state == "claimed").order_by(Task.id))
    return [Holder._make(row) for row in found]


def candidates_of_reports(reading: Reading) -> dict[str, tuple[str, int]]:
    """Whose each report is: the night's name and the candidate's number, by the report's id."""
    found = (
        select(Verification.report, Night.name, Candidate.number)
        .join(Candidate, Candidate.id == Verification.candidate)
        .join(Night, Night.number == Candidate.night)
    )
    return {report: (name, number) for report, name, number in reading.session.execute(found)}


def known(reading: Reading, night: int) -> list[Known]:
    """A night's candidates by number."""
    columns = [getattr(Candidate if hasattr(Candidate, name) else Verification, name) for name in Known._fields]
    found = (
        select(*columns)
        .outerjoin(Verification, Verification.id == Candidate.verification)
        .where(Candidate.night == night)
        .order_by(Candidate.number)
    )
    return [Known._make(row) for row in reading.session.execute(found)]


def nights_of(reading: Reading, table: type[Table], keys: Iterable[int]) -> dict[int, int]:
    """The nights of rows that have one, by the rows' keys."""
    key: Any = inspect(table).primary_key[0]
    night: Any = inspect(table).columns["night"]
    return dict(reading.session.execute(select(key, night).where(key.in_(set(keys)))).all())


def _promoted() -> Exists:
    """Whether a candidate of a query is in the champion."""
    return select(Promotion.id).where(Promotion.candidate == Candidate.id, Promotion.result == "swapped").exists()


def _notes(payload: str | None) -> tuple[str, ...]:
    """What an agent noted in the report that an entry holds."""
    return () if payload is None else tuple(json.loads(json.loads(payload)["report"]).get("notes", ()))
