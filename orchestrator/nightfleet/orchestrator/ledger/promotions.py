"""Promotions: what git was asked, before it was asked, and what it answered; and what people say about the incredible.

The champion branch and the ledger cannot change in one step. So the swap is meant first (committed), then done in git,
then settled here. After a crash in between, the branch says which half happened: `unsettled` asks.
"""

from typing import Any, Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Candidate, Entry, Night, Promotion, SignOff, Verification

Result: TypeAlias = Literal["swapped", "lost"]


@folds("promotion meant")
def _meant(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Promotion(**values, meant_us=entry.at_us))


@folds("promotion settled")
def _settled(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    row = session.get_one(Promotion, values["promotion"])
    row.result, row.settled_us = values["result"], entry.at_us
    if row.result == "swapped":
        session.get_one(Night, row.night).champion = row.to_commit


@folds("promotions withdrawn")
def _withdrawn(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    for row in _from(session, values["promotion"]):
        row.result = "withdrawn"
    first = session.get_one(Promotion, values["promotion"])
    session.get_one(Night, first.night).champion = first.from_commit


@folds("promotion signed off")
def _signed_off(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(SignOff(**values, at_us=entry.at_us))


def mean(writing: Writing, verification: int, to_commit: str) -> Promotion:
    """Say that the champion is about to move from where it is to `to_commit`.

    UserError unless the candidate's latest verdict is promote or simplify against the champion as it is now, in the
    epoch that is now, and no other swap is unsettled.
    """
    found = writing.get(Verification, verification)
    candidate = writing.get(Candidate, found.candidate)
    night = writing.get(Night, candidate.night)
    if candidate.verification != verification or candidate.state != "judged":
        raise UserError(f"candidate {candidate.number} has moved on since verification {verification}")
    if found.verdict not in {"promote", "simplify"}:
        raise UserError(
            f"candidate {candidate.number} came out {found.verdict}; only promote and simplify move the champion"
        )
    if found.baseline != night.champion:
        raise UserError(
            f"candidate {candidate.number} was judged against {found.baseline}; the champion is {night.champion}"
        )
    if candidate.epoch != night.epoch:
        raise UserError(f"candidate {candidate.number} was judged in epoch {candidate.epoch}; now is {night.epoch}")
    if unsettled(writing, night.number) is not None:
        raise UserError(f"night {night.name} has a promotion that is not settled; settle it first")
    number = writing.next_number(Promotion.id)
    values = {
        "id": number,
        "night": night.number,
        "candidate": candidate.id,
        "verification": verification,
        "from_commit": night.champion,
        "to_commit": to_commit,
    }
    writing.append("promotion meant", values)
    return writing.get(Promotion, number)


def settle(writing: Writing, promotion: int, result: Result) -> Promotion:
    """What the branch says came of it. The same result again changes nothing; UserError for another one."""
    row = writing.get(Promotion, promotion)
    if row.result == "meant":
        writing.append("promotion settled", {"promotion": promotion, "result": result})
    elif row.result != result:
        raise UserError(f"promotion {promotion} is settled as {row.result}; it cannot become {result}")
    return row


def unsettled(reading: Reading, night: int) -> Promotion | None:
    """The swap that was meant and of which nobody said how it ended: at most one."""
    found = select(Promotion).where(Promotion.night == night, Promotion.result == "meant")
    return reading.session.scalars(found).one_or_none()


def of(reading: Reading, candidate: int) -> Promotion | None:
    """The swap that a candidate was last meant for."""
    found = select(Promotion).where(Promotion.candidate == candidate).order_by(Promotion.id.desc()).limit(1)
    return reading.session.scalars(found).one_or_none()


def sign_off(writing: Writing, promotion: int, *, accepted: bool, said_by: str, reason: str = "") -> SignOff:
    """What a person says about a promotion. UserError for one that is not in the champion."""
    row = writing.get(Promotion, promotion)
    if row.result != "swapped":
        raise UserError(f"promotion {promotion} is {row.result}; there is nothing to sign off")
    number = writing.next_number(SignOff.id)
    values = {"id": number, "promotion": promotion, "accepted": accepted, "said_by": said_by, "reason": reason}
    writing.append("promotion signed off", values)
    return writing.get(SignOff, number)


def withdraw(writing: Writing, promotion: int) -> list[Promotion]:
    """Set the champion back to where it was before a promotion that a person rejected; that one and all after it.

    UserError for one that is not in the champion, or that nobody rejected.
    """
    row = writing.get(Promotion, promotion)
    if row.result != "swapped":
        raise UserError(f"promotion {promotion} is {row.result}; it is not in the champion")
    if not rejected(writing, row.candidate):
        raise UserError(f"nobody rejected promotion {promotion}")
    gone = _from(writing.session, promotion)
    writing.append("promotions withdrawn", {"promotion": promotion})
    return gone


def in_champion(reading: Reading, night: int) -> list[Promotion]:
    """The promotions that the champion is made of, in order."""
    found = select(Promotion).where(Promotion.night == night, Promotion.result == "swapped").order_by(Promotion.id)
    return list(reading.session.scalars(found))


def to_withdraw(reading: Reading, night: int) -> Promotion | None:
    """The first promotion in the champion that a person rejected."""
    return next((row for row in in_champion(reading, night) if rejected(reading, row.candidate)), None)


def rejected(reading: Reading, candidate: int) -> bool:
    """Whether the last that a person said about a candidate's promotion was no."""
    said = (
        select(SignOff.accepted)
        .join(Promotion, Promotion.id == SignOff.promotion)
        .where(Promotion.candidate == candidate)
        .order_by(SignOff.id.desc())
    )
    return reading.session.scalar(said.limit(1)) is False


def with_commit(reading: Reading, night: int, commit: str) -> Promotion | None:
    """The promotion that made this commit the champion."""
    found = select(Promotion).where(Promotion.night == night, Promotion.to_commit == commit)
    return reading.session.scalars(found.order_by(Promotion.id.desc()).limit(1)).one_or_none()


def _from(session: Session, promotion: int) -> list[Promotion]:
    """A promotion and those after it that are in the champion."""
    first = session.get_one(Promotion, promotion)
    found = select(Promotion).where(
        Promotion.night == first.night, Promotion.id >= promotion, Promotion.result == "swapped"
    )
    return list(session.scalars(found.order_by(Promotion.id)))


def awaiting_sign_off(reading: Reading, night: int) -> list[Promotion]:
    """Promotions with an extraordinary gain of which no person has said anything."""
    found = (
        select(Promotion)
        .join(Verification, Verification.id == Promotion.verification)
        .where(Promotion.night == night, Promotion.result == "swapped", Verification.extraordinary)
        .where(~select(SignOff.id).where(SignOff.promotion == Promotion.id).exists())
        .order_by(Promotion.id)
    )
    return list(reading.session.scalars(found))
