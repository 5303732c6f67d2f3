"""Sums by which damage to a report is located. They protect from nothing: that is the root digest's part.

A part of a report's content is named by a JSON pointer of at most three steps ("/speed/pairs/12") and summed by XXH3-64
over its canonical JSON. The rows of a digest array have a sum for every 256 of them, and the exclusive or of all: a
single changed byte is where the two disagree with the file.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

# Fixed by the format.
DEPTH = 3
ROW_BYTES = 24
SUM_ROWS = 256
_COLUMNS = ("case", "high", "low")


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no blanks, ASCII: what is hashed of a report."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def part_sums(content: Mapping[str, Any]) -> dict[str, str]:
    """The sum of every part, 16 hex digits, by its pointer."""
    return {pointer: xxhash.xxh3_64_hexdigest(canonical(value)) for pointer, value in _parts("", content, DEPTH)}


def differing_parts(content: Mapping[str, Any], recorded: Mapping[str, str]) -> list[str]:
    """The parts that are not what they were, or whose sum is not, in the order of the report."""
    now = part_sums(content)
    pointers = dict.fromkeys([*now, *recorded])
    return [pointer for pointer in pointers if now.get(pointer) != recorded.get(pointer)]


def row_sums(rows: bytes) -> dict[str, Any]:
    """Of the rows of a digest array: `sums` of 256 rows each, and `xor` of all rows, as hex digits."""
    return {
        "sums": [xxhash.xxh3_64_hexdigest(chunk) for chunk in _chunks(rows)],
        "xor": _xor(rows).tobytes().hex(),
    }


@dataclass(frozen=True)
class Damage:
    """Where rows are not what they were: in rows [first, end); which byte, and what it was, if it is a single one."""

    first: int
    end: int
    byte: int | None = None
    was: int | None = None
    now: int | None = None

    @property
    def text(self) -> str:
        """For people."""
        if self.byte is None:
            return f"in rows {self.first} to {self.end - 1}"
        column, place = _COLUMNS[self.byte // 8], self.byte % 8
        return f"in row {self.first}, byte {place} of `{column}`: it is 0x{self.now:02x} and was 0x{self.was:02x}"


def locate(rows: bytes, recorded: Mapping[str, Any]) -> Damage | None:
    """Where rows differ from those of which `row_sums` were recorded; None if they are the same, or other in number."""
    sums = row_sums(rows)
    if len(sums["sums"]) != len(recorded["sums"]):
        return None
    bad = [at for at, (now, then) in enumerate(zip(sums["sums"], recorded["sums"], strict=True)) if now != then]
    if not bad:
        return None
    first, end = bad[0] * SUM_ROWS, min((bad[-1] + 1) * SUM_ROWS, len(rows) // ROW_BYTES)
    single = _single(rows, bad[0], recorded) if len(bad) == 1 else None
    return single or Damage(first, end)


def _single(rows: bytes, chunk: int, recorded: Mapping[str, Any]) -> Damage | None:
    """The one byte of a chunk that differs, if it is one: `xor` names its column and how, the sum its row."""
    changed = np.frombuffer(bytes.fromhex(recorded["xor"]), np.uint8) ^ _xor(rows)
    (columns,) = np.nonzero(changed)
    if len(columns) != 1:
        return None
    column, change = int(columns[0]), int(changed[columns[0]])
    start = chunk * SUM_ROWS * ROW_BYTES
    right = bytearray(rows[start : start + SUM_ROWS * ROW_BYTES])
    for at in range(column, len(right), ROW_BYTES):
        right[at] ^= change
        if xxhash.xxh3_64_hexdigest(bytes(right)) == recorded["sums"][chunk]:
            row = chunk * SUM_ROWS + at // ROW_BYTES
            return Damage(row, row + 1, column, was=right[at], now=right[at] ^ change)
        right[at] ^= change
    return None


def _xor(rows: bytes) -> NDArray[np.uint8]:
    table = np.frombuffer(rows, np.uint8).reshape(-1, ROW_BYTES)
    found: NDArray[np.uint8] = np.bitwise_xor.reduce(table, axis=0, initial=0)
    return found


def _chunks(rows: bytes) -> Iterator[bytes]:
    size = SUM_ROWS * ROW_BYTES
    yield from (rows[at : at + size] for at in range(0, len(rows), size))


def _parts(pointer: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    children: Iterator[tuple[Any, Any]]
    if depth and isinstance(value, dict) and value:
        children = iter(value.items())
    elif depth and isinstance(value, list) and value:
        children = iter(enumerate(value))
    else:
        yield pointer, value
        return
    for key, child in children:
        yield from _parts(f"{pointer}/{key}", child, depth - 1)
