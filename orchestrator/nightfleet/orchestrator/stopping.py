"""How one process asks another to end a night: by a file in the state directory, looked for at every step."""

import json
import os
from pathlib import Path

from nightfleet.harness.copies import disk
from nightfleet.orchestrator.ledger.tables import Night

FILE = "stop"


def ask(state: Path, night: Night, *, measure: bool) -> None:
    """Ask for the end of a night, with or without the measurement of the champion that ends it."""
    draft = state / f"{FILE}.{os.getpid()}"
    with disk():
        draft.write_text(json.dumps({"night": night.name, "measure": measure}) + "\n", encoding="utf-8")
        draft.replace(state / FILE)


def asked(state: Path, night: str) -> bool | None:
    """Whether somebody asked for the end of this night: None if not, else whether to measure the champion first."""
    try:
        found = json.loads((state / FILE).read_text(encoding="utf-8"))
        return bool(found["measure"]) if found["night"] == night else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def answered(state: Path) -> None:
    """The night has ended: what was asked is done."""
    (state / FILE).unlink(missing_ok=True)
