"""Whether a ledger is what was written: its chain, entry by entry, and its tables, computed once more from the entries.

Whoever can write the file can also write a new chain from some entry on. Only a hash that was noted elsewhere shows
that, and shows that the end was cut off: promotions carry the last entry's hash in their commits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, inspect, select, true
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from nightfleet.orchestrator.ledger.entries import GENESIS, entry_hash
from nightfleet.orchestrator.ledger.fold import apply
from nightfleet.orchestrator.ledger.tables import DERIVED, Entry, Table

BATCH = 1000


@dataclass(frozen=True)
class Health:
    """What a check found.

    Attributes:
        entries: how many there are.
        last_hash: of the last one.
        broken_at: the sequence at which the chain breaks first, None if it holds.
        trouble: what is wrong, for people; empty if all is well.
    """

    entries: int
    last_hash: str
    broken_at: int | None = None
    trouble: str = ""

    @property
    def sound(self) -> bool:
        """Whether all is well."""
        return not self.trouble


def check(session: Session, remembered: Mapping[int, str] | None = None) -> Health:
    """Check the ledger that `session` reads.

    Args:
        session: sees one moment throughout.
        remembered: hashes of entries, by sequence, that were noted elsewhere.
    """
    left = dict(remembered or {})
    count, previous = 0, GENESIS
    for entry in _entries(session):
        trouble = _break(entry, count + 1, previous, left.pop(entry.sequence, None))
        if trouble:
            return Health(count, previous, entry.sequence, trouble)
        count, previous = count + 1, entry.hash
    if left:
        return Health(
            count,
            previous,
            count + 1,
            f"the end is cut off: entry {max(left)} was noted elsewhere, the last is {count}",
        )
    return Health(count, previous, None, _other_state(session))


def _entries(session: Session) -> Iterator[Entry]:
    """Every entry in order, a batch at a time: no cursor stays open when a check ends early."""
    last: int | None = None
    some: Sequence[Entry] | None = None
    while some is None or some:
        after = true() if last is None else Entry.sequence > last
        some = session.scalars(select(Entry).where(after).order_by(Entry.sequence).limit(BATCH)).all()
        for entry in some:
            session.expunge(entry)
            yield entry
            last = entry.sequence


def _break(entry: Entry, expected: int, previous: str, noted: str | None) -> str:
    """What is wrong with an entry that should be number `expected`."""
    if entry.sequence != expected:
        return f"entry {expected} is missing: after {expected - 1} comes {entry.sequence}"
    found = entry_hash(entry.sequence, entry.at_us, entry.kind, entry.previous, entry.payload)
    if found != entry.hash:
        return f"entry {entry.sequence} was edited: its hash is {entry.hash[:12]} and its contents give {found[:12]}"
    if entry.previous != previous:
        return (
            f"entry {entry.sequence} does not follow {expected - 1}: it names {entry.previous[:12]} as the hash before "
            f"it, which is {previous[:12]}; one of the two was put in place of another"
        )
    if noted not in {None, entry.hash}:
        return f"entry {entry.sequence} is not the one that was noted elsewhere as {str(noted)[:12]}"
    return ""


def _other_state(session: Session) -> str:
    """The first difference between the tables and what the entries say, if there is one."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Table.metadata.create_all(engine)
    with Session(engine) as again:
        for entry in _entries(session):
            apply(again, entry)
            again.flush()
        troubles = (_difference(table, _rows(session, table), _rows(again, table)) for table in DERIVED)
        found = next((trouble for trouble in troubles if trouble), "")
    engine.dispose()
    return found


def _difference(table: type[Table], rows: Iterable[dict[str, Any]], expected: Iterable[dict[str, Any]]) -> str:
    """By key and not by position: the two databases order text differently."""
    keys = [str(column.key) for column in inspect(table).primary_key]

    def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in keys)

    def name(key: tuple[Any, ...]) -> str:
        return f"{table.__tablename__} {', '.join(map(str, key))}"

    left = {key_of(row): row for row in expected}
    for row in rows:
        other = left.pop(key_of(row), None)
        if other is None:
            return f"{name(key_of(row))} is not in the entries"
        if row != other:
            column = next(column for column in row if row[column] != other[column])
            return f"{name(key_of(row))}: {column} is {row[column]!r}, and the entries say {other[column]!r}"
    return f"{name(min(left))} is in the entries and not in the table" if left else ""


def _rows(session: Session, table: type[Table]) -> Iterator[dict[str, Any]]:
    query = select(table.__table__)
    return (dict(row) for row in session.execute(query).mappings())
