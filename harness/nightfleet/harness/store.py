"""A place for directories that are made once, by key: whole or not at all, and kept while anyone uses them.

Each key has a lock file beside its directory. Whoever makes or removes the directory holds it alone, whoever uses it
holds it together with others; the kernel lets go of a dead process's locks.
"""

import fcntl
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from nightfleet.harness.copies import remove
from nightfleet.native import MachineError

# Fixed: how often to look whether another is done, and how long users of a damaged directory may take to go.
POLL_S = 0.05
PATIENCE_S = 5.0
_MAKING = ".making"
_LOCK = ".lock"


class Hold:
    """A lock on one key until `release`, the end of the process, or nobody refers to it any more."""

    def __init__(self, handle: int) -> None:
        self._close = weakref.finalize(self, os.close, handle)

    @classmethod
    def take(cls, place: Path, how: Literal["alone", "together"], *, wait: bool = True) -> "Hold | None":
        """Lock a file, which is created if it is missing; None if that would mean waiting and `wait` is false."""
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        flags = (fcntl.LOCK_EX if how == "alone" else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(handle, flags)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return cls(handle)

    def release(self) -> None:
        """Let go. May be called twice."""
        self._close()


class Store:
    """Directories below `root`, each under its key.

    Args:
        root: made if it is missing, for nobody but us.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)

    def place(self, key: str) -> Path:
        """Where a key's directory is, or would be."""
        return self.root / key

    def obtain(self, key: str, make: Callable[[Path], None], intact: Callable[[Path], bool]) -> Hold:
        """The hold on a key's directory, which is made if it is missing or not intact.

        Args:
            key: a file name.
            make: fills a new directory; whatever it raises leaves nothing behind.
            intact: whether a directory is what `make` made; called often.

        Raises:
            MachineError: what was made is not intact, or is damaged while others use it.
        """
        place = self.place(key)
        for _ in range(3):
            hold = Hold.take(self._lock(key), "together")
            if hold is not None and place.is_dir() and intact(place):
                os.utime(self._lock(key))
                return hold
            if hold is not None:
                hold.release()
            self._make(key, make, intact)
        raise MachineError(f"{place} changes under our hands; does something else write to it?")

    def collect(self, size: Callable[[Path], int], budget_bytes: int) -> int:
        """Remove what was used longest ago and is not in use, until the rest has at most `budget_bytes`.

        Returns:
            Bytes that were removed.
        """
        kept, removed = 0, 0
        for half in self.root.glob(f"*{_MAKING}"):
            self._discard(half.name.removesuffix(_MAKING), half)
        for lock in sorted(self.root.glob(f"*{_LOCK}"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
            key = lock.name.removesuffix(_LOCK)
            place = self.place(key)
            if not place.is_dir():
                continue
            bytes_here = size(place)
            if kept + bytes_here > budget_bytes and self._discard(key, place):
                removed += bytes_here
            else:
                kept += bytes_here
        return removed

    def _make(self, key: str, make: Callable[[Path], None], intact: Callable[[Path], bool]) -> None:
        place, making = self.place(key), self.root / f"{key}{_MAKING}"
        hold = self._alone(key, intact)
        if hold is None:
            return
        try:
            if place.is_dir() and intact(place):
                return
            # With the lock in our hands, whoever began these is dead.
            remove(place)
            remove(making)
            making.mkdir(mode=0o700)
            try:
                make(making)
                making.rename(place)
            except BaseException:
                remove(making)
                raise
        finally:
            hold.release()

    def _alone(self, key: str, intact: Callable[[Path], bool]) -> Hold | None:
        """The lock to make a key's directory with; None once another has made it and perhaps uses it for hours."""
        place = self.place(key)
        waited_s = 0.0
        while (hold := Hold.take(self._lock(key), "alone", wait=False)) is None:
            if place.is_dir():
                if intact(place):
                    return None
                waited_s += POLL_S
                if waited_s > PATIENCE_S:
                    raise MachineError(f"{place} is damaged and in use; end what uses it and remove the folder")
            time.sleep(POLL_S)
        return hold

    def _discard(self, key: str, place: Path) -> bool:
        hold = Hold.take(self._lock(key), "alone", wait=False)
        if hold is None:
            return False
        # Renamed first, so that a crash leaves what is plainly half.
        doomed = self.root / f"{key}{_MAKING}"
        if place != doomed:
            remove(doomed)
            place.rename(doomed)
        remove(doomed)
        hold.release()
        return True

    def _lock(self, key: str) -> Path:
        return self.root / f"{key}{_LOCK}"
