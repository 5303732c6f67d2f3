"""What time it is, for the ledger: asked of a clock that tests can set."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC. ValueError for a time without a zone: it would mean another moment elsewhere."""
    if moment.tzinfo is None:
        raise ValueError(f"a time in the ledger has a zone; got {moment}")
    return (moment - _EPOCH) // _MICROSECOND


def from_us(moment_us: int) -> datetime:
    """The time, in UTC."""
    return _EPOCH + moment_us * _MICROSECOND
