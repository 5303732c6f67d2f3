"""Gate 2, the build: trees become directories with programs in them, each made once, alone, and without a network.

A candidate that is judged is built from nothing (`from_nothing`). A build may also begin in a copy of its baseline's,
so that make and Cargo rebuild what changed and nothing else; but what they take for unchanged need not be.

Nothing a candidate runs can reach what others build from: it writes to its own copy of tree and cache, and what set-up
fetched is read-only. What set-up fetched comes from the baseline alone (CHEATS 24, 40).

Not covered: a build may fill the disk up to its deadline before its size is found out, and a baseline that was a
candidate's build hands on whatever that build left beside the sources; build a promotion from nothing to be rid of it.
"""

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path

from nightfleet.harness.arena import Arena
from nightfleet.harness.built import Built
from nightfleet.harness.copies import disk
from nightfleet.harness.inventory import MOST_GENERATIONS
from nightfleet.harness.job import BaselineFailedError, BuildFailedError, Failure, SetupFailedError
from nightfleet.harness.provision import Provision, lock_digest, provide
from nightfleet.harness.recipe import Recipe
from nightfleet.harness.record import LOG, is_intact, size_of
from nightfleet.harness.relink import NotRelinkedError, is_relinked, programs
from nightfleet.harness.store import Store
from nightfleet.harness.surroundings import Profile, SandboxOptions, Surroundings
from nightfleet.harness.tree import Tree, printable
from nightfleet.native import UserError, __version__

__all__ = ["BaselineFailedError", "BuildFailedError", "Built", "NotRelinkedError", "SetupFailedError", "Workspace"]

# Fixed: what one build or set-up may leave, sources and caches included.
BUILD_BYTES = 8 << 30
# Logs of failed builds that are kept.
MOST_LOGS = 200


