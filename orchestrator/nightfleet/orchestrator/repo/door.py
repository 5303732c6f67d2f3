"""A git directory of our own in front of the user's objects: git works on them, and none of the user's settings apply.

Commits are written through it. It holds no references and three lines of configuration, so that nothing in the user's
repository (filters, merge drivers, hooks, grafts, replaced objects, `core.worktree`) has a say in what is written.
"""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from nightfleet.harness.copies import disk, remove
from nightfleet.harness.tree import Tree
from nightfleet.native import MachineError
from nightfleet.orchestrator.repo.checkout import Checkout, Identity
from nightfleet.orchestrator.repo.launch import tell_git

# Fixed: most candidates of a moment have one parent, and trees may be large.
MOST_REMEMBERED = 4
CONFIG = {
    "sha1": "[core]\n\trepositoryFormatVersion = 0\n\tbare = true\n",
    "sha256": "[core]\n\trepositoryFormatVersion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n",
}
Content: TypeAlias = tuple[bytes, bool]
"""Of a file: its bytes, and whether it is executable."""


class Door:
    """The way into one repository's objects.

    Args:
        checkout: the user's repository.
        state: our own folder, where the git directory is made once; it is the same for all repositories.

    Attributes:
        git_dir: ours; nothing of the user's is in it.
        form: how objects are named, "sha1" or "sha256".
    """

    def __init__(self, checkout: Checkout, state: Path) -> None:
        self.checkout = checkout
        self.form = checkout.tell("rev-parse", "--show-object-format").decode("ascii").strip()
        with disk():
            self.git_dir = _made(state / "git" / f"{self.form}.git", CONFIG[self.form])
        self._trees: dict[str, Tree] = {}
        self._times: dict[str, int] = {}

    def tell(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git on the user's objects.

        Raises:
            MachineError: git failed.
        """
        objects, shallow = self.checkout.common_dir / "objects", self.checkout.common_dir / "shallow"
        # Without the list of missing parents, git would take a shallow clone for a damaged repository.
        shared = ("-c", f"core.sharedRepository={self.checkout.shared}")
        return tell_git(
            self.git_dir,
            *arguments,
            stdin=stdin,
            options=shared,
            environment={
                "GIT_OBJECT_DIRECTORY": str(objects),
                "GIT_SHALLOW_FILE": str(shallow) if shallow.exists() else None,
            },
        )

    def tree(self, commit: str) -> Tree:
        """The arena's tree in a commit; the last few are remembered.

        Args:
            commit: its full id.

        Raises:
            UserError: no such commit, or it has no such folder.
            MachineError: git failed.
        """
        if commit not in self._trees:
            if len(self._trees) >= MOST_REMEMBERED:
                self._trees.clear()
            self._trees[commit] = self.checkout.reading.tree(commit, self.checkout.subfolder)
        return self._trees[commit]

    def time_of(self, commit: str) -> int:
        """When a commit was made, in seconds since 1970."""
        if commit not in self._times:
            self._times[commit] = int(self.tell("show", "--no-patch", "--format=%ct", commit))
        return self._times[commit]

    def tree_id(self, commit: str) -> str:
        """The id that git has for a commit's whole tree."""
        return self.tell("rev-parse", "--verify", f"{commit}^{{tree}}").decode("ascii").strip()

    def commit(
        self,
        parent: str,
        message: str,
        *,
        who: Identity,
        when_s: int,
        tree: str | None = None,
        changes: Mapping[str, Content | None] = {},
    ) -> str:
        """Write one commit with one parent; no reference is made.

        The same arguments give the same commit.

        Args:
            parent: its id; its tree is what `changes` apply to.
            message: as it is.
            who: author and committer.
            when_s: seconds since 1970, of both; the time zone is UTC.
            tree: the id of a tree instead of the parent's.
            changes: what files are to become, by path in the repository; None to remove one.

        Returns:
            The commit's id.

        Raises:
            MachineError: git or the disk failed.
        """
        stream = b"".join(_stream(parent, message, f"{who.name} <{who.email}> {when_s} +0000", tree, changes))
        # Fewer objects than git's limit of 100 become loose ones, more a pack; git makes them durable before it ends.
        said = self.tell("fast-import", "--quiet", "--done", "--date-format=raw", stdin=stream)
        commit = said.decode("ascii").strip()
        if len(commit) != len(parent):
            raise MachineError(f"git fast-import named no commit; it said {said[:100]!r}")
        return commit


def _stream(
    parent: str, message: str, signature: str, tree: str | None, changes: Mapping[str, Content | None]
) -> list[bytes]:
    """The commands of `git fast-import`."""
    blobs: list[bytes] = []
    removed: list[bytes] = []
    written: list[bytes] = []
    for path, content in sorted(changes.items()):
        if content is None:
            removed.append(b"D %s\n" % _quoted(path))
            continue
        data, executable = content
        mark = len(written) + 2
        blobs.append(b"blob\nmark :%d\ndata %d\n%s\n" % (mark, len(data), data))
        written.append(b"M %s :%d %s\n" % (b"100755" if executable else b"100644", mark, _quoted(path)))
    by, text = signature.encode(), message.encode()
    return [
        *blobs,
        b"commit refs/none\nmark :1\nauthor %s\ncommitter %s\n" % (by, by),
        b"data %d\n%s\nfrom %s\n" % (len(text), text, parent.encode("ascii")),
        b"" if tree is None else b'M 040000 %s ""\n' % tree.encode("ascii"),
        # A file may stand where a folder was: first away with it.
        *removed,
        *written,
        # Forgotten before the end, or it would become a reference of the door's.
        b"\nget-mark :1\nreset refs/none\n\ndone\n",
    ]


def _quoted(path: str) -> bytes:
    """A path as fast-import reads it whatever is in it: every unusual byte in octal."""
    data = path.encode("utf-8", "surrogateescape")
    plain = b"".join(b"\\%03o" % byte if byte < 32 or byte in b'"\\' else bytes([byte]) for byte in data)
    return b'"%s"' % plain


def _made(place: Path, config: str) -> Path:
    """A bare repository without objects, made whole or not at all, whoever else makes it at the same time."""
    if (place / "HEAD").exists():
        return place.resolve()
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
    (making / "refs").mkdir()
    (making / "objects").mkdir()
    (making / "config").write_text(config)
    (making / "HEAD").write_text("ref: refs/heads/none\n")
    with contextlib.suppress(OSError):  # another was quicker
        making.rename(place)
    if making.exists():
        remove(making)
    return place.resolve()
