"""One change: files before and after, the place that it is about, and words for people."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from ast_grep_py import SgNode

from nightfleet.agents.contract import Knob
from nightfleet.agents.search.syntax import function_of, line_of, loop_depth, name_of


@dataclass(frozen=True)
class Place:
    """Where a change is.

    Attributes:
        function: the enclosing one's name; empty where there is none.
        line: where it begins, from 1.
        first: line of the enclosing function, or of the place itself.
        last: last line of the same.
        depth: loops around it.
        everywhere: it concerns the whole program, like a compiler's flag.
        copies: the type whose copies it is about: they are made and dropped elsewhere than where the type stands.
    """

    path: str
    function: str = ""
    line: int = 1
    first: int = 1
    last: int = 1
    depth: int = 0
    everywhere: bool = False
    copies: str = ""

    @classmethod
    def of(cls, path: str, node: SgNode) -> "Place":
        """The place of a node of the syntax tree."""
        function = function_of(node)
        span = (function or node).range()
        first, last = span.start.line + 1, span.end.line + 1
        return cls(path, name_of(function), line_of(node), first, last, loop_depth(node))


@dataclass(frozen=True)
class Change:
    """What one candidate would be.

    Attributes:
        rule: who makes such changes.
        title: one line, in the imperative.
        hypothesis: why it should save time.
        may_break: what it may change beside time; empty for nothing.
        risk: what it costs if it works.
        gain: a guess, as a fraction, for code that is all of the program's work.
        place: where.
        key: tells this change from others of the rule at the same function, on every baseline.
        files: new texts by path.
        knob: set where a win should be continued.
    """

    rule: str
    title: str
    hypothesis: str
    may_break: str
    gain: float
    place: Place
    key: str
    files: Mapping[str, str]
    risk: str = ""
    knob: Knob | None = None

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over rule, place and key, without line numbers: the baseline moves."""
        content = json.dumps(["nightfleet search 1", self.rule, self.place.path, self.place.function, self.key])
        return hashlib.sha256(content.encode()).hexdigest()[:32]
