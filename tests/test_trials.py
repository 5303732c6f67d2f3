"""Trials against their slow twin: the same programs, run and hashed without any of native."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfleet.harness import twin
from nightfleet.native import Sandbox, Trials, UserError, Workload, give_tree, run_trials

ECHO = """
import sys
for line in sys.stdin:
    case = int(line)
    sys.stdout.write(f"{case} {case * 2654435761 % 2**32:08x} " + "x" * (case % 97) + "\\n")
"""
PYTHON = "/usr/bin/python3"
SEED = 0x9E3779B97F4A7C15

pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"these programs run under {PYTHON}")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of a test's own, readable by the sandbox's user."""
    path = tmp_path / "tree"
    path.mkdir()
    (path / "echo.py").write_text(ECHO)
    give_tree(path)
    return path


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    path = tmp_path_factory.mktemp("echo")
    (path / "echo.py").write_text(ECHO)
    give_tree(path)
    with Sandbox(path) as sandbox:
        yield sandbox


def write(tree: Path, name: str, text: str) -> list[str]:
    (tree / name).write_text(text)
    give_tree(tree)
    return [PYTHON, "-I", name]


def plain(command: list[str], tree: Path, block: list[int]) -> bytes:
    """The twin's run: a plain process, its whole output."""
    stdin = "".join(f"{case}\n" for case in block).encode()
    return subprocess.run(command, cwd=tree, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def test_digests_are_those_of_a_plain_run_hashed_by_the_twin(tree: Path) -> None:
    command = [PYTHON, "-I", "echo.py"]
    blocks = [list(range(start, start + 40)) for start in (0, 1000, 70000)]
    with Sandbox(tree) as one, Sandbox(tree) as two:
        trials = run_trials([[one], [two]], Workload(command), blocks, seed=SEED)
    expected = np.concatenate([twin.hash_records(plain(command, tree, block), seed=SEED) for block in blocks])
    for side in range(2):
        np.testing.assert_array_equal(trials.digests[side], expected)
    assert trials.outcome == [["ok"] * 3] * 2
    assert trials.done == [True] * 3
    for measured in (trials.wall_ns, trials.cpu_ns, trials.peak_bytes):
        assert (measured > 0).all()


@given(block=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=300, unique=True), seed=st.integers(0, 2**64 - 1))
def test_any_block_under_any_seed(echo: Sandbox, block: list[int], seed: int) -> None:
    trials = run_trials([[echo]], Workload([PYTHON, "-I", "echo.py"]), [block], seed=seed)
    output = "".join(f"{c} {c * 2654435761 % 2**32:08x} {'x' * (c % 97)}\n" for c in block).encode()
    np.testing.assert_array_equal(trials.digests[0], twin.hash_records(output, seed=seed))


@pytest.mark.parametrize(
    ("record", "canonical", "body"),
    [
        ("output", "exact", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 9000)"),
        ("output", "json", 'import sys; sys.stdout.write(\'{"b": 1.50, "a": [1, 2e3]}\\n\')'),
        ("length", "exact", "import sys; sys.stdout.buffer.write(b'\\x03\\x00\\x00\\x00a\\nb')"),
    ],
)
def test_framings_and_forms(tree: Path, record: str, canonical: str, body: str) -> None:
    command = write(tree, "p.py", body)
    workload = Workload(command, record=record, canonical=canonical)  # type: ignore[arg-type]
    with Sandbox(tree) as sandbox:
        trials = run_trials([[sandbox]], workload, [[5]], seed=1)
    expected = twin.hash_records(plain(command, tree, [5]), seed=1, record=record, canonical=canonical)
    assert trials.outcome == [["ok"]]
    np.testing.assert_array_equal(trials.digests[0], expected)


def test_a_case_as_argument_and_output_files_as_record(tree: Path) -> None:
    body = "import sys; open('/out/b.txt', 'w').write(sys.argv[1]); open('/out/a.txt', 'w').write('a'); print('noise')"
    command = [*write(tree, "p.py", body), "{case}"]
    with Sandbox(tree) as sandbox:
        workload = Workload(command, feed="argument", record="files", files="*.txt")
        trials = run_trials([[sandbox]], workload, [[7], [8]], seed=3)
    for index, case in enumerate((7, 8)):
        expected = twin.hash_files([(b"a.txt", b"a"), (b"b.txt", str(case).encode())], seed=3)
        np.testing.assert_array_equal(trials.digests[0][index : index + 1], expected)


def test_an_output_file_that_is_a_link_is_refused(tree: Path) -> None:
    command = write(tree, "p.py", "import os; os.symlink('/etc/passwd', '/out/x')")
    with Sandbox(tree) as sandbox:
        completed = run_trials([[sandbox]], Workload(command, record="files"), [[1]], seed=0)
    assert completed.outcome == [["records"]]
    assert b"/out/x is not a regular file" in completed.stderr[0][0]


def test_ignored_parts_and_a_frozen_filter(tree: Path) -> None:
    noisy = "import os, sys\nfor line in sys.stdin: print(line.strip(), 'took', os.urandom(4).hex(), 'ms')"
    command = write(tree, "p.py", noisy)
    block = [1, 2, 3]
    with Sandbox(tree) as one, Sandbox(tree) as two, Sandbox(tree) as judge:
        loud = run_trials([[one], [two]], Workload(command), [block], seed=2)
        quiet = run_trials([[one], [two]], Workload(command, ignore=r"took \w+ ms"), [block], seed=2)
        cut = ["/usr/bin/cut", "-d", " ", "-f", "1"]
        cut_out = run_trials([[one]], Workload(command, filter=cut), [block], seed=2, filters=[judge])
    assert (loud.digests[0] != loud.digests[1]).any()
    np.testing.assert_array_equal(quiet.digests[0], quiet.digests[1])
    np.testing.assert_array_equal(cut_out.digests[0], twin.hash_records(b"1\n2\n3\n", seed=2))


