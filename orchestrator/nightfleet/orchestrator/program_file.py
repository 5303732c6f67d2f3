"""The human's program while the night goes on: read again between experiments, and kept in the ledger as read."""

from collections.abc import Callable
from pathlib import Path

from nightfleet.harness.epoch import epoch_digest
from nightfleet.native import UserError
from nightfleet.orchestrator.ledger import nights
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program, load_program
from nightfleet.orchestrator.telling import Telling


class ProgramFile:
    """The program that a night goes by now.

    Args:
        place: whose ledger keeps what was read.
        night: its number.
        program: as it was read first.
        file: that it is read from again; None for one that is only in a commit.
        wished: what of it the command line changes.
        telling: hears what an edit means, and what is wrong with it.
    """

    def __init__(
        self,
        place: Place,
        night: int,
        program: Program,
        file: Path | None,
        *,
        wished: Callable[[Program], Program],
        telling: Telling,
    ) -> None:
        self.now, self._wished = program, wished
        self._place, self._night, self._file, self._telling = place, night, file, telling
        self._seen = self._mark()

    def look(self) -> None:
        """Read it again if it was written since; one that cannot be is told, and the last one stays."""
        mark = self._mark()
        if self._file is None or mark == self._seen:
            return
        self._seen = mark
        try:
            edited = load_program(self._file)
        except (UserError, OSError) as error:
            self._telling.say(f"the edit of program.md is not taken: {error}")
            return
        if edited.digest == self.now.digest:
            return
        words = take_edit(self._place, self._night, self.now, edited)
        self.now = self._wished(edited)
        self._telling.say(words)

    def _mark(self) -> tuple[int, int] | None:
        try:
            found = None if self._file is None else self._file.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size)


def take_edit(place: Place, night: int, last: Program | None, edited: Program) -> str:
    """Keep an edit of program.md; in words what it means. `last`: None where nobody can read it any more."""
    anew = last is None or epoch_digest(edited.arena) != epoch_digest(last.arena)
    with place.ledger.write() as writing:
        nights.read_program(writing, night, edited.front.text, new_epoch=anew)
    what = "what is open or was near is judged anew" if anew else "it holds from the next candidate on"
    return f"program.md was edited; {what}"


def edited_meanwhile(place: Place, night: int, program: Program) -> list[str]:
    """Keep an edit that was made while nobody drove the night, and say what it means; nothing where there was none."""
    try:
        last = read_back(place, night)
    except UserError:
        # Written for another version, which knew keys that this one does not.
        last = None
    return [] if last is not None and last.digest == program.digest else [take_edit(place, night, last, program)]


def read_back(place: Place, night: int) -> Program:
    """What a night goes by now, as it read it last: not what lies in the folder. UserError if it has read nothing."""
    with place.ledger.read() as reading:
        text = nights.program_text(reading, night)
    if text is None:
        raise UserError(f"the night of {place.here} has read no program.md yet; type `nightfleet launch`")
    return load_program(text)
