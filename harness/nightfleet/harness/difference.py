"""How much of the text differs between two trees, and the patch that leads from one to the other."""

import difflib
import re
from collections import Counter
from collections.abc import Collection

from nightfleet.harness.tree import Tree, printable

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


def patch(baseline: Tree, candidate: Tree, changed: Collection[str]) -> str:
    """A unified diff of these files, for people and for `patch -p1`; contents that are not UTF-8 are only named.

    In very long files everything is shown as removed and added.
    """
    sides = [(tree, frozenset(tree.files)) for tree in (baseline, candidate)]
    return "".join(
        _of_file(path, *(tree.read(path) if path in files else None for tree, files in sides))
        for path in sorted(changed)
    )


def _of_file(path: str, before: bytes | None, after: bytes | None) -> str:
    old, new = (
        "/dev/null" if data is None else f"{letter}/{printable(path)}" for letter, data in (("a", before), ("b", after))
    )
    try:
        # Lines end at a newline and nothing else: `splitlines` would end them at a form feed too.
        left, right = (re.findall(r"[^\n]*\n|[^\n]+", (data or b"").decode("utf-8")) for data in (before, after))
    except UnicodeDecodeError:
        return f"Binary files {old} and {new} differ\n"
    if len(left) * len(right) > MOST_MATCHED:
        head = f"--- {old}\n+++ {new}\n@@ -1,{len(left)} +1,{len(right)} @@\n"
        lines = [head, *(f"-{line}" for line in left), *(f"+{line}" for line in right)]
    else:
        lines = list(difflib.unified_diff(left, right, old, new))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _differing(before: list[bytes], after: list[bytes]) -> int:
    if len(before) * len(after) > MOST_MATCHED:
        old, new = Counter(before), Counter(after)
        return (old - new).total() + (new - old).total()
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    return sum(i2 - i1 + j2 - j1 for kind, i1, i2, j1, j2 in matcher.get_opcodes() if kind != "equal")