def test_no_more_blocks_are_begun_after_a_difference(tree: Path) -> None:
    one = write(tree, "p.py", "import sys\nfor line in sys.stdin: print(line.strip())")
    other = tree.parent / "other"
    other.mkdir()
    write(other, "p.py", "import sys\nfor line in sys.stdin: print(int(line) + (int(line) == 250))")
    blocks = [list(range(start, start + 100)) for start in range(0, 5000, 100)]
    with Sandbox(tree) as a, Sandbox(other) as b:
        trials = run_trials([[a], [b]], Workload(one), blocks, seed=0, stop_after=1)
    assert trials.done == [True, True, True] + [False] * 47
    differing = np.flatnonzero((trials.digests[0] != trials.digests[1]).any(axis=1))
    assert differing.tolist() == [250]


def test_slots_share_the_blocks_and_progress_is_told(tree: Path) -> None:
    blocks = [[case] for case in range(40)]
    told: list[tuple[int, int]] = []
    with Sandbox(tree) as a, Sandbox(tree) as b:
        trials = run_trials(
            [[a, b]], Workload([PYTHON, "-I", "echo.py"]), blocks, seed=0, progress=lambda *t: told.append(t)
        )
    assert all(trials.done)
    assert told[-1] == (40, 40)


def test_a_progress_that_raises_ends_the_run(tree: Path) -> None:
    command = write(tree, "p.py", "import time; time.sleep(60)")

    def stop(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with Sandbox(tree) as sandbox:
        with pytest.raises(KeyboardInterrupt):
            run_trials([[sandbox]], Workload(command), [[1]], seed=0, progress=stop)
        # The sandbox is as good as new.
        assert sandbox.run(["/bin/echo", "still here"]).stdout == b"still here\n"


INTERRUPTED = """
import os, signal, sys, threading
from nightfleet.native import Sandbox, Workload, give_tree, run_trials
sandbox = Sandbox(sys.argv[1])
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    run_trials([[sandbox]], Workload(["/bin/sleep", "60"]), [[1]], seed=0)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_a_run(tree: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tree)], stdout=subprocess.PIPE, timeout=50, check=True
    )
    assert done.stdout == b"interrupted\n"


# Requests that no type checker would let pass are the point here.
RUN: Callable[..., Trials] = run_trials
BOX: Callable[..., Sandbox] = Sandbox
WORK: Callable[..., Workload] = Workload


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((0, [[1]]), {}, "at least 1"),
        ((1, [[]]), {}, "no cases"),
        ((1, [[-1]]), {}, "case -1 is outside"),
        ((1, [[2**31]]), {}, "case 2147483648 is outside"),
        ((1, [["one"]]), {}, "sequence of integers"),
        ((1, [[1]]), {"seed": -1}, "seed must be"),
        ((1, [[1]]), {"timeout_s": 0}, "timeout_s must be a positive number"),
    ],
)
def test_impossible_runs_are_refused_in_words(
    echo: Sandbox, arguments: tuple[int, object], options: dict[str, object], words: str
) -> None:
    sides = [[echo]] * arguments[0]
    with pytest.raises(UserError) as refused:
        RUN(sides, Workload(["x"]), arguments[1], **{"seed": 0, **options})
    assert words in str(refused.value)


def test_sides_that_do_not_fit_together_are_refused(echo: Sandbox) -> None:
    one = Workload(["x"])
    for sides, words in (([[echo], []], "same number of sandboxes"), ([[echo], [echo]], "stands in two places")):
        with pytest.raises(UserError, match=words):
            run_trials(sides, one, [[1]], seed=0)
    with pytest.raises(UserError, match="blocks of 1"):
        run_trials([[echo]], Workload(["x"], record="output"), [[1, 2]], seed=0)
    with pytest.raises(UserError, match="filters: 0 sandboxes"):
        run_trials([[echo]], Workload(["x"], filter=["y"]), [[1]], seed=0)


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (WORK, {"argv": []}, "program's name is missing"),
        (WORK, {"argv": ["x"], "feed": "argument"}, "{case}"),
        (BOX, {"tree": "/no/such/tree"}, "/no/such/tree"),
        (BOX, {"tree": "/usr", "cores": [100_000]}, "not among those allowed"),
        (BOX, {"tree": "/usr", "profile": "trail"}, "trial, build"),
        (BOX, {"tree": "/usr", "read": [("/usr", "/proc")]}, "belongs to the sandbox"),
        (BOX, {"tree": "/usr", "network": "wifi"}, "none, loopback, host"),
        (BOX, {"tree": "/usr", "pids": 0}, "the least is 1"),
    ],
)
def test_impossible_things_are_refused_in_words(
    make: Callable[..., object], arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as refused:
        make(**arguments)
    assert words in str(refused.value)


@pytest.mark.parametrize(("argv", "words"), [(["a\0b"], "NUL"), (["x" * 200_000], "the limit is"), ([], "missing")])
def test_impossible_commands_are_refused_in_words(echo: Sandbox, argv: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        echo.run(argv)


def test_a_closed_sandbox_says_so(tree: Path) -> None:
    sandbox = Sandbox(tree)
    sandbox.close()
    sandbox.close()
    with pytest.raises(UserError, match="closed"):
        sandbox.run(["/bin/true"])
