"""Set-up: what the user's `setup` commands fetch, once per lock file, with the network, from a baseline's tree alone.

Two things are kept. What the commands left in folders of the home where package managers keep their downloads is shown
read-only to everything that runs later. What they left in the tree beside its own files (node_modules, .venv, vendor)
is where builds from nothing begin; changes to the tree's own files are dropped.
"""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from nightfleet.harness.copies import take_away
from nightfleet.harness.inventory import ExcessError, Inventory, Span, settle, take_inventory
from nightfleet.harness.job import Failure, run_job
from nightfleet.harness.record import LOG, TREE, Record
from nightfleet.harness.store import Hold
from nightfleet.harness.surroundings import CACHE as HOME_CACHE
from nightfleet.harness.surroundings import KEPT, Surroundings
from nightfleet.harness.toolchain import INSIDE_HOME
from nightfleet.harness.tree import Tree, export
from nightfleet.native import give_tree

# What decides what is fetched. Where a tree has none of them, every file that no candidate may change decides.
LOCK_FILES = frozenset(
    {
        *("Cargo.lock", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock"),
        *("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.txt", "go.sum", "Gemfile.lock"),
        *("composer.lock", "gradle.lockfile", "mix.lock", "flake.lock", "rust-toolchain.toml"),
    }
)
HOME = "home"


@dataclass(frozen=True)
class Provision:
    """What a set-up left: folders of the home, files beside the tree's own, and the cache to begin with.

    Attributes:
        files: everything below `tree`.
    """

    key: str
    home: Path
    tree: Path
    cache: Path
    files: Inventory = field(repr=False)
    hold: Hold = field(repr=False, compare=False)

    @classmethod
    def of(cls, folder: Path, hold: Hold) -> "Provision":
        """The set-up in a folder of the store."""
        record = Record.read(folder)
        return cls(record.key, folder / HOME, folder / TREE, folder / HOME / HOME_CACHE, record.files, hold)


def lock_digest(tree: Tree, surroundings: Surroundings) -> str:
    """SHA-256 over the tree's lock files, or without any over every file that no candidate may change."""
    scope = surroundings.arena.scope
    paths = [path for path in tree.files if path.rpartition("/")[2] in LOCK_FILES]
    paths = paths or [path for path in tree.files if scope.frozen_because(path) is not None]
    digest = hashlib.sha256(b"nightfleet lock files 1\n")
    for path in paths:
        digest.update(f"{hashlib.sha256(tree.read(path)).hexdigest()} {path}\0".encode())
    return digest.hexdigest()


def provide(folder: Path, key: str, tree: Tree, surroundings: Surroundings, most_bytes: int) -> Failure | None:
    """Run the set-up of a tree in a new folder of the store."""
    arena, place, home = surroundings.arena, folder / TREE, folder / HOME
    export(tree, place)
    surroundings.make_room(place)
    home.mkdir(0o755)
    for name in KEPT:
        (home / name).mkdir(0o755)
    give_tree(place)
    give_tree(home)
    options = surroundings.options("setup", None)
    options["write"] = [(home / name, INSIDE_HOME / name) for name in KEPT]
    options["file_bytes"] = most_bytes
    began_ns = time.time_ns() - 1_000_000_000
    job = run_job(place, arena.setup, options, arena.limits.build_s)
    (folder / LOG).write_text(job.log, encoding="utf-8")
    if job.failure is not None:
        return job.failure
    # The generation before the first: older than every source.
    span = Span(-1, began_ns, time.time_ns())
    try:
        size = settle(home, span, most_bytes)
        size += settle(place, span, most_bytes - size)
        for path in (*tree.files, *arena.data):
            take_away(place, path, span.first_s)
        files = take_inventory(place)
    except ExcessError as error:
        return Failure(f"set-up leaves {error}", "size")
    Record(key, tree.digest, span.generation, job.wall_ns, size, None, {}, files, {}).write(folder)
    return None
