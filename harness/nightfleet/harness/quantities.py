"""Quantities as people write them in `program.md`, each with its unit and its bounds.

Most functions here make the reader of one key's value. It returns the quantity in the unit that its docstring says, or
raises a ValueError that names the bounds, the value and, where it can be guessed, what was meant.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

from pydantic import PlainValidator

DURATIONS_S: Mapping[str, Decimal] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
SIZES_BYTES: Mapping[str, Decimal] = {f"{prefix}iB": Decimal(1 << 10 * power) for power, prefix in enumerate("KMGT", 1)}
COUNTS: Mapping[str, Decimal] = {"": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9)}
PERCENT: Mapping[str, Decimal] = {"%": Decimal("0.01")}
DOLLARS = re.compile(r"\$([0-9]{1,9}(?:\.[0-9]{1,2})?)")
NUMBER = re.compile(r"\+?([0-9]{1,18}(?:\.[0-9]{1,9})?)\s?([A-Za-z%]*)")


def percent(low: str, high: str) -> PlainValidator:
    """Reads "5%" or "+1%" as a ratio (0.05, 0.01)."""
    return PlainValidator(lambda value: float(_read(value, "a percentage", PERCENT, low, high)))


def duration(low: str, high: str) -> PlainValidator:
    """Reads "200ms", "60s", "15m" or "8h" in seconds."""
    return PlainValidator(lambda value: float(_read(value, "a duration (ms, s, m, h)", DURATIONS_S, low, high)))


def read_duration(value: object, low: str, high: str) -> float:
    """Seconds from `low` to `high`, of "90s", "8h" or "3d"; ValueError for anything else."""
    return float(_read(value, "a duration (s, m, h, d)", {**DURATIONS_S, "d": Decimal(86_400)}, low, high))


def size(low: str, high: str) -> PlainValidator:
    """Reads "64MiB" or "4GiB" in bytes."""
    return PlainValidator(lambda value: _whole(value, "a size (KiB, MiB, GiB, TiB)", SIZES_BYTES, low, high))


def count(low: str, high: str) -> PlainValidator:
    """Reads 20000, "20k" or "2M" as a whole number."""
    return PlainValidator(lambda value: read_count(value, low, high))


def read_count(value: object, low: str, high: str) -> int:
    """A whole number from `low` to `high`; ValueError for anything else."""
    return _whole(value, "a whole number", COUNTS, low, high)


def dollars(low: str, high: str) -> PlainValidator:
    """Reads "$20" or "$0.50" in cents."""

    def read(value: object) -> int:
        match = DOLLARS.fullmatch(value) if isinstance(value, str) else None
        cents = None if match is None else int(Decimal(match[1]) * 100)
        if cents is None or not _cents(low) <= cents <= _cents(high):
            raise ValueError(f"must be an amount from {low} to {high}, like '$20' or '$0.50'; got {value!r}")
        return cents

    return PlainValidator(read)


def plain(low: float, high: float) -> PlainValidator:
    """Reads a number without a unit."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low} to {high}; got {value!r}")
        return float(value)

    return PlainValidator(read)


def _cents(text: str) -> int:
    return int(Decimal(text.removeprefix("$")) * 100)


def _whole(value: object, noun: str, units: Mapping[str, Decimal], low: str, high: str) -> int:
    quantity = _read(value, noun, units, low, high)
    if quantity != int(quantity):
        raise ValueError(f"must be {noun} from {low} to {high}, without a fraction left; got {value!r}")
    return int(quantity)


def _read(value: object, noun: str, units: Mapping[str, Decimal], low: str, high: str) -> Decimal:
    quantity, least, most = (_parse(text, units) for text in (value, low, high))
    if quantity is None or least is None or most is None:
        raise ValueError(f"must be {noun} from {low} to {high}; got {value!r}{_guess(value, units)}")
    if not least <= quantity <= most:
        if low == high:
            raise ValueError(f"can only be {low} in this version; got {value!r}")
        raise ValueError(f"must be from {low} to {high}; got {value!r}")
    return quantity


def _parse(value: object, units: Mapping[str, Decimal]) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    match = NUMBER.fullmatch(str(value))
    if match is None or match[2] not in units:
        return None
    return Decimal(match[1]) * units[match[2]]


def _guess(value: object, units: Mapping[str, Decimal]) -> str:
    """What was probably meant, where only the unit is missing or almost right."""
    match = NUMBER.fullmatch(str(value)) if isinstance(value, int | float | str) else None
    if match is None or isinstance(value, bool):
        return ""
    near = [unit for unit in units if unit and unit[0].casefold() == match[2][:1].casefold()] or list(units)
    return f"; did you mean {' or '.join(repr(match[1] + unit) for unit in near if unit)}?"
