"""The slow, independent twin of `nightfleet.native`'s digest functions: plain Python, xxhash, hashlib and NumPy.

It never imports `native`: tests hold the two against each other, and an audit recomputes with this one what the other
recorded. Where native raises UserError, the twin raises ValueError. The formats are specified here a second time, in
code; when the two disagree, one of them is wrong and the record must not be believed.
"""

import hashlib
import json
import math
import os
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

MAX_DEPTH = 128
MAX_DIGITS = 4300
CASE_END = 1 << 31
ROOT_PREFIX = b"nightfleet digests 1\n"
HEADER_BYTES = 192
ROWS = np.dtype([("case", "<i8"), ("high", "<u8"), ("low", "<u8")])

JsonValue: TypeAlias = "bool | str | Number | list[JsonValue] | dict[str, JsonValue] | None"


@dataclass(frozen=True)
class Number:
    """A JSON number by its text."""

    text: str


def hash_records(
    data: bytes, *, seed: int, record: str = "line", canonical: str = "exact", ignore: str | None = None
) -> NDArray[np.uint64]:
    """XXH3-128 of each record: uint64 of shape (records, 2), rows [high, low]. ValueError for data not framed so."""
    pattern = None if ignore is None else _pattern(ignore)
    return _digest_array([_digest(_hashed(raw, canonical, pattern), seed) for raw in _split(data, record)])


def hash_files(
    files: Sequence[tuple[bytes, bytes]], *, seed: int, canonical: str = "exact", ignore: str | None = None
) -> NDArray[np.uint64]:
    """One digest for (path, contents) pairs, shape (1, 2). ValueError unless paths are distinct and sorted."""
    paths = [path for path, _ in files]
    if paths != sorted(set(paths)):
        raise ValueError("paths must be distinct and sorted by their bytes")
    pattern = None if ignore is None else _pattern(ignore)
    parts = []
    for path, raw in files:
        contents = _hashed(raw, canonical, pattern)
        parts += [struct.pack("<I", len(path)), path, struct.pack("<Q", len(contents)), contents]
    return _digest_array([_digest(b"".join(parts), seed)])


def canonical_json(record: bytes) -> bytes | None:
    """The canonical bytes of a JSON text, or None when it is not one."""
    try:
        value = json.loads(
            record.decode("utf-8"),
            object_pairs_hook=_members,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse_constant,
        )
        return _canonical(value, 0)
    except (ValueError, RecursionError):  # a UnicodeError is a ValueError
        return None


def write_digests(
    path: str | os.PathLike[str], cases: NDArray[np.int64], digests: NDArray[np.uint64], metadata: bytes
) -> str:
    """Writes the digest file (not atomically) and returns its root digest."""
    order = np.argsort(cases, kind="stable")
    rows = np.empty(len(cases), ROWS)
    rows["case"], rows["high"], rows["low"] = cases[order], digests[order, 0], digests[order, 1]
    _check_cases(rows["case"], str(path))
    Path(path).write_bytes(array_header(len(rows)) + rows.tobytes())
    return _root(metadata, rows.tobytes())


def array_header(count: int) -> bytes:
    """The one header that a digest file of so many rows has."""
    fields = "'descr': [('case', '<i8'), ('high', '<u8'), ('low', '<u8')], 'fortran_order': False"
    text = f"{{{fields}, 'shape': ({count},), }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER_BYTES - 10) + text.ljust(HEADER_BYTES - 11).encode() + b"\n"


