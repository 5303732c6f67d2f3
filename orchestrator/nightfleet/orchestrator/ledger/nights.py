"""Nights: one launch and all its continuations, with what is frozen at its beginning."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightfleet.harness.rules import ErrorBudget
from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Agent, Entry, Morning, Night, Snapshot


class Begun(NamedTuple):
    """A night, and whether it had been begun before."""

    night: Night
    continued: bool


@folds("night began")
def _began(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Night(**values, champion=values["root"], began_us=entry.at_us))


@folds("night ended")
def _ended(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    night = session.get_one(Night, values["night"])
    night.ended_us, night.ending = entry.at_us, values["ending"]


@folds("night reopened")
def _reopened(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    night = session.get_one(Night, values["night"])
    night.ended_us, night.ending = None, None


@folds("program read")
def _program_read(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    text = str(values.pop("text"))
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    session.add(Snapshot(**values, sequence=entry.sequence, digest=digest, at_us=entry.at_us))
    session.get_one(Night, values["night"]).epoch = values["epoch"]


@folds("agent joined")
def _joined(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Agent(**values, joined_us=entry.at_us))


@folds("agent left")
def _left(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.get_one(Agent, values["agent"]).left_us = entry.at_us


@folds("baseline rehearsed")
def _rehearsed(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    """Nothing hangs on it: the entry itself is what is kept."""


@folds("champion measured")
def _measured(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Morning(**values, sequence=entry.sequence, at_us=entry.at_us))


def running(reading: Reading) -> Night | None:
    """The night that has not ended: there is at most one."""
    return reading.session.scalars(select(Night).where(Night.ended_us.is_(None))).one_or_none()


def latest(reading: Reading) -> Night | None:
    """The night that began last."""
    return reading.session.scalars(select(Night).order_by(Night.number.desc()).limit(1)).one_or_none()


def named(reading: Reading, name: str) -> Night | None:
    """A night by its name."""
    return reading.session.scalars(select(Night).where(Night.name == name)).one_or_none()


def names(reading: Reading) -> set[str]:
    """Of all nights so far."""
    return set(reading.session.scalars(select(Night.name)))


def begin_or_continue(
    writing: Writing, *, name: str, root: str, base_branch: str, champion_branch: str, planned: int, alpha: float
) -> Begun:
    """Begin a night, or go on with the one that has not ended.

    A continued night keeps its name, root, T and alpha whatever is asked for now: its error budget was split by them.

    Args:
        writing: the transaction.
        name: of the run, for folders and refs; never used before.
        root: the commit that the night begins from.
        base_branch: the branch that the root was taken from.
        champion_branch: the branch that promotions move.
        planned: T, the timed tests that the night plans.
        alpha: expected false promotions of the whole night.

    Raises:
        UserError: a night on other branches has not ended; or the name was used.
        ValueError: `planned` or `alpha` are impossible (`ErrorBudget`).
    """
    ErrorBudget(alpha, planned)
    night = running(writing)
    if night is not None:
        if (night.base_branch, night.champion_branch) != (base_branch, champion_branch):
            raise UserError(
                f"the night {night.name} from {night.base_branch} to {night.champion_branch} has not ended; "
                f"asked for was {base_branch} to {champion_branch}. Type 'nightfleet stop' to end it first"
            )
        return Begun(night, continued=True)
    if writing.session.scalar(select(Night.number).where(Night.name == name)) is not None:
        raise UserError(f"a night named {name} is in the ledger already")
    number = writing.next_number(Night.number)
    values = {
        "number": number,
        "name": name,
        "root": root,
        "base_branch": base_branch,
        "champion_branch": champion_branch,
        "planned": planned,
        "alpha": alpha,
    }
    writing.append("night began", values)
    return Begun(writing.get(Night, number), continued=False)


def end(writing: Writing, night: int, ending: str) -> None:
    """End a night, for the reason that `ending` says. UserError if it has ended."""
    if writing.get(Night, night).ended_us is not None:
        raise UserError(f"night {night} has ended before")
    writing.append("night ended", {"night": night, "ending": ending})


def rehearsed(writing: Writing, night: int, commit: str, *, cases: int, seconds: Mapping[str, float]) -> None:
    """Record that a champion was found fit to be held against, over how many cases, and how long each step took."""
    values = {"night": writing.get(Night, night).number, "commit": commit, "cases": cases, "seconds": dict(seconds)}
    writing.append("baseline rehearsed", values)


def measured(writing: Writing, night: int, **found: Any) -> Morning:
    """Record what the champion was found to be worth; `found` holds the other columns of `Morning`."""
    entry = writing.append("champion measured", {"night": writing.get(Night, night).number, **found})
    return writing.get(Morning, entry.sequence)


def morning(reading: Reading, night: int) -> Morning | None:
    """The last measurement of the champion against the root; None where there is none."""
    last = select(Morning).where(Morning.night == night).order_by(Morning.sequence.desc()).limit(1)
    return reading.session.scalars(last).one_or_none()


def reopen(writing: Writing, night: int) -> Night:
    """Go on with a night that has ended, since its chain has to be judged again. UserError if another is under way."""
    other = running(writing)
    if other is not None and other.number != night:
        raise UserError(f"the night {other.name} has not ended; type `nightfleet stop` first")
    if other is None:
        writing.append("night reopened", {"night": night})
    return writing.get(Night, night)


def budget_of(night: Night) -> ErrorBudget:
    """The night's error budget; speed, simplify and score each have one like it."""
    return ErrorBudget(night.alpha, night.planned)


def read_program(writing: Writing, night: int, text: str, *, new_epoch: bool = False) -> Snapshot:
    """Keep the text of program.md if it is not the one that was read last.

    Args:
        writing: the transaction.
        night: the night that goes by it from now on.
        text: all of it.
        new_epoch: what is measured changed with it (build, workloads, metric): earlier timings do not count any more.
    """
    last = program(writing, night)
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    if last is not None and last.digest == digest:
        return last
    epoch = writing.get(Night, night).epoch + new_epoch
    entry = writing.append("program read", {"night": night, "epoch": epoch, "text": text})
    return writing.get(Snapshot, entry.sequence)


def program(reading: Reading, night: int) -> Snapshot | None:
    """What program.md was when it was read last."""
    last = select(Snapshot).where(Snapshot.night == night).order_by(Snapshot.sequence.desc()).limit(1)
    return reading.session.scalars(last).one_or_none()


def program_text(reading: Reading, night: int) -> str | None:
    """All of program.md as it was read last."""
    last = program(reading, night)
    return None if last is None else str(json.loads(reading.get(Entry, last.sequence).payload)["text"])


def agent_joins(writing: Writing, night: int, *, name: str, role: str, backend: str) -> Agent:
    """Make an agent known. Once: the same agent again is the same row. UserError if another has the name."""
    found = writing.session.scalars(select(Agent).where(Agent.night == night, Agent.name == name)).one_or_none()
    if found is not None:
        if (found.role, found.backend) != (role, backend):
            raise UserError(f"an agent named {name} is a {found.role} of {found.backend} already; choose another name")
        return found
    number = writing.next_number(Agent.id)
    values = {"id": number, "night": night, "name": name, "role": role, "backend": backend}
    writing.append("agent joined", values)
    return writing.get(Agent, number)


def agent_leaves(writing: Writing, agent: int) -> None:
    """An agent is gone. May be said twice."""
    if writing.get(Agent, agent).left_us is None:
        writing.append("agent left", {"agent": agent})