class Workspace:
    """Where one arena's trees are built.

    Args:
        state: the `.nightfleet` folder; `builds`, `setups` and `logs` are made below it, for nobody but us.
        arena: the contract.
        source: the user's folder.
        most_bytes: what one build may leave.

    Raises:
        UserError: what the arena wants to show is missing, or would show the state.
    """

    def __init__(self, state: Path, arena: Arena, source: Path, *, most_bytes: int = BUILD_BYTES) -> None:
        self.arena = arena
        self.surroundings = Surroundings(state.resolve(), arena, source.resolve())
        self._most_bytes = most_bytes
        state = self.surroundings.state
        if state.exists() and not state.is_dir():
            raise UserError(f"{state} is a file, and nightfleet keeps a folder there; move it away")
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        # git passes over it, and over this file, without a word in the user's own repository.
        (state / ".gitignore").write_bytes(b"*\n")
        self._builds, self._setups = Store(state / "builds"), Store(state / "setups")
        self._logs = state / "logs"
        self._logs.mkdir(mode=0o700, exist_ok=True)

    def build(
        self,
        tree: Tree,
        *,
        baseline: Built | None = None,
        changed: Collection[str] = (),
        relink: int = 0,
        from_nothing: bool = False,
    ) -> Built:
        """The build of a tree: a kept one, or a new one.

        Args:
            tree: what `overlay` made of a candidate, or a baseline's own.
            baseline: whose set-up a candidate is shown, and in a copy of which its build begins; None for a baseline.
            changed: files to be built again although they are the same: to time a rebuild of the baseline that is
                comparable to a candidate's. Files that differ from the baseline's are found out here.
            relink: which other layout of the same program is wanted; 0 for the plain build.
            from_nothing: begin in no copy. What goes on from another build may not be what the tree builds: a Makefile
                that does not name a header keeps the object that was made with the old one.

        Raises:
            NotRelinkedError: that layout cannot be had.
            BuildFailedError: a candidate's build failed.
            BaselineFailedError: the user's did; `SetupFailedError` if it was the set-up.
            UserError: inputs changed since the first build.
            MachineError: the disk or the kernel did.
        """
        start = baseline if baseline is not None and baseline.record.generation < MOST_GENERATIONS else None
        start = None if from_nothing else start
        failed = BaselineFailedError if baseline is None else BuildFailedError
        with disk():
            provision = self._provision(tree) if baseline is None else baseline.provision
            key = self._key(tree, start, changed, provision)
            recipe = Recipe(key, tree, start, frozenset(changed), provision, self.surroundings, self._most_bytes)
            plain = self._obtain(recipe, failed)
            return plain if relink == 0 else self._relinked(plain, tree, relink)

    def _relinked(self, plain: Built, tree: Tree, number: int) -> Built:
        """A build with the programs of another linked anew: they alone if that is enough, or all from nothing."""
        wanted = programs(plain.record, self.arena)
        if not wanted:
            raise NotRelinkedError("the build makes no program")
        starts = [plain, None] if plain.record.generation < MOST_GENERATIONS else [None]
        for start in starts:
            key = _digest("relink", plain.key, plain.whole_digest, number, start is None)
            recipe = Recipe(key, tree, start, (), plain.provision, self.surroundings, self._most_bytes, number, wanted)
            try:
                found = self._obtain(recipe, BuildFailedError)
            except BuildFailedError as failed:
                said = str(failed).splitlines()[0]
                raise NotRelinkedError(f"told to link otherwise, {said}") from failed
            if is_relinked(wanted, found.record):
                return found
        raise NotRelinkedError("the build gives the same bytes")

    def _obtain(self, recipe: Recipe, failed: type[BuildFailedError | BaselineFailedError]) -> Built:
        make = self._or_raise(recipe.make, recipe.tree, recipe.key, failed)
        hold = self._builds.obtain(recipe.key, make, is_intact)
        return Built.of(self._builds.place(recipe.key), recipe.provision, hold)

    def sandbox_options(self, profile: Profile, built: Built) -> SandboxOptions:
        """Keyword arguments of every `Sandbox` that runs something of a build; only tree and cores are missing.

        Both sides of a comparison get the same ones, because a candidate has its baseline's set-up.

        Raises:
            UserError: inputs changed since the first build.
        """
        self.surroundings.data_digest()
        return self.surroundings.options(profile, None if built.provision is None else built.provision.home)

    def gc(self, budget_bytes: int) -> int:
        """Remove builds that nobody uses, the longest unused first, until at most this much is left; so for set-ups.

        Returns:
            Bytes that were removed.
        """
        with disk():
            for log in sorted(self._logs.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-MOST_LOGS]:
                log.unlink(missing_ok=True)
            return sum(store.collect(size_of, budget_bytes) for store in (self._builds, self._setups))

    def _provision(self, tree: Tree) -> Provision | None:
        """What the set-up of a baseline left: a kept one, or a new one. A candidate never gets here."""
        if not self.arena.setup:
            return None
        key = _digest("setup", lock_digest(tree, self.surroundings), self._inputs(), self.arena.setup)

        def make(folder: Path) -> Failure | None:
            return provide(folder, key, tree, self.surroundings, self._most_bytes)

        hold = self._setups.obtain(key, self._or_raise(make, tree, key, SetupFailedError), is_intact)
        return Provision.of(self._setups.place(key), hold)

    def _or_raise(
        self,
        make: Callable[[Path], Failure | None],
        tree: Tree,
        key: str,
        failed: type[BuildFailedError | BaselineFailedError],
    ) -> Callable[[Path], None]:
        def made(folder: Path) -> None:
            failure = make(folder)
            if failure is not None:
                log = self._logs / f"{key}.log"
                (folder / LOG).replace(log)
                message = "\n".join([f"{printable(tree.name)}: {failure.why}; see {log}", *failure.tail])
                raise failed(message, failure.outcome, failure.tail, log)

        return made

    def _inputs(self) -> list[str | float]:
        """What every key depends on beside the tree."""
        limits = self.arena.limits
        shown = [self.surroundings.identity(), self.surroundings.data_digest(), __version__]
        return [*shown, limits.build_s, limits.memory_bytes, self._most_bytes]

    def _key(self, tree: Tree, start: Built | None, changed: Collection[str], provision: Provision | None) -> str:
        begun = [start.key, start.whole_digest, sorted(set(changed))] if start is not None else None
        setup = provision.key if provision is not None else None
        # `edit` decides what is put back after the build.
        return _digest("build", tree.digest, self._inputs(), self.arena.build, self.arena.edit, setup, begun)


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(["nightfleet workspace 1", *content]).encode()).hexdigest()
