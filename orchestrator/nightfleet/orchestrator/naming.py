"""What a new night is called: a name that no other night in this repository has, wherever its ledger is.

Several arenas of one repository have ledgers of their own, and a state directory may be thrown away; references stay.
So a name is taken in the repository itself, and a note beside the ledger says that it was us, until the ledger does.
"""

import json
import time
from dataclasses import asdict, dataclass

from nightfleet.harness.copies import disk
from nightfleet.native import UserError
from nightfleet.orchestrator.ledger import nights
from nightfleet.orchestrator.place import Place

# Fixed: nights of one day that get a name by themselves.
MOST_NAMES = 1000
FILE = "opening"


@dataclass(frozen=True)
class Named:
    """A night that is about to begin: its name, the champion's branch, and the commit that it begins from."""

    name: str
    branch: str
    start: str


def name_night(place: Place, start: str, branch: str | None) -> Named:
    """Take a name for a night and make its champion's branch, or find both made by a process that was killed there.

    Args:
        place: where.
        start: the commit that it begins from.
        branch: of the champion; None for one with the night's name.

    Raises:
        UserError: the branch is taken, or is none.
        nightfleet.native.MachineError: git, disk or database failed.
    """
    named = _cut_short(place, start, branch)
    if named is None:
        if branch is not None:
            _refuse_taken(place, branch)
        named = _taken(place, start, branch)
        _note(place, named)
    found = place.references.read(f"refs/heads/{named.branch}")
    if found is None or found.commit != start:
        place.references.new_branch(named.branch, start)
    return named


def named(place: Place) -> None:
    """The ledger has the night: the note is done with."""
    with disk():
        (place.state / FILE).unlink(missing_ok=True)


def _refuse_taken(place: Place, branch: str) -> None:
    place.references.check_name(branch)
    if place.references.read(f"refs/heads/{branch}") is not None:
        raise UserError(f"there is a branch {branch}; name another, or move yours away: 'git branch -m {branch} mine'")


def _taken(place: Place, start: str, branch: str | None) -> Named:
    """Today's date, or the first after it that no night had and no branch stands in the way of; taken for us."""
    today = time.strftime("%Y-%m-%d")
    with place.ledger.read() as reading:
        used = nights.names(reading)
    for name in (today, *(f"{today}-{number}" for number in range(2, MOST_NAMES))):
        champion = branch or f"nightfleet/{name}/champion"
        free = name not in used and (branch or place.references.read(f"refs/heads/{champion}") is None)
        if free and place.references.take_run(name, start):
            return Named(name, champion, start)
    raise UserError(f"{MOST_NAMES} nights began today; begin another tomorrow")


def _note(place: Place, named: Named) -> None:
    draft = place.state / f"{FILE}.draft"
    with disk():
        draft.write_text(json.dumps(asdict(named)) + "\n", encoding="utf-8")
        draft.replace(place.state / FILE)


def _cut_short(place: Place, start: str, branch: str | None) -> Named | None:
    """What a process that was killed before its night was in the ledger had taken, if it fits."""
    try:
        found = Named(**json.loads((place.state / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    with place.ledger.read() as reading:
        used = nights.names(reading)
    wanted = branch or f"nightfleet/{found.name}/champion"
    return found if found.name not in used and (found.start, found.branch) == (start, wanted) else None
