"""Figures as people read them: gains, their intervals, times, money."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len

from nightfleet.orchestrator.ledger.clock import from_us

# Of a commit's id, as in results.tsv.
SHORT = 9


def percent(share: float, *, sign: bool = True) -> str:
    """A gain: 0.0712 is "+7.1%"."""
    return f"{100 * share:+.1f}%" if sign else f"{100 * share:.1f}%"


def interval(low: float | None, high: float | None) -> str:
    """The ends of an interval in brackets; nothing where there is none."""
    return "" if low is None or high is None else f"({percent(low, sign=False)} to {percent(high, sign=False)})"


def total_gain(gains: Iterable[float | None]) -> float:
    """What steps amount to if each has just the gain that it was promoted with: 1 - Π(1 - gain). Not a measurement."""
    left = 1.0
    for gain in gains:
        left *= 1.0 - (gain or 0.0)
    return 1.0 - left


def duration(seconds: float) -> str:
    """A time to the minute, or to the second if it is short."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def dollars(micro_dollars: int) -> str:
    """Money."""
    return f"${micro_dollars / 1e6:.2f}"


def count(number: int, what: str) -> str:
    """A number of things: "1 pair", "2 pairs"."""
    return f"{number:,} {what if number == 1 else what + 's'}"


def clock_time(moment_us: int) -> str:
    """The time of day where the reader is."""
    return f"{from_us(moment_us).astimezone():%H:%M:%S}"


def iso(moment_us: int) -> str:
    """A moment for machines, in UTC."""
    return from_us(moment_us).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def short(commit: str) -> str:
    """The beginning of a commit's id."""
    return commit[:SHORT]


def day(moment_us: int) -> str:
    """Date and time where the reader is."""
    moment: datetime = from_us(moment_us).astimezone()
    return f"{moment:%Y-%m-%d %H:%M}"


def columns(rows: Sequence[Sequence[str]], left: Collection[int]) -> Iterator[str]:
    """A table's lines, as long as they have to be: a log has no width to keep to.

    Args:
        rows: of equally many cells; the last of each stays as it is.
        left: the columns that begin at one place; the others end at one.
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        room = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False)]
        cells = [
            cell + gap if place in left else gap + cell
            for place, (cell, gap) in enumerate(zip(row, room, strict=False))
        ]
        yield "  ".join([*cells, row[-1]])
