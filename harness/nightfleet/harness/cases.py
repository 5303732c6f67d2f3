"""Which cases a verification uses: drawn from secret salts, distinct, and to be drawn again by an audit.

A case is a number in [0, 2**31). The formulas, all over bytes, with u64 little-endian and || for concatenation:

    salt(index)     = HMAC-SHA256(master, "nightfleet salt 1" || 0x00 || u64(index))
    practice salt   = HMAC-SHA256(master, "nightfleet practice 1")
    key(purpose, w) = HMAC-SHA256(salt, purpose || 0x00 || name of the workload w)
    stream(key)     = SHAKE-256(key), cut into little-endian u32, the top bit of each dropped
    cases           = the stream's numbers in order, without repeats, and without those of the pools named before

Pools, each without the ones before it: practice (from the practice salt; agents see it), behaviour, timing, escalation.
Timing is one sequence, cut into a block for each pair. The seed of record hashes is the first u64 of key("hash", "").

Why: HMAC and SHAKE are one-way, so practice cases say nothing about a salt, and one verification's cases nothing about
another's (CHEATS 12). A salt alone gives all of its verification's cases back, so the report holds its SHA-256 as a
commitment and an audit reveals it later. SHAKE-256's output is as long as wanted and does not depend on how much is
asked for, which makes "the next block" well defined.

The order matters and this file cannot hold it: an index is given out only once the candidate's tree is frozen (the
ledger does that), and is never given out again.
"""

import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nightfleet.native import UserError

CASE_END = 1 << 31
# Fixed: up to an eighth of all numbers may be in use, so that drawing without repeats stays quick.
MOST_DRAWN = CASE_END >> 3

SALT = b"nightfleet salt 1\x00"
PRACTICE_SALT = b"nightfleet practice 1"

Cases: TypeAlias = NDArray[np.int64]
Purpose: TypeAlias = Literal["practice", "behaviour", "timing", "escalation", "hash"]


def new_master() -> bytes:
    """A night's master secret: 32 bytes of the system's entropy. It stays in the state directory."""
    return secrets.token_bytes(32)


def verification_salt(master: bytes, index: int) -> bytes:
    """The salt of one verification, 32 bytes.

    Args:
        master: 32 bytes.
        index: the verification's own number, in [0, 2**64); a new one for every attempt.

    Raises:
        UserError: another length or index.
    """
    if not 0 <= index < 1 << 64:
        raise UserError(f"a verification's index must be in [0, 2**64); got {index}")
    return _hmac(_secret(master, "a master"), SALT + struct.pack("<Q", index))


def practice_salt(master: bytes) -> bytes:
    """The salt of the cases that agents may see, 32 bytes. Raises UserError as `verification_salt`."""
    return _hmac(_secret(master, "a master"), PRACTICE_SALT)


def commitment(salt: bytes) -> str:
    """SHA-256 of a salt, 64 hex digits: published before, checked when the salt is revealed."""
    return hashlib.sha256(_secret(salt, "a salt")).hexdigest()


def hash_seed(salt: bytes) -> int:
    """The verification's secret seed for record hashes, in [0, 2**64)."""
    (seed,) = struct.unpack("<Q", _key(salt, "hash", "")[:8])
    return int(seed)


