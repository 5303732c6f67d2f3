"""The rule packs: each rule on a place that it is for, and on one that it must leave alone."""

import ast
import re
from pathlib import Path

import pytest

from nightfleet.agents.search.rules import changes_in, packaged_rules, read_rules
from nightfleet.agents.search.syntax import is_broken
from nightfleet.native import UserError

CASES = Path(__file__).parent / "rules"
RULES = {rule.id: rule for rule in (*packaged_rules(), *packaged_rules(waiting=True))}
WORDS = "id: x\nlanguage: rust\nfix: a\ntitle: T\nhypothesis: H\nmay_break: M\n"
SUFFIXES = {"rust": "rs", "python": "py", "go": "go"}


def snippets(rule: str, kind: str) -> list[str]:
    """The pieces of a rule's example file that stand under `=== kind`."""
    text = (CASES / f"{rule}.txt").read_text(encoding="utf-8")
    pieces = [piece.split("\n", 1) for piece in text.split("=== ")[1:]]
    return [body.strip("\n") + "\n" for name, body in pieces if name.strip() == kind]


def test_there_are_enough_rules_and_each_has_examples() -> None:
    languages = [rule.language for rule in packaged_rules()]
    assert languages.count("rust") >= 8
    assert languages.count("python") >= 8
    assert sorted(path.stem for path in CASES.glob("*.txt")) == sorted(RULES)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_rewrites_what_it_is_for_and_nothing_else(rule: str) -> None:
    path = f"src/example.{SUFFIXES[RULES[rule].language]}"
    befores, afters, others = snippets(rule, "before"), snippets(rule, "after"), snippets(rule, "not")
    assert befores
    assert others
    for before, after in zip(befores, afters, strict=True):
        found = [change.files[path] for change in changes_in(RULES[rule], path, before)]
        assert found, before
        assert found[0] == after
    for other in others:
        assert [change.title for change in changes_in(RULES[rule], path, other)] == []


@pytest.mark.parametrize("rule", sorted(RULES))
def test_what_a_rule_writes_parses(rule: str) -> None:
    language = RULES[rule].language
    for after in snippets(rule, "after"):
        assert not is_broken(after, language)
        if language == "python":
            ast.parse(after)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_says_what_it_may_break(rule: str) -> None:
    found = RULES[rule]
    assert found.title[0].isupper()
    assert not found.title.endswith(".")
    assert found.hypothesis.endswith(".")
    assert found.may_break.endswith(".")


def test_only_rules_that_were_seen_to_fire_elsewhere_are_tried() -> None:
    text = (CASES.parents[1] / "benchmarks" / "RULES.md").read_text(encoding="utf-8")
    packages = {name: int(count) for name, count in re.findall(r"^\| ([\w-]+) \| (\d+) \|", text, re.MULTILINE)}
    assert [rule.id for rule in packaged_rules() if packages.get(rule.id, 0) < 3] == []
    assert [rule.id for rule in packaged_rules(waiting=True) if packages.get(rule.id, 0) >= 3] == []


def test_tests_are_left_alone() -> None:
    rule = RULES["rust-sort-unstable"]
    code = "fn f(v: &mut Vec<u8>) {\n    v.sort();\n}\n"
    assert list(changes_in(rule, "src/a.rs", code))
    assert not list(changes_in(rule, "tests/a.rs", code))
    assert not list(changes_in(rule, "src/a.rs", f"#[cfg(test)]\nmod tests {{\n{code}}}\n"))


def test_a_rewrite_that_would_move_a_string_of_several_lines_is_left_out() -> None:
    rule = RULES["python-buffered-print"]
    plain = "import sys\nfor x in y:\n    print(x)\n"
    assert list(changes_in(rule, "a.py", plain))
    assert not list(changes_in(rule, "a.py", plain.replace("print(x)", 'print("""a\n  b""")')))


def test_fingerprints_do_not_depend_on_where_a_place_has_moved() -> None:
    rule = RULES["rust-sort-unstable"]
    code = "fn f(v: &mut Vec<u8>) {\n    v.sort();\n    v.sort();\n}\n"
    first, second = (change.fingerprint for change in changes_in(rule, "src/a.rs", code))
    moved = [change.fingerprint for change in changes_in(rule, "src/a.rs", f"// A line more.\n\n{code}")]
    assert moved == [first, second]
    assert first != second


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id: x\nlanguage: rust\n", "rule"),
        ("id: [", "while parsing"),
        (f"rule: {{kind: no_such_kind}}\n{WORDS}gain: 1\n", "no_such_kind"),
        (f"rule: {{kind: block}}\n{WORDS}gain: high\n", "gain"),
        (f"rule: {{kind: block}}\n{WORDS}gain: 1\nspeed: 3\n", "speed"),
    ],
)
def test_a_rule_file_that_is_wrong_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_rules(text, "mine.yaml")
