"""Sweeps of numeric constants that decide how work is cut up and stored, not what is computed.

A constant counts when the name it is bound to speaks of a capacity, a buffer, a block, a table or a threshold, or when
it is handed to a call that takes one. Dates, seeds, masks, versions and the numbers of an enumeration do not; neither
does anything in tests. Most constants that are left still mean something: the judge compares every record.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ast_grep_py import SgNode

from nightfleet.agents.contract import Knob
from nightfleet.agents.search.change import Change, Place
from nightfleet.agents.search.sources import Sources, language_of
from nightfleet.agents.search.staircase import Move, next_numbers
from nightfleet.agents.search.syntax import is_test, parse

RULE = "constant"
GAIN = 0.02
# Fixed: nobody counts further by capacity.
GREATEST = 1 << 31

NUMBERS: Mapping[str, tuple[str, ...]] = {
    "rust": ("integer_literal",),
    "python": ("integer",),
    "c": ("number_literal", "preproc_def"),
    "cpp": ("number_literal", "preproc_def"),
    "go": ("int_literal",),
    "javascript": ("number",),
    "typescript": ("number",),
    "java": ("decimal_integer_literal",),
}
# What binds a number to a name, and the field that holds the name.
BINDINGS: Mapping[str, str] = {
    "const_item": "name",
    "static_item": "name",
    "let_declaration": "pattern",
    "assignment": "left",
    "keyword_argument": "name",
    "default_parameter": "name",
    "typed_default_parameter": "name",
    "init_declarator": "declarator",
    "array_declarator": "declarator",
    "preproc_def": "name",
    "const_spec": "name",
    "var_spec": "name",
    "short_var_declaration": "left",
    "variable_declarator": "name",
    "pair": "key",
}
CALLS = frozenset({"call_expression", "call", "method_invocation", "object_creation_expression"})
# What may stand between a number and what it is bound to.
THROUGH = frozenset(
    {"arguments", "argument_list", "parenthesized_expression", "binary_expression", "binary_operator"}
    | {"type_cast_expression", "expression_list", "integer_literal"}
)
ABOUT = frozenset(
    {"cap", "capacity", "buf", "buffer", "bufsize", "buffering", "chunk", "chunks", "block", "batch", "table", "bucket"}
    | {"buckets", "cache", "maxsize", "slots", "page", "pool", "queue", "window", "tile", "unroll", "shard", "shards"}
    | {"threshold", "cutoff", "prefetch", "grain", "granularity", "fanout", "readahead", "blocksize", "chunksize"}
    | {"watermark", "percent"}
)
NEVER = frozenset(
    {"version", "seed", "magic", "mask", "port", "year", "date", "time", "timeout", "id", "flag", "error", "code"}
    | {"bit", "bits", "shift", "offset", "prime", "color", "colour", "test", "status", "level", "month", "day"}
)
TAKERS = re.compile(
    r"(with_capacity(_and_hasher)?|reserve(_exact)?|par_chunks|with_min_len|bytearray|recv|read1?|setvbuf|set_threshold"
    r"|SetGCPercent|NewReaderSize|NewWriterSize|make|setBufferSize|StringBuilder|ArrayList|HashMap|BufferedReader)(<.*>)?$"
)
NUMBER = re.compile(r"^([0-9][0-9_]*)([A-Za-z]\w*)?$")
SHIFT = re.compile(r"^1(\w*) << ([0-9]+)$")


@dataclass(frozen=True)
class _Found:
    """A number: where its text stands, what it is worth, and how another one is written in its place."""

    start: int
    end: int
    value: int
    form: str

    def written(self, value: int) -> str:
        """Another value in the same form, as far as it goes."""
        if self.form.startswith("<<") and value & (value - 1) == 0:
            return f"1{self.form[2:]} << {value.bit_length() - 1}"
        if self.form.startswith("<<"):
            return f"{value}{self.form[2:]}"
        return f"{value:_}{self.form[1:]}" if self.form.startswith("_") else f"{value}{self.form}"


def sweeps(sources: Sources, moves: Mapping[str, Sequence[Move]]) -> Iterator[Change]:
    """Every constant, moved to where its staircase goes next.

    Args:
        sources: what may be changed.
        moves: what was tried, by the name of the knob.
    """
    for path, text in sources.texts.items():
        language = language_of(path)
        if language is not None:
            yield from _in_file(path, text, language, moves)


def _in_file(path: str, text: str, language: str, moves: Mapping[str, Sequence[Move]]) -> Iterator[Change]:
    seen: Counter[str] = Counter()
    for kind in NUMBERS[language]:
        for node in parse(text, language).find_all(kind=kind):
            name = _bound_to(node)
            found = None if name is None else _number(node)
            if name is None or found is None or is_test(path, node):
                continue
            place = Place.of(path, node)
            seen[whose := f"{place.function}:{name}"] += 1
            knob = f"{path}:{whose}:{seen[whose]}"[:200]
            for value in next_numbers(found.value, moves.get(knob, ()), least=2):
                yield _moved(text, place, name, found=found, value=value, knob=knob)


def _moved(text: str, place: Place, name: str, *, found: _Found, value: int, knob: str) -> Change:
    written = found.written(value)
    return Change(
        rule=RULE,
        title=f"Set {name} to {written} instead of {text[found.start : found.end]}"[:500],
        hypothesis="How work is cut up and how much room it gets was somebody's guess; caches and allocators differ.",
        may_break="The constant may mean more than how the work is cut up.",
        risk="The best value is that of the machine and the cases it was measured with.",
        gain=GAIN,
        place=place,
        key=f"{knob} {value}",
        files={place.path: text[: found.start] + written + text[found.end :]},
        knob=Knob(name=knob, before=str(found.value), after=str(value)),
    )


def _number(node: SgNode) -> _Found | None:
    if node.kind() == "preproc_def":
        value = node.field("value")
        return None if value is None else _read(value.text().strip(), value)
    parent = node.parent()
    if parent is not None and SHIFT.match(parent.text()):
        # Both numbers of a shift lead here; the first one stands for it.
        return _read(parent.text(), parent) if parent.range().start.index == node.range().start.index else None
    return _read(node.text(), node)


def _read(text: str, node: SgNode) -> _Found | None:
    span = node.range()
    # A #define's value begins with the blanks before it.
    start = span.start.index + len(node.text()) - len(node.text().lstrip())
    shift, number = SHIFT.match(text), NUMBER.match(text)
    if shift is not None and int(shift[2]) < 32:
        return _Found(start, start + len(text), 1 << int(shift[2]), f"<<{shift[1]}")
    # A leading zero is octal in C; letters after it are hexadecimal or binary.
    if number is None or (text.startswith("0")) or not 2 <= int(number[1]) <= GREATEST:
        return None
    suffix = number[2] or ""
    return _Found(start, start + len(text), int(number[1]), f"_{suffix}" if "_" in number[1] else suffix)


def _bound_to(node: SgNode) -> str | None:
    """The name that a number is bound to, if that makes it a constant worth sweeping."""
    inner = node
    for one in (node, *node.ancestors()):
        kind = one.kind()
        if kind in BINDINGS:
            named = one.field(BINDINGS[kind])
            return named.text() if named is not None and named != inner and _is_about(named.text()) else None
        if kind in CALLS:
            called = one.field("function") or one.field("name") or one.field("type")
            name = "" if called is None else called.text()
            return name[-100:] if TAKERS.search(name) else None
        if one is not node and kind not in THROUGH:
            return None
        if _comes_second(one, inner):
            return None
        inner = one
    return None


def _comes_second(outer: SgNode, inner: SgNode) -> bool:
    """Whether a number is a later factor of a product: one factor is enough to sweep."""
    return outer.kind() in {"binary_expression", "binary_operator"} and outer.child(0) != inner


def _is_about(name: str) -> bool:
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return bool(words & ABOUT) and not words & NEVER
