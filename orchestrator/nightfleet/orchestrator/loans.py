"""Trees that are lent to agents from outside: whose each is, and which commit it was made from.

What counts is written in the state directory, where a confined agent cannot write: neither the tree nor the agent is
asked where the tree is or what it is to be compared with. A loan lasts as long as the claim that it was made for.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from nightfleet.harness.copies import disk
from nightfleet.native import MachineError
from nightfleet.orchestrator.ledger import Reading
from nightfleet.orchestrator.ledger.tables import Lease, Night, Task
from nightfleet.orchestrator.place import Place

_NAME = re.compile(r"\d+-\d+\.json")


@dataclass(frozen=True)
class Loan:
    """One tree in somebody's hands.

    Attributes:
        task: that it is for.
        token: of the claim.
        who: the agent, as it calls itself.
        parent: the commit that the tree was made from.
        tree: its name among the agents' trees.
    """

    task: int
    token: int
    who: str
    parent: str
    tree: str


class Loans:
    """The loans of one place."""

    def __init__(self, place: Place) -> None:
        self._place, self._folder = place, place.state / "loans"

    def keep(self, loan: Loan) -> None:
        """Write a loan down, whole or not at all."""
        with disk():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            draft = self._folder / f".{secrets.token_hex(4)}"
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(loan)))
            draft.replace(self._file(loan.task, loan.token))

    def find(self, task: int, token: int) -> Loan | None:
        """The loan of a claim; None if no tree was lent here for it, or it was given back."""
        return _read(self._file(task, token))

    def end(self, loan: Loan) -> None:
        """Remove the tree and forget the loan. A tree that somebody still writes to stays until a later `tidy`."""
        with contextlib.suppress(MachineError):
            self._place.trees.discard(loan.tree)
            self._file(loan.task, loan.token).unlink(missing_ok=True)

    def tidy(self) -> list[str]:
        """End the loans whose tasks are done, cancelled or somebody else's; the names of the trees that are left."""
        with self._place.ledger.read() as reading:
            over = [loan for loan in self if not _lasts(reading, loan)]
        for loan in over:
            self.end(loan)
        return [loan.tree for loan in self]

    def __iter__(self) -> Iterator[Loan]:
        with disk():
            found = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        for file in found:
            loan = _read(file) if _NAME.fullmatch(file.name) else None
            if loan is not None:
                yield loan

    def _file(self, task: int, token: int) -> Path:
        return self._folder / f"{task}-{token}.json"


def _lasts(reading: Reading, loan: Loan) -> bool:
    """Whether the claim that a tree was lent for still stands, or could be honoured."""
    task = reading.session.get(Task, loan.task)
    if task is None or task.state != "claimed" or task.token != loan.token:
        return False
    lease = reading.session.get(Lease, loan.task)
    beats = lease is not None and lease.expires_us > reading.now_us
    # A night that is over puts no task back: there the end of the lease has to do.
    return beats or reading.get(Night, task.night).ended_us is None


def _read(file: Path) -> Loan | None:
    try:
        return Loan(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise MachineError(f"{file} cannot be read: {error}; if nobody works on that task, remove it") from error
