"""Strategies, and the candidates made from them: what they are, and the moves from submission to verdict.

    submitted → building → behaving → waiting → timing → judged
        ↑___________|__________|         ↑________|___________|  (undecided only: idle lease time continues it)

Steps that were cut short go back to `submitted` or `waiting`. From anywhere a candidate may be `judged` (broken, out of
scope, incorrect, ...) and, before it got its due, `stale`: its baseline was replaced, and a new row runs it again.
"""

import json
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.entries import canonical
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Candidate, Entry, Night, Strategy

State: TypeAlias = Literal["submitted", "building", "behaving", "waiting", "timing", "judged", "stale"]
STATES: tuple[State, ...] = get_args(State)
# Where a candidate may go from where it is. `judged` is reached by a verification only.
MOVES: dict[State, frozenset[State]] = {
    "submitted": frozenset({"building", "stale"}),
    "building": frozenset({"submitted", "behaving", "stale"}),
    "behaving": frozenset({"submitted", "waiting", "stale"}),
    "waiting": frozenset({"timing", "stale"}),
    "timing": frozenset({"waiting", "stale"}),
    "judged": frozenset({"waiting", "stale"}),
    "stale": frozenset(),
}
# Fixed: re-runs of one lineage, so that a night with many promotions does not run the same patch for ever.
MOST_RERUNS = 3
# What has not got its due when its baseline is replaced; the others were answered for good.
RERUN_VERDICTS = frozenset({"promote", "simplify", "incremental", "undecided"})


@folds("strategy proposed")
def _proposed(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Strategy(**{**values, "detail": canonical(values["detail"])}, at_us=entry.at_us))


@folds("candidate submitted")
def _submitted(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Candidate(**values, created_us=entry.at_us, moved_us=entry.at_us))


