"""The front matter of `program.md`: YAML between two `---` lines, then prose.

YAML is read event by event into plain values, so that what makes it dangerous or ambiguous (aliases, tags, duplicate
keys, deep nesting, a second document) is refused where it stands and nothing is expanded first. Every value keeps its
line. An edit goes through ruamel.yaml's round trip, so that comments survive it.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

from nightfleet.native import UserError

# Fixed limits.
YAML_BYTES = 64 << 10
FILE_BYTES = 1 << 20
DEPTH = 8

FENCE = "---"
# The line of the file on which the YAML begins.
FIRST_LINE = 2
INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
HANGING_DASH = re.compile(r"^( *)- ", re.MULTILINE)
DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)")
SURROGATE = re.compile("[\ud800-\udfff]")
WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"
KeyPath: TypeAlias = tuple[str | int, ...]


class ProgramError(UserError):
    """A `program.md` that asks for something impossible; a ValueError, like every UserError.

    Attributes:
        file: the file's name, as it was given.
        line: where, counted from 1; None if the whole file is meant.
        problem: the key, the limit or the allowed values, and the actual value.
        instead: what to type instead; empty if `problem` says it.
    """

    def __init__(self, file: str, line: int | None, problem: str, instead: str = "") -> None:
        self.file = file
        self.line = line
        self.problem = problem
        self.instead = instead
        place = file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {problem}" + (f"; {instead}" if instead else ""))


@dataclass(frozen=True)
class Section:
    """Some keys of the front matter, with the lines on which they stand."""

    file: str
    values: Mapping[str, Value]
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of a value, or of the nearest enclosing one that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, FIRST_LINE)

    def error(self, path: KeyPath, problem: str, instead: str = "") -> ProgramError:
        """An error at a key; `problem` follows the key's name."""
        return ProgramError(self.file, self.line(path), f"{dotted(path)}: {problem}", instead)

    def split(self, keys: Iterable[str]) -> tuple["Section", "Section"]:
        """This section with only these top-level keys, and the rest."""
        wanted = set(keys)
        mine = {key: value for key, value in self.values.items() if key in wanted}
        rest = {key: value for key, value in self.values.items() if key not in wanted}
        return Section(self.file, mine, self.lines), Section(self.file, rest, self.lines)


