"""The user's git repository, read and never written, by git's plumbing alone.

What a repository's own configuration, attributes, hooks or environment can make git do, it must not do here (CHEATS 26,
41): git is told where the repository is and that there is no work tree, and only two commands are used, `ls-tree` and
`cat-file --batch`, which apply no filters, run no hooks and write nothing. Never `git archive`: what it exports,
`.gitattributes` can change.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from nightfleet.harness.scope import path_problem
from nightfleet.harness.tree import Entry, Kind, Tree, printable
from nightfleet.native import MachineError, UserError

# Fixed: nothing here takes long but a very large tree on a slow disk.
TIMEOUT_S = 300

# Given to git in front of every command. Each closes a door through which configuration runs programs or the network.
CLOSED = (
    "--no-pager",
    "--no-replace-objects",
    "--no-optional-locks",
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.attributesFile=/dev/null"),
    *("-c", "protocol.allow=never"),
)
ENVIRONMENT = {
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # A list of protocols that may be used; none has this name.
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_SSH_COMMAND": "false",
}
KINDS: dict[bytes, Kind] = {
    b"100644": "file",
    b"100664": "file",
    b"100755": "executable",
    b"120000": "link",
    b"160000": "submodule",
}
OBJECT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64}) (\w+) [0-9]+")


class Repository:
    """One repository.

    Args:
        git_dir: the `.git` folder, a bare repository, or the folder of a linked work tree.

    Raises:
        UserError: it is none of these.
    """

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir.resolve()
        if not (self.git_dir / "HEAD").exists():
            raise UserError(f"{git_dir} is not a git repository: it has no HEAD")

    @classmethod
    def find(cls, folder: Path) -> tuple["Repository", str]:
        """The repository around a folder, and the folder's path inside it ("" at the top).

        Raises:
            UserError: there is none; the message says how to make one.
        """
        folder = folder.resolve()
        for place in (folder, *folder.parents):
            git = place / ".git"
            if git.is_dir():
                return cls(git), _inside(folder, place)
            if git.is_file():
                return cls(_pointed_to(git)), _inside(folder, place)
        raise UserError(f"{folder} is in no git repository; type 'git init && git add . && git commit' there")

    def resolve(self, revision: str) -> str:
        """The id of the commit that a revision names ("main", "HEAD~2", an abbreviated id, a tag).

        Raises:
            UserError: it names none, or more than one.
        """
        if not revision or not revision.isprintable() or len(revision) > 1000:
            raise UserError(f"{printable(revision)!r} is not a revision; type a branch, a tag or a commit's id")
        commit = self._object(f"{revision}^{{commit}}")
        if commit is None:
            raise UserError(f"there is no commit {revision!r} in {self.git_dir}; 'git log --oneline --all' lists them")
        return commit

    def tree(self, revision: str, subfolder: str = "") -> Tree:
        """The tree of a commit, or a folder's part of it with paths relative to that folder.

        Args:
            revision: see `resolve`.
            subfolder: where the arena is, `/` between parts; "" for the top.

        Raises:
            UserError: no such commit or folder, or a tree beyond the limits.
            MachineError: git failed.
        """
        commit = self.resolve(revision)
        if subfolder and path_problem(subfolder) is not None:
            raise UserError(f"the folder {printable(subfolder)!r} {path_problem(subfolder)}")
        top = self._object(f"{commit}:{subfolder}" if subfolder else f"{commit}^{{tree}}", "tree")
        if top is None:
            raise UserError(f"commit {commit} has no folder {subfolder!r}; commit it first")
        entries: dict[str, Entry] = {}
        for line in self._run("ls-tree", "-r", "-z", "-l", "--full-tree", top).split(b"\0")[:-1]:
            entry = self._entry(line)
            if entry.path in entries:
                raise UserError(f"commit {commit} is malformed: {printable(entry.path)} stands in it twice")
            entries[entry.path] = entry
        return Tree(commit, entries)

    def read(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        """The contents of files; see `Source`."""
        with self._batch("--batch") as (questions, answers):
            for entry in entries:
                name = entry.id.removeprefix("git:").encode("ascii")
                questions.write(name + b"\n")
                questions.flush()
                if answers.readline() != b"%s blob %d\n" % (name, entry.size):
                    raise UserError(
                        f"{printable(entry.path)}: git has no contents for {entry.id}; is this a partial clone? "
                        "'git fetch --refetch' completes it"
                    )
                data = answers.read(entry.size)
                if len(data) < entry.size or answers.read(1) != b"\n":
                    raise MachineError(f"git stopped in the middle of {printable(entry.path)}")
                yield data

    def _entry(self, line: bytes) -> Entry:
        facts, _, path = line.partition(b"\t")
        mode, _, name, size = facts.split()
        kind = KINDS.get(mode, "other")
        length = int(size) if size.isdigit() and kind in {"file", "executable"} else 0
        return Entry(path.decode("utf-8", "surrogateescape"), kind, f"git:{name.decode('ascii')}", length, self)

    def _object(self, expression: str, kind: str = "commit") -> str | None:
        # On standard input an expression can be taken for nothing else, however it begins.
        with self._batch("--batch-check") as (questions, answers):
            questions.write(expression.encode("utf-8", "surrogateescape") + b"\n")
            questions.flush()
            answer = answers.readline().decode("utf-8", "replace").rstrip("\n")
        if answer.endswith(" ambiguous"):
            raise UserError(f"{expression!r} may mean several objects; type more of the id")
        match = OBJECT.fullmatch(answer)
        return answer.split()[0] if match is not None and match[1] == kind else None

    @contextmanager
    def _batch(self, option: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        with subprocess.Popen(
            self._command("cat-file", option),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.git_dir,
            env=_environment(),
        ) as git:
            try:
                yield cast("IO[bytes]", git.stdin), cast("IO[bytes]", git.stdout)
            except BrokenPipeError:
                raise MachineError(f"git ended early in {self.git_dir}; 'git fsck' says more") from None
            finally:
                git.kill()

    def _run(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(
                self._command(*arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                cwd=self.git_dir,
                env=_environment(),
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise MachineError(f"git {arguments[0]} took longer than {TIMEOUT_S} s in {self.git_dir}") from None
        if done.returncode != 0:
            said = printable(done.stderr.decode("utf-8", "replace").strip()[-500:])
            raise MachineError(f"git {arguments[0]} failed in {self.git_dir} with status {done.returncode}: {said}")
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        # The git directory is also the working directory: there is no work tree to look into.
        return ["git", f"--git-dir={self.git_dir}", *CLOSED, *arguments]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), **ENVIRONMENT}


def _inside(folder: Path, top: Path) -> str:
    return "" if folder == top else folder.relative_to(top).as_posix()


def _pointed_to(git: Path) -> Path:
    """Where the `.git` file of a linked work tree or submodule points."""
    with git.open("rb") as file:
        text = file.read(4096).decode("utf-8", "replace").strip()
    if not text.startswith("gitdir: ") or not text.isprintable():
        raise UserError(f"{git} is a file, but not one that git made; is this a repository?")
    return git.parent / text.removeprefix("gitdir: ")
