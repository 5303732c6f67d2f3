"""Agents' trees: throw-away repositories, outside the state directory and the user's repository.

Each holds the arena's files of one commit, and a `.git` of its own with one commit: no history, no remote, no hooks, no
alternates, no way to the user's objects. They are copies of a template that is made once for each baseline.

A tree belongs to the process that made it. Its lock file says whose it is for people; that the kernel lets go of the
lock when the process ends, however it ends, is what counts: what nobody holds is removed at the next start. Only a tree
that was lent to somebody outside outlives its process: its lock file says so, and by which state directory, and it is
removed once that place no longer knows of the loan. The file is beside the tree, where a confined agent cannot write.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightfleet.harness.copies import copy_tree, disk, remove
from nightfleet.harness.store import Hold, Store
from nightfleet.harness.tree import MTIME_S, Tree, export
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator.repo.launch import tell_git
from nightfleet.orchestrator.repo.refs import RUN

# Fixed: what templates may take up once nobody uses them.
TEMPLATE_BYTES = 2 << 30
_LOCK = ".lock"
_MADE = ".git/HEAD"
_NAME = re.compile(r".+\.[0-9a-f]{12}")
# In a lock file: which state directory a tree was lent by.
_LENT_BY = "lent_by"
CONFIG = """\
[core]
\trepositoryFormatVersion = 0
\tbare = false
[user]
\tname = agent
\temail = agent@localhost
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
# Of the one commit: nothing of it tells one tree from another of the same files.
AUTHOR = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "nightfleet"), ("EMAIL", "nightfleet@localhost"), ("DATE", f"{MTIME_S} +0000"))
}


class AgentTree:
    """One tree, until `remove` or, unless it is lent, the end of the process.

    Attributes:
        folder: what the agent gets, and all that it gets.
        name: of the tree among all of them.
    """

    def __init__(self, folder: Path, lock: Path, hold: Hold, state: Path) -> None:
        self.folder, self.name = folder, folder.parent.name
        self._lock, self._hold, self._state = lock, hold, state

    def lend(self) -> None:
        """Let it outlive this process: it stays for as long as the caller of `AgentTrees.reclaim` knows its name."""
        with disk():
            self._lock.write_text(json.dumps({**_read(self._lock), _LENT_BY: str(self._state)}) + "\n")
        self._hold.release()

    def remove(self) -> None:
        """Remove the tree, whatever its agent left there. May be called twice.

        Raises:
            MachineError: something still writes there.
        """
        with disk():
            remove(self.folder.parent)
            self._lock.unlink(missing_ok=True)
        self._hold.release()


