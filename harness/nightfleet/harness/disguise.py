"""The same program in another dress: changes to source text that must neither change what it does nor how fast it is.

They are made without knowing a language well: comments before the first line of code, and top-level functions in
another order, where a formatter's habits show where they begin and end. Whether a disguise kept its promise is for the
build and the behaviour gate to say.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nightfleet.harness.tree import Tree

# By the ending of the file's name: how a line comment begins.
COMMENTS = {
    **dict.fromkeys(("rs", "c", "h", "cc", "cpp", "cxx", "hh", "hpp", "go", "java", "kt", "swift", "zig"), "//"),
    **dict.fromkeys(("js", "mjs", "cjs", "ts", "tsx", "jsx"), "//"),
    **dict.fromkeys(("py", "pyi", "rb", "sh", "jl", "r", "pl"), "#"),
    **dict.fromkeys(("lua", "hs"), "--"),
}
# What a top-level function begins with, at the very left.
FUNCTIONS = {
    "rs": re.compile(r'(pub(\([^)]*\))? )?((const|async|unsafe|extern( "[^"]*")?) )*fn \w'),
    "go": re.compile(r"func "),
    **dict.fromkeys(("js", "mjs", "cjs", "ts"), re.compile(r"(export )?(async )?function\b")),
    **dict.fromkeys(("c", "cc", "cpp", "cxx"), re.compile(r"(static |inline )*[A-Za-z_][\w ]*[ *]+\w+\([^;]*$")),
    "py": re.compile(r"(async )?def \w"),
}
# What belongs to the function below it.
_ABOVE = re.compile(r"///|//|#\[|#(?!include|define|if|endif|else|pragma)|@|/\*| \*")
_FIRST = re.compile(r"#!|#.*coding[:=]")
# Where functions may be called by code between them, only neighbours change places.
_IN_ORDER = frozenset({"py", "c", "cc", "cpp", "cxx"})


@dataclass(frozen=True)
class Disguise:
    """One way to dress a program up. `apply` gives the new text of a file, or None where it has nothing to change."""

    name: str
    apply: Callable[[str, str], str | None]

    def of(self, tree: Tree, may_edit: Callable[[str], bool]) -> dict[str, bytes]:
        """The new contents of the files that it changes, by path; text that is not UTF-8 is left alone."""
        changed: dict[str, bytes] = {}
        for path in tree.files:
            if ending(path) in COMMENTS and may_edit(path):
                try:
                    old = tree.read(path).decode("utf-8")
                except UnicodeDecodeError:
                    continue
                new = self.apply(old, ending(path))
                if new is not None and new != old:
                    changed[path] = new.encode("utf-8")
        return changed


def reformatted(number: int) -> Disguise:
    """So many comment lines before the code: whatever names lines (panics, assertions, tracebacks) names others."""
    return Disguise(f"reformatted {number}", lambda text, kind: _commented(text, kind, number))


def reordered(number: int) -> Disguise:
    """Top-level functions in another order, by a seed."""
    return Disguise(f"reordered {number}", lambda text, kind: _shuffled(text, kind, number))


def ending(path: str) -> str:
    """What follows the last dot of a file's name."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def _commented(text: str, kind: str, number: int) -> str:
    lines = text.splitlines(keepends=True)
    first = 0
    while first < min(2, len(lines)) and _FIRST.match(lines[first]):
        first += 1
    said = [f"{COMMENTS[kind]} The same program, {number} lines further down.\n"] * number
    # The blank line keeps what follows (a build tag, a file's own comment) from being one with ours.
    return "".join([*lines[:first], *said, "\n", *lines[first:]])


def _shuffled(text: str, kind: str, seed: int) -> str | None:
    begins = FUNCTIONS.get(kind)
    if begins is None:
        return None
    lines = text.splitlines(keepends=True)
    spans = list(_functions(lines, begins, by_indent=kind == "py"))
    # A last line without its end would run into what follows it.
    if not text.endswith("\n"):
        return None
    order = random.Random(seed)  # noqa: S311 - repeatable, no secret
    runs = _runs(spans, lines) if kind in _IN_ORDER else [spans]
    moved: dict[int, int] = {}
    for run in runs:
        starts = [start for start, _ in run]
        order.shuffle(starts)
        moved.update(zip((start for start, _ in run), starts, strict=True))
    ends = dict(spans)
    made: list[str] = []
    at = 0
    for start, end in spans:
        made += lines[at:start]
        made += lines[moved[start] : ends[moved[start]]]
        at = end
    return "".join([*made, *lines[at:]])


def _functions(lines: list[str], begins: re.Pattern[str], *, by_indent: bool) -> Iterator[tuple[int, int]]:
    """Where top-level functions begin, with what stands right above them, and end."""
    at = 0
    while at < len(lines):
        if not begins.match(lines[at]):
            at += 1
            continue
        end = _end_by_indent(lines, at) if by_indent else _end_by_brace(lines, at)
        if end is None:
            return
        start = at
        while start and _ABOVE.match(lines[start - 1]):
            start -= 1
        yield start, end
        at = end


def _end_by_brace(lines: list[str], at: int) -> int | None:
    """Formatters leave the brace that closes a top-level function alone at the very left."""
    if lines[at].rstrip().endswith("}"):
        return at + 1
    return next((end + 1 for end in range(at + 1, len(lines)) if lines[end].rstrip() == "}"), None)


def _end_by_indent(lines: list[str], at: int) -> int:
    """The line after the last that is indented; `)` closes parameters that stand on lines of their own."""
    end = last = at + 1
    while end < len(lines) and (not lines[end].strip() or lines[end][0] in " \t)"):
        end += 1
        if lines[end - 1].strip():
            last = end
    return last


def _runs(spans: list[tuple[int, int]], lines: list[str]) -> list[list[tuple[int, int]]]:
    """Functions with nothing but blank lines between them."""
    runs: list[list[tuple[int, int]]] = []
    for span in spans:
        if runs and not "".join(lines[runs[-1][-1][1] : span[0]]).strip():
            runs[-1].append(span)
        else:
            runs.append([span])
    return runs