@folds("candidate moved")
def _moved(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    candidate = session.get_one(Candidate, values["candidate"])
    candidate.state, candidate.reason, candidate.moved_us = values["to"], values["reason"], entry.at_us


def propose(
    writing: Writing,
    night: int,
    *,
    title: str,
    made_by: str,
    detail: dict[str, Any] | None = None,
    fingerprint: str | None = None,
    scouting: int = 0,
) -> Strategy:
    """Record a strategy, from the task `scouting`. Whether it is a duplicate is the caller's to ask first."""
    number = writing.next_number(Strategy.id)
    values = {
        "id": number,
        "night": writing.get(Night, night).number,
        "title": title,
        "detail": detail or {},
        "made_by": made_by,
        "fingerprint": fingerprint,
        "scouting": scouting,
    }
    writing.append("strategy proposed", values)
    return writing.get(Strategy, number)


def strategies_like(reading: Reading, night: int, fingerprint: str) -> list[Strategy]:
    """The strategies of one fingerprint, the earliest first."""
    like = select(Strategy).where(Strategy.night == night, Strategy.fingerprint == fingerprint)
    return list(reading.session.scalars(like.order_by(Strategy.id)))


def proposed_in(reading: Reading, task: int) -> list[Strategy]:
    """The strategies that one scouting brought, the best first."""
    return list(reading.session.scalars(select(Strategy).where(Strategy.scouting == task).order_by(Strategy.id)))


def submit(
    writing: Writing,
    night: int,
    *,
    parent: str,
    tree: str,
    commit: str,
    made_by: str,
    description: str,
    strategy: int | None = None,
    rebased_from: int | None = None,
    fingerprint: str | None = None,
) -> Candidate:
    """Record a new candidate under the night's next number.

    Args:
        writing: the transaction.
        night: the night.
        parent: the commit that it must beat.
        tree: git's id of its tree.
        commit: git's id of its commit.
        made_by: the agent.
        description: one line for people.
        strategy: what it tries, if it tries something recorded.
        rebased_from: the stale candidate that this one runs again.
        fingerprint: equal for the same patch in other clothes.

    Raises:
        UserError: the lineage was run again `MOST_RERUNS` times; or the night or what is re-run is not there.
    """
    epoch = writing.get(Night, night).epoch
    number = next_number(writing, night)
    key = writing.next_number(Candidate.id)
    before = None if rebased_from is None else _rerunnable(writing, rebased_from)
    values = {
        "id": key,
        "night": night,
        "number": number,
        "parent": parent,
        "tree": tree,
        "commit": commit,
        "epoch": epoch,
        "description": description,
        "made_by": made_by,
        "strategy": strategy,
        "rebased_from": rebased_from,
        "lineage": key if before is None else before.lineage,
        "depth": 0 if before is None else before.depth + 1,
        "fingerprint": fingerprint,
    }
    writing.append("candidate submitted", values)
    return writing.get(Candidate, key)


def of_report(reading: Reading, report: int) -> Candidate | None:
    """The candidate that came of a report, by the report's entry: it is the next one. Re-runs come of no report."""
    entry = reading.session.get(Entry, report + 1)
    if entry is None or entry.kind != "candidate submitted":
        return None
    values = json.loads(entry.payload)
    return reading.get(Candidate, values["id"]) if values["rebased_from"] is None else None


def next_number(reading: Reading, night: int) -> int:
    """The number that the night's next candidate gets, from 1; git refs are made with it before the row is."""
    last = select(Candidate.number).where(Candidate.night == night).order_by(Candidate.number.desc()).limit(1)
    return (reading.session.scalar(last) or 0) + 1


def move(writing: Writing, candidate: int, to: State, reason: str = "") -> Candidate:
    """Move a candidate on, or back after a step that was cut short. UserError for a move that there is not."""
    row = writing.get(Candidate, candidate)
    if to not in MOVES[row.state] or not _may_leave_judgement(row, to):  # type: ignore[index]
        verdict = f" ({row.verdict})" if row.state == "judged" else ""
        raise UserError(f"candidate {row.number} is {row.state}{verdict} and cannot become {to}")
    writing.append("candidate moved", {"candidate": candidate, "to": to, "reason": reason})
    return row


def numbered(reading: Reading, night: int, number: int) -> Candidate | None:
    """A candidate by the number that people know."""
    found = select(Candidate).where(Candidate.night == night, Candidate.number == number)
    return reading.session.scalars(found).one_or_none()


def with_state(reading: Reading, night: int, *states: State) -> list[Candidate]:
    """The candidates in any of these states, by number."""
    found = select(Candidate).where(Candidate.night == night, Candidate.state.in_(states)).order_by(Candidate.number)
    return list(reading.session.scalars(found))


def with_verdict(reading: Reading, night: int, *verdicts: str) -> list[Candidate]:
    """The candidates whose latest verdict is any of these, by number."""
    found = select(Candidate).where(Candidate.night == night, Candidate.verdict.in_(verdicts))
    return list(reading.session.scalars(found.order_by(Candidate.number)))


def dropped(night: int) -> Select[int | None]:
    """A query for the strategies whose last candidate is stale and was not run again: they may be proposed anew."""
    later = aliased(Candidate)
    again = select(later.id).where(later.strategy == Candidate.strategy, later.id > Candidate.id)
    return select(Candidate.strategy).where(
        Candidate.night == night, Candidate.state == "stale", Candidate.strategy.is_not(None), ~again.exists()
    )


def with_tree(reading: Reading, night: int, tree: str) -> list[Candidate]:
    """The candidates of exactly this tree, by number."""
    found = select(Candidate).where(Candidate.night == night, Candidate.tree == tree).order_by(Candidate.number)
    return list(reading.session.scalars(found))


def lineage(reading: Reading, candidate: Candidate) -> list[Candidate]:
    """All runs of what was submitted once, the first one first."""
    found = select(Candidate).where(Candidate.lineage == candidate.lineage).order_by(Candidate.depth, Candidate.id)
    return list(reading.session.scalars(found))


def _may_leave_judgement(row: Candidate, to: State) -> bool:
    if row.state != "judged":
        return True
    return row.verdict == "undecided" if to == "waiting" else row.verdict in RERUN_VERDICTS


def _rerunnable(writing: Writing, candidate: int) -> Candidate:
    row = writing.get(Candidate, candidate)
    if row.state != "stale":
        raise UserError(f"candidate {row.number} is {row.state}; only a stale one is run again")
    if row.depth >= MOST_RERUNS:
        raise UserError(f"candidate {row.number} is re-run {row.depth} of its lineage; {MOST_RERUNS} are the most")
    again = writing.session.scalar(select(Candidate.number).where(Candidate.rebased_from == candidate))
    if again is not None:
        raise UserError(f"candidate {row.number} was run again already, as {again}")
    return row
