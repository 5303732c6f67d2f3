"""The nights that are recorded in the folder that a command was typed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightfleet.orchestrator.ledger import Ledger
    from nightfleet.orchestrator.ledger.tables import Night

BEGIN_ONE = "type `nightfleet launch` to begin one, or go to the folder of the program.md that you launched"


@contextmanager
def last_night(here: Path) -> "Iterator[tuple[Ledger, Night]]":
    """The ledger of a folder, and the night that began last.

    Raises:
        UserError: there is none, or a newer nightfleet wrote it.
        nightfleet.native.MachineError: it cannot be read.
    """
    from nightfleet.native import UserError
    from nightfleet.orchestrator.ledger import Ledger, nights
    from nightfleet.orchestrator.place import ledger_of

    where = ledger_of(here)
    # Opening would make one.
    if isinstance(where, Path) and not where.exists():
        raise UserError(f"no night was begun in {here}: there is no {where.relative_to(here)}; {BEGIN_ONE}")
    with Ledger.open(where) as ledger:
        with ledger.read() as reading:
            night = nights.latest(reading)
        if night is None:
            raise UserError(f"no night was begun in {here}: its ledger has none; {BEGIN_ONE}")
        yield ledger, night


def whose_reports(here: Path) -> dict[str, tuple[str, int]]:
    """Of which night's which candidate each report is, by its id; nothing where no night was begun.

    Raises:
        UserError: a newer nightfleet wrote the ledger.
        nightfleet.native.MachineError: it cannot be read.
    """
    from nightfleet.orchestrator.ledger import Ledger, queries
    from nightfleet.orchestrator.place import ledger_of

    where = ledger_of(here)
    if isinstance(where, Path) and not where.exists():
        return {}
    with Ledger.open(where) as ledger, ledger.read() as reading:
        return queries.candidates_of_reports(reading)
