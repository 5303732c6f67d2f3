"""What each promotion in a champion is worth by now; see `orchestrator.ablation`."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Ablation, Entry, Night, Promotion

# Instead of the judge's verdict: others were built on it, or nothing of it is left.
CONFLICT = "conflict"


@folds("promotion left out")
def _left_out(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Ablation(**values, sequence=entry.sequence, at_us=entry.at_us))


def record(writing: Writing, promotion: Promotion, **found: Any) -> Ablation:
    """Say what came of leaving a promotion out of the champion of now; `found` holds the other columns.

    UserError for one that is not in the champion.
    """
    if promotion.result != "swapped":
        raise UserError(f"promotion {promotion.id} is {promotion.result}; it is not in the champion")
    night = writing.get(Night, promotion.night)
    values = {"night": night.number, "promotion": promotion.id, "champion": night.champion, **found}
    return writing.get(Ablation, writing.append("promotion left out", values).sequence)


def of_champion(reading: Reading, night: int) -> dict[int, Ablation]:
    """What is known of the champion of now, by promotion."""
    champion = reading.get(Night, night).champion
    found = select(Ablation).where(Ablation.night == night, Ablation.champion == champion)
    return {row.promotion: row for row in reading.session.scalars(found.order_by(Ablation.sequence))}
