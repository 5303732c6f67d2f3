"""The cases that a salt draws, a second time: hashlib alone, and not the code that drew them when it mattered.

`harness.cases` states the formulas; this file follows the words and not the code. When the two disagree, one is wrong.
"""

import hashlib
import hmac
import struct
from collections.abc import Collection, Mapping
from typing import Any

PRACTICE_CASES = 1000
CASE_BITS = 31
# Fixed: of one workload.
MOST_CASES = 10_000_000


def times(subject: Mapping[str, Any]) -> int:
    """How many times the program's cases were compared: once, but for a morning's figure. ValueError for less."""
    found = subject.get("times", 1)
    if type(found) is not int or found < 1:
        raise ValueError(f"times is {found!r}; it counts from 1")
    return found


def seed(salt: bytes) -> int:
    """The seed of all record hashes."""
    (value,) = struct.unpack("<Q", _key(salt, "hash", "")[:8])
    return int(value)


def behaviour_cases(salt: bytes, practice_salt: bytes, workload: str, count: int, block: int) -> list[int]:
    """The numbers that the behaviour gate compares, in the order in which it runs them."""
    practice = first_distinct(_key(practice_salt, "practice", workload), max(PRACTICE_CASES, block), ())
    return first_distinct(_key(salt, "behaviour", workload), count, frozenset(practice))


def manifest_order(salt: bytes, workload: str, lines: int) -> list[int]:
    """The lines of a manifest, in the order in which the behaviour gate runs them."""
    words = hashlib.shake_256(_key(salt, "behaviour", workload) + struct.pack("<Q", 0)).digest(8 * lines)
    values = struct.unpack(f"<{lines}Q", words)
    return sorted(range(lines), key=values.__getitem__)


def first_distinct(key: bytes, count: int, without: Collection[int]) -> list[int]:
    """The first numbers of a key's stream, without repeats and without some."""
    words = count + count // 8 + 64
    while True:
        stream = struct.unpack(f"<{words}I", hashlib.shake_256(key).digest(4 * words))
        numbers = dict.fromkeys(word & (1 << CASE_BITS) - 1 for word in stream)
        found = [number for number in numbers if number not in without]
        if len(found) >= count:
            return found[:count]
        words *= 2


def _key(salt: bytes, purpose: str, workload: str) -> bytes:
    return hmac.digest(salt, purpose.encode() + b"\0" + workload.encode(), "sha256")
