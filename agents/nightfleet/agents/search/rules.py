"""Structural rewrites: ast-grep rules in YAML, and what has to be said about each.

A rule file holds documents of ast-grep's own form (`id`, `language`, `rule`, `constraints`, `utils`, `transform`,
`fix`) with keys of ours: `title`, `hypothesis`, `may_break`, `risk`, `gain` (a guess in percent, for code that is all
of the work), and

- `within`: rules for places inside a match, done first; captured variables of the match stand for their text there;
- `needs`: lines that have to stand at the top of the file;
- `above`: text for before the outermost definition around the match;
- `most_lines`: matches that are longer do not count.

In `fix` and `above` also `$MATCH` is known, the match as `within` left it, and `$UNIQUE`, six letters for new names.
"""

import hashlib
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from ast_grep_py import SgNode
from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nightfleet.agents.contract import Line, Name, Sheet, Text
from nightfleet.agents.search.change import Change, Place
from nightfleet.agents.search.sources import Sources
from nightfleet.agents.search.syntax import TOPS, is_broken, is_test, parse, spans_lines
from nightfleet.native import UserError

VARIABLE = re.compile(r"\$\$\$([A-Z][A-Z0-9_]*)|\$([A-Z][A-Z0-9_]*)")
IMPORTS = re.compile(r"(import|from|use|mod|pub mod|pub use)\b")
# Fixed: a rule that fires everywhere in a file says nothing about any one place.
MOST_PLACES = 40


class Inner(Sheet):
    """A rewrite of places inside a match."""

    rule: dict[str, Any]
    constraints: dict[str, Any] = Field(default_factory=dict)
    fix: str

    @property
    def config(self) -> dict[str, Any]:
        """What ast-grep takes."""
        return {"rule": self.rule, **({"constraints": self.constraints} if self.constraints else {})}


class Rule(Sheet):
    """One document of a rule file."""

    id: Name
    language: Name
    rule: dict[str, Any]
    constraints: dict[str, Any] = Field(default_factory=dict)
    utils: dict[str, Any] = Field(default_factory=dict)
    transform: dict[str, Any] = Field(default_factory=dict)
    fix: str
    within: tuple[Inner, ...] = ()
    needs: tuple[Line, ...] = ()
    above: str = ""
    most_lines: Annotated[int, Field(ge=1)] = 1_000
    title: Line
    hypothesis: Text
    may_break: Text
    risk: Text = ""
    gain: Annotated[float, Field(gt=0.0, le=90.0)]

    @property
    def config(self) -> dict[str, Any]:
        """What ast-grep takes."""
        parts = ("rule", "constraints", "utils", "transform")
        return {name: value for name in parts if (value := getattr(self, name))}


def read_rules(text: str, name: str) -> tuple[Rule, ...]:
    """Rules from the text of a file.

    Raises:
        UserError: not YAML, a key that is unknown or missing, or a rule that ast-grep does not understand.
    """
    reader = YAML(typ="safe")
    try:
        # By way of JSON, where a list is as good as a tuple.
        rules = tuple(Rule.model_validate_json(json.dumps(document)) for document in reader.load_all(text))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except YAMLError as error:
        raise UserError(f"{name}: {error}") from None
    for rule in rules:
        for config in (rule.config, *(inner.config for inner in rule.within)):
            try:
                parse("", rule.language).find_all(config)  # type: ignore[call-overload]
            except RuntimeError as error:
                raise UserError(f"{name}: {rule.id}: {str(error).split('Stack backtrace')[0].strip()}") from None
    return rules


@cache
def packaged_rules(*, waiting: bool = False) -> tuple[Rule, ...]:
    """The rules that come with nightfleet.

    Args:
        waiting: instead, those that were not yet seen to fire in three unrelated packages (benchmarks/RULES.md), and so
            may be fitted to the programs that their author had before them.
    """
    folder = files("nightfleet.agents.search") / "rules"
    folder = folder / "waiting" if waiting else folder
    packs = sorted((one for one in folder.iterdir() if one.name.endswith(".yaml")), key=lambda one: one.name)
    return tuple(rule for pack in packs for rule in read_rules(pack.read_text(encoding="utf-8"), pack.name))


def changes_by(rules: Sequence[Rule], sources: Sources) -> Iterator[Change]:
    """Every change that the rules see, tests left out."""
    for path, text in sources.texts.items():
        for rule in rules:
            if path in sources.of(rule.language):
                yield from changes_in(rule, path, text)


def changes_in(rule: Rule, path: str, text: str) -> Iterator[Change]:
    """What one rule sees in one file. Rewrites that would not parse are left out."""
    root = parse(text, rule.language)
    seen: Counter[str] = Counter()
    for match in root.find_all(rule.config)[:MOST_PLACES]:  # type: ignore[call-overload]
        place = Place.of(path, match)
        seen[key := f"{place.function}\0{_squeezed(match.text())}"] += 1
        rewritten = None if is_test(path, match) else rewrite(rule, match, text)
        if rewritten is None or rewritten == text or is_broken(rewritten, rule.language):
            continue
        yield Change(
            rule=rule.id,
            title=f"{rule.title} in {place.function or path}"[:500],
            hypothesis=rule.hypothesis,
            may_break=rule.may_break,
            risk=rule.risk,
            gain=rule.gain / 100,
            place=place,
            key=f"{key}\0{seen[key]}",
            files={path: rewritten},
        )


