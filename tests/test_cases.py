"""Which cases: distinct, apart, fresh, and the same again from the salt alone."""

import hashlib
import hmac
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfleet.harness.cases import (
    CASE_END,
    MOST_DRAWN,
    ManifestPools,
    Pools,
    commitment,
    draw,
    hash_seed,
    manifest_lines,
    new_master,
    practice_cases,
    practice_salt,
    verification_salt,
)
from nightfleet.native import UserError

MASTER = bytes(range(32))
KEYS = st.binary(min_size=32, max_size=32)


def pools(master: bytes = MASTER, index: int = 1, behaviour: int = 2000, workload: str = "w") -> Pools:
    practice = practice_cases(practice_salt(master), 500, workload)
    return Pools(verification_salt(master, index), practice, behaviour=behaviour, block=50, workload=workload)


def slow_draw(key: bytes, count: int, without: set[int]) -> list[int]:
    """The documented formula, one number at a time."""
    stream = hashlib.shake_256(key).digest(64 * (count + len(without)) + 4096)
    drawn: dict[int, None] = {}
    for (word,) in struct.iter_unpack("<I", stream):
        if len(drawn) < count and word % 2**31 not in without:
            drawn[word % 2**31] = None
    return list(drawn)


@given(KEYS, st.integers(0, 300), st.integers(0, 300))
def test_a_draw_is_what_the_formula_says(key: bytes, count: int, taken: int) -> None:
    # What is left out has to be in the stream, or leaving it out would prove nothing.
    without = draw(key, taken)[::2]
    cases = draw(key, count, without=without)
    assert cases.dtype == np.int64
    assert cases.tolist() == slow_draw(key, count, set(without.tolist()))


@given(KEYS, st.integers(0, 1000), st.integers(0, 1000))
def test_a_longer_draw_begins_with_the_shorter(key: bytes, short: int, more: int) -> None:
    np.testing.assert_array_equal(draw(key, short + more)[:short], draw(key, short))


def test_repeats_in_the_stream_are_dropped() -> None:
    key, count = b"k" * 32, 400_000
    words = np.frombuffer(hashlib.shake_256(key).digest(4 * count), "<u4") % CASE_END
    assert len(np.unique(words)) < count, "the stream has no repeat, so this test shows nothing"
    cases = draw(key, count)
    assert len(np.unique(cases)) == count
    assert cases.min() >= 0
    assert cases.max() < CASE_END
    assert cases.max() > CASE_END * 0.99


def test_salts_by_their_formula() -> None:
    salt = verification_salt(MASTER, 7)
    assert salt == hmac.digest(MASTER, b"nightfleet salt 1\x00" + (7).to_bytes(8, "little"), "sha256")
    assert practice_salt(MASTER) == hmac.digest(MASTER, b"nightfleet practice 1", "sha256")
    assert commitment(salt) == hashlib.sha256(salt).hexdigest()
    assert hash_seed(salt) == int.from_bytes(hmac.digest(salt, b"hash\x00", "sha256")[:8], "little")
    key = hmac.digest(salt, b"behaviour\x00w", "sha256")
    practice = practice_cases(practice_salt(MASTER), 500, "w")
    np.testing.assert_array_equal(pools(index=7).behaviour, draw(key, 2000, without=practice))


def test_the_pools_are_apart() -> None:
    # So many numbers that pools which did not look at each other would meet: 100,000 in 2**31, twice.
    practice = practice_cases(practice_salt(MASTER), 100_000, "w")
    drawn = Pools(verification_salt(MASTER, 1), practice, behaviour=100_000, block=1000, workload="w")
    parts = [practice, drawn.behaviour, drawn.timed(80), drawn.escalation(200_000, pairs=80)]
    whole = np.concatenate(parts)
    assert [len(part) for part in parts] == [100_000, 100_000, 80_000, 200_000]
    assert len(np.unique(whole)) == len(whole)
    keys = [
        hmac.digest(verification_salt(MASTER, 1), name + b"\x00w", "sha256") for name in (b"behaviour", b"escalation")
    ]
    careless = np.concatenate([draw(keys[0], 100_000), draw(keys[1], 200_000), practice])
    assert len(np.unique(careless)) < len(careless), "they would not have met, so this test shows nothing"


def test_every_pair_has_a_block_of_its_own() -> None:
    one, other = pools(), pools()
    blocks = [one.timing(pair) for pair in range(200)]
    assert len(np.unique(np.concatenate(blocks))) == 200 * 50
    # In any order, and from the salt alone.
    np.testing.assert_array_equal(other.timing(150), blocks[150])
    np.testing.assert_array_equal(other.timing(3), blocks[3])
    np.testing.assert_array_equal(other.timed(4), np.concatenate(blocks[:4]))
    assert len(other.timed(0)) == 0
    with pytest.raises(UserError, match="count from 0"):
        one.timing(-1)


