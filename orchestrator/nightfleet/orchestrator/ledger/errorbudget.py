"""The night's error budget, index by index: spent before the first pair, and never given back.

Speed, simplify and score have a budget each. The test for an incremental runs beside that for a promotion, on the same
pairs under the same index, with an alpha of its own.
"""

from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.nights import budget_of
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Candidate, Entry, Night, Reservation, Verification

Purpose: TypeAlias = Literal["speed", "simplify", "score"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


@folds("error budget reserved")
def _reserved(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Reservation(**values, at_us=entry.at_us))


def reserve(
    writing: Writing, candidate: int, *, baseline: str, binary: str, timing: str, why: str, purpose: Purpose = "speed"
) -> Reservation:
    """Spend the next index on a timing that begins with no pairs. Committed before pair 1, it is spent whatever comes.

    Args:
        writing: the transaction.
        candidate: what is timed.
        baseline: the commit that it is timed against.
        binary: digest of what is run; a timing of another binary is another timing.
        timing: its name, never used before; the journal of its pairs has the same.
        why: first, stale, retry, stack, restart: for people.
        purpose: which of the budgets.

    Raises:
        UserError: the timing's name was used.
    """
    if of_timing(writing, timing) is not None:
        raise UserError(f"the timing {timing} has an index already; continue it, or give a new one a new name")
    row = writing.get(Candidate, candidate)
    budget = budget_of(writing.get(Night, row.night))
    used = select(func.count()).where(Reservation.night == row.night, Reservation.purpose == purpose)
    index = writing.session.scalar(used) or 0
    number = writing.next_number(Reservation.id)
    values = {
        "id": number,
        "night": row.night,
        "purpose": purpose,
        "index": index,
        "alpha": budget.of(index),
        "candidate": candidate,
        "baseline": baseline,
        "binary": binary,
        "timing": timing,
        "why": why,
    }
    writing.append("error budget reserved", values)
    return writing.get(Reservation, number)


def continued(reading: Reading, candidate: int, *, baseline: str, binary: str, timing: str) -> Reservation:
    """The index of a timing that goes on with all the pairs of its journal: it spends none.

    So it may after it came out undecided, and after the process that ran it was killed. Whoever does not have the
    journal any more cannot go on: what begins without pairs reserves anew.

    UserError unless it is the candidate's last timing, of this binary against this baseline, and still open.
    """
    last = select(Reservation).where(Reservation.candidate == candidate).order_by(Reservation.id.desc()).limit(1)
    row = reading.session.scalars(last).one_or_none()
    if row is None or row.timing != timing:
        raise UserError(
            f"the last timing of candidate {candidate} is {row and row.timing}; it cannot continue {timing}"
        )
    if (row.baseline, row.binary) != (baseline, binary):
        raise UserError(f"candidate {candidate} was timed with another binary or baseline; that is another timing")
    ended = select(Verification.verdict).where(Verification.reservation == row.id, Verification.verdict != "undecided")
    verdict = reading.session.scalar(ended.limit(1))
    if verdict is not None:
        raise UserError(f"the timing of candidate {candidate} ended with {verdict}; it cannot go on")
    return row


def of_timing(reading: Reading, timing: str) -> Reservation | None:
    """The index that the timing of this name has."""
    return reading.session.scalars(select(Reservation).where(Reservation.timing == timing)).one_or_none()


def used(reading: Reading, night: int) -> dict[Purpose, tuple[int, float]]:
    """How many indices each purpose has used, and their alpha together."""
    sums = select(Reservation.purpose, func.count(), func.sum(Reservation.alpha)).where(Reservation.night == night)
    found = {
        purpose: (count, total) for purpose, count, total in reading.session.execute(sums.group_by(Reservation.purpose))
    }
    return {purpose: found.get(purpose, (0, 0.0)) for purpose in PURPOSES}
