"""Everything that a night stands on: the user's repository, the state directory, the ledger, the place for trees."""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.copies import disk
from nightfleet.native import UserError
from nightfleet.orchestrator.ledger import Ledger, nights
from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.quiet import Quiet
from nightfleet.orchestrator.repo.checkout import Checkout
from nightfleet.orchestrator.repo.door import Door
from nightfleet.orchestrator.repo.refs import References
from nightfleet.orchestrator.repo.trees import AgentTrees, default_place

STATE = ".nightfleet"
LEDGER = "ledger.sqlite"
# A ledger elsewhere than beside program.md, and agents' trees elsewhere than in the user's cache folder.
LEDGER_VARIABLE, TREES_VARIABLE = "NIGHTFLEET_LEDGER", "NIGHTFLEET_TREES"
MASTER_BYTES = 32


def ledger_of(here: Path) -> Path | str:
    """Where the ledger of a folder is: beside its program.md, or the URL that a person set."""
    return os.environ.get(LEDGER_VARIABLE) or here / STATE / LEDGER


@dataclass(frozen=True)
class Place:
    """Where nights are held.

    Attributes:
        here: the folder of program.md.
        state: the `.nightfleet` folder in it.
        quiet: who may make noise there.
    """

    here: Path
    state: Path
    checkout: Checkout
    door: Door
    references: References
    ledger: Ledger
    trees: AgentTrees
    quiet: Quiet

    @classmethod
    def open(cls, here: Path, *, make: bool = False) -> "Place":
        """The place of a folder.

        Args:
            here: the folder of program.md.
            make: make the state directory where there is none.

        Raises:
            UserError: no night was ever launched there (unless `make`); or it is in no repository.
            nightfleet.native.MachineError: disk, git or database failed.
        """
        here = here.resolve()
        state = here / STATE
        where = ledger_of(here)
        if not make and isinstance(where, Path) and not where.exists():
            raise UserError(f"no night was launched in {here}; type `nightfleet launch` in the folder of program.md")
        checkout = Checkout(here)
        with disk():
            state.mkdir(mode=0o700, exist_ok=True)
            # Never committed, whatever the user's own files say.
            (state / ".gitignore").write_bytes(b"*\n")
        return cls(
            here,
            state,
            checkout,
            Door(checkout, state),
            References(checkout),
            Ledger.open(where),
            AgentTrees(Path(os.environ.get(TREES_VARIABLE) or default_place()), state),
            Quiet(state),
        )

    def master(self) -> bytes:
        """The secret that all salts follow from, made once. It never leaves the state directory."""
        place = self.state / "master"
        with disk():
            if not place.exists():
                # Whole or not at all, and the first one stays.
                draft = self.state / f"master.{secrets.token_hex(4)}"
                handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(MASTER_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    place.hardlink_to(draft)
                draft.unlink()
            secret = place.read_bytes()
        if len(secret) != MASTER_BYTES:
            raise UserError(f"{place} has {len(secret)} bytes and should have {MASTER_BYTES}; move it away")
        return secret

    def night(self) -> Night:
        """The night that has not ended. UserError if there is none."""
        with self.ledger.read() as reading:
            found = nights.running(reading)
        if found is None:
            raise UserError(f"no night is under way in {self.here}; type `nightfleet launch`")
        return found

    def folder(self, night: Night) -> Path:
        """Where the views of a night are."""
        return self.state / "runs" / night.name
