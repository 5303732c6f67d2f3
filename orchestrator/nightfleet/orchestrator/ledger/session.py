"""One transaction: what it may read, and the one way in which it may write."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from sqlalchemy import Table as SQLTable
from sqlalchemy import func, insert, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.entries import GENESIS, canonical, entry_hash
from nightfleet.orchestrator.ledger.fold import apply
from nightfleet.orchestrator.ledger.tables import Drive, Entry, Table

Row = TypeVar("Row", bound=Table)

_ADD = insert(cast("SQLTable", Entry.__table__))
_LAST = select(Entry.sequence, Entry.hash).order_by(Entry.sequence.desc()).limit(1)


class Reading:
    """The ledger as it stood at one moment. Rows stay readable after the transaction; changing them changes nothing.

    Attributes:
        now_us: microseconds since 1970 UTC when the transaction began.
    """

    def __init__(self, session: Session, now_us: int) -> None:
        self.session, self.now_us = session, now_us

    def get(self, table: type[Row], key: int) -> Row:
        """A row by its number. UserError where there is none."""
        row = self.session.get(table, key)
        if row is None:
            raise UserError(f"the ledger has no {table.__name__.lower()} {key}")
        return row

    def last_entry(self) -> tuple[int, str]:
        """Sequence and hash of the last entry: (0, GENESIS) for an empty ledger.

        Written down elsewhere, as promotions do in their commits, it shows whether entries were cut off the end.
        """
        found = self.session.execute(
            select(Entry.sequence, Entry.hash).order_by(Entry.sequence.desc()).limit(1)
        ).first()
        return (0, GENESIS) if found is None else (found.sequence, found.hash)


class Writing(Reading):
    """A transaction that writes: all of its entries and what follows from them are kept, or nothing is.

    Args:
        session: alone in writing until it ends.
        now_us: see `Reading`.
        drive: the drive in whose name this writes; None for agents and people, who only use the desk and sign off.
    """

    def __init__(self, session: Session, now_us: int, drive: int | None = None) -> None:
        super().__init__(session, now_us)
        self._last = self.last_entry()
        if drive is not None and drive != (latest := self.next_number(Drive.number) - 1):
            raise UserError(f"drive {drive} of this ledger was replaced by drive {latest}; this process must not write")

    def next_number(self, column: InstrumentedAttribute[int]) -> int:
        """One more than the largest there is, from 1. Nobody else writes meanwhile."""
        return (self.session.connection().scalar(select(func.max(column))) or 0) + 1

    def append(self, kind: str, values: Mapping[str, Any]) -> Entry:
        """Add one entry and do to the state what it says. UserError for values that JSON cannot hold."""
        sequence, previous = self._last[0] + 1, self._last[1]
        payload = canonical(values)
        digest = entry_hash(sequence, self.now_us, kind, previous, payload)
        link: dict[str, Any] = {"sequence": sequence, "at_us": self.now_us, "kind": kind, "payload": payload}
        link |= {"previous": previous, "hash": digest}
        # Not through the session: that is a quarter of a millisecond more for each entry.
        self.session.connection().execute(_ADD, link)
        entry = Entry(**link)
        apply(self.session, entry)
        # Without relationships between the classes SQLAlchemy cannot know which new row leans on which.
        self.session.flush()
        self._last = (sequence, digest)
        return entry
