"""The front matter's reader: limits, lines, refusals, and edits that keep comments."""

import io
import string
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nightfleet.harness.frontmatter import (
    FILE_BYTES,
    YAML_BYTES,
    ProgramError,
    load_front_matter,
    read_front_matter,
)

ROOT = Path(__file__).parents[1]
COMMENTED = """\
---
# The contract.
name: demo          # short
edit: ["src/**"]    # the action space
workloads:
  - {name: a, run: ./a, cases: 20000}   # first
  - name: b
    run: ./b
    cases: 5        # few
guards: {wall: +1%, "cpu": '+10%'}

# The end.
---
# Prose

--- is not a fence here, and neither is
 ---
"""


def fenced(yaml: str) -> str:
    return f"---\n{yaml}\n---\nprose\n"


def refusal(text: str) -> ProgramError:
    with pytest.raises(ProgramError) as refused:
        read_front_matter(text, "p.md")
    return refused.value


def test_values_lines_and_prose() -> None:
    front = read_front_matter(COMMENTED)
    assert front.section.values == {
        "name": "demo",
        "edit": ["src/**"],
        "workloads": [
            {"name": "a", "run": "./a", "cases": 20000},
            {"name": "b", "run": "./b", "cases": 5},
        ],
        "guards": {"wall": "+1%", "cpu": "+10%"},
    }
    line = front.section.line
    assert [line(("name",)), line(("workloads",)), line(("workloads", 1)), line(("workloads", 1, "cases"))] == [
        3,
        5,
        7,
        9,
    ]
    assert line(("guards", "cpu")) == 10
    # What was not written is told at what encloses it.
    assert line(("workloads", 1, "block")) == 7
    assert line(("thresholds", "promote")) == 3
    assert front.prose == "# Prose\n\n--- is not a fence here, and neither is\n ---\n"
    assert front.text == COMMENTED


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("8h", "8h"),
        ("5%", "5%"),
        ("$20", "$20"),
        ("0.1", 0.1),
        ("-3", -3),
        ("true", True),
        ("~", None),
        ("'1'", "1"),
        # No surprises from older YAML: none of these is a number, a date or a truth value.
        ("no", "no"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        ("1e3", "1e3"),
    ],
)
def test_scalars(written: str, value: object) -> None:
    read = read_front_matter(fenced(f"key: {written}")).section.values["key"]
    assert (read, type(read)) == (value, type(value))


TEXTS = st.text(string.printable + "äß€", max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers(-(10**17), 10**17) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, min_size=1), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(string.ascii_lowercase, min_size=2), VALUES, min_size=1, max_size=4))
def test_what_another_writer_wrote_is_read_back(values: dict[str, Any]) -> None:
    out = io.StringIO()
    YAML(typ="safe", pure=True).dump(values, out)
    try:
        assert read_front_matter(f"---\n{out.getvalue()}---\n").section.values == values
    except ProgramError as refused:
        assert "deep" in refused.problem  # noqa: PT017


BOMBS = [
    ("a: &x [1]\nb: *x", 2, "anchors ('&name') are not allowed at a"),
    ("a: 1\nb: *x", 3, "aliases ('*name') are not allowed at b"),
    ("edit: [*.rs]", 2, "aliases"),
    ("a: &a [z]\nb: &b [*a, *a]\nc: [*b, *b]", 2, "anchors"),
    ("a: !!python/object/apply:os.system [id]", 2, "tags ('!name') are not allowed at a"),
    ("a: !x b", 2, "tags"),
    ("!!map\na: 1", 2, "tags"),
    ("<<: {a: 1}", 2, "merge keys"),
    ("a: 1\nb:\n  c: 1\n  c: 2", 5, "b.c stands here again; first on line 4"),
    ("'a': 1\na: 2", 3, "a stands here again"),
    ("[" * 60_000, 2, "more than 8 deep"),
    ("{a: " * 10_000, 2, "more than 8 deep"),
    ("- " * 20_000, 2, "more than 8 deep"),
    ("{" * 20_000, 2, "a key must be a word"),
    ("? [a]\n: b", 2, "a key must be a word"),
    ("a: 1\n...\nb: 2", 4, "one YAML document"),
    ("%YAML 1.1", 3, "is not YAML"),
    ("a:\n\tb: 1", 3, "is not YAML"),
    ("behaviour: ignore: x", 2, "mapping values are not allowed here"),
    ("- a", 2, "expected 'key: value' lines"),
    ("text", 2, "expected 'key: value' lines"),
    ("# nothing", 2, "is empty"),
    ('a: "\\ud800"', 2, "lone surrogate"),
]


