"""Record hashing: native against its Python twin, its refusals, and the door it goes through."""

import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import example, given
from hypothesis import strategies as st

from nightfleet.harness import twin
from nightfleet.native import MachineError, UserError, _native, hash_files, hash_records

SEEDS = st.integers(0, 2**64 - 1)
# Few letters, so that newlines, patterns and equal records are frequent.
TEXTS = st.binary() | st.text("ab1 \n").map(str.encode)
# Lengths around the borders of XXH3's own cases and of the native carry buffer.
LENGTHS = st.sampled_from([0, 1, 3, 4, 8, 9, 16, 17, 63, 64, 128, 129, 240, 241, 256, 1024, 4095, 4096, 4097, 70_000])
PAYLOADS = st.lists(LENGTHS.flatmap(lambda length: st.binary(min_size=1).map(lambda unit: (unit * length)[:length])))


def frames(payloads: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads)


def large(count: int = 40_000) -> bytes:
    """Several parts' worth of lines, so that threads really share it."""
    return b"".join(b"%d" % (line * line) + b"x" * (line % 100) + b"\n" for line in range(count))


@given(TEXTS | PAYLOADS.map(b"\n".join), SEEDS, st.sampled_from(["line", "output"]))
def test_lines_and_outputs_match_the_twin(data: bytes, seed: int, record: Any) -> None:
    native, slow = hash_records(data, seed=seed, record=record), twin.hash_records(data, seed=seed, record=record)
    assert native.dtype == np.uint64
    assert native.shape == slow.shape
    np.testing.assert_array_equal(native, slow)


@given(PAYLOADS, SEEDS)
def test_frames_match_the_twin(payloads: list[bytes], seed: int) -> None:
    data = frames(payloads)
    native = hash_records(data, seed=seed, record="length")
    assert len(native) == len(payloads)
    np.testing.assert_array_equal(native, twin.hash_records(data, seed=seed, record="length"))


@given(st.lists(st.binary(max_size=20), min_size=1), st.data())
def test_cut_frames_are_refused_alike(payloads: list[bytes], draw: st.DataObject) -> None:
    data = frames(payloads)
    cut = data[: draw.draw(st.integers(0, len(data)))]
    try:
        expected = twin.hash_records(cut, seed=1, record="length")
    except ValueError as slow:
        with pytest.raises(UserError, match=f"^not a sequence of records: {slow}$"):
            hash_records(cut, seed=1, record="length")
    else:
        np.testing.assert_array_equal(hash_records(cut, seed=1, record="length"), expected)


@given(
    st.text('ab1 \n{}[]:,"').map(str.encode),
    st.sampled_from(
        ["a", "a+", "[ab]+1", "^a", "b$", "^ *a|1$", "a.?b", "(a|b)+ ", r"\d", r"\s+", r"\bb", "[^a]", "\\\n"]
    ),
    st.sampled_from(["exact", "json"]),
    st.sampled_from(["line", "output"]),
)
@example(b"ab\nab", "^a", "exact", "output")
@example(b"ab\nab\n", "b$", "exact", "output")
def test_ignored_patterns_match_the_twin(data: bytes, ignore: str, canonical: Any, record: Any) -> None:
    native = hash_records(data, seed=3, record=record, canonical=canonical, ignore=ignore)
    slow = twin.hash_records(data, seed=3, record=record, canonical=canonical, ignore=ignore)
    np.testing.assert_array_equal(native, slow)


@given(st.dictionaries(st.binary(max_size=5), TEXTS, max_size=5), SEEDS, st.sampled_from(["exact", "json"]))
def test_files_match_the_twin(contents: dict[bytes, bytes], seed: int, canonical: Any) -> None:
    files = sorted(contents.items())
    native = hash_files(files, seed=seed, canonical=canonical)
    assert native.shape == (1, 2)
    np.testing.assert_array_equal(native, twin.hash_files(files, seed=seed, canonical=canonical))


def test_unsorted_files_are_refused() -> None:
    with pytest.raises(UserError, match="paths must be distinct and sorted by their bytes; a is not"):
        hash_files([(b"b", b""), (b"a", b"")], seed=1)


@pytest.mark.parametrize("ending", [b"", b"no newline", b"\n" * 100_000])
@pytest.mark.parametrize("record", ["line", "output", "length"])
def test_threads_change_nothing(record: Any, ending: bytes) -> None:
    data = large() + ending
    data = frames(data.split(b"\n")) if record == "length" else data
    assert len(data) > 4 * 64 * 1024, "too small to be shared"
    slow = twin.hash_records(data, seed=5, record=record)
    for threads in (1, 2, 3, 8):
        np.testing.assert_array_equal(hash_records(data, seed=5, record=record, threads=threads), slow)


