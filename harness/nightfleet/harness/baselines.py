"""What the tests of a baseline came to, kept by what was built: every candidate is held against the same outcomes.

Only what passed is kept. A baseline whose tests fail is the user's to mend, and is run again.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightfleet.harness.command import Command
from nightfleet.harness.copies import disk
from nightfleet.harness.outcomes import Outcomes

FORMAT = 1


class KeptOutcomes:
    """The outcomes of one build under some test commands.

    Args:
        state: the `.nightfleet` directory.
        built: digest of all of the build.
        commands: that test it.
    """

    def __init__(self, state: Path, built: str, commands: Sequence[Command]) -> None:
        key = hashlib.sha256(json.dumps([FORMAT, built, [list(one) for one in commands]]).encode()).hexdigest()
        self._place = state / "outcomes" / f"{key}.json"

    def load(self) -> list[Outcomes] | None:
        """What was kept; None where there is nothing that can be read."""
        try:
            return [_read(one) for one in json.loads(self._place.read_text(encoding="utf-8"))]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, found: Sequence[Outcomes]) -> None:
        """Keep it, at once or not at all. MachineError when it cannot be written."""
        with disk():
            self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._place.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps([_plain(one) for one in found]), encoding="utf-8")
            draft.replace(self._place)


def _plain(one: Outcomes) -> dict[str, Any]:
    return {
        "tests": {name: dict(counts) for name, counts in one.tests.items()},
        "counts": None if one.counts is None else dict(one.counts),
    }


def _read(plain: dict[str, Any]) -> Outcomes:
    tests = {str(name): Counter(counts) for name, counts in plain["tests"].items()}
    return Outcomes(tests, None if plain["counts"] is None else Counter(plain["counts"]))
