"""The sides of a comparison: a built tree each, copies of it to run from, and whether those can have new pages."""

import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nightfleet.harness import copies
from nightfleet.harness.inventory import walk
from nightfleet.native import give_tree

# Larger trees would take longer to write (50 ms for this much, 0.4 ms a file) than many a pair takes to run.
FRESH_BYTES = 64 << 20
FRESH_FILES = 500


@dataclass(frozen=True)
class Side:
    """A built tree, and what its sandboxes need beyond it: further keyword arguments of `Sandbox`."""

    tree: Path
    options: Mapping[str, object] = field(default_factory=dict)


def fresh_copy(tree: Path, scratch: Path) -> Path:
    """A copy that shares no page with the tree, handed to the sandbox's user.

    Its name is random and always as long: a mount table must not tell which side it is.

    Raises:
        nightfleet.native.MachineError: the disk is full, or refuses.
    """
    copy = scratch / secrets.token_hex(8)
    with copies.disk():
        try:
            copies.copy_tree(tree, copy, share=False)
            give_tree(copy)
        except BaseException:
            copies.remove(copy)
            raise
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
    sizes = [found.st_size for _, found in walk(tree) if stat.S_ISREG(found.st_mode)]
    return Extent(sum(sizes), len(sizes))
