r"""The chain: every entry's hash covers the one before it, so that what was written cannot be changed unseen.

An entry's hash is SHA-256 over these lines joined by "\n": "nightfleet ledger 1", sequence, at_us, kind, the previous
entry's hash, payload. The payload is canonical JSON (sorted keys, no blanks, ASCII), so it holds no line break and
needs no escaping. Before the first entry stands `GENESIS`.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nightfleet.native import UserError

# Fixed: they are part of every hash.
PREFIX = "nightfleet ledger 1"
GENESIS = "0" * 64
# SQLite and PostgreSQL both keep whole numbers of 64 bits.
LARGEST = 2**63 - 1


def canonical(values: Mapping[str, Any]) -> str:
    """Canonical JSON of plain values. UserError for what JSON or one of the databases cannot hold.

    Both databases refuse the same: PostgreSQL's text has no NUL, and no database text has half a surrogate pair.
    """
    _holdable(values)
    try:
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"the ledger keeps plain JSON values: {error}") from error


def entry_hash(sequence: int, at_us: int, kind: str, previous: str, payload: str) -> str:
    """SHA-256 of one entry, 64 hex digits."""
    text = "\n".join((PREFIX, str(sequence), str(at_us), kind, previous, payload))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _holdable(value: object) -> None:
    match value:
        case str():
            if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
                raise UserError(f"text in the ledger has no NUL and no half characters; got {value[:80]!a}")
        case bool() | float() | None:
            pass
        case int():
            if not -LARGEST <= value <= LARGEST:
                raise UserError(f"a number in the ledger lies between -{LARGEST} and {LARGEST}; got {value}")
        case Mapping():
            for key, item in value.items():
                _holdable(key)
                _holdable(item)
        case list() | tuple():
            for item in value:
                _holdable(item)
        case _:
            raise UserError(f"the ledger keeps plain JSON values; got {type(value).__name__}")
