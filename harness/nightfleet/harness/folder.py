"""A plain folder as a tree: what lies there now, taken without following a link anywhere.

Ignored and untracked files count like all others, because nothing here asks git. `.git` and `.nightfleet` are passed
over wherever they lie.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nightfleet.harness.repository import Repository
from nightfleet.harness.scope import is_repository
from nightfleet.harness.tree import MOST_BYTES, MOST_FILES, Entry, Kind, Tree, printable
from nightfleet.native import UserError

# Fixed limit, far below the one of open descriptors.
DEPTH = 64
# O_NONBLOCK: opening a pipe that nobody writes to must not wait.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
PASSED_OVER = ".nightfleet"
UNREAD = "sha256:"


class Folder:
    """One folder.

    Args:
        path: of the folder; it may be a link itself.
        looks_at: whether to look at a path below it, folders with a slash behind them; what it declines is not there.
        reads_up_to: bytes of a file; a larger one has its size but no contents, and the id of none.
        names: the id of a file's contents; `git_name` gives those that a repository's entries have.

    Raises:
        UserError: there is none.
    """

    def __init__(
        self,
        path: Path,
        *,
        looks_at: Callable[[str], bool] = lambda _: True,
        reads_up_to: int = MOST_BYTES,
        names: Callable[[bytes], str] | None = None,
    ) -> None:
        self.path = path.resolve()
        self._looks_at, self._reads_up_to = looks_at, reads_up_to
        self._name = names or _id
        if not self.path.is_dir():
            raise UserError(f"there is no folder {path}")

    def tree(self) -> Tree:
        """What lies there now, with the SHA-256 of every file.

        Raises:
            UserError: too much, too deep, or not readable.
        """
        entries: dict[str, Entry] = {}
        size = 0
        with _opened(self.path, os.O_DIRECTORY) as top:
            for entry in self._walk(top, "", 0):
                entries[entry.path] = entry
                size += entry.size
                if len(entries) > MOST_FILES or size > MOST_BYTES:
                    raise UserError(f"{self.path} has more than {MOST_FILES} files or {MOST_BYTES} bytes; clean it up")
        return Tree(str(self.path), entries)

    def read(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        """The contents of files; see `Source`. A file that changed since `tree()` is refused."""
        for entry in entries:
            with _opened(self.path, os.O_DIRECTORY) as top:
                data = _content(top, entry.path.split("/"))
            if self._name(data) != entry.id:
                raise UserError(
                    f"{self.path}: {printable(entry.path)} changed while it was read; stop what writes there"
                )
            yield data

    def _walk(self, folder: int, prefix: str, depth: int) -> Iterator[Entry]:
        if depth > DEPTH:
            raise UserError(f"{self.path}: {printable(prefix)} is more than {DEPTH} folders deep")
        for name in sorted(os.listdir(folder)):
            path = prefix + name
            if is_repository(name) or name == PASSED_OVER:
                continue
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            mode = found.st_mode
            if not self._looks_at(f"{path}/" if stat.S_ISDIR(mode) else path):
                continue
            if stat.S_ISDIR(mode):
                with _opened(name, os.O_DIRECTORY, folder) as inner:
                    yield from self._walk(inner, f"{path}/", depth + 1)
            elif stat.S_ISREG(mode):
                kind: Kind = "executable" if mode & stat.S_IXUSR else "file"
                if found.st_size > self._reads_up_to:
                    yield Entry(path, kind, UNREAD, found.st_size, self)
                    continue
                data = _content(folder, [name])
                yield Entry(path, kind, self._name(data), len(data), self)
            elif stat.S_ISLNK(mode):
                yield Entry(path, "link", _id(os.fsencode(os.readlink(name, dir_fd=folder))), 0, self)
            else:
                yield Entry(path, "other", UNREAD, 0, self)


def git_name(form: str) -> Callable[[bytes], str]:
    """What names contents as git does; see `Entry.id`.

    Args:
        form: "sha1" or "sha256", as the repository's objects are named.
    """

    def name(data: bytes) -> str:
        digest = hashlib.new(form, b"blob %d\0" % len(data), usedforsecurity=False)
        digest.update(data)
        return f"git:{digest.hexdigest()}"

    return name


def find_tree(text: str, repository: Repository | None, subfolder: str = "") -> Tree:
    """The tree that a person names: a folder, or a revision of the repository.

    Raises:
        UserError: neither or both.
    """
    folder = Path(text)
    commit: str | None = None
    if repository is not None and not text.startswith(("/", "./", "../")):
        try:
            commit = repository.resolve(text)
        except UserError:
            if not folder.is_dir():
                raise
    if commit is not None and folder.is_dir():
        raise UserError(f"{text!r} is a revision and a folder; type './{text}' for the folder or '{commit[:12]}'")
    if repository is None or commit is None:
        return Folder(folder).tree()
    return repository.tree(commit, subfolder)


def _content(folder: int, parts: list[str]) -> bytes:
    """A regular file's contents, each part of its path opened without following links."""
    name, *rest = parts
    if rest:
        with _opened(name, os.O_DIRECTORY, folder) as inner:
            return _content(inner, rest)
    with _opened(name, 0, folder) as handle, os.fdopen(os.dup(handle), "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError(f"{printable(name)} changed while it was read; stop what writes there")
        data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UserError(f"{printable(name)} has more than {MOST_BYTES} bytes")
        return data


@contextmanager
def _opened(path: str | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    try:
        handle = os.open(path, FLAGS | flags, dir_fd=folder)
    except OSError as error:
        raise UserError(f"{printable(str(path))} cannot be read: {error.strerror}") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _id(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