@pytest.mark.parametrize(("yaml", "line", "problem"), BOMBS, ids=[problem[:20] for _, _, problem in BOMBS])
def test_what_is_not_plain_is_refused_at_its_line(yaml: str, line: int, problem: str) -> None:
    start = time.monotonic()
    error = refusal(fenced(yaml))
    assert time.monotonic() - start < 5
    assert (error.file, error.line) == ("p.md", line)
    assert problem in error.problem
    assert str(error).startswith(f"p.md:{line}: ")
    assert isinstance(error, ValueError)


def test_limits_are_exact() -> None:
    room = YAML_BYTES - len("a: \n")
    assert read_front_matter(f"---\na: {'x' * room}\n---\n").section.values == {"a": "x" * room}
    assert (
        f"at most {YAML_BYTES} bytes; it has {YAML_BYTES + 1}" in refusal(f"---\na: {'x' * (room + 1)}\n---\n").problem
    )
    start = "---\na: b\n---\n"
    read_front_matter(start + "x" * (FILE_BYTES - len(start)))
    assert f"at most {FILE_BYTES} bytes" in refusal(start + "x" * (FILE_BYTES - len(start) + 1)).problem
    assert read_front_matter(fenced("a: [[[[[[[]]]]]]]")).section.values
    assert "deep" in refusal(fenced("a: [[[[[[[[]]]]]]]]")).problem


def test_fences() -> None:
    assert refusal("name: x\n---\n").line == 1
    assert refusal("").line == 1
    assert "has no end" in refusal("---\nname: x\n").problem
    assert read_front_matter("---\r\nname: x\r\n---\r\nhi\r\n").prose == "hi\n"


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="cannot be read: No such file"):
        load_front_matter(tmp_path / "program.md")
    (tmp_path / "program.md").write_bytes(b"---\nname: x\nunit: \xff\n---\n")
    with pytest.raises(ProgramError, match=r"program\.md:3: is not UTF-8 here"):
        load_front_matter(tmp_path / "program.md")


def difference(before: str, after: str) -> list[tuple[str, str]]:
    return [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]


def test_an_edit_keeps_comments_and_everything_else() -> None:
    front = read_front_matter(COMMENTED)
    assert difference(COMMENTED, front.edited(("workloads", 1, "cases"), 7)) == [
        ("    cases: 5        # few", "    cases: 7        # few")
    ]
    changed = front.edited(("guards", "wall"), "+2%")
    assert difference(COMMENTED, changed) == [
        ("""guards: {wall: +1%, "cpu": '+10%'}""", """guards: {wall: +2%, "cpu": '+10%'}""")
    ]
    added = read_front_matter(front.edited(("clock",), "yes: no"))
    assert added.section.values == {**front.section.values, "clock": "yes: no"}
    assert all(comment in added.text for comment in ("# The contract.", "# short", "# first", "# few", "# The end."))
    with pytest.raises(ProgramError, match="no such place to edit"):
        front.edited(("guards", "wall", "deeper"), 1)
    with pytest.raises(ProgramError, match="no such place to edit"):
        front.edited(("workloads", 2, "cases"), 1)


def test_an_edit_of_our_own_program_changes_one_line() -> None:
    text = (ROOT / "program.md").read_text(encoding="utf-8")
    changed = read_front_matter(text).edited(("thresholds", "promote"), "7%")
    assert [after for _, after in difference(text, changed)] == [
        "thresholds: {promote: 7%, incremental: 2%, extraordinary: 30%, false_promotions_per_night: 0.1}"
    ]
