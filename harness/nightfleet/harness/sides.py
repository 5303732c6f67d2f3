"""Copies of a built tree to run from, and new pages for them."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nightfleet.native import give_tree

# Byte-identical copies that stayed as they were differed by up to 1.7% for as long as they existed: where a file's
# pages lie in memory moves its time. Copies with new pages before each pair do not differ (measured).
# Larger trees would take longer to write (50 ms for this much, 0.4 ms a file) than many a pair takes to run.
FRESH_BYTES = 64 << 20
FRESH_FILES = 500


@dataclass(frozen=True)
class Side:
    """A built tree, and what its sandboxes need beyond it: further keyword arguments of `Sandbox`."""

    tree: Path
    options: Mapping[str, object] = field(default_factory=dict)


def copy_tree(tree: Path, scratch: Path) -> Path:
    """A copy under a random name (a mount table must not tell which side it is), readable by sandboxed programs."""
    copy = Path(tempfile.mkdtemp(dir=scratch, prefix="tree-"))
    shutil.copytree(tree, copy, symlinks=True, dirs_exist_ok=True)
    give_tree(copy)
    return copy


@dataclass(frozen=True)
class Extent:
    """How much the regular files of a tree hold together, and how many there are."""

    size: int
    files: int

    @property
    def too_large(self) -> str | None:
        """Why its copies cannot have new pages before each pair, if so."""
        if self.size > FRESH_BYTES:
            return f"a tree has {self.size >> 20} MiB, the limit is {FRESH_BYTES >> 20} MiB"
        return f"a tree has {self.files} files, the limit is {FRESH_FILES}" if self.files > FRESH_FILES else None


def extent(tree: Path) -> Extent:
    """Of a tree."""
    sizes = [os.lstat(path).st_size for folder, names in _folders(tree) for path in (folder / name for name in names)]
    return Extent(sum(sizes), len(sizes))


def refresh(copy: Path, tree: Path) -> None:
    """Give every file of a copy new pages: it is written anew from `tree` and put in the old one's place.

    Sandboxes over the copy see it at once, since its directories stay. Nothing may run in them meanwhile.
    """
    owner, fresh = copy.stat(), copy.with_name(f"fresh-{copy.name}")
    for folder, names in _folders(tree):
        target = copy / folder.relative_to(tree)
        before = target.stat()
        for name in names:
            _write(folder / name, fresh, owner)
            fresh.replace(target / name)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))


def _write(source: Path, fresh: Path, owner: os.stat_result) -> None:
    with source.open("rb") as old, fresh.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        known, handle = os.fstat(old.fileno()), new.fileno()
        if owner.st_uid != os.getuid():
            os.fchown(handle, owner.st_uid, owner.st_gid)
        os.fchmod(handle, stat.S_IMODE(known.st_mode))
        os.utime(handle, ns=(known.st_atime_ns, known.st_mtime_ns))


def _folders(tree: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder of a tree with the names of its regular files."""
    for folder, _, names in os.walk(tree):
        files = [name for name in sorted(names) if stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode)]  # noqa: PTH118
        if files:
            yield Path(folder), files