class Pools:
    """The cases of one verification of one workload whose cases are numbers.

    Args:
        salt: the verification's.
        practice: the cases that agents may see, of shape (m,); see `practice_cases`.
        behaviour: how many cases the behaviour gate compares.
        block: cases a pair is timed on.
        workload: its name.

    Raises:
        UserError: a salt of another length, or more cases than there are numbers for.
    """

    def __init__(self, salt: bytes, practice: Cases, *, behaviour: int, block: int, workload: str) -> None:
        self._salt = _secret(salt, "a salt")
        self._workload = workload
        self._block = block
        self._practice = practice
        self._behaviour = draw(_key(salt, "behaviour", workload), behaviour, without=practice)
        self._timed = self._behaviour[:0]

    @property
    def behaviour(self) -> Cases:
        """Shape (behaviour,), in the random order in which they are run."""
        return self._behaviour

    def timing(self, pair: int) -> Cases:
        """The fresh block of one pair, of shape (block,); pairs count from 0, confirmation's go on where timing's end.

        Raises:
            UserError: a negative pair, or so many that the numbers run out.
        """
        if pair < 0:
            raise UserError(f"pairs count from 0; got {pair}")
        end = (pair + 1) * self._block
        if end > len(self._timed):
            # A longer draw begins with the shorter one.
            wanted = min(2 * max(end, 64 * self._block), max(end, MOST_DRAWN // 2))
            self._timed = self._draw("timing", wanted, self._practice, self._behaviour)
        return self._timed[end - self._block : end]

    def timed(self, pairs: int) -> Cases:
        """The blocks of the first `pairs` pairs, concatenated: shape (pairs * block,)."""
        if pairs:
            self.timing(pairs - 1)
        return self._timed[: pairs * self._block]

    def escalation(self, count: int, *, pairs: int) -> Cases:
        """Cases for an extraordinary claim, of shape (count,): in no other pool, given how many pairs were timed."""
        return self._draw("escalation", count, self._practice, self._behaviour, self.timed(pairs))

    def _draw(self, purpose: Purpose, count: int, *used: Cases) -> Cases:
        return draw(_key(self._salt, purpose, self._workload), count, without=np.concatenate(used))


def practice_cases(salt: bytes, count: int, workload: str) -> Cases:
    """The cases that agents may see, of shape (count,); `salt` is the practice salt. Raises UserError as `draw`."""
    return draw(_key(_secret(salt, "a salt"), "practice", workload), count)


def draw(key: bytes, count: int, *, without: Cases | None = None) -> Cases:
    """The first `count` distinct numbers of a key's stream, of shape (count,), int64 in [0, 2**31).

    Args:
        key: 32 bytes.
        count: how many.
        without: numbers to leave out.

    Raises:
        UserError: a negative count, or more numbers in use than can be drawn quickly (2**28).
    """
    left_out = np.empty(0, np.uint32) if without is None else np.unique(without.astype(np.uint32))
    if count < 0 or count + len(left_out) > MOST_DRAWN:
        raise UserError(
            f"at most {MOST_DRAWN} cases can be in use at once; got {count} and {len(left_out)} before them"
        )
    length = count + count // 4 + 64
    while True:
        numbers = np.frombuffer(hashlib.shake_256(key).digest(4 * length), "<u4") & np.uint32(CASE_END - 1)
        _, first = np.unique(numbers, return_index=True)
        distinct = numbers[np.sort(first)]
        kept = distinct[~np.isin(distinct, left_out, assume_unique=True)]
        if len(kept) >= count:
            cases: Cases = kept[:count].astype(np.int64)
            return cases
        length *= 2


class ManifestPools:
    """The cases of one verification of a workload whose cases are the lines of a manifest.

    They are finite and agents may see the files, so nothing here is secret but the order: behaviour compares all lines,
    timing goes through them in one random order after another, and `reused` says how often the report must admit.
    The order of round r is the stable argsort of the first `lines` little-endian u64 of SHAKE-256(key || u64(r)); what
    is left of a round after its last whole block is skipped.

    Args:
        salt: the verification's.
        lines: of the manifest, at least one block.
        block: cases a pair is timed on.
        workload: its name.

    Raises:
        UserError: a block longer than the manifest.
    """

    def __init__(self, salt: bytes, *, lines: int, block: int, workload: str) -> None:
        if not 1 <= block <= lines:
            raise UserError(
                f"workload {workload}: block must be from 1 to the {lines} lines of its manifest; got {block}"
            )
        self._salt = _secret(salt, "a salt")
        self._lines = lines
        self._block = block
        self._workload = workload
        self._round: tuple[int, Cases] | None = None

    @property
    def behaviour(self) -> Cases:
        """All lines, of shape (lines,), in random order."""
        return _order(_key(self._salt, "behaviour", self._workload), 0, self._lines)

    def timing(self, pair: int) -> Cases:
        """One pair's block, of shape (block,), without repeats within it.

        Raises:
            UserError: a negative pair.
        """
        if pair < 0:
            raise UserError(f"pairs count from 0; got {pair}")
        turn, place = divmod(pair, self._lines // self._block)
        if self._round is None or self._round[0] != turn:
            self._round = turn, _order(_key(self._salt, "timing", self._workload), turn, self._lines)
        return self._round[1][place * self._block : (place + 1) * self._block]

    def reused(self, pairs: int) -> int:
        """How often the most used line was run on each side: once for behaviour, and once a round of timing."""
        rounds = -(-pairs // (self._lines // self._block))
        return 1 + rounds


def manifest_lines(data: bytes, name: str) -> Sequence[str]:
    """The cases of a manifest: its lines, without the ends of lines.

    Raises:
        UserError: not UTF-8, an empty or repeated line, or none at all.
    """
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise UserError(f"{name}:{number}: a case cannot be an empty line; remove it")
        if line in seen:
            raise UserError(f"{name}:{number}: {line[:80]!r} is there already, on line {seen[line]}; remove one")
        seen[line] = number
    return lines


def _order(key: bytes, turn: int, lines: int) -> Cases:
    words = np.frombuffer(hashlib.shake_256(key + struct.pack("<Q", turn)).digest(8 * lines), "<u8")
    return np.argsort(words, kind="stable").astype(np.int64)


def _key(salt: bytes, purpose: Purpose, workload: str) -> bytes:
    return _hmac(salt, purpose.encode("ascii") + b"\x00" + workload.encode("utf-8"))


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _secret(value: bytes, noun: str) -> bytes:
    if len(value) != 32:
        raise UserError(f"{noun} has 32 bytes; got {len(value)}")
    return value
