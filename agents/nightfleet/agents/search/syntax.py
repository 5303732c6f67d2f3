"""Where a piece of code stands: in which function, in how many loops, in a test or not."""

import ast
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

from ast_grep_py import SgNode, SgRoot

FUNCTIONS = frozenset(
    {"function_item", "function_definition", "function_declaration", "method_declaration", "method_definition"}
)
LOOPS = frozenset(
    {"for_expression", "while_expression", "loop_expression", "for_statement", "while_statement", "do_statement"}
    | {"for_in_statement", "enhanced_for_statement", "list_comprehension", "generator_expression"}
    | {"set_comprehension", "dictionary_comprehension"}
)
TOPS = frozenset({"source_file", "module", "translation_unit", "program"})
STRINGS = ("string", "string_literal", "raw_string_literal", "template_string", "line_string_literal")
TEST_PATH = re.compile(
    r"(^|/)(tests?|testing|__tests__)/|(^|/)(test_[^/]*|[^/]*_tests?\.\w+|[^/]*\.test\.\w+|conftest\.py)$"
)
TEST_NAME = re.compile(r"^(test_|Test)")


@lru_cache(maxsize=512)
def parse(text: str, language: str) -> SgNode:
    """The root of a syntax tree. Kept for the next rule: parsing costs more than matching."""
    return SgRoot(text, language).root()


def is_broken(text: str, language: str) -> bool:
    """Whether a text does not parse."""
    if language == "python":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            try:
                ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return True
    return parse(text, language).find(kind="ERROR") is not None


def function_of(node: SgNode) -> SgNode | None:
    """The innermost named function around a node, or the node itself."""
    return next((one for one in (node, *node.ancestors()) if one.kind() in FUNCTIONS), None)


def name_of(function: SgNode | None) -> str:
    """A function's name; empty where there is none."""
    if function is None:
        return ""
    named = function.field("name")
    if named is None:
        # In C the name is at the bottom of a pile of declarators.
        named = function.field("declarator")
        while named is not None and (inner := named.field("declarator")) is not None:
            named = inner
    return "" if named is None else named.text()


def loop_depth(node: SgNode) -> int:
    """How many loops stand around a node, within its function."""
    depth = 0
    for one in node.ancestors():
        if one.kind() in FUNCTIONS:
            break
        depth += one.kind() in LOOPS
    return depth


def line_of(node: SgNode) -> int:
    """The line that a node begins on, from 1."""
    return node.range().start.line + 1


def is_test(path: str, node: SgNode) -> bool:
    """Whether a node is only there for tests, whose speed nobody times."""
    return bool(TEST_PATH.search(path)) or any(_tests(one) for one in (node, *node.ancestors()))


def spans_lines(node: SgNode) -> bool:
    """Whether a string that goes over several lines is part of a node: its indentation is content."""
    return any(one.range().start.line != one.range().end.line for one in _strings(node))


def _strings(node: SgNode) -> Iterator[SgNode]:
    for kind in STRINGS:
        try:
            yield from node.find_all(kind=kind)
        except RuntimeError:
            # The language has no such kind.
            continue


def _tests(node: SgNode) -> bool:
    if node.kind() not in FUNCTIONS and node.kind() not in {"mod_item", "class_definition"}:
        return False
    return bool(TEST_NAME.match(name_of(node))) or any("test" in text for text in _attributes(node))


def _attributes(node: SgNode) -> Iterator[str]:
    before = node.prev()
    while before is not None and before.kind() in {"attribute_item", "line_comment", "block_comment"}:
        if before.kind() == "attribute_item":
            yield before.text()
        before = before.prev()
