"""What a night must leave as it was: the user's work trees, index, stash, settings, branches and hooks.

Left aside are the objects, which only grow, the references that a night writes, and our own `.nightfleet` folders.
"""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.tree import printable
from nightfleet.orchestrator.repo.checkout import Checkout

# In the git directory: what `git for-each-ref` says better, whatever form it has, and what only grows.
PASSED_OVER = frozenset({"objects", "refs", "packed-refs", "reftable"})
OURS = "refs/nightfleet/"


@dataclass(frozen=True)
class Fingerprint:
    """Everything that a night must not change, by name."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, 64 hexadecimal digits."""
        digest = hashlib.sha256(b"nightfleet guard 1\n")
        for name, fact in sorted(self.parts.items()):
            digest.update(f"{name}\0{fact}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def differences(self, other: "Fingerprint") -> list[str]:
        """The names, escaped, of what is not the same in both."""
        names = self.parts.keys() | other.parts.keys()
        return sorted(printable(name) for name in names if self.parts.get(name) != other.parts.get(name))


def fingerprint(checkout: Checkout, *, champions: Collection[str] = ()) -> Fingerprint:
    """What the user's repository and its work trees are now.

    Args:
        checkout: the repository.
        champions: branches that a night may move.

    Raises:
        MachineError: git failed.
        OSError: a file cannot be read.
    """
    branches = {f"refs/heads/{name}" for name in champions}
    parts = dict(_references(checkout, branches))
    parts |= {f"git/{name}": fact for name, fact in _files(checkout.common_dir, PASSED_OVER, branches)}
    for folder in {str(checkout.top), *checkout.worktrees()}:
        if Path(folder).is_dir() and Path(folder).resolve() != checkout.common_dir:
            parts |= {f"tree/{folder}/{name}": fact for name, fact in _files(Path(folder), {".git"}, ())}
    return Fingerprint(parts)


def _references(checkout: Checkout, branches: Collection[str]) -> Iterator[tuple[str, str]]:
    listed = checkout.tell("for-each-ref", "--format=%(refname)%00%(objectname) %(symref)")
    for line in listed.decode("utf-8", "surrogateescape").splitlines():
        name, _, fact = line.partition("\0")
        if name not in branches and not name.startswith(OURS):
            yield name, fact


def _files(top: Path, passed_over: Collection[str], branches: Collection[str]) -> Iterator[tuple[str, str]]:
    """Name, mode, time and contents of every file and link."""
    for folder, folders, names in os.walk(top):
        here = os.path.relpath(folder, top)
        prefix = "" if here == "." else f"{here}/"
        folders[:] = sorted(
            name
            for name in folders
            if name != ".nightfleet"
            and not (here == "." and name in passed_over)
            and f"{prefix}{name}/" != f"logs/{OURS}"
        )
        for name in names:
            path = f"{prefix}{name}"
            if not (here == "." and name in passed_over) and path.removeprefix("logs/") not in branches:
                yield path, _fact(Path(folder) / name)
        for name in folders:
            if Path(folder, name).is_symlink():
                yield f"{prefix}{name}", _fact(Path(folder) / name)


def _fact(place: Path) -> str:
    found = place.lstat()
    contents = b""
    if stat.S_ISLNK(found.st_mode):
        contents = os.fsencode(place.readlink())
    elif stat.S_ISREG(found.st_mode):
        contents = place.read_bytes()
    return f"{found.st_mode:o} {found.st_mtime_ns} {hashlib.sha256(contents).hexdigest()}"