def rewrite(rule: Rule, match: SgNode, text: str) -> str | None:
    """A file's text with one match rewritten; None where that cannot be done safely."""
    span = match.range()
    if span.end.line - span.start.line >= rule.most_lines:
        return None
    names = _Names(match, text, rule.within)
    fixed = names.fill(rule.fix.rstrip("\n"))
    if "\n" in rule.fix.rstrip("\n") and spans_lines(match):
        return None
    indent = _indent(text, span.start.index)
    fixed = fixed.replace("\n", f"\n{indent}").replace(f"\n{indent}\n", "\n\n")
    edits = [(span.start.index, span.end.index, fixed)]
    if rule.above:
        edits.append(_above(match, names.fill(rule.above.rstrip("\n"))))
    return with_lines_at_top(edited(text, edits), rule.language, rule.needs)


def with_lines_at_top(text: str, language: str, lines: Sequence[str]) -> str:
    """A text with lines added at its top, behind what has to stand first, unless they are there already."""
    have = {line.strip() for line in text.split("\n") if line[:1].strip()}
    missing = [line for line in lines if line not in have]
    if not missing:
        return text
    start = _first_statement(parse(text, language), language)
    added = "".join(f"{line}\n" for line in missing)
    apart = "" if IMPORTS.match(text, start) else "\n\n" if language == "python" else "\n"
    return text[:start] + added + apart + text[start:]


class _Names:
    """What the variables of a match stand for."""

    def __init__(self, match: SgNode, text: str, within: Sequence[Inner]) -> None:
        self._match, self._text = match, text
        self._unique = hashlib.sha256(_squeezed(match.text()).encode()).hexdigest()[:6]
        self._edits = [edit for inner in within for edit in self._inner(inner)]

    def fill(self, template: str) -> str:
        """A template with variables replaced; lines of what they stand for keep their indentation to each other."""

        def value(found: re.Match[str]) -> str:
            line_start = template.rfind("\n", 0, found.start()) + 1
            line = template[line_start : found.start()]
            indent = line[: len(line) - len(line.lstrip())]
            return self._value(found[1], found[2]).replace("\n", f"\n{indent}")

        return VARIABLE.sub(value, template)

    def _value(self, several: str | None, one: str | None) -> str:
        if one == "UNIQUE":
            return self._unique
        nodes = self._match.get_multiple_matches(several) if several else [self._match]
        made = self._match.get_transformed(one) if one else None
        if made is not None:
            return made
        if one and one != "MATCH":
            node = self._match.get_match(one)
            nodes = [] if node is None else [node]
        between = self._between(nodes[0], nodes[-1]) if nodes else ""
        # In Go the end of a line is a node of its own.
        return between.rstrip() if several else between

    def _between(self, first: SgNode, last: SgNode) -> str:
        """The text from one node to another as `within` left it, its later lines moved to the margin."""
        start, end = first.range().start.index, last.range().end.index
        inside = [(low - start, high - start, new) for low, high, new in self._edits if start <= low and high <= end]
        text = edited(self._text[start:end], inside)
        indent = _indent(self._text, start)
        return text.replace(f"\n{indent}", "\n") if indent else text

    def _inner(self, inner: Inner) -> Iterator[tuple[int, int, str]]:
        end = -1
        for match in self._match.find_all(self._known(inner.config)):
            span = match.range()
            if span.start.index >= end:
                end = span.end.index
                names = _Names(match, self._text, ())
                yield span.start.index, end, names.fill(self._known(inner.fix, names))

    def _known(self, value: Any, names: "_Names | None" = None) -> Any:
        """A rule or a fix in which variables of the outer match are replaced by their text."""
        if isinstance(value, dict):
            return {key: self._known(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._known(part) for part in value]
        if not isinstance(value, str):
            return value

        def known(found: re.Match[str]) -> str:
            if found[2] == "UNIQUE":
                return self._unique
            inner = names is not None and found[2] and names._match.get_match(found[2]) is not None  # noqa: SLF001
            node = None if inner or not found[2] else self._match.get_match(found[2])
            return found[0] if node is None else node.text()

        return VARIABLE.sub(known, value)


def _above(match: SgNode, added: str) -> tuple[int, int, str]:
    outermost = match
    for one in match.ancestors():
        if one.kind() in TOPS:
            break
        outermost = one
    start = outermost.range().start.index
    return start, start, f"{textwrap.dedent(added)}\n\n\n"


def _first_statement(root: SgNode, language: str) -> int:
    """Where the first thing stands that other lines may stand before."""
    for node in root.children():
        text, kind = node.text(), node.kind()
        documentation = kind == "expression_statement" and text.lstrip("rbuRBU")[:1] in {'"', "'"}
        inner = language == "rust" and (kind == "inner_attribute_item" or text.startswith(("//!", "/*!", "#!")))
        package = kind == "package_clause"
        if not (package or kind == "comment" or documentation or inner or kind == "future_import_statement"):
            return node.range().start.index - node.range().start.column
    return 0


def edited(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """A text with stretches replaced: (start, end, new text), not overlapping."""
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _indent(text: str, index: int) -> str:
    line = text[text.rfind("\n", 0, index) + 1 : index]
    return line[: len(line) - len(line.lstrip())]


def _squeezed(text: str) -> str:
    return " ".join(text.split())
