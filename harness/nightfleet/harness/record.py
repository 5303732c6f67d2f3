"""What is known of a build or a set-up, as it is kept beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightfleet.harness.inventory import Inventory, Item, looks_like
from nightfleet.harness.tree import Kind

# The names in a folder of the store.
TREE, CACHE, LOG, RECORD = "tree", "cache", "log", "record.json"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the tree that was built: kind and id as of its `Entry`, and the SHA-256 of its contents."""

    kind: Kind
    id: str
    digest: str


@dataclass(frozen=True)
class Record:
    """One build, or one set-up, which has no sources and no artefacts.

    Attributes:
        generation: 0 for a build from nothing, one more than that of the build that it began from, -1 for a set-up.
        setup: the key of the set-up that it was shown, if there was one.
        sources: the files of its tree.
        files: everything in its directory.
        artefacts: what the build itself made or changed, out of `files`.
    """

    key: str
    tree_digest: str
    generation: int
    build_ns: int
    size_bytes: int
    setup: str | None
    sources: Mapping[str, SourceFile]
    files: Inventory
    artefacts: Inventory
    cpu_ns: int = 0

    def write(self, folder: Path) -> None:
        """Keep it in a build's folder."""
        (folder / RECORD).write_text(json.dumps(asdict(self), sort_keys=True), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """What `write` kept.

        Raises:
            OSError, ValueError, TypeError, KeyError: it is not there, or not whole.
        """
        found: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found["sources"] = {path: SourceFile(**value) for path, value in found["sources"].items()}
        for name in ("files", "artefacts"):
            found[name] = {path: Item(**value) for path, value in found[name].items()}
        return cls(**found)


def is_intact(folder: Path) -> bool:
    """Whether a build's folder is whole, by names and sizes: what a power cut may have damaged."""
    try:
        record = Record.read(folder)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return looks_like(folder / TREE, record.files)


def size_of(folder: Path) -> int:
    """Bytes that a build takes, 0 if it is not whole."""
    try:
        return Record.read(folder).size_bytes
    except (OSError, ValueError, TypeError, KeyError):
        return 0
