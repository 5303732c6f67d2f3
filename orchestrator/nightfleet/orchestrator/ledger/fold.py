"""How an entry changes the state: one function for each kind, run when it is written and again when it is checked.

A fold looks at nothing but the entry and the state, so that the same entries give the same state anywhere.
"""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from sqlalchemy.orm import Session

from nightfleet.orchestrator.ledger.tables import Entry

Fold: TypeAlias = Callable[[Session, Entry, dict[str, Any]], None]

FOLDS: dict[str, Fold] = {}


def folds(kind: str) -> Callable[[Fold], Fold]:
    """Make a function the fold of a kind of entry."""

    def register(fold: Fold) -> Fold:
        if kind in FOLDS:
            raise ValueError(f"two folds for {kind!r}")
        FOLDS[kind] = fold
        return fold

    return register


def apply(session: Session, entry: Entry) -> None:
    """Change the state as an entry says. KeyError for a kind that nobody knows."""
    FOLDS[entry.kind](session, entry, json.loads(entry.payload))
