"""Digest files: native against its twin, damage, limits, and what a failed write leaves behind."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nightfleet.harness import twin
from nightfleet.native import (
    UserError,
    diff_digests,
    read_digests,
    root_digest,
    verify_digests,
    write_digests,
)

CASES = st.integers(0, 2**31 - 1) | st.integers(0, 20)
WORDS = st.integers(0, 2**64 - 1) | st.integers(0, 1)
TABLES = st.dictionaries(CASES, st.tuples(WORDS, WORDS))
HEADER_BYTES = 192


def arrays(table: dict[int, tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    cases = np.array(list(table), np.int64)
    return cases, np.array(list(table.values()), np.uint64).reshape(len(table), 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digests")


@given(TABLES, st.binary())
def test_files_and_roots_match_the_twin(folder: Path, table: dict[int, tuple[int, int]], metadata: bytes) -> None:
    native, slow = folder / "native.npy", folder / "twin.npy"
    root = write_digests(native, *arrays(table), metadata)
    assert root == twin.write_digests(slow, *arrays(table), metadata)
    assert native.read_bytes() == slow.read_bytes()
    assert root_digest(native, metadata) == twin.root_digest(native, metadata) == root
    verify_digests(native, metadata, root)
    for read in (read_digests, twin.read_digests):
        cases, digests = read(native)
        assert (cases.dtype.str, digests.dtype.str, digests.shape) == ("<i8", "<u8", (len(table), 2))
        assert dict(zip(cases.tolist(), map(tuple, digests.tolist()), strict=True)) == table
        assert cases.tolist() == sorted(table)


@given(TABLES, TABLES, st.integers(0, 5))
def test_diffs_match_the_twin(
    folder: Path, a: dict[int, tuple[int, int]], b: dict[int, tuple[int, int]], limit: int
) -> None:
    paths = folder / "a.npy", folder / "b.npy"
    for path, table in zip(paths, (a, b), strict=True):
        write_digests(path, *arrays(table), b"")
    native, slow = diff_digests(*paths, limit=limit), twin.diff_digests(*paths, limit=limit)
    assert (native.differing, native.only_a, native.only_b) == (slow.differing, slow.only_a, slow.only_b)
    assert native.cases.tolist() == slow.cases


@given(TABLES, st.data())
def test_damage_is_judged_alike(folder: Path, table: dict[int, tuple[int, int]], draw: st.DataObject) -> None:
    path = folder / "damaged.npy"
    root = write_digests(path, *arrays(table), b"m")
    good = path.read_bytes()
    at = draw.draw(st.integers(0, len(good) - 1))
    action = draw.draw(st.sampled_from(["cut", "flip", "grow"]))
    flipped = good[:at] + bytes([good[at] ^ 1 << draw.draw(st.integers(0, 7))]) + good[at + 1 :]
    path.write_bytes({"cut": good[:at], "flip": flipped, "grow": good + good[at:]}[action])
    with pytest.raises(UserError, match="digest"):
        verify_digests(path, b"m", root)
    with pytest.raises(ValueError, match=r"digest|cases"):
        twin.verify_digests(path, b"m", root)
    assert outcome(root_digest, path) == outcome(twin.root_digest, path)


def outcome(root: Any, path: Path) -> str:
    try:
        return str(root(path, b"m"))
    except ValueError:
        return "refused"


def test_numpy_reads_the_file_and_writes_the_same(tmp_path: Path) -> None:
    path = tmp_path / "digests.npy"
    write_digests(path, *arrays({7: (1, 2), 3: (2**64 - 1, 0)}), b"")
    loaded = np.load(path, allow_pickle=False)
    assert loaded.dtype == np.dtype([("case", "<i8"), ("high", "<u8"), ("low", "<u8")])
    assert loaded.tolist() == [(3, 2**64 - 1, 0), (7, 1, 2)]
    np.save(tmp_path / "again.npy", loaded)
    assert (tmp_path / "again.npy").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda good: good[:100], "expected at least 192 bytes, found 100"),
        (lambda good: good[:-1], "expected 240 bytes for its 2 cases, found 239"),
        (lambda good: good + b"x", "expected 240 bytes for its 2 cases, found 241"),
        (lambda good: good.replace(b"'<i8'", b"'<i4'"), r"expected the header \{'descr': .*, found .*'<i4'"),
        (lambda good: good.replace(b"(2,)", b"(9,)"), "expected 408 bytes for its 9 cases, found 240"),
        (lambda good: good[:192] + good[216:] + good[192:216], r"a case above 9 and below 2\*\*31 in row 1, found 4"),
        (lambda good: good[:192] + good[192:216] * 2, r"a case above 4 and below 2\*\*31 in row 1, found 4"),
        (lambda _: b"\x89PNG" + bytes(500), "expected the header .*, found a file that is not .npy$"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "digests.npy"
    write_digests(path, *arrays({4: (1, 1), 9: (2, 2)}), b"")
    good = path.read_bytes()
    assert change(good) != good
    path.write_bytes(change(good))
    for refused in (lambda: root_digest(path, b""), lambda: read_digests(path), lambda: diff_digests(path, path)):
        with pytest.raises(UserError, match=f"^{path} is not a digest file: .*{message}"):
            refused()
    with pytest.raises(ValueError, match=str(path)):
        twin.root_digest(path, b"")


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^cannot read {tmp_path}/none: No such file"):
        read_digests(tmp_path / "none")
    with pytest.raises(UserError, match="expected a regular file, found something else"):
        read_digests(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="expected a regular file, found something else"):
        read_digests(tmp_path / "pipe")
    with pytest.raises(UserError, match=f"^cannot write {tmp_path}: it does not name a file"):
        write_digests(tmp_path, *arrays({}), b"")
    with pytest.raises(UserError, match=f"^cannot write {tmp_path}/none/a.npy: No such file"):
        write_digests(tmp_path / "none" / "a.npy", *arrays({}), b"")


def test_another_root_or_other_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digests.npy"
    root = write_digests(path, *arrays({4: (1, 1)}), b"meta")
    other = root_digest(path, b"mete")
    assert other != root
    with pytest.raises(UserError, match=f"^{path} with its metadata has the root digest {other}; expected {root}$"):
        verify_digests(path, b"mete", root)


DIGESTS = np.zeros((2, 2), np.uint64)


@pytest.mark.parametrize(
    ("cases", "digests", "message"),
    [
        (np.array([1, 1]), DIGESTS, "^cases must be distinct; 1 appears twice$"),
        (np.array([1, -1]), DIGESTS, r"^cases must be in \[0, 2\*\*31\); cases\[1\] is -1$"),
        (np.array([2**31, 1]), DIGESTS, r"^cases must be in \[0, 2\*\*31\); cases\[0\] is 2147483648$"),
        (np.array([1]), DIGESTS, "^there are 1 cases but 2 digests$"),
        (np.array([1, 2], np.int32), DIGESTS, r"^cases must be .* shape \(n,\) and dtype int64; got .* dtype int32$"),
        (np.array([[1, 2]]), DIGESTS, r"^cases must be .* of shape \(1, 2\)"),
        (np.arange(4)[::2], DIGESTS, "^cases must be a contiguous array"),
        ([1, 2], DIGESTS, r"^cases must be .*; got <class 'list'>$"),
        (np.arange(2), DIGESTS.astype(np.int64), r"^digests must be .* dtype uint64; got .* dtype int64$"),
        (np.arange(2), np.zeros((2, 3), np.uint64), r"^digests must be .* shape \(n, 2\) .* of shape \(2, 3\)"),
        (np.arange(2), np.zeros((2, 4), np.uint64)[:, ::2], "^digests must be a contiguous array"),
    ],
)
def test_impossible_arrays_are_refused_and_leave_nothing(
    tmp_path: Path, cases: Any, digests: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_digests(tmp_path / "digests.npy", cases, digests, b"")
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
import numpy as np
from nightfleet.native import MachineError, write_digests
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_digests(sys.argv[1], np.arange(50_000), np.zeros((50_000, 2), np.uint64), b"")
except MachineError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "digests.npy"
    write_digests(path, *arrays({4: (1, 1)}), b"")
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"cannot write {path}: File too large")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def resident_mib(*, restart_peak: bool = False) -> float:
    """The peak of this process's resident memory since it was restarted."""
    if restart_peak:
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def test_a_million_cases_take_little_memory(tmp_path: Path) -> None:
    # In a process of its own: here, memory that an earlier test gave back would be used first and never seen.
    path = tmp_path / "digests.npy"
    told = subprocess.run(
        [sys.executable, "-c", MILLION, str(path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    # Sorting needs 8 MB at least: less means that the peak was not seen.
    assert 4 < float(told.stdout) < 200
    cases, digests = million()
    order = np.argsort(cases)
    read = read_digests(path)
    np.testing.assert_array_equal(read[0], cases[order])
    np.testing.assert_array_equal(read[1], digests[order])


MILLION = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_digests import million, resident_mib
from nightfleet.native import diff_digests, root_digest, write_digests
cases, digests = million()
path = Path(sys.argv[1])
before = resident_mib(restart_peak=True)
root = write_digests(path, cases, digests, b"")
assert root_digest(path, b"") == root
assert diff_digests(path, path).differing == 0
print(resident_mib() - before)
"""


def million() -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The same million cases whenever it is called."""
    count = 1_000_000
    random = np.random.default_rng(1)
    cases = random.permutation(2 * count)[:count].astype(np.int64)
    return cases, random.integers(0, 2**64, (count, 2), np.uint64)