def test_a_digest_is_high_then_low() -> None:
    digest = xxhash.xxh3_128_intdigest(b"a\n", 7)
    assert hash_records(b"a\n", seed=7).tolist() == [[digest >> 64, digest % 2**64]]


def test_any_contiguous_buffer_of_bytes_will_do() -> None:
    data = b"one\ntwo\n"
    expected = hash_records(data, seed=1).tolist()
    lent: Any
    for lent in (bytearray(data), memoryview(data), memoryview(b"--" + data)[2:], np.frombuffer(data, np.uint8)):
        assert hash_records(lent, seed=1).tolist() == expected
    nothing: Any = np.empty(0, np.uint8)
    assert hash_records(nothing, seed=1).shape == (0, 2)


NOT_BYTES = [("text", "str"), (7, "int"), (memoryview(b"abcd")[::2], "memoryview"), (np.zeros(2, np.int64), "ndarray")]


@pytest.mark.parametrize(("data", "kind"), NOT_BYTES, ids=[kind for _, kind in NOT_BYTES])
def test_other_objects_are_refused(data: Any, kind: str) -> None:
    with pytest.raises(UserError, match=rf"(?m)^expected a contiguous buffer of bytes \(.*\); got {kind}$"):
        hash_records(data, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"^seed must be an integer in \[0, 2\*\*64\); got -1$"),
        ({"seed": 2**64}, r"^seed must be an integer in \[0, 2\*\*64\); got 18446744073709551616$"),
        ({"seed": "x"}, r"^seed must be an integer in \[0, 2\*\*64\); got x$"),
        ({"threads": 0}, r"^threads must be in \[1, 256\]; got 0$"),
        ({"threads": 257}, r"^threads must be in \[1, 256\]; got 257$"),
        ({"record": "lines"}, "^record must be 'line', 'output' or 'length'; got 'lines'$"),
        ({"record": "files"}, "^record='files' is not one buffer; call hash_files$"),
        ({"canonical": "yaml"}, "^canonical must be 'exact' or 'json'; got 'yaml'$"),
        ({"ignore": "a*"}, r"^ignore must not match the empty string; got 'a\*' \(write \+ where you wrote \*\)$"),
        ({"ignore": "("}, "^ignore is not a regular expression: regex parse error"),
        ({"ignore": "a(?=b)"}, "^ignore is not a regular expression: regex parse error"),
        ({"ignore": "(a{1000}){1000}"}, "^ignore is not a regular expression: .*size limit"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    # (?m): PyO3 adds a note, "while processing 'seed'", that pytest matches too.
    with pytest.raises(UserError, match=f"(?m){message}") as refused:
        hash_records(b"", **{"seed": 1, **arguments})
    assert isinstance(refused.value, ValueError)


def test_the_twin_refuses_patterns_that_python_reads_otherwise() -> None:
    for pattern in ("[[:alpha:]]", "[a&&b]", r"\z" if sys.version_info < (3, 14) else "("):
        with pytest.raises(ValueError, match="that Python reads too"):
            twin.hash_records(b"", seed=1, ignore=pattern)


def test_a_record_too_long_to_be_canonicalised_is_refused() -> None:
    with pytest.raises(UserError, match=r"record 0 has at least \d+ bytes; the limit is 67108864$"):
        hash_records(bytes((64 << 20) + 1), seed=1, record="output", canonical="json")


@pytest.mark.parametrize("beside", [False, True])
def test_a_panic_arrives_as_a_machine_error(beside: bool) -> None:
    with pytest.raises(MachineError, match=r"^a defect in nightfleet\.native, please report it: provoked$") as caught:
        _native._provoke("panic", beside)
    assert isinstance(caught.value, RuntimeError)


INTERRUPTED = """
import os, signal, sys, threading, time
from nightfleet.native import _native, hash_records
sent = []
def send():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
data = (b"ab" * 500 + b"\\n") * 200_000
threading.Timer(0.2, send).start()
try:
    {call}
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
"""
# A pattern that no automaton makes fast: hashing `data` with it takes many seconds.
SLOW = 'hash_records(data, seed=1, ignore="[ab]{400}c|(a|b)*[ab]{300}d")'


@pytest.mark.parametrize("call", [SLOW, '_native._provoke("wait", True)'], ids=["hash", "wait"])
def test_ctrl_c_is_answered_soon(call: str) -> None:
    code = INTERRUPTED.format(call=call)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout, "the work ended before the signal"
    assert float(answer.stdout) < 0.2


def test_a_handler_that_does_not_raise_lets_the_work_go_on() -> None:
    seen: list[int] = []
    previous: Callable[..., Any] | int | None = signal.signal(
        signal.SIGALRM, lambda number, _frame: seen.append(number)
    )
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        data = large() * 30
        digests = hash_records(data, seed=1, ignore="[ab]{20}c")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert seen == [signal.SIGALRM]
    assert len(digests) == data.count(b"\n")
