"""Gate 1, scope: the tree that is judged is the baseline's, with only those changes of the candidate that it may make.

Whatever the candidate's tree holds, every frozen file comes from the baseline: tests, checkers, lock files and the
program itself (CHEATS 22, 23). A change beyond the scope makes no tree at all; the reasons are handed back instead.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nightfleet.harness.manifests import manifest_findings
from nightfleet.harness.scope import Scope, look_alikes, path_problem
from nightfleet.harness.tree import Entry, Tree, contents, printable

# Fixed limits of one candidate.
MOST_CHANGED = 1000
FILE_BYTES = 1 << 20
CHANGED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a candidate is out of scope.

    Attributes:
        path: escaped for people; "" if the candidate as a whole is meant.
        why: in words that follow the path.
    """

    path: str
    why: str

    @property
    def text(self) -> str:
        """One line."""
        return f"{self.path}: {self.why}" if self.path else self.why


@dataclass(frozen=True)
class Overlay:
    """What became of a candidate at the first gate.

    Attributes:
        tree: what is to be built; None if anything is out of scope.
        changed: paths that were added, changed or removed, sorted; not escaped.
        objections: sorted by path; empty if the candidate is in scope.
    """

    tree: Tree | None
    changed: tuple[str, ...]
    objections: tuple[Objection, ...]


def overlay(baseline: Tree, candidate: Tree, scope: Scope) -> Overlay:
    """Lay a candidate's changes over its baseline.

    A candidate that changes nothing has the baseline's files, no objection, and an empty `changed`.

    Raises:
        UserError: contents cannot be read.
    """
    changed = tuple(sorted(_changed(baseline, candidate)))
    if len(changed) > MOST_CHANGED:
        whole = Objection("", f"changes {len(changed)} files; the limit is {MOST_CHANGED}")
        return Overlay(None, changed, (whole,))
    found = [Objection(printable(path), why) for path in changed for why in _forms(baseline, candidate, path, scope)]
    merged = {path: entry for path, entry in baseline.entries.items() if path not in set(changed)}
    merged |= {path: candidate.entries[path] for path in changed if path in candidate.entries}
    found += _collisions(merged, changed)
    if not found:
        # Only now: until here nothing of a candidate's contents was read.
        found += _contents(baseline, candidate, changed, scope)
    if found:
        return Overlay(None, changed, tuple(sorted(set(found), key=lambda objection: (objection.path, objection.why))))
    return Overlay(Tree(candidate.name, merged), changed, ())


def _changed(baseline: Tree, candidate: Tree) -> Iterator[str]:
    undecided: list[tuple[Entry, Entry]] = []
    for path in baseline.entries.keys() | candidate.entries.keys():
        before, after = baseline.entries.get(path), candidate.entries.get(path)
        if before is None or after is None:
            yield path
        elif _one_kind_of_id(before, after):
            if (before.kind, before.id) != (after.kind, after.id):
                yield path
        elif before.kind != after.kind or (before.kind in {"file", "executable"} and before.size != after.size):
            yield path
        else:
            undecided.append((before, after))
    # A commit beside a folder: links and submodules count as changed, files are compared by their contents.
    files = [(before, after) for before, after in undecided if before.kind in {"file", "executable"}]
    yield from (before.path for before, after in undecided if before.kind not in {"file", "executable"})
    for (entry, _), left, right in zip(
        files, _digests(b for b, _ in files), _digests(a for _, a in files), strict=True
    ):
        if left != right:
            yield entry.path


def _one_kind_of_id(before: Entry, after: Entry) -> bool:
    return before.id.split(":")[0] == after.id.split(":")[0]


def _digests(entries: Iterable[Entry]) -> Iterator[bytes]:
    yield from (hashlib.sha256(data).digest() for data in contents(entries))


def _forms(baseline: Tree, candidate: Tree, path: str, scope: Scope) -> Iterator[str]:
    """What is wrong with a changed path before anyone looks into it."""
    frozen = scope.frozen_because(path)
    if frozen is not None:
        yield f"is frozen: {frozen}"
    if path in baseline.left_out:
        yield f"{baseline.left_out[path]} in the baseline, which nobody may change"
    entry = candidate.entries.get(path)
    if entry is None:
        return
    if path in candidate.left_out:
        yield candidate.left_out[path]
    elif (problem := path_problem(path)) is not None:
        yield problem
    if entry.size > FILE_BYTES:
        yield f"has {entry.size} bytes; the limit for a changed file is {FILE_BYTES}"


def _collisions(merged: Mapping[str, Entry], changed: Iterable[str]) -> Iterator[Objection]:
    """Names that a candidate brings in beside others that they could be taken for, or inside of."""
    theirs = set(changed)
    for group in look_alikes(list(merged)):
        below = tuple(f"{name}/" for name in group)
        mine = [path for path in theirs if path in merged and (path in group or path.startswith(below))]
        if mine:
            listed = ", ".join(printable(name) for name in group)
            yield Objection(printable(min(mine)), f"differs only in case or Unicode form: {listed}")
    for path in merged:
        parts = path.split("/")
        for end in range(1, len(parts)):
            prefix = "/".join(parts[:end])
            if prefix in merged:
                yield Objection(printable(path), f"lies below {printable(prefix)}, which is a file")


def _contents(baseline: Tree, candidate: Tree, changed: Iterable[str], scope: Scope) -> Iterator[Objection]:
    after = _read(candidate, changed)
    size = sum(len(data) for data in after.values())
    if size > CHANGED_BYTES:
        yield Objection("", f"changes files of {size} bytes in all; the limit is {CHANGED_BYTES}")
    before = _read(baseline, changed)
    for path in changed:
        data = after.get(path)
        if data is not None and _is_binary(data):
            yield Objection(printable(path), "is binary; only text can be reviewed")
        for kind, words in manifest_findings(path, before.get(path), data, named=path in scope.edit):
            if kind not in scope.allow:
                yield Objection(printable(path), f"{words} (the arena may permit it by 'allow: [{kind}]')")


def _read(tree: Tree, paths: Iterable[str]) -> dict[str, bytes]:
    entries = [tree.entries[path] for path in paths if path in tree.entries and path not in tree.left_out]
    return {entry.path: data for entry, data in zip(entries, contents(entries), strict=True)}


def _is_binary(data: bytes) -> bool:
    try:
        return "\0" in data.decode("utf-8")
    except UnicodeDecodeError:
        return True
