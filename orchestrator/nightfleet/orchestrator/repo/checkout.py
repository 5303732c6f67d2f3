"""The user's repository around an arena: what it is, what state it is in, which commit a night begins from.

Nothing here writes. What the user's configuration could make git run is switched off, by name where git needs a name.
"""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nightfleet.harness.repository import Repository
from nightfleet.harness.tree import printable
from nightfleet.native import UserError
from nightfleet.orchestrator.repo.launch import Answer, ask_git, tell_git

# Fixed: so many changed files are named to people.
MOST_NAMED = 5
FALLBACK = ("nightfleet", "nightfleet@localhost")
# What git would run by these settings of a repository's own, and what each is set to instead. Filters are run by
# `git status`, hooks from the configuration (git 2.54) by every change of a reference.
RUNS = re.compile(r"(filter|hook)\.(.+)\.[^.]+", re.DOTALL)
INSTEAD = {
    "filter": {"clean": "", "smudge": "", "process": "", "required": "false"},
    "hook": {"enabled": "false", "event": ""},
}


@dataclass(frozen=True)
class Identity:
    """Who commits, as git writes it."""

    name: str
    email: str


@dataclass(frozen=True)
class Standing:
    """The state of the user's repository when a night begins.

    Attributes:
        start: the commit that the night begins from.
        branch: what is checked out; None with a detached head.
        dirty: paths, escaped, that differ from the checked-out commit or are not in it, `.nightfleet` aside.
        bare: there is no work tree that could be dirty.
        shallow: older commits are missing.
        submodules: paths, escaped, of submodules anywhere in the starting commit's arena.
        worktrees: folders of all linked work trees.
        foreign: the repository belongs to somebody else, and what we write there will be ours.
    """

    start: str
    branch: str | None
    dirty: tuple[str, ...]
    bare: bool
    shallow: bool
    submodules: tuple[str, ...]
    worktrees: tuple[str, ...]
    foreign: bool

    def remarks(self) -> list[str]:
        """What a person should know before a night, one sentence each; nothing in an ordinary repository."""
        found = []
        if self.dirty:
            more = f" and {len(self.dirty) - MOST_NAMED} more" if len(self.dirty) > MOST_NAMED else ""
            names = ", ".join(self.dirty[:MOST_NAMED])
            found.append(
                f"changes that are not committed take no part in the night, which begins from {self.start[:12]}: "
                f"{names}{more}; to include them, commit first"
            )
        if self.branch is None and not self.bare:
            found.append(f"no branch is checked out (detached head); the night begins from {self.start[:12]}")
        if self.shallow:
            found.append("this is a shallow clone; commits older than its boundary can be no candidate's parent")
        if self.submodules:
            found.append(f"submodules are not exported, neither to builds nor to agents: {', '.join(self.submodules)}")
        if self.foreign:
            found.append("this repository belongs to another user, who may not be able to write beside our files later")
        return found


