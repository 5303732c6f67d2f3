# The extension's own docstrings are one line each; editors show these.
# ruff: noqa: PYI021

from collections.abc import Sequence
from os import PathLike
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

__all__ = [
    "DigestDiff",
    "MachineError",
    "UserError",
    "__version__",
    "_provoke",
    "canonical_json",
    "diff_digests",
    "hash_files",
    "hash_records",
    "read_digests",
    "root_digest",
    "verify_digests",
    "write_digests",
]

__version__: Final[str]

class UserError(ValueError):
    """Something impossible was asked for; the message names the limit, the value and what to type instead."""

class MachineError(RuntimeError):
    """The kernel or the machine could not do what it should, or this library has a defect."""

def hash_records(
    data: Buffer,
    *,
    seed: int,
    record: Literal["line", "output", "length"] = "line",
    canonical: Literal["exact", "json"] = "exact",
    ignore: str | None = None,
    threads: int = 1,
) -> NDArray[np.uint64]:
    """XXH3-128 of each record of `data`: uint64 of shape (records, 2), each row [high, low].

    `data` is any contiguous buffer of bytes; it is not copied and must not be written to meanwhile. `seed` is in [0,
    2**64).

    `record` says how the output is cut: "line" (up to and including each newline; an unterminated last line is a
    record of its own, and differs from a terminated one), "output" (one record, also when empty) or "length" (a u32
    little-endian length, then that many bytes, which are the record).

    `ignore` is a regular expression over bytes (Rust's syntax, no Unicode classes, `^` and `$` match at lines) whose
    matches are removed first. `canonical="json"` then replaces a record by b"j" and its `canonical_json`; a record
    that is not JSON by b"!" and its raw bytes. Whitespace around a JSON value, also the newline, does not count.

    `threads` is in [1, 256]; the result does not depend on it.

    Raises UserError for impossible arguments, for data that is not framed as `record` says, and for a record of more
    than 64 MiB that is to be canonicalised; MachineError when a thread cannot be started.
    """

def hash_files(
    files: Sequence[tuple[bytes, Buffer]],
    *,
    seed: int,
    canonical: Literal["exact", "json"] = "exact",
    ignore: str | None = None,
) -> NDArray[np.uint64]:
    """One digest for (relative path, contents) pairs: uint64 of shape (1, 2), [high, low].

    What is hashed: for each file the u32 LE length of its path, the path, the u64 LE length of its contents, the
    contents (in their canonical form, see `hash_records`).

    Raises UserError when paths repeat or are not sorted by their bytes, and as `hash_records`.
    """

def canonical_json(record: Buffer, /) -> bytes | None:
    """The bytes by which JSON texts are compared, or None when `record` is not one (in UTF-8).

    Equal for equal values and different for different ones: members in the order of their keys' UTF-8 bytes, integers
    as text (-0 is 0), numbers with a fraction or exponent as the bits of their f64. Not JSON: duplicate keys, lone
    surrogates, NaN and infinities, numbers beyond f64, more than 4300 digits before a fraction, more than 128 nested
    containers.
    """

def write_digests(
    path: str | PathLike[str],
    cases: NDArray[np.int64],
    digests: NDArray[np.uint64],
    metadata: Buffer,
) -> str:
    """Writes `digests[i]` for `cases[i]` as the file `path`, at once or not at all; returns its root digest.

    `cases` has shape (n,), is in any order, distinct and in [0, 2**31); `digests` has shape (n, 2); both contiguous.
    The file is a `.npy` (format 1.0) with dtype [('case', '<i8'), ('high', '<u8'), ('low', '<u8')], sorted by case:
    read it with `numpy.load(path, allow_pickle=False)`.

    Raises UserError for other arrays and for a path that cannot be written; MachineError when the disk fails or is
    full. Then no temporary file stays, and the old file does.
    """

def root_digest(path: str | PathLike[str], metadata: Buffer) -> str:
    r"""SHA-256 (64 lowercase hex digits) over metadata and rows; header and order are checked on the way.

    The bytes: b"nightfleet digests 1\n", the length of the metadata as u64 LE, the metadata, the rows as in the file.

    Raises UserError when the file is missing, cut, too long, or not as `write_digests` makes it.
    """

def verify_digests(path: str | PathLike[str], metadata: Buffer, root: str) -> None:
    """Raises UserError, saying what was found, unless `root_digest(path, metadata)` is `root`; otherwise as that."""

def read_digests(path: str | PathLike[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Cases, ascending, of shape (n,), and digests of shape (n, 2), [high, low]. Raises as `root_digest`."""

def diff_digests(a: str | PathLike[str], b: str | PathLike[str], *, limit: int = 100) -> DigestDiff:
    """Compares two files case by case, in a single pass over each. Raises as `root_digest`, for either."""

@final
class DigestDiff:
    """How two digest files differ. All counts are complete, however many cases are listed."""

    @property
    def differing(self) -> int:
        """Cases in both files whose digests differ."""

    @property
    def only_a(self) -> int:
        """Cases that only the first file has."""

    @property
    def only_b(self) -> int:
        """Cases that only the second file has."""

    @property
    def cases(self) -> NDArray[np.int64]:
        """The first `limit` differing cases, ascending."""

def _provoke(what: Literal["panic", "wait"], beside: bool) -> None:
    """For tests: a panic, or work that ends only by Ctrl-C, on this thread or beside it."""