def read_digests(path: str | os.PathLike[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Cases, ascending, and digests of shape (n, 2). ValueError when it is not a digest file."""
    rows = np.frombuffer(_data(path), ROWS)
    cases = rows["case"].astype(np.int64)
    return cases, np.stack([rows["high"], rows["low"]], axis=1).astype(np.uint64)


def root_digest(path: str | os.PathLike[str], metadata: bytes) -> str:
    """SHA-256 over the prefix, the metadata with its length, and the rows; 64 hex digits."""
    return _root(metadata, _data(path))


def verify_digests(path: str | os.PathLike[str], metadata: bytes, root: str) -> None:
    """ValueError unless the file and metadata have this root digest."""
    found = root_digest(path, metadata)
    if found != root:
        raise ValueError(f"{path} with its metadata has the root digest {found}; expected {root}")


@dataclass(frozen=True)
class DigestDiff:
    """Complete counts; the first `limit` differing cases."""

    differing: int
    only_a: int
    only_b: int
    cases: list[int]


def diff_digests(a: str | os.PathLike[str], b: str | os.PathLike[str], *, limit: int = 100) -> DigestDiff:
    """Compares two digest files case by case."""
    left, right = (_by_case(path) for path in (a, b))
    differing = sorted(case for case in left.keys() & right.keys() if left[case] != right[case])
    only_a, only_b = len(left.keys() - right.keys()), len(right.keys() - left.keys())
    return DigestDiff(len(differing), only_a, only_b, differing[:limit])


def _digest(data: bytes, seed: int) -> tuple[int, int]:
    digest = xxhash.xxh3_128_intdigest(data, seed)
    return digest >> 64, digest & (1 << 64) - 1


def _digest_array(digests: list[tuple[int, int]]) -> NDArray[np.uint64]:
    return np.array(digests, np.uint64).reshape(len(digests), 2)


def _split(data: bytes, record: str) -> Iterator[bytes]:
    if record == "line":
        *lines, last = data.split(b"\n")
        yield from (line + b"\n" for line in lines)
        if last:
            yield last
    elif record == "output":
        yield data
    elif record == "length":
        yield from _frames(data)
    else:
        raise ValueError(f"record must be 'line', 'output' or 'length'; got {record!r}")


def _frames(data: bytes) -> Iterator[bytes]:
    at, index = 0, 0
    while at < len(data):
        if len(data) - at < 4:
            raise ValueError(f"record {index} is cut: its length has {len(data) - at} of 4 bytes")
        (length,) = struct.unpack_from("<I", data, at)
        payload = data[at + 4 : at + 4 + length]
        if len(payload) < length:
            raise ValueError(f"record {index} is cut: its payload has {len(payload)} of {length} bytes")
        yield payload
        at, index = at + 4 + length, index + 1


def _pattern(ignore: str) -> re.Pattern[bytes]:
    # Python only warns where its syntax and Rust's part ways ([[:alpha:]], [a&&b]); here that is an error.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return re.compile(ignore.encode(), re.MULTILINE)
        except (re.error, Warning) as error:
            raise ValueError(f"ignore is not a regular expression that Python reads too: {error}") from None


def _hashed(raw: bytes, canonical: str, pattern: re.Pattern[bytes] | None) -> bytes:
    kept = raw if pattern is None else pattern.sub(b"", raw)
    if canonical == "exact":
        return kept
    if canonical != "json":
        raise ValueError(f"canonical must be 'exact' or 'json'; got {canonical!r}")
    form = canonical_json(kept)
    return b"!" + kept if form is None else b"j" + form


def _members(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("duplicate keys")
    return members


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is not JSON")


def _canonical(value: JsonValue, depth: int) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Number):
        return _number(value.text)
    if depth == MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} nested containers")
    if isinstance(value, list):
        return b"[" + b"".join(_canonical(item, depth + 1) for item in value) + b"]"
    members = sorted((key.encode(), key, item) for key, item in value.items())
    return b"{" + b"".join(_string(key) + _canonical(item, depth + 1) for _, key, item in members) + b"}"


def _string(text: str) -> bytes:
    data = text.encode()  # strict: a lone surrogate is a UnicodeEncodeError
    return b"s%d:%s" % (len(data), data)


def _number(text: str) -> bytes:
    if len(re.split(r"[.eE]", text)[0].lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"more than {MAX_DIGITS} digits before the fraction")
    if not set(text) & set(".eE"):
        return b"i%s;" % (b"0" if text == "-0" else text.encode())
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond f64")
    return b"d" + struct.pack(">d", value).hex().encode()


def _data(path: str | os.PathLike[str]) -> bytes:
    """The rows of a digest file, as bytes, once everything about it has been checked."""
    content = Path(path).read_bytes()
    header, data = content[:HEADER_BYTES], content[HEADER_BYTES:]
    count = len(data) // ROWS.itemsize
    if header != array_header(count) or len(data) != count * ROWS.itemsize:
        raise ValueError(f"{path} is not a digest file: header and {len(data)} bytes of rows do not fit together")
    _check_cases(np.frombuffer(data, ROWS)["case"], str(path))
    return data


def _check_cases(cases: NDArray[np.int64], path: str) -> None:
    if len(cases) and (cases[0] < 0 or cases[-1] >= CASE_END or (np.diff(cases) <= 0).any()):
        raise ValueError(f"{path}: cases must be distinct, ascending and in [0, 2**31)")


def _root(metadata: bytes, data: bytes) -> str:
    return hashlib.sha256(ROOT_PREFIX + struct.pack("<Q", len(metadata)) + metadata + data).hexdigest()


def _by_case(path: str | os.PathLike[str]) -> dict[int, tuple[int, int]]:
    cases, digests = read_digests(path)
    return {int(case): (int(high), int(low)) for case, (high, low) in zip(cases, digests, strict=True)}
