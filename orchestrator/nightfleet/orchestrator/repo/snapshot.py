"""A dead worker's tree becomes a candidate: one commit, and in it only what `edit` permits.

Nothing outside `edit` is even looked at, so that what a worker built or left there costs nothing and reaches nothing.
What is inside is held against the parent by the harness's own first gate.

A candidate's time is its parent's plus one second, in UTC: the same tree, parent, message and identity are the same
commit, whenever and by whomever the snapshot is taken.
"""

from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.folder import Folder, git_name
from nightfleet.harness.overlay import FILE_BYTES, Objection, overlay
from nightfleet.harness.scope import Scope, compile_pattern
from nightfleet.harness.tree import Entry, Tree, contents
from nightfleet.native import UserError
from nightfleet.orchestrator.repo.checkout import Identity
from nightfleet.orchestrator.repo.door import Content, Door


@dataclass(frozen=True)
class Snapshot:
    """What became of a worker's tree.

    Attributes:
        commit: the candidate's id; None if nothing was changed or anything is out of scope.
        changed: paths in the arena that differ from the parent, inside `edit`; not escaped.
        objections: why there is no commit; empty if there is one or nothing was changed.
    """

    commit: str | None
    changed: tuple[str, ...]
    objections: tuple[Objection, ...]


def snapshot(door: Door, folder: Path, parent: str, scope: Scope, *, message: str, who: Identity) -> Snapshot:
    """Commit what a worker changed; no reference is made.

    Args:
        door: to the objects of the user's repository.
        folder: the worker's tree. Whoever could write there is dead.
        parent: the commit that the tree was made from.
        scope: what may be changed.
        message: as it is.
        who: author and committer.

    Raises:
        UserError: the parent cannot be read.
        MachineError: git or the disk failed.
    """
    before = door.tree(parent)
    try:
        after = tree_of(door, folder, parent, scope)
    except UserError as error:
        # The tree is at fault: too much, too deep, not readable.
        return Snapshot(None, (), (Objection("", str(error)),))
    laid = overlay(before, after, scope)
    if laid.tree is None or not laid.changed:
        return Snapshot(None, laid.changed, laid.objections)
    changes = changes_in(laid.tree, laid.changed, door.checkout.subfolder)
    when_s = door.time_of(parent) + 1
    return Snapshot(door.commit(parent, message, who=who, when_s=when_s, changes=changes), laid.changed, ())


def tree_of(door: Door, folder: Path, parent: str, scope: Scope) -> Tree:
    """A worker's tree as it is now: what may be changed from the folder, all else the parent's.

    Raises:
        UserError: the parent cannot be read; or there is too much in the folder, too deep, or not readable.
    """
    before = door.tree(parent)
    # A large file of the parent's has to be read to find it unchanged; what is larger than any is changed anyway.
    most = max([FILE_BYTES, *(entry.size for entry in before.entries.values())])
    found = Folder(
        folder, looks_at=lambda path: _concerns(scope, path), reads_up_to=most, names=git_name(door.form)
    ).tree()
    return Tree(found.name, {**_untouchable(before, scope), **found.entries})


def changes_in(tree: Tree, changed: tuple[str, ...], subfolder: str) -> dict[str, Content | None]:
    """What `Door.commit` has to write for these paths of an arena's tree."""
    kept = [tree.entries[path] for path in changed if path in tree.entries]
    written = {entry.path: (data, entry.kind == "executable") for entry, data in zip(kept, contents(kept), strict=True)}
    prefix = f"{subfolder}/" if subfolder else ""
    return {f"{prefix}{path}": written.get(path) for path in changed}


def _untouchable(before: Tree, scope: Scope) -> dict[str, Entry]:
    """What stays the parent's: frozen files, and links and submodules, which a worker's tree never had."""
    return {
        path: entry
        for path, entry in before.entries.items()
        if path in before.left_out or scope.frozen_because(path) is not None
    }


def _concerns(scope: Scope, path: str) -> bool:
    """Whether a file may be changed, or a folder (with a slash behind it) could hold one that may."""
    if path.endswith("/"):
        return any(_reaches_into(pattern, path.removesuffix("/")) for pattern in scope.edit)
    return scope.frozen_because(path) is None


def _reaches_into(pattern: str, folder: str) -> bool:
    parts = pattern.split("/")
    head = parts[: folder.count("/") + 1]
    if "**" in head:
        head = head[: head.index("**") + 1]
    elif len(head) == len(parts):
        return False  # names files no deeper than the folder itself
    return compile_pattern("/".join(head)).fullmatch(folder) is not None