class AgentTrees:
    """The place where agents' trees are.

    Args:
        root: made if it is missing, for nobody but us.
        state: the `.nightfleet` folder, which must not contain it or be inside it.

    Raises:
        UserError: the place is in the state directory or in a git repository.
        MachineError: it cannot be made.
    """

    def __init__(self, root: Path, state: Path) -> None:
        root, state = root.resolve(), state.resolve()
        if root.is_relative_to(state) or state.is_relative_to(root):
            raise UserError(
                f"agents' trees cannot be in {root}: an agent must not come near {state}; name another place"
            )
        inside = next((place for place in (root, *root.parents) if (place / ".git").exists()), None)
        if inside is not None:
            raise UserError(f"agents' trees cannot be in {root}: that is inside the repository {inside}")
        with disk():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)
            self._templates = Store(root / "templates")
        self.root, self._state = root, state

    def make(self, run: str, baseline: Tree) -> AgentTree:
        """A new tree with the files of an arena.

        Raises:
            UserError: the baseline cannot be read, or the run's name is none.
            MachineError: git or the disk failed.
        """
        if RUN.fullmatch(run) is None:
            raise UserError(f"{run!r} cannot name a run: letters, digits, '_' and '-', at most 64")
        with disk():
            template = self._template(baseline)
            name = f"{run}.{secrets.token_hex(6)}"
            place, lock = self.root / name, self.root / f"{name}{_LOCK}"
            with_gate = self._gate()
            try:
                hold = _alone(lock)
                lock.write_text(json.dumps({"run": run, "of": baseline.name, **_owner()}) + "\n")
                place.mkdir(mode=0o700)
            finally:
                with_gate.release()
            copy_tree(self._templates.place(template[0]), place / "tree", share=True)
            template[1].release()
        return AgentTree(place / "tree", lock, hold, self._state)

    def folder(self, name: str) -> Path:
        """The tree of a name, as its agent got it. UserError for what names none."""
        if _NAME.fullmatch(name) is None or "/" in name:
            raise UserError(f"{name!r} names no agent's tree")
        return self.root / name / "tree"

    def commit_of(self, folder: Path) -> str:
        """The name of the baseline that a tree was made from, as `make` was given it. UserError where nobody knows."""
        found = _read(folder.parent.with_name(f"{folder.parent.name}{_LOCK}")).get("of")
        if not isinstance(found, str):
            raise UserError(f"nobody knows what {folder} was made from")
        return found

    def discard(self, name: str) -> None:
        """Remove a tree that was lent, whatever its agent left there; nothing happens if it is not there.

        Raises:
            MachineError: something still writes there.
        """
        place = self.folder(name).parent
        with disk():
            gate = self._gate()
            try:
                self._reclaim(place, lambda _: False)
            finally:
                gate.release()

    def reclaim(self, lent: Callable[[str], bool] = lambda _: False) -> list[str]:
        """Remove the trees that no living process holds, and templates beyond the limit.

        Args:
            lent: whether the tree of a name, lent by this state directory, is still somebody's. Those that others lent
                are theirs to remove, for as long as there are such others.

        Returns:
            The names of the runs that they were made for, one for each tree.

        Raises:
            MachineError: one cannot be removed.
        """
        runs: list[str] = []
        with disk():
            gate = self._gate()
            try:
                for place in sorted(self.root.iterdir()):
                    if place.is_dir() and _NAME.fullmatch(place.name):
                        runs += self._reclaim(place, lent)
                for lock in self.root.glob(f"*.*{_LOCK}"):
                    if not lock.with_name(lock.name.removesuffix(_LOCK)).exists():
                        self._reclaim(lock.with_name(lock.name.removesuffix(_LOCK)), lambda _: False)
            finally:
                gate.release()
            self._templates.collect(_size, TEMPLATE_BYTES)
        return runs

    def _reclaim(self, place: Path, lent: Callable[[str], bool]) -> list[str]:
        lock = place.with_name(place.name + _LOCK)
        hold = Hold.take(lock, "alone", wait=False)
        if hold is None:
            return []
        try:
            # Only now: who lends a tree says so before letting go of the lock.
            if self._is_lent(place.name, lock, lent):
                return []
            existed = place.exists()
            remove(place)
            lock.unlink(missing_ok=True)
        finally:
            hold.release()
        return [place.name.rpartition(".")[0]] if existed else []

    def _is_lent(self, name: str, lock: Path, lent: Callable[[str], bool]) -> bool:
        lender = _read(lock).get(_LENT_BY)
        if lender is None:
            return False
        return lent(name) if lender == str(self._state) else Path(lender).exists()

    def _gate(self) -> Hold:
        """Held while a tree's lock and folder are made, so that nobody reclaims half of them."""
        return _alone(self.root / ".gate")

    def _template(self, tree: Tree) -> tuple[str, Hold]:
        key = hashlib.sha256(f"nightfleet template 1\n{tree.digest}".encode()).hexdigest()

        def make(folder: Path) -> None:
            # A baseline may hold what an agent's git would obey; it is the user's own, and is run by nobody but agents.
            export(tree, folder)
            _give_repository(folder)

        return key, self._templates.obtain(key, make, lambda folder: (folder / _MADE).exists())


def default_place() -> Path:
    """Where agents' trees are unless a person says otherwise: in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return folder / "nightfleet" / "trees"


def _give_repository(folder: Path) -> None:
    """Make a repository with one commit of all that lies in a folder."""
    git_dir = folder / ".git"
    for name in ("objects", "refs/heads", "info"):
        (git_dir / name).mkdir(parents=True)
    (git_dir / "config").write_text(CONFIG)
    here = f"--work-tree={folder}"
    # HEAD last: it is how a template is known to be whole.
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    tell_git(git_dir, "add", "--all", "--force", ".", options=(here, "-C", str(folder)))
    message = ("-m", "the baseline")
    tell_git(
        git_dir, "commit", "--quiet", "--allow-empty", "--no-verify", *message, options=(here,), environment=AUTHOR
    )
    # One pack instead of a file for every file: a copy is quicker.
    tell_git(git_dir, "repack", "-a", "-d", "-q")


def _read(lock: Path) -> dict[str, Any]:
    """What a lock file says; nothing where a crash left it half written."""
    try:
        found = json.loads(lock.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alone(place: Path) -> Hold:
    hold = Hold.take(place, "alone")
    if hold is None:
        raise MachineError(f"{place} could not be locked")
    return hold


def _owner() -> dict[str, int]:
    """This process, for a person who looks: its id, and when it started, in clock ticks since the machine did."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return {"pid": os.getpid(), "started_ticks": int(fields[19])}


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
