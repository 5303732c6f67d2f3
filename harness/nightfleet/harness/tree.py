"""A tree of files, from a commit or a folder, and its export to where it is built and run.

Only regular files are exported. Links, submodules and other things, and names that no file of ours may have, are left
out and listed: a baseline may hold them as long as its build does not need them, a candidate may not change them.
"""

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from nightfleet.harness.scope import is_repository, path_problem
from nightfleet.native import UserError

# Fixed limits of one tree.
MOST_FILES = 200_000
MOST_BYTES = 8 << 30

# 2000-01-01 00:00:00 UTC: the time of every exported file. ZIP archives cannot hold one before 1980.
MTIME_S = 946_684_800

Kind: TypeAlias = Literal["file", "executable", "link", "submodule", "other"]
MODES: Mapping[Kind, int] = {"file": 0o644, "executable": 0o755}


class Source(Protocol):
    """Where contents come from."""

    def read(self, entries: Iterable["Entry"]) -> Iterator[bytes]:
        """The contents of these entries, in order; UserError where one is not there or no longer what it was."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree.

    Attributes:
        path: relative to the arena's folder, `/` between parts; bytes that are not UTF-8 as lone surrogates.
        kind: only "file" and "executable" are ever exported.
        id: "git:…" (object) or "sha256:…" (contents, or the target of a link); comparable only within one kind of id.
        size: in bytes; 0 where there are no contents.
        source: what `id` is to be read from.
    """

    path: str
    kind: Kind
    id: str
    size: int
    source: Source = field(repr=False, compare=False)


@dataclass(frozen=True)
class Tree:
    """Names and contents, immutable.

    Attributes:
        name: what people call it: a commit's id, or a folder.
        entries: everything that was found, by path.
        left_out: what is never exported, with the reason.
    """

    name: str
    entries: Mapping[str, Entry]
    left_out: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        found = ((path, _left_out_because(entry)) for path, entry in self.entries.items())
        object.__setattr__(self, "left_out", {path: why for path, why in found if why is not None})
        size = sum(entry.size for entry in self.entries.values())
        if len(self.entries) > MOST_FILES or size > MOST_BYTES:
            raise UserError(
                f"{self.name}: a tree may have at most {MOST_FILES} files and {MOST_BYTES} bytes; "
                f"this one has {len(self.entries)} and {size}"
            )

    @property
    def files(self) -> dict[str, Entry]:
        """What is exported, sorted by path."""
        return {path: entry for path, entry in sorted(self.entries.items()) if path not in self.left_out}

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) over path, mode and id of every file: the same for the same objects."""
        digest = hashlib.sha256(b"nightfleet tree 1\n")
        for path, entry in self.files.items():
            digest.update(f"{MODES[entry.kind]:o} {entry.id} {path}\0".encode())
        return digest.hexdigest()

    def read(self, path: str) -> bytes:
        """The contents of one file.

        Raises:
            UserError: there is no such file.
        """
        if path not in self.entries or path in self.left_out:
            raise UserError(f"{self.name} has no file {printable(path)}")
        return next(contents([self.entries[path]]))


def contents(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The contents of entries of any sources, in order; sources are kept open only for consecutive entries."""
    source: Source | None = None
    batch: list[Entry] = []
    for entry in entries:
        if source is not None and entry.source is not source:
            yield from source.read(batch)
            batch = []
        source = entry.source
        batch.append(entry)
    if source is not None:
        yield from source.read(batch)


def export(tree: Tree, target: Path, *, changed: Collection[str] = (), changed_mtime_s: int = MTIME_S) -> None:
    """Write a tree's files below a folder: modes 0644 and 0755, constant times, nothing else.

    Args:
        tree: what to write.
        target: a folder that is new or empty.
        changed: paths that get `changed_mtime_s` instead of the constant time: beside a build directory that was made
            from another tree, tools that compare times (make, Cargo) would otherwise take changed files for built.
        changed_mtime_s: seconds since 1970.

    Raises:
        UserError: the target is not empty, or contents cannot be read.
    """
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise UserError(f"{target} is not empty; a tree is exported only into a new folder")
    # By source, so that a commit's files are read by one git however many of a candidate's lie between them.
    files = sorted(tree.files.values(), key=lambda entry: id(entry.source))
    folders: set[Path] = {target}
    for entry, data in zip(files, contents(files), strict=True):
        place = target / entry.path
        if place.parent not in folders:
            place.parent.mkdir(parents=True, exist_ok=True)
            folders.update(parent for parent in place.parents if target in parent.parents)
        _write(place, data, MODES[entry.kind], changed_mtime_s if entry.path in changed else MTIME_S)
    # Writing into a folder changes its time, so folders come last, the deepest first.
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        folder.chmod(0o755)
        os.utime(folder, (MTIME_S, MTIME_S))


def printable(path: str) -> str:
    """A path for people: control, bidirectional and undecodable characters are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in path
    )


def _write(place: Path, data: bytes, mode: int, mtime_s: int) -> None:
    # O_EXCL: two names that are one to this file system must fail here, not overwrite each other.
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with contextlib.closing(os.fdopen(handle, "wb")) as file:
        file.write(data)
        file.flush()
        os.fchmod(handle, mode)
        os.utime(handle, (mtime_s, mtime_s))


def _left_out_because(entry: Entry) -> str | None:
    if entry.kind not in MODES:
        return {"link": "is a link", "submodule": "is a submodule"}.get(entry.kind, "is no regular file")
    problem = path_problem(entry.path)
    if problem is None and any(is_repository(part) for part in entry.path.split("/")):
        problem = "could be taken for a git repository"
    return problem
