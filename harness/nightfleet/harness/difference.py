"""How much of the text differs between two trees."""

import difflib
from collections import Counter
from collections.abc import Collection

from nightfleet.harness.tree import Tree

# A candidate of a megabyte of empty lines must not keep the judge busy: beyond so many pairs of lines they are counted
# without regard to their order.
MOST_MATCHED = 4_000_000


def changed_lines(baseline: Tree, candidate: Tree, changed: Collection[str]) -> int:
    """Lines added and removed in these files, as a diff without context would show them.

    In very long files a line that only moved is not counted.
    """
    sides = [(tree, frozenset(tree.files)) for tree in (baseline, candidate)]
    total = 0
    for path in changed:
        before, after = (_lines(tree.read(path)) if path in files else [] for tree, files in sides)
        total += _differing(before, after)
    return total


def _lines(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _differing(before: list[bytes], after: list[bytes]) -> int:
    if len(before) * len(after) > MOST_MATCHED:
        old, new = Counter(before), Counter(after)
        return (old - new).total() + (new - old).total()
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    return sum(i2 - i1 + j2 - j1 for kind, i1, i2, j1, j2 in matcher.get_opcodes() if kind != "equal")
