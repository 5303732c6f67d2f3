"""Record hashing and digest files against plain Python, measured in the same run, each result checked beside its time.

Run it as a script; it prints a table and exits with 1 when a promise of speed is not kept. Ratios above 1 mean that
native is faster. The two sides of a ratio alternate and each counts its best time, since noise only adds.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import xxhash
from table import Figure, report

from nightfleet.harness import twin
from nightfleet.native import diff_digests, hash_records, read_digests, root_digest, verify_digests, write_digests

SEED = 0x9E3779B97F4A7C15
ROUNDS = 7
LINES = (b"x" * 63 + b"\n") * 200_000
LINE_COUNT = 200_000
CASES = 1_000_000


def best(*works: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The least seconds of each, over alternating rounds."""
    seconds = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            seconds[index] = min(seconds[index], time.perf_counter() - start)
    return seconds


def python_lines() -> list[bytes]:
    """What a person would write instead of `hash_records`."""
    digest = xxhash.xxh3_128_digest
    return [digest(line, SEED) for line in LINES.splitlines(keepends=True)]


def short_lines() -> list[Figure]:
    """Lines of 64 bytes: the cost of a record, not of a byte."""
    split = LINES.splitlines(keepends=True)
    digest = xxhash.xxh3_128_digest
    expected = np.frombuffer(b"".join(python_lines()), ">u8").reshape(-1, 2)
    for threads in (1, 2):
        np.testing.assert_array_equal(hash_records(LINES, seed=SEED, threads=threads), expected)
    loop, hashing, one, two = best(
        python_lines,
        lambda: [digest(line, SEED) for line in split],
        lambda: hash_records(LINES, seed=SEED),
        lambda: hash_records(LINES, seed=SEED, threads=2),
    )
    return [
        Figure("64-byte lines, 1 thread", one / LINE_COUNT * 1e9, "ns a line"),
        Figure("64-byte lines, 1 thread / Python loop", loop / one, "x", least=8),
        Figure("64-byte lines, 2 threads / Python loop", loop / two, "x", least=14),
        Figure("64-byte lines, 1 thread / Python loop over lines already split", hashing / one, "x"),
    ]


def large_records() -> list[Figure]:
    """The cost of a byte, against xxHash's own C code (which knows wider vectors than twox-hash does)."""
    lines = []
    for mebibytes in (1, 16):
        data = np.random.default_rng(1).bytes(mebibytes << 20)
        expected = xxhash.xxh3_128_intdigest(data, SEED)
        assert hash_records(data, seed=SEED, record="output").tolist() == [[expected >> 64, expected % 2**64]]
        package, native = best(
            partial(xxhash.xxh3_128_digest, data, SEED),
            partial(hash_records, data, seed=SEED, record="output"),
        )
        lines.append(Figure(f"{mebibytes} MiB record / xxhash package", package / native, "x", least=0.35))
        lines.append(Figure(f"{mebibytes} MiB record", len(data) / native / 1e9, "GB/s"))
    return lines


def json_lines() -> list[Figure]:
    """Canonical JSON against merely parsing it."""
    values = [{"case": n, "name": f"row {n}", "values": [n / 7, -n, None], "ok": n % 2 == 0} for n in range(20_000)]
    data = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    slow = twin.hash_records(data, seed=SEED, canonical="json")
    np.testing.assert_array_equal(hash_records(data, seed=SEED, canonical="json"), slow)
    loads, native = best(
        lambda: [json.loads(line) for line in data.splitlines()],
        lambda: hash_records(data, seed=SEED, canonical="json"),
    )
    return [
        Figure("canonical JSON / json.loads alone", loads / native, "x", least=2),
        Figure("canonical JSON", len(data) / native / 1e6, "MB/s"),
    ]


def resident_mib(*, restart_peak: bool = False) -> float:
    """The peak of this process's resident memory since it was restarted."""
    if restart_peak:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def digest_files(count: int, rounds: int) -> list[Figure]:
    """So many cases on disk; what is promised for a million holds in proportion."""
    times = count / CASES
    random = np.random.default_rng(1)
    cases = random.permutation(2 * count)[:count].astype(np.int64)
    digests = random.integers(0, 2**64, (count, 2), np.uint64)
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder, "a.npy"), Path(folder, "b.npy")
        before = resident_mib(restart_peak=True)
        root = write_digests(a, cases, digests, b"m")
        digests[::1000] ^= np.uint64(1)
        write_digests(b, cases, digests, b"m")
        assert diff_digests(a, b).differing == count // 1000
        verify_digests(a, b"m", root)
        extra_mib = resident_mib() - before
        assert twin.root_digest(a, b"m") == root
        seconds = best(
            lambda: write_digests(b, cases, digests, b"m"),
            lambda: root_digest(a, b"m"),
            lambda: verify_digests(a, b"m", root),
            lambda: diff_digests(a, b),
            lambda: read_digests(a),
            rounds=rounds,
        )
    names = ("write", "root", "verify", "diff", "read")
    lines = [Figure(f"{count:,} cases: {name}", it, "s", most=times) for name, it in zip(names, seconds, strict=True)]
    return [*lines, Figure(f"{count:,} cases: extra memory", extra_mib, "MiB", least=1, most=200 * times)]


def main() -> int:
    """Print the table; 1 when a promise is not kept."""
    figures = [
        *short_lines(),
        *large_records(),
        *json_lines(),
        *digest_files(CASES, ROUNDS),
        *digest_files(10 * CASES, 1),
    ]
    return report("Records and digests", f"Best of {ROUNDS} alternating rounds each; results compared.", figures)


if __name__ == "__main__":
    sys.exit(main())
