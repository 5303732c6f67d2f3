"""Agents' trees: throw-away repositories, outside the state directory and the user's repository.

Each holds the arena's files of one commit, and a `.git` of its own with one commit: no history, no remote, no hooks, no
alternates, no way to the user's objects. They are copies of a template that is made once for each baseline.

A tree belongs to the process that made it. Its lock file says whose it is for people; that the kernel lets go of the
lock when the process ends, however it ends, is what counts: what nobody holds is removed at the next start.
"""

import hashlib
import json
import os
import re
import secrets
from pathlib import Path

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
    """One tree, until `remove` or the end of the process.

    Attributes:
        folder: what the agent gets, and all that it gets.
    """

    def __init__(self, folder: Path, lock: Path, hold: Hold) -> None:
        self.folder = folder
        self._lock, self._hold = lock, hold

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
        self.root = root

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
                lock.write_text(json.dumps({"run": run, **_owner()}) + "\n")
                place.mkdir(mode=0o700)
            finally:
                with_gate.release()
            copy_tree(self._templates.place(template[0]), place / "tree", share=True)
            template[1].release()
        return AgentTree(place / "tree", lock, hold)

    def reclaim(self) -> list[str]:
        """Remove the trees that no living process holds, and templates beyond the limit.

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
                    if place.is_dir() and re.fullmatch(r".+\.[0-9a-f]{12}", place.name):
                        runs += self._reclaim(place)
                for lock in self.root.glob(f"*.*{_LOCK}"):
                    if not lock.with_name(lock.name.removesuffix(_LOCK)).exists():
                        self._reclaim(lock.with_name(lock.name.removesuffix(_LOCK)))
            finally:
                gate.release()
            self._templates.collect(_size, TEMPLATE_BYTES)
        return runs

    def _reclaim(self, place: Path) -> list[str]:
        lock = place.with_name(place.name + _LOCK)
        hold = Hold.take(lock, "alone", wait=False)
        if hold is None:
            return []
        existed = place.exists()
        remove(place)
        lock.unlink(missing_ok=True)
        hold.release()
        return [place.name.rpartition(".")[0]] if existed else []

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
