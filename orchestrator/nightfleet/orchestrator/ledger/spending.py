"""What the night may spend: reserved before work is given out, settled after it. Unsettled reservations count in full.

So the sum never exceeds a limit by more than what one task took beyond its own reservation, and an agent that dies
without a word has spent what was reserved for it.
"""

from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Entry, Spend


@dataclass(frozen=True)
class Amounts:
    """Tokens in and out, millionths of a US dollar, experiments, microseconds of an agent's work."""

    tokens: int = 0
    micro_dollars: int = 0
    experiments: int = 0
    wall_us: int = 0

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0:
            raise UserError(f"nobody spends less than nothing; got {self}")


NAMES = tuple(field.name for field in fields(Amounts))


class OverBudgetError(UserError):
    """The night's budget does not hold what was asked for."""


@folds("spend reserved")
def _reserved(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    session.add(Spend(**values))


@folds("spend settled")
def _settled(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    row = session.get_one(Spend, values.pop("spend"))
    row.settled = True
    for name, amount in values.items():
        setattr(row, name, amount)


@folds("spend recorded")
def _recorded(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    session.add(Spend(**values, settled=True))


def record(writing: Writing, night: int, amounts: Amounts, task: int | None = None) -> None:
    """Say what was spent without a reservation; nothing is not recorded."""
    if any(astuple(amounts)):
        number = writing.next_number(Spend.id)
        writing.append("spend recorded", {"id": number, "night": night, "task": task, **asdict(amounts)})


def reserve(writing: Writing, night: int, amounts: Amounts, limits: Amounts, task: int | None = None) -> Spend:
    """Set `amounts` aside. OverBudgetError, naming what is short, where they do not fit into `limits` any more."""
    gone = asdict(total(writing, night))
    for name, amount in asdict(amounts).items():
        limit = getattr(limits, name)
        if amount and gone[name] + amount > limit:
            raise OverBudgetError(f"{name}: {gone[name]} of {limit} are spent or reserved; {amount} more do not fit")
    number = writing.next_number(Spend.id)
    writing.append("spend reserved", {"id": number, "night": night, "task": task, **asdict(amounts)})
    return writing.get(Spend, number)


def settle(writing: Writing, spend: int, amounts: Amounts | None = None) -> Spend:
    """Say what it came to, more or less than was reserved; all that was reserved if nobody knows.

    The same again changes nothing; UserError for another figure.
    """
    row = writing.get(Spend, spend)
    reserved = Amounts(**{name: getattr(row, name) for name in NAMES})
    if row.settled:
        if amounts not in {None, reserved}:
            raise UserError(f"spend {spend} is settled as {reserved}; it cannot become {amounts}")
        return row
    writing.append("spend settled", {"spend": spend, **asdict(amounts or reserved)})
    return row


def total(reading: Reading, night: int) -> Amounts:
    """All that is spent or reserved."""
    sums = [func.coalesce(func.sum(getattr(Spend, name)), 0) for name in NAMES]
    return Amounts(*(int(value) for value in reading.session.execute(select(*sums).where(Spend.night == night)).one()))


def open_spends(reading: Reading, night: int) -> list[Spend]:
    """What is reserved and not settled."""
    return list(reading.session.scalars(select(Spend).where(Spend.night == night, ~Spend.settled).order_by(Spend.id)))
