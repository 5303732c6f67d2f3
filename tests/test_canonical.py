"""The canonical form of JSON: native against its twin, injectivity, and what is not JSON."""

import json
import math
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightfleet.harness import twin
from nightfleet.native import UserError, canonical_json, hash_records

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)
# Pieces of JSON and of almost-JSON, so that a good part of the texts is valid and the rest nearly so.
BRACKETS = ["{", "}", "[", "]", ",", ":"]
STRINGS = [
    '"a"',
    '"b"',
    '""',
    '"\\u0061"',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\\ude00"',
    '"é"',
    '"\\x"',
    '"\\/"',
    '"\n"',
    '"',
]
NUMBERS = ["0", "-0", "-0.0", "1", "1.0", "1e2", "1E-400", "1e400", "01", "1.", "-", "+1", ".5", "1_0", "0x1", "٣"]
WORDS = ["null", "true", "false", "tru", "NaN", "Infinity", "-Infinity", "None"]
SPACES = [" ", "\t", "\n", "\r", "\v", "\x00", "\x7f", "\xa0", "\ufeff", "\\"]
PIECES = st.sampled_from([*BRACKETS, *STRINGS, *NUMBERS, *WORDS, *SPACES])
ALMOST = st.lists(PIECES, max_size=12).map("".join)


@st.composite
def nested(draw: st.DrawFn) -> str:
    """Well-formed brackets around pieces that may not be."""
    text = draw(PIECES)
    for _ in range(draw(st.integers(0, 4))):
        other = draw(PIECES)
        text = draw(
            st.sampled_from([f"[{text}]", f"[{other},{text}]", f'{{"k":{text}}}', f'{{"z":{text},"k":{other}}}'])
        )
    return text


def spelled(value: Any, random_source: random.Random) -> str:
    """One of the many texts of a JSON value: other orders, spaces and escapes."""
    space = random_source.choice(["", " ", "\n\t"])
    if isinstance(value, dict):
        items = list(value.items())
        random_source.shuffle(items)
        members = (f"{spelled(key, random_source)}{space}:{space}{spelled(item, random_source)}" for key, item in items)
        return "{" + space + f"{space},".join(members) + space + "}"
    if isinstance(value, list):
        return "[" + space + f",{space}".join(spelled(item, random_source) for item in value) + space + "]"
    return json.dumps(value, ensure_ascii=random_source.random() < 0.5)


def identity(value: Any) -> Any:
    """Equal exactly when two values are the same JSON value: 1, 1.0 and true are three."""
    if isinstance(value, dict):
        return frozenset((key, identity(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(identity(item) for item in value)
    return (type(value).__name__, struct.pack("d", value) if isinstance(value, float) else value)


@given(VALUES, st.randoms(use_true_random=False))
def test_every_spelling_of_a_value_has_one_form(value: Any, random_source: random.Random) -> None:
    form = canonical_json(json.dumps(value).encode())
    assert form is not None
    assert canonical_json(spelled(value, random_source).encode()) == form
    assert twin.canonical_json(spelled(value, random_source).encode()) == form


@given(VALUES, VALUES)
@example(1, 1.0)
@example(0.0, -0.0)
@example([[1], 2], [[1, 2]])
@example({"a": "b:1"}, {"a": "b", "1": ""})
def test_different_values_have_different_forms(a: Any, b: Any) -> None:
    forms = [canonical_json(json.dumps(value).encode()) for value in (a, b)]
    assert (forms[0] == forms[1]) == (identity(a) == identity(b))


@given(ALMOST | nested() | st.text())
@example('{"a":1,"a":1}')
@example('{"b":1,"a":2,"\\u0062":3}')
@example("[1,]")
@example("NaN")
@example("[Infinity]")
@example("-Infinity")
@example('{"a":1,}')
def test_almost_json_is_judged_alike(text: str) -> None:
    assert canonical_json(text.encode()) == twin.canonical_json(text.encode())


@given(st.binary() | VALUES.map(lambda value: json.dumps(value, ensure_ascii=False).encode()), st.data())
def test_damaged_bytes_are_judged_alike(data: bytes, draw: st.DataObject) -> None:
    if data:
        at, new = draw.draw(st.integers(0, len(data) - 1)), draw.draw(st.integers(0, 255))
        data = data[:at] + bytes([new]) + data[at + 1 :]
    assert canonical_json(data) == twin.canonical_json(data)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?", fullmatch=True))
@example("2.2250738585072011e-308")
@example("5e-324")
@example("1.7976931348623159e308")
@example("9007199254740993.0")
@example("-0")
@example("1" * 4300)
def test_numbers_are_read_alike(text: str) -> None:
    form = canonical_json(text.encode())
    assert form == twin.canonical_json(text.encode())
    assert (form is None) == (set(text) & set(".eE") != set() and math.isinf(float(text)))


@given(st.lists(ALMOST | VALUES.map(json.dumps)), st.sampled_from([None, "[01]+", '"a" *:']))
def test_json_records_match_the_twin(lines: list[str], ignore: str | None) -> None:
    data = "\n".join(lines).encode()
    native = hash_records(data, seed=9, canonical="json", ignore=ignore)
    np.testing.assert_array_equal(native, twin.hash_records(data, seed=9, canonical="json", ignore=ignore))


@pytest.mark.parametrize(("digits", "valid"), [(4300, True), (4301, False)])
def test_digits_are_bounded(digits: int, valid: bool) -> None:
    for text in ("1" * digits, "-" + "1" * digits, "1" * digits + "e-4300", "1" * digits + ".5e-4300"):
        form = canonical_json(text.encode())
        assert (form is not None) == valid
        assert form == twin.canonical_json(text.encode())


def test_the_form_is_the_documented_one() -> None:
    text = rb' {"b": [1, -0, 1.5, "\u00e9", null], "a": {"z": true, "": false}} '
    assert canonical_json(text) == "{s1:a{s0:fs1:zt}s1:b[i1;i0;d3ff8000000000000s2:én]}".encode()


@pytest.mark.parametrize(("depth", "valid"), [(128, True), (129, False), (1_000_000, False)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded(opening: str, closing: str, depth: int, valid: bool) -> None:
    text = (opening * (depth - 1) + ("[]" if opening == "[" else "{}") + closing * (depth - 1)).encode()
    assert (canonical_json(text) is not None) == valid
    assert (twin.canonical_json(text) is not None) == valid


def test_an_invalid_record_never_equals_a_valid_one() -> None:
    form = canonical_json(b"[1]")
    assert form is not None
    forged = hash_records(b"j" + form, seed=1, record="output", canonical="json")
    assert forged.tolist() != hash_records(b"[1]", seed=1, record="output", canonical="json").tolist()


def test_only_bytes_are_json() -> None:
    text: Any = "[1]"
    with pytest.raises(UserError, match="expected a contiguous buffer of bytes"):
        canonical_json(text)
