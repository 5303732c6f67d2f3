"""What lies in a directory that sandboxed programs wrote to: made harmless, dated, listed and digested.

Whoever calls here knows that nobody writes to the directory any more. No link is ever followed, because a hostile build
may have put one anywhere.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from nightfleet.harness.tree import MTIME_S

# Fixed limits of one directory, beside its bytes.
MOST_FILES = 500_000
MOST_DEPTH = 100
LONGEST_PATH = 2048

# Every generation of builds has a time of its own, long past, so that nothing depends on when it was built: sources
# that changed get the generation's first second, what was built from them lies after it and before the next one's.
GENERATION_S = 40 * 86_400
MARGIN_S = 86_400
# The last generation still lies well before the present.
MOST_GENERATIONS = 200

_SECOND = 1_000_000_000


class ExcessError(Exception):
    """More files, bytes or depth than a directory may have; the message says what was found."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file or link: its size in bytes, and the SHA-256 of its contents or of where it leads."""

    kind: Literal["file", "executable", "link"]
    size: int
    digest: str


Inventory: TypeAlias = Mapping[str, Item]


@dataclass(frozen=True, slots=True)
class Span:
    """Where the times of a generation's files go: real nanoseconds in, constant ones out, in the same order.

    A build must not be able to date its files so that a later build takes them for up to date, so nothing stays in the
    future of its generation.
    """

    generation: int
    began_ns: int
    ended_ns: int

    @property
    def first_s(self) -> int:
        """The time of the sources that this generation changed, in seconds since 1970."""
        return MTIME_S + self.generation * GENERATION_S

    def place(self, mtime_ns: int) -> int:
        """The time that a file gets."""
        first = self.first_s * _SECOND
        if mtime_ns <= first:
            return mtime_ns
        if mtime_ns < self.began_ns:
            return first + _SECOND
        last = first + (GENERATION_S - MARGIN_S) * _SECOND
        return max(first + _SECOND, last - max(0, self.ended_ns - mtime_ns))


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every path below a folder with what `lstat` says, folders before what is in them.

    Raises:
        ExcessError: too many, too deep, or too long for anything to work with.
    """
    waiting = [""]
    count = 0
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        count += len(entries)
        if count > MOST_FILES:
            raise ExcessError(f"more than {MOST_FILES} files")
        for entry in entries:
            path = prefix + entry.name
            if len(os.fsencode(path)) > LONGEST_PATH or path.count("/") >= MOST_DEPTH:
                raise ExcessError(f"a path of more than {LONGEST_PATH} bytes or {MOST_DEPTH} folders")
            status = entry.stat(follow_symlinks=False)
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                waiting.append(f"{path}/")


def settle(folder: Path, span: Span, most_bytes: int) -> int:
    """Make what a sandbox left ours: owner, modes 0755 and 0644, times of the generation; sockets and such are removed.

    Returns:
        Bytes in files.

    Raises:
        ExcessError: more than `most_bytes`, or see `walk`.
    """
    size = 0
    folders: list[tuple[Path, int]] = [(folder, folder.lstat().st_mtime_ns)]
    _own(folder)
    folder.chmod(0o755)
    for path, found in walk(folder):
        place = folder / path
        if stat.S_ISDIR(found.st_mode):
            _own(place)
            place.chmod(0o755)
            folders.append((place, found.st_mtime_ns))
        elif stat.S_ISREG(found.st_mode):
            size += found.st_size
            if size > most_bytes:
                raise ExcessError(f"more than {most_bytes} bytes")
            _own(place)
            place.chmod(0o755 if found.st_mode & 0o111 else 0o644)
            _date(place, span.place(found.st_mtime_ns))
        elif stat.S_ISLNK(found.st_mode):
            _own(place)
            _date(place, span.place(found.st_mtime_ns))
        else:
            place.unlink()
    for place, mtime_ns in folders:
        _date(place, span.place(mtime_ns))
    return size


def take_inventory(folder: Path) -> dict[str, Item]:
    """Every file and link below a folder, by path.

    Raises:
        ExcessError: see `walk`.
    """
    return {path: _item(folder / path, found) for path, found in walk(folder) if not stat.S_ISDIR(found.st_mode)}


def looks_like(folder: Path, items: Inventory) -> bool:
    """Whether a folder has these paths, kinds and sizes; contents are not read."""
    try:
        seen = {path: _outside(found) for path, found in walk(folder) if not stat.S_ISDIR(found.st_mode)}
    except (OSError, ExcessError):
        return False
    return seen == {path: (item.kind, item.size) for path, item in items.items()}


def inventory_digest(items: Inventory) -> str:
    """SHA-256 (64 hex digits) over kind, digest and path of every item, in the order of paths."""
    digest = hashlib.sha256(b"nightfleet inventory 1\n")
    for path, item in sorted(items.items()):
        digest.update(f"{item.kind} {item.digest} {path}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _item(place: Path, found: os.stat_result) -> Item:
    kind, size = _outside(found)
    if kind == "link":
        return Item(kind, size, hashlib.sha256(os.fsencode(place.readlink())).hexdigest())
    if not stat.S_ISREG(found.st_mode):
        return Item(kind, size, "none")
    handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return Item(kind, size, hashlib.file_digest(file, "sha256").hexdigest())


def _outside(found: os.stat_result) -> tuple[Literal["file", "executable", "link"], int]:
    if stat.S_ISLNK(found.st_mode):
        return "link", found.st_size
    return "executable" if found.st_mode & 0o111 else "file", found.st_size


def _own(place: Path) -> None:
    if os.geteuid() == 0:
        os.lchown(place, 0, 0)


def _date(place: Path, mtime_ns: int) -> None:
    os.utime(place, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
