"""The action space: which paths a candidate may change, and which names no tree may hold.

Patterns match whole paths, relative to the folder of `program.md`, with `/` between parts: `*` and `?` stay within one
part, `[…]` is one character of a set, `**` as a part is any number of parts.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

PROGRAM = "program.md"
LONGEST_PATH = 1024
# What HFS+ drops from names: with one inside, `.git` would still be `.git` there (CVE-2014-9390).
IGNORABLE = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
# NTFS's short name for `.git`.
SHORT_GIT = re.compile(r"git~[0-9]+", re.IGNORECASE)


@dataclass(frozen=True)
class Scope:
    """What may be changed. Frozen wins over editable.

    Attributes:
        edit: patterns of editable paths.
        frozen: paths that stay frozen whatever `edit` says, beside program.md, `.git*` and `.nightfleet`.
        allow: kinds of manifest changes that are in scope; see `manifests`.
    """

    edit: tuple[str, ...]
    frozen: frozenset[str] = frozenset()
    allow: frozenset[str] = frozenset()
    _patterns: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_patterns", tuple(compile_pattern(pattern) for pattern in self.edit))

    def matches(self, path: str) -> bool:
        """Whether `edit` names the path, frozen or not."""
        return any(pattern.fullmatch(path) for pattern in self._patterns)

    def frozen_because(self, path: str) -> str | None:
        """Why a candidate may not change the path; None if it may."""
        if path == PROGRAM:
            return f"{PROGRAM} is the contract itself"
        if path in self.frozen:
            return "the arena depends on it"
        if any(is_git_name(part) or part.casefold() == ".nightfleet" for part in path.split("/")):
            return "names that git or nightfleet read are never editable"
        return None if self.matches(path) else f"edit names only {', '.join(self.edit)}"


def read_patterns(value: object) -> tuple[str, ...]:
    """The patterns of `edit`.

    Raises:
        ValueError: none, too many, or one that could lead out of the folder or never match.
    """
    patterns = value if isinstance(value, list) else [value]
    if not 1 <= len(patterns) <= 200:
        raise ValueError(f'must be 1 to 200 patterns of paths, like ["src/**/*.rs"]; got {len(patterns)}')
    for pattern in patterns:
        _check_pattern(pattern)
    return tuple(patterns)


def read_inner_path(value: object) -> str:
    """A path inside the folder of `program.md`.

    Raises:
        ValueError: it is absolute, leads out, or is no path.
    """
    if not isinstance(value, str):
        raise ValueError(f"must be a path; got {value!r}")  # noqa: TRY004
    problem = path_problem(value)
    if problem is not None:
        raise ValueError(f"{value!r} {problem}; name a path inside the folder of {PROGRAM}")
    return value


def _check_pattern(pattern: object) -> None:
    if not isinstance(pattern, str):
        raise ValueError(f"must be patterns of paths; got {pattern!r}")  # noqa: TRY004
    problem = path_problem(pattern)
    if pattern.endswith("/") and problem is not None:
        raise ValueError(f"{pattern!r} names a folder; type '{pattern}**' for all files below it")
    if problem is not None:
        raise ValueError(f"{pattern!r} {problem}; patterns name paths inside the folder of {PROGRAM}")
    if set(pattern) & set("{}\\!"):
        raise ValueError(f"{pattern!r}: only *, **, ? and [abc] have a meaning; type two patterns instead")
    if any("**" in part and part != "**" for part in pattern.split("/")):
        raise ValueError(f"{pattern!r}: ** must stand alone between slashes; type '**/*' where you wrote '**'")
    if pattern.split("/").count("**") > 3 or pattern.count("*") > 12:
        raise ValueError(f"{pattern!r} has too many stars; at most three ** and twelve * in all")
    try:
        compile_pattern(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r}: {error}") from None


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern that `read_patterns` accepted."""
    parts = pattern.split("/")
    text = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            text += "[^/]+(?:/[^/]+)*" if last else "(?:[^/]+/)*"
        else:
            text += _part(part) + ("" if last else "/")
    return re.compile(text)


def _part(part: str) -> str:
    pieces = re.findall(r"\[[^\]/]+\]|.", part)
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(piece) or (_set(piece[1:-1]) if len(piece) > 1 else re.escape(piece)) for piece in pieces)


def _set(members: str) -> str:
    return "[" + re.sub(r"([\\\[\]^&~|])", r"\\\1", members) + "]"


def path_problem(path: str) -> str | None:
    """What is wrong with a path's form, whatever it may name; None if nothing is."""
    if len(path.encode("utf-8", "surrogateescape")) > LONGEST_PATH:
        return f"has more than {LONGEST_PATH} bytes"
    if not is_text(path):
        return "is not UTF-8"
    if any(unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} for character in path):
        return "contains control or invisible characters"
    if path.startswith(("/", "~")):
        return "is absolute"
    if ".." in path.split("/"):
        return "leads out by '..'"
    return "has an empty part or a '.'" if {"", "."} & set(path.split("/")) else None


def is_git_name(part: str) -> bool:
    """Whether a part of a path is `.git*`, here or in the eyes of another file system."""
    plain = IGNORABLE.sub("", unicodedata.normalize("NFKC", part)).casefold().rstrip(". ")
    return plain.startswith(".git") or SHORT_GIT.fullmatch(plain) is not None


def is_repository(part: str) -> bool:
    """Whether a part of a path is `.git` itself, where git would look for a repository."""
    plain = IGNORABLE.sub("", unicodedata.normalize("NFKC", part)).casefold().split(":")[0].rstrip(". ")
    return plain == ".git" or SHORT_GIT.fullmatch(plain) is not None


def is_text(path: str) -> bool:
    """Whether a path that was decoded with `surrogateescape` is UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def folded(path: str) -> str:
    """What a file system that ignores case and Unicode composition takes a path for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def look_alikes(paths: Sequence[str]) -> list[list[str]]:
    """Groups of paths that such a file system could not tell apart, folders included."""
    groups: dict[str, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            prefix = "/".join(parts[:end])
            groups.setdefault(folded(prefix), set()).add(prefix)
    return [sorted(group) for group in groups.values() if len(group) > 1]
