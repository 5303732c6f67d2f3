"""The exact edits of a change, so that a worker carries out what the scout meant and nothing else.

An edit replaces whole lines, together with as many lines around them as it takes to be found exactly once. A baseline
that moved meanwhile does not matter unless it moved there; then nothing is applied, and the worker says so.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, ValidationError

from nightfleet.agents.contract import Path_, Sheet


class StaleError(Exception):
    """The place that an edit belongs to is no longer there, or no longer the only one; the message names it."""


class Edit(Sheet):
    """Lines that are replaced; a new file where `before` is empty."""

    path: Path_
    before: str
    after: str


class Recipe(Sheet):
    """Edits in the order in which they are made, and the sentence that says what they do."""

    says: str
    edits: Annotated[tuple[Edit, ...], Field(min_length=1, max_length=2_000)]


def recipe_of(says: str, before: Mapping[str, str], after: Mapping[str, str]) -> Recipe:
    """The edits that make `after` of `before`; paths that `after` does not name stay as they are."""
    edits = [edit for path, text in sorted(after.items()) for edit in _edits(path, before.get(path), text)]
    return Recipe(says=says, edits=tuple(edits))


def read_recipe(text: str) -> Recipe:
    """Read a recipe from its JSON.

    Raises:
        StaleError: it is none.
    """
    try:
        return Recipe.model_validate_json(text)
    except ValidationError:
        raise StaleError("the strategy holds no recipe of the search backend") from None


def apply(recipe: Recipe, texts: Mapping[str, str]) -> dict[str, str]:
    """New texts of the files that a recipe changes.

    Raises:
        StaleError: a place is not there exactly once, or a new file is there already.
    """
    changed: dict[str, str] = {}
    for edit in recipe.edits:
        text = changed.get(edit.path, texts.get(edit.path))
        if not edit.before:
            if text is not None:
                raise StaleError(f"{edit.path} is there already")
            changed[edit.path] = edit.after
        elif text is None or not _is_once(edit.before, text):
            raise StaleError(f"{edit.path} no longer holds the lines that this is about, or holds them twice")
        else:
            changed[edit.path] = text.replace(edit.before, edit.after)
    return changed


def _edits(path: str, before: str | None, after: str) -> list[Edit]:
    if not before:
        return [Edit(path=path, before="", after=after)]
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    edits = []
    # From the end, so that line numbers of what is still to come stay right.
    for first, last, text in reversed(_hunks(old, new)):
        edit = _edit(path, old, first, last, text)
        edits.append(edit)
        old[first:last] = text
    return edits


def _hunks(old: list[str], new: list[str]) -> list[tuple[int, int, list[str]]]:
    """(first, last, new lines) of each stretch that differs."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    matcher = difflib.SequenceMatcher(a=old[start : len(old) - end], b=new[start : len(new) - end], autojunk=False)
    return [
        (start + i1, start + i2, new[start + j1 : start + j2])
        for kind, i1, i2, j1, j2 in matcher.get_opcodes()
        if kind != "equal"
    ]


def _edit(path: str, lines: list[str], first: int, last: int, text: list[str]) -> Edit:
    whole = "".join(lines)
    for around in range(len(lines) + 1):
        low, high = max(0, first - around), min(len(lines), last + around)
        before = "".join(lines[low:high])
        if before and _is_once(before, whole):
            after = "".join([*lines[low:first], *text, *lines[last:high]])
            return Edit(path=path, before=before, after=after)
    raise AssertionError("a whole file is found in itself exactly once")


def _is_once(part: str, whole: str) -> bool:
    found = whole.find(part)
    return found >= 0 and whole.find(part, found + 1) < 0
