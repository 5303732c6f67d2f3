"""Copies of a built tree to run from, and new pages for them."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nightfleet.native import give_tree

# Byte-identical copies that stayed as they were differed by up to 1.7% for as long as they existed: where a file's
# pages lie in memory moves its time. Copies with new pages before each pair do not differ (measured).
# Larger trees would take longer to write than a pair takes to run.
FRESH_BYTES = 64 << 20


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


def tree_bytes(tree: Path) -> int:
    """How much all regular files of a tree hold together."""
    return sum(path.stat().st_size for path in _files(tree))


def refresh(copy: Path, tree: Path) -> None:
    """Give every file of a copy new pages: it is written anew from `tree` and put in the old one's place.

    Sandboxes over the copy see it at once, since its directories stay. Nothing may run in them meanwhile.
    """
    for source in _files(tree):
        target = copy / source.relative_to(tree)
        owner, folder = target.lstat(), target.parent.stat()
        handle, fresh = tempfile.mkstemp(dir=copy.parent)
        os.close(handle)
        shutil.copyfile(source, fresh)
        shutil.copystat(source, fresh)
        if (owner.st_uid, owner.st_gid) != (os.getuid(), os.getgid()):
            os.chown(fresh, owner.st_uid, owner.st_gid)
            shutil.copymode(source, fresh)  # chown drops set-id bits
        Path(fresh).replace(target)
        os.utime(target.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def _files(tree: Path) -> list[Path]:
    return [
        path
        for folder, _, names in os.walk(tree)
        for path in (Path(folder) / name for name in sorted(names))
        if path.is_file() and not path.is_symlink()
    ]
