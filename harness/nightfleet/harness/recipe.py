"""How one build is made: begun from nothing or from the baseline's, run in its sandbox, made ours, and recorded."""

import hashlib
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.built import Built
from nightfleet.harness.copies import copy_tree, put, remove, take_away
from nightfleet.harness.inventory import ExcessError, Item, Span, settle, take_inventory
from nightfleet.harness.job import Failure, Job, run_job
from nightfleet.harness.provision import Provision
from nightfleet.harness.record import CACHE, LOG, TREE, Record, SourceFile
from nightfleet.harness.relink import put_linkers, relinking
from nightfleet.harness.surroundings import CACHE as HOME_CACHE
from nightfleet.harness.surroundings import Surroundings
from nightfleet.harness.toolchain import INSIDE_HOME
from nightfleet.harness.tree import MODES, MTIME_S, Entry, Tree, contents, export
from nightfleet.native import give_tree

LINKERS = "linkers"


@dataclass(frozen=True)
class Recipe:
    """What a build is made from.

    Attributes:
        start: the build that it begins from; None for nothing.
        changed: files that count as changed beside those that are.
        most_bytes: what it may leave.
        relink: the number of another layout, see `relink`; 0 for none.
        without: files of `start` that are to be made again.
    """

    key: str
    tree: Tree
    start: Built | None
    changed: Collection[str]
    provision: Provision | None
    surroundings: Surroundings
    most_bytes: int
    relink: int = 0
    without: Collection[str] = ()

    def make(self, folder: Path) -> Failure | None:
        """Fill a new folder of the store; what a failed build leaves there is for nobody."""
        place, cache = folder / TREE, folder / CACHE
        sources = self._begin(place, cache) if self.start is None else self._continue(self.start, place, cache)
        self.surroundings.make_room(place)
        # The times of files lag behind the clock by a tick or two.
        began_ns = time.time_ns() - 1_000_000_000
        job = self._run(folder)
        if job.failure is not None:
            return job.failure
        span = Span(self._generation, began_ns, time.time_ns())
        try:
            size = settle(place, span, self.most_bytes)
            size += settle(cache, span, self.most_bytes - size)
            self._put_back(place, sources)
            files = take_inventory(place)
        except ExcessError as error:
            return Failure(f"the build leaves {error}", "size")
        artefacts = {path: item for path, item in files.items() if self._is_made(path, item, sources.get(path))}
        setup = None if self.provision is None else self.provision.key
        made = self.key, self.tree.digest, self._generation
        Record(*made, job.wall_ns, size, setup, sources, files, artefacts, job.cpu_ns).write(folder)
        return None

    @property
    def _generation(self) -> int:
        return 0 if self.start is None else self.start.record.generation + 1

    def _begin(self, place: Path, cache: Path) -> dict[str, SourceFile]:
        """From nothing: the tree, and around it what set-up left."""
        export(self.tree, place)
        exported = take_inventory(place)
        cache.mkdir(0o755)
        if self.provision is not None:
            copy_tree(self.provision.tree, place, share=True)
            copy_tree(self.provision.cache, cache, share=True)
        return {path: SourceFile(entry.kind, entry.id, exported[path].digest) for path, entry in self._entries()}

    def _continue(self, start: Built, place: Path, cache: Path) -> dict[str, SourceFile]:
        """From another build: a copy of it, and in that what differs, dated after everything in it."""
        copy_tree(start.path, place, share=True)
        copy_tree(start.path.parent / CACHE, cache, share=True)
        now_s = Span(self._generation, 0, 0).first_s
        old = start.record.sources
        for path in sorted({*self.without, *old.keys()} - self.tree.files.keys()):
            take_away(place, path, now_s)
        # Files of the same kind and id are the same; ids of different sources say nothing, so contents are read.
        sources = {path: old[path] for path, entry in self._entries() if _same(old.get(path), entry)}
        unsure = [entry for path, entry in self._entries() if path not in sources or path in self.changed]
        for entry, data in zip(unsure, contents(unsure), strict=True):
            found = SourceFile(entry.kind, entry.id, hashlib.sha256(data).hexdigest())
            before = old.get(entry.path)
            same = before is not None and (before.kind, before.digest) == (found.kind, found.digest)
            sources[entry.path] = found
            if not same or entry.path in self.changed:
                put(place, entry.path, data, MODES[entry.kind], now_s)
        return sources

    def _run(self, folder: Path) -> Job:
        arena = self.surroundings.arena
        if not arena.build:
            (folder / LOG).touch()
            return Job(0, "", None)
        options = self.surroundings.options("build", None if self.provision is None else self.provision.home)
        options["write"] = [(folder / CACHE, INSIDE_HOME / HOME_CACHE)]
        options["file_bytes"] = self.most_bytes
        for given in (folder / TREE, folder / CACHE):
            give_tree(given)
        linkers = folder / LINKERS
        if self.relink:
            put_linkers(linkers, self.relink)
            options = relinking(options, linkers, self.relink)
        job = run_job(folder / TREE, arena.build, options, arena.limits.build_s)
        remove(linkers)
        (folder / LOG).write_text(job.log, encoding="utf-8")
        return job

    def _put_back(self, place: Path, sources: dict[str, SourceFile]) -> None:
        """Undo what a build did to files that no candidate may change, and to the places of inputs (CHEATS 23)."""
        scope = self.surroundings.arena.scope
        now = take_inventory(place)
        lost = [
            entry
            for path, entry in self._entries()
            if scope.frozen_because(path) is not None and not _is_source(now.get(path), sources[path])
        ]
        for entry, data in zip(lost, contents(lost), strict=True):
            put(place, entry.path, data, MODES[entry.kind], MTIME_S)
        self.surroundings.make_room(place)

    def _is_made(self, path: str, item: Item, source: SourceFile | None) -> bool:
        fetched = self.provision is not None and self.provision.files.get(path) == item
        return not fetched and not _is_source(item, source) and path not in self.surroundings.arena.data

    def _entries(self) -> Iterable[tuple[str, Entry]]:
        return self.tree.files.items()


def _same(before: SourceFile | None, entry: Entry) -> bool:
    return before is not None and (before.kind, before.id) == (entry.kind, entry.id)


def _is_source(item: Item | None, source: SourceFile | None) -> bool:
    return item is not None and source is not None and (item.kind, item.digest) == (source.kind, source.digest)
