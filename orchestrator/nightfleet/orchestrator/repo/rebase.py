"""A candidate carried over to a new baseline: three-way, file by file, without a work tree.

`git merge-file` merges contents and nothing else: no attributes, no merge drivers, no renames. A rename on one side
under a change on the other is a conflict, which a worker settles with both diffs before it; guessing where a change
belongs is no machine's business where the result is judged by its speed.
"""

import difflib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.copies import disk
from nightfleet.harness.overlay import Objection, overlay
from nightfleet.harness.scope import Scope
from nightfleet.harness.tree import Entry, Tree, contents, printable
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator.repo.checkout import Identity
from nightfleet.orchestrator.repo.door import Door
from nightfleet.orchestrator.repo.launch import ask_git
from nightfleet.orchestrator.repo.snapshot import changes_in

# Fixed: what of one diff a worker is shown, in characters.
LONGEST_DIFF = 32_000


@dataclass(frozen=True)
class Conflict:
    """One file that both sides changed in ways that do not go together.

    Attributes:
        path: in the arena, not escaped.
        theirs: what the new baseline did to it, as a unified diff.
        ours: what the candidate did to it.
    """

    path: str
    theirs: str
    ours: str


@dataclass(frozen=True)
class Rebased:
    """What became of a candidate on its new baseline.

    Attributes:
        commit: its new id; None if there are conflicts or objections, or if nothing of it is left.
        changed: paths that differ from the new baseline.
        conflicts: by path; for a worker.
        objections: what the result may not do, although both sides may.
    """

    commit: str | None
    changed: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    objections: tuple[Objection, ...] = ()


def rebase(door: Door, candidate: str, parent: str, onto: str, *, scope: Scope, message: str, who: Identity) -> Rebased:
    """Make the candidate's changes on another commit; no reference is made.

    Args:
        door: to the objects of the user's repository.
        candidate: its commit.
        parent: the commit that it changed.
        onto: the new baseline.
        scope: what may be changed.
        message: of the new commit.
        who: author and committer; the time is the new baseline's plus one second.

    Raises:
        UserError: one of the commits cannot be read.
        MachineError: git or the disk failed.
    """
    base, ours, theirs = (door.tree(commit) for commit in (parent, candidate, onto))
    merged = dict(theirs.entries)
    conflicts: list[Conflict] = []
    for path in sorted(base.entries.keys() | ours.entries.keys()):
        try:
            entry = _merged(door, *(tree.entries.get(path) for tree in (base, ours, theirs)))
        except _ConflictError:
            conflicts.append(Conflict(path, _diff(path, base, theirs), _diff(path, base, ours)))
            continue
        if entry is None:
            merged.pop(path, None)
        else:
            merged[path] = entry
    if conflicts:
        return Rebased(None, (), tuple(conflicts))
    laid = overlay(theirs, Tree(candidate, merged), scope)
    if laid.tree is None or not laid.changed:
        return Rebased(None, laid.changed, (), laid.objections)
    changes = changes_in(laid.tree, laid.changed, door.checkout.subfolder)
    when_s = door.time_of(onto) + 1
    return Rebased(door.commit(onto, message, who=who, when_s=when_s, changes=changes), laid.changed, ())


class _ConflictError(Exception):
    pass


class _Text:
    """Contents that were merged a moment ago; see `Source`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        for _ in entries:
            yield self._data


def _merged(door: Door, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
    if _facts(base) == _facts(ours) or _facts(ours) == _facts(theirs):
        return theirs
    if _facts(base) == _facts(theirs):
        return ours
    three = (base, ours, theirs)
    if any(entry is None or entry.kind not in {"file", "executable"} for entry in three):
        raise _ConflictError
    first, mine, other = (entry for entry in three if entry is not None)
    change, parent, before = contents((mine, first, other))
    data = _merged_text(door, change, parent, before)
    kind = mine.kind if first.kind == other.kind else other.kind
    if data == before and kind == other.kind:
        return other  # the new baseline has all of it
    # An id of no object's, so that the overlay takes it for changed.
    return Entry(mine.path, kind, f"git:merged-{mine.id}-{other.id}", len(data), _Text(data))


def _merged_text(door: Door, mine: bytes, base: bytes, other: bytes) -> bytes:
    """The three-way merge of contents.

    Raises:
        _ConflictError: they do not go together, or are binary.
    """
    with disk(), tempfile.TemporaryDirectory(prefix="nightfleet-merge-") as folder:
        places = []
        for name, data in (("candidate", mine), ("parent", base), ("baseline", other)):
            place = Path(folder) / name
            place.write_bytes(data)
            places.append(str(place))
        answer = ask_git(door.git_dir, "merge-file", "--stdout", "--quiet", *places)
    # The number of conflicts, or 255 for what it cannot merge: binary files among others.
    if answer.status > 0:
        raise _ConflictError
    if answer.status < 0:
        raise MachineError(f"git merge-file was ended by signal {-answer.status}")
    return answer.output


def _facts(entry: Entry | None) -> tuple[str, str] | None:
    return None if entry is None else (entry.kind, entry.id)


def _diff(path: str, before: Tree, after: Tree) -> str:
    left, right = (_lines(tree, path) for tree in (before, after))
    lines = difflib.unified_diff(left, right, f"a/{printable(path)}", f"b/{printable(path)}")
    text = "".join(lines) or f"{printable(path)} became {_word(after.entries.get(path))}\n"
    return text if len(text) <= LONGEST_DIFF else f"{text[:LONGEST_DIFF]}\n… ({len(text)} characters in all)\n"


def _lines(tree: Tree, path: str) -> list[str]:
    try:
        data = tree.read(path)
    except UserError:
        return []
    # A last line without its end must not run into the next one of the diff.
    return [
        line if line.endswith("\n") else f"{line}\n" for line in data.decode("utf-8", "replace").split("\n") if line
    ]


def _word(entry: Entry | None) -> str:
    return {None: "nothing: it was removed", "link": "a link", "submodule": "a submodule"}.get(
        None if entry is None else entry.kind, "a file with another mode"
    )
