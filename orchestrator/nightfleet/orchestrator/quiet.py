"""Who may make noise on this machine: whoever builds or compares does it together; what is timed wants silence.

Locks on files in the state directory, so that other processes keep to it as well; the kernel lets go of a dead one's.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightfleet.harness.store import Hold
from nightfleet.native import MachineError


class Quiet:
    """The noise and the silence of one state directory.

    Args:
        state: the `.nightfleet` folder; it is there.
    """

    def __init__(self, state: Path) -> None:
        # Whoever waits for silence holds the door: nobody new may begin, or silence would never come.
        self._door, self._room = state / "quiet.door", state / "quiet.room"
        self._mine = threading.local()

    @contextmanager
    def noise(self) -> Iterator[None]:
        """Entered by whoever is about to keep cores busy; waits while there is, or is to be, silence.

        A thread that is in it may enter again: it does not wait for a silence that waits for it.
        """
        if getattr(self._mine, "noisy", False):
            yield
            return
        _taken(self._door, "together").release()
        held = _taken(self._room, "together")
        self._mine.noisy = True
        try:
            yield
        finally:
            self._mine.noisy = False
            held.release()

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Entered by whoever times; waits until all noise has ended, and lets none begin."""
        door = _taken(self._door, "alone")
        try:
            room = _taken(self._room, "alone")
            try:
                yield
            finally:
                room.release()
        finally:
            door.release()


def _taken(place: Path, how: str) -> Hold:
    held = Hold.take(place, "alone" if how == "alone" else "together")
    if held is None:
        raise MachineError(f"{place} could not be locked")
    return held