@given(KEYS, st.integers(0, 2**64 - 1))
def test_an_audit_draws_the_same(master: bytes, index: int) -> None:
    ours, theirs = pools(master, index), pools(master, index)
    np.testing.assert_array_equal(ours.behaviour, theirs.behaviour)
    np.testing.assert_array_equal(ours.timing(5), theirs.timing(5))
    np.testing.assert_array_equal(ours.escalation(100, pairs=6), theirs.escalation(100, pairs=6))


def test_nothing_is_used_twice_by_accident() -> None:
    seen = {tuple(pools(index=index, workload=name).behaviour[:8].tolist()) for index in (1, 2) for name in ("w", "v")}
    seen |= {tuple(pools(bytes(32)).behaviour[:8].tolist()), tuple(pools().timing(0)[:8].tolist())}
    seen.add(tuple(practice_cases(practice_salt(MASTER), 8, "w").tolist()))
    assert len(seen) == 7
    assert new_master() != new_master()
    assert len(new_master()) == 32


def test_practice_tells_nothing_about_verification() -> None:
    """As far as a test can: whoever knows practice cases guesses no better than by chance."""
    practice = practice_cases(practice_salt(MASTER), 20_000, "w")
    behaviour = Pools(verification_salt(MASTER, 1), practice, behaviour=20_000, block=1, workload="w").behaviour
    difference = (behaviour - practice) % CASE_END
    assert len(np.unique(difference)) > 19_990
    assert abs(np.corrcoef(practice, behaviour)[0, 1]) < 0.03
    for bit in range(31):
        agree = np.mean((practice >> bit & 1) == (behaviour >> bit & 1))
        assert abs(agree - 0.5) < 0.02, bit


def test_a_million_is_quick() -> None:
    start = time.perf_counter()
    draw(b"k" * 32, 20_000)
    assert time.perf_counter() - start < 0.5
    start = time.perf_counter()
    draw(b"k" * 32, 1_000_000)
    # A third of a second alone on its core; other tests may share it.
    assert time.perf_counter() - start < 3


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(UserError, match=r"\[0, 2\*\*64\); got -1"):
        verification_salt(MASTER, -1)
    with pytest.raises(UserError, match="a master has 32 bytes; got 3"):
        verification_salt(b"abc", 1)
    with pytest.raises(UserError, match="a salt has 32 bytes; got 0"):
        commitment(b"")
    with pytest.raises(UserError, match=f"at most {MOST_DRAWN} cases"):
        draw(MASTER, MOST_DRAWN + 1)
    with pytest.raises(UserError, match="at most"):
        draw(MASTER, -1)


@given(KEYS, st.integers(1, 60), st.data())
def test_manifests_are_gone_through_in_rounds(salt: bytes, lines: int, data: st.DataObject) -> None:
    block = data.draw(st.integers(1, lines))
    pairs = data.draw(st.integers(0, 40))
    drawn = ManifestPools(salt, lines=lines, block=block, workload="w")
    assert sorted(drawn.behaviour.tolist()) == list(range(lines))
    uses = np.ones(lines, np.int64)
    for pair in range(pairs):
        cases = drawn.timing(pair)
        assert len(set(cases.tolist())) == block
        uses[cases] += 1
    assert uses.max() <= drawn.reused(pairs)
    if lines % block == 0:
        assert uses.max() == drawn.reused(pairs)
    np.testing.assert_array_equal(
        ManifestPools(salt, lines=lines, block=block, workload="w").behaviour, drawn.behaviour
    )


def test_rounds_differ_and_a_block_fits() -> None:
    drawn = ManifestPools(MASTER, lines=40, block=40, workload="w")
    assert drawn.timing(0).tolist() != drawn.timing(1).tolist()
    assert drawn.timing(0).tolist() == ManifestPools(MASTER, lines=40, block=40, workload="w").timing(0).tolist()
    with pytest.raises(UserError, match="from 1 to the 40 lines of its manifest; got 41"):
        ManifestPools(MASTER, lines=40, block=41, workload="w")
    with pytest.raises(UserError, match="count from 0"):
        drawn.timing(-1)


def test_the_lines_of_a_manifest() -> None:
    assert manifest_lines(b"a.txt\nb c.txt\n", "m") == ["a.txt", "b c.txt"]
    assert manifest_lines(b"a", "m") == ["a"]
    for data, problem in [
        (b"", "m:1: a case cannot be an empty line"),
        (b"a\n\nb\n", "m:2: a case cannot be an empty line"),
        (b"a\nb\na\n", "m:3: 'a' is there already, on line 1"),
        (b"\xff\n", "not UTF-8 at byte 0"),
    ]:
        with pytest.raises(UserError, match=problem):
            manifest_lines(data, "m")
