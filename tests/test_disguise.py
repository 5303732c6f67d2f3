"""Disguises of source text: what changes, and that nothing else does."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nightfleet.harness.disguise import Disguise, reformatted, reordered
from nightfleet.harness.folder import find_tree

EXAMPLE = Path(__file__).parents[1] / "examples" / "grid-simulator"
RUST = """\
//! A crate.
use std::io;

const N: u32 = 3;

/// First.
#[inline]
fn one() -> u32 {
    let s = "}";
    1
}

pub(crate) fn two(
    x: u32,
) -> u32 {
    x + N
}
struct Three;

impl Three {
    fn inner() {}
}

fn main() { println!("{}", one()); }
"""
PYTHON = """\
#!/usr/bin/env python3
# -*- coding: utf-8 -*-
\"\"\"A module.\"\"\"
from __future__ import annotations

def one(x):
    return x

@staticmethod
def two(
    x,
):

    return one(x)
print(one(1))
def three():
    pass
"""


@pytest.mark.parametrize(("text", "kind"), [(RUST, "rs"), (PYTHON, "py")])
def test_comments_come_before_the_code_and_after_what_has_to_stand_first(text: str, kind: str) -> None:
    new = reformatted(3).apply(text, kind)
    assert new is not None
    mark = "//" if kind == "rs" else "#"
    said = [line for line in new.splitlines() if "further down" in line]
    assert len(said) == 3
    assert all(line.startswith(mark) for line in said)
    kept = [line for line in new.splitlines() if "further down" not in line]
    kept.remove("")
    assert kept == text.splitlines()
    assert new.splitlines()[:2] == text.splitlines()[:2] or kind == "rs"


def test_functions_of_rust_change_places_with_what_stands_above_them() -> None:
    seen = {reordered(seed).apply(RUST, "rs") for seed in range(20)}
    assert len(seen) == 6
    for new in seen:
        assert new is not None
        assert Counter(new.splitlines()) == Counter(RUST.splitlines())
        assert "/// First.\n#[inline]\nfn one() -> u32 {\n" in new
        assert "struct Three;\n\nimpl Three {\n    fn inner() {}\n}\n" in new


def test_functions_of_python_do_not_pass_code_that_may_call_them() -> None:
    seen = {reordered(seed).apply(PYTHON, "py") for seed in range(20)}
    assert len(seen) == 2
    for new in seen:
        assert new is not None
        assert new.endswith("print(one(1))\ndef three():\n    pass\n")
        assert [node.name for node in ast.parse(new).body if isinstance(node, ast.FunctionDef)][2] == "three"


def test_only_files_that_may_be_edited_change() -> None:
    tree = find_tree(str(EXAMPLE), None)
    all_ = reformatted(2).of(tree, lambda _: True)
    some = reformatted(2).of(tree, lambda path: path.endswith("main.rs"))
    assert {"src/main.rs"} == set(some) < set(all_)
    assert "program.md" not in all_


def broken(_text: str, _kind: str) -> str | None:
    return None


def test_what_has_nothing_to_change_changes_nothing() -> None:
    assert Disguise("none", broken).of(find_tree(str(EXAMPLE), None), lambda _: True) == {}
    assert reordered(1).apply("int x;", "h") is None
    assert reordered(1).apply("fn a() {\n", "rs") == "fn a() {\n"


@pytest.mark.parametrize("number", range(3))
def test_a_real_module_does_the_same_in_another_order(tmp_path: Path, number: int) -> None:
    own = Path(__file__).parents[1] / "harness" / "nightfleet" / "harness" / "disguise.py"
    new = reordered(number).apply(own.read_text(), "py")
    assert new is not None
    assert new != own.read_text()
    (tmp_path / "disguise.py").write_text(new)
    code = "import disguise; print(len(disguise.reordered(1).apply('fn a() {}\\nfn b() {}\\n', 'rs')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "20\n"