class Checkout:
    """A user's repository and the folder of the arena in it.

    Args:
        arena: the folder of `program.md`.

    Attributes:
        reading: the harness's view of the repository.
        subfolder: the arena's path in it, "" at the top.
        top: the folder that the work tree is in, whatever `core.worktree` says.
        git_dir: of this work tree.
        common_dir: where all work trees have objects and references.

    Raises:
        UserError: the folder is in no repository.
    """

    def __init__(self, arena: Path) -> None:
        folder = arena.resolve()
        bare = _bare_around(folder)
        if bare is not None:
            raise UserError(f"{bare} is a bare repository, without files to work on; type 'git clone {bare}' first")
        self.reading, self.subfolder = Repository.find(folder)
        self.top = folder.parents[self.subfolder.count("/")] if self.subfolder else folder
        self.git_dir = self.reading.git_dir
        self.common_dir = _common(self.git_dir)

    def standing(self, revision: str = "HEAD") -> Standing:
        """The state that the repository is in.

        Args:
            revision: what the night begins from.

        Raises:
            UserError: there is no such commit, or none at all yet.
            MachineError: git failed.
        """
        start = self._start(revision)
        bare = self._setting("core.bare", "--type=bool") == "true"
        branch = self.ask("symbolic-ref", "--quiet", "--short", "HEAD")
        tree = self.reading.tree(start, self.subfolder)
        return Standing(
            start=start,
            branch=branch.output.decode("utf-8", "replace").strip() if branch.status == 0 else None,
            dirty=() if bare else self._dirty(),
            bare=bare,
            shallow=(self.common_dir / "shallow").exists(),
            submodules=tuple(printable(path) for path, one in tree.entries.items() if one.kind == "submodule"),
            worktrees=tuple(sorted(printable(path) for path in self.worktrees()[1:])),
            foreign=(self.common_dir / "objects").stat().st_uid != os.geteuid(),
        )

    def identity(self) -> Identity:
        """The user's name and address from their configuration, or ours where either is not set."""
        found = [_identifying(self._setting(f"user.{part}", everywhere=True)) for part in ("name", "email")]
        return Identity(*found) if all(found) else Identity(*FALLBACK)

    def worktrees(self) -> list[str]:
        """The folders of all work trees, the main one first."""
        listed = self.tell("worktree", "list", "--porcelain", "-z").decode("utf-8", "surrogateescape")
        return [line.removeprefix("worktree ") for line in listed.split("\0") if line.startswith("worktree ")]

    def ask(self, *arguments: str, stdin: bytes = b"", options: tuple[str, ...] = ()) -> Answer:
        """Run git in the user's repository; see `ask_git`."""
        return ask_git(self.git_dir, *arguments, stdin=stdin, options=options, environment=self._switched_off)

    def tell(self, *arguments: str, stdin: bytes = b"", options: tuple[str, ...] = ()) -> bytes:
        """Run git in the user's repository, successfully; see `tell_git`."""
        return tell_git(self.git_dir, *arguments, stdin=stdin, options=options, environment=self._switched_off)

    @cached_property
    def shared(self) -> str:
        """Who else may write to the repository: its `core.sharedRepository`."""
        return self._setting("core.sharedRepository") or "umask"

    @cached_property
    def _switched_off(self) -> dict[str, str]:
        # By variables: a name with "=" in it cannot be given to `-c`. Looked up once a night.
        names = tell_git(self.git_dir, "config", "--list", "--name-only", "--includes", "-z").split(b"\0")
        settings: dict[str, str] = {}
        for line in names:
            match = RUNS.fullmatch(line.decode("utf-8", "surrogateescape"))
            if match is not None:
                settings |= {f"{match[1]}.{match[2]}.{key}": value for key, value in INSTEAD[match[1]].items()}
        variables = {"GIT_CONFIG_COUNT": str(len(settings))}
        for index, (name, value) in enumerate(settings.items()):
            variables |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
        return variables

    def _start(self, revision: str) -> str:
        unborn = self.ask("rev-parse", "--verify", "--quiet", "HEAD").status != 0
        if revision == "HEAD" and unborn:
            raise UserError(f"{self.top} has no commit yet; type 'git add . && git commit' there")
        return self.reading.resolve(revision)

    def _dirty(self) -> tuple[str, ...]:
        # Not into submodules: git would run there under configuration of theirs.
        command = ("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal")
        listed = self.tell(*command, "--ignore-submodules=all", options=(f"--work-tree={self.top}",))
        paths = [line[3:].decode("utf-8", "surrogateescape") for line in listed.split(b"\0") if line]
        return tuple(printable(path) for path in paths if ".nightfleet" not in path.split("/"))

    def _setting(self, name: str, *options: str, everywhere: bool = False) -> str:
        """A setting of the repository's own, or of the user's too; "" if there is none."""
        variables: dict[str, str | None] = dict(self._switched_off)
        if everywhere:
            # Reading a setting runs nothing, wherever it comes from.
            names = ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
            variables |= {variable: os.environ.get(variable) for variable in names}
        said = ask_git(self.git_dir, "config", "--includes", *options, "--get", name, environment=variables)
        return said.output.decode("utf-8", "replace").rstrip("\n")


def _identifying(text: str) -> str:
    """What git takes for a name or an address: nothing that could end it early."""
    return "".join(letter for letter in text if letter.isprintable() and letter not in "<>").strip(" .,:;\"'")


def _common(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    return (git_dir / pointer.read_text().strip()).resolve() if pointer.exists() else git_dir


def _bare_around(folder: Path) -> Path | None:
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return None
        if all((place / name).exists() for name in ("HEAD", "objects", "refs")):
            return place
    return None