@dataclass(frozen=True)
class FrontMatter:
    """A program in two parts.

    Attributes:
        section: all keys with their lines.
        yaml: the text between the fences; each line ends with a newline.
        prose: what follows the second fence: the goal, in the human's words.
    """

    section: Section
    yaml: str
    prose: str

    @property
    def text(self) -> str:
        """The whole file."""
        return f"{FENCE}\n{self.yaml}{FENCE}\n{self.prose}"

    def edited(self, path: KeyPath, value: Value) -> str:
        """The file's text with one value set, comments and every other value as they were.

        Args:
            path: where; its last part may be a new key of a mapping that exists.
            value: the new value.

        Raises:
            ProgramError: no such place.
        """
        editor = _editor()
        if hanging := HANGING_DASH.search(self.yaml):
            # The round trip keeps comments, but not on its own how far sequences are indented.
            offset = len(hanging[1])
            editor.indent(mapping=2, sequence=offset + 2, offset=offset)
        root = editor.load(self.yaml)
        try:
            target = root
            for part in path[:-1]:
                target = target[part]
            target[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            raise self.section.error(path, "there is no such place to edit") from None
        out = io.StringIO()
        editor.dump(root, out)
        changed = FrontMatter(self.section, out.getvalue(), self.prose).text
        # A round trip that changes anything else would edit the human's contract behind their back.
        if read_front_matter(changed, self.section.file).section.values != _with(self.section.values, path, value):
            raise self.section.error(path, "could not be edited without changing something else", "edit it by hand")
        return changed


def dotted(path: KeyPath) -> str:
    """A key's name as people write it: `workloads[0].run`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def load_front_matter(path: Path) -> FrontMatter:
    """Read a file; see `read_front_matter`.

    Raises:
        ProgramError: also when there is no such file, or it is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise ProgramError(str(path), None, f"cannot be read: {error.strerror}", "is this the right folder?") from None
    try:
        # Bytes, not text mode: what is read has to be what was written, line endings included.
        return read_front_matter(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProgramError(str(path), line, "is not UTF-8 here", "save the file as UTF-8") from None


def read_front_matter(text: str, file: str = "program.md") -> FrontMatter:
    """Split a program into front matter and prose, and read the former.

    Args:
        text: the whole file; at most 1 MiB, its YAML at most 64 KiB.
        file: the name to show in errors.

    Raises:
        ProgramError: no front matter, a limit exceeded, or YAML that is not plain.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > FILE_BYTES:
        raise ProgramError(file, None, f"may have at most {FILE_BYTES} bytes; it has {size} or more")
    first, *lines = text.replace("\r\n", "\n").split("\n")
    if first != FENCE:
        raise ProgramError(file, 1, f"must be {FENCE!r}, where the front matter begins; got {first[:40]!r}")
    if FENCE not in lines:
        raise ProgramError(file, len(lines) + 1, f"the front matter has no end: a line {FENCE!r} is missing")
    end = lines.index(FENCE)
    yaml = "".join(f"{line}\n" for line in lines[:end])
    size = len(yaml.encode("utf-8", "surrogatepass"))
    if size > YAML_BYTES:
        raise ProgramError(file, 1, f"the front matter may have at most {YAML_BYTES} bytes; it has {size}")
    values, places = _Reader(file).read(yaml)
    return FrontMatter(Section(file, values, places), yaml, "\n".join(lines[end + 1 :]))


class _Reader:
    """Builds plain values from YAML's events; one use each."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lines: dict[KeyPath, int] = {}

    def read(self, yaml: str) -> tuple[dict[str, Value], dict[KeyPath, int]]:
        try:
            root = self._document(_events(yaml))
        except YAMLError as error:
            raise self._syntax(error) from None
        if root is None:
            raise ProgramError(
                self._file, FIRST_LINE, "the front matter is empty", "type 'name: …' and go on from there"
            )
        if not isinstance(root, dict):
            raise ProgramError(self._file, FIRST_LINE, f"expected 'key: value' lines; got {str(root)[:40]!r}")
        return root, self._lines

    def _document(self, events: Iterator[Event]) -> Value:
        root: Value = None
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1 or event.explicit or event.version or event.tags:
                    raise self._refused(event, "must be one YAML document without directives", "remove this")
            elif isinstance(event, ScalarEvent | AliasEvent | MappingStartEvent | SequenceStartEvent):
                root = self._value(event, events, ())
        return root

    def _value(self, event: Event, events: Iterator[Event], path: KeyPath) -> Value:
        self._refuse_cleverness(event, path)
        self._lines[path] = _line(event)
        if isinstance(event, ScalarEvent):
            if SURROGATE.search(event.value):
                raise self._refused(event, f"{dotted(path)}: half a character (a lone surrogate) is not text")
            return _scalar(event)
        if len(path) >= DEPTH:
            raise self._refused(event, f"nested more than {DEPTH} deep")
        if isinstance(event, SequenceStartEvent):
            items: list[Value] = []
            while not isinstance(item := next(events), SequenceEndEvent):
                items.append(self._value(item, events, (*path, len(items))))
            return items
        members: dict[str, Value] = {}
        while not isinstance(key := next(events), MappingEndEvent):
            name = self._key(key, members, path)
            members[name] = self._value(next(events), events, (*path, name))
            # A key is what people look for, also where its value begins on a later line.
            self._lines[*path, name] = _line(key)
        return members

    def _key(self, event: Event, members: Mapping[str, Value], path: KeyPath) -> str:
        self._refuse_cleverness(event, path)
        if not isinstance(event, ScalarEvent) or not event.value:
            raise self._refused(event, "a key must be a word")
        name = str(event.value)
        if name == "<<":
            raise self._refused(event, "merge keys ('<<') are not allowed", "write the keys out")
        if name in members:
            first = self._lines[*path, name]
            raise self._refused(event, f"{dotted((*path, name))} stands here again; first on line {first}", "keep one")
        return name

    def _refuse_cleverness(self, event: Event, path: KeyPath) -> None:
        where = f" at {dotted(path)}" if path else ""
        quote = "if it is text, put it in quotes; otherwise write the value out"
        if isinstance(event, AliasEvent):
            raise self._refused(event, f"aliases ('*name') are not allowed{where}", quote)
        if getattr(event, "anchor", None) is not None:
            raise self._refused(event, f"anchors ('&name') are not allowed{where}", quote)
        if getattr(event, "ctag", None) is not None:
            raise self._refused(event, f"tags ('!name') are not allowed{where}", quote)

    def _refused(self, event: Event, problem: str, instead: str = "") -> ProgramError:
        return ProgramError(self._file, _line(event), problem, instead)

    def _syntax(self, error: YAMLError) -> ProgramError:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        problem = (error.problem if isinstance(error, MarkedYAMLError) else None) or str(error).splitlines()[0]
        return ProgramError(
            self._file,
            None if mark is None else mark.line + FIRST_LINE,
            f"is not YAML: {problem}",
            "a value that begins with one of * & ! % @ ` or contains ': ' must stand in quotes",
        )


def _events(yaml: str) -> Iterator[Event]:
    # Lazily: the depth limit has to stop a bomb before all of it is parsed.
    for event in _editor().parse(yaml):
        if not isinstance(event, StreamStartEvent):
            yield event


def _editor() -> YAML:
    editor = YAML(typ="rt", pure=True)
    editor.preserve_quotes = True
    editor.width = YAML_BYTES
    return editor


def _line(event: Event) -> int:
    return int(event.start_mark.line) + FIRST_LINE


def _scalar(event: ScalarEvent) -> Value:
    """YAML 1.2's core types, without dates, octals and infinities: those stay text for their key's owner to judge."""
    text = str(event.value)
    if event.style is not None:
        return text
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if DECIMAL.fullmatch(text) else text


def _with(values: Mapping[str, Value], path: KeyPath, value: Value) -> Value:
    def put(old: Value, rest: KeyPath) -> Value:
        if not rest:
            return value
        head, *tail = rest
        if isinstance(old, list) and isinstance(head, int):
            return [put(item, tuple(tail)) if index == head else item for index, item in enumerate(old)]
        if isinstance(old, dict) and isinstance(head, str):
            return {**old, head: put(old.get(head), tuple(tail))}
        return old

    return put(dict(values), path)
