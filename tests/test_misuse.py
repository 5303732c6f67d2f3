"""What holds when the harness is used badly, or a program abuses what outlives a trial."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightfleet.native import (
    BusyError,
    Draw,
    Lease,
    MachineError,
    PairRunner,
    Sandbox,
    UserError,
    Workload,
    give_tree,
    run_trials,
)

MIB = 1 << 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    give_tree(path)
    return path


@pytest.fixture
def sandbox(tree: Path) -> Iterator[Sandbox]:
    with Sandbox(tree) as opened:
        yield opened


def python(body: str) -> list[str]:
    return ["/usr/bin/python3", "-I", "-c", body]


needs_python = pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="these programs run under it")


@needs_python
def test_a_peak_cannot_be_hidden_behind_an_earlier_trials_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "big-tree"
    path.mkdir()
    (path / "big").write_bytes(os.urandom(150 * MIB))
    give_tree(path)
    read = "open('/tree/big', 'rb').read(1 << 20); f = open('/tree/big', 'rb')\nwhile f.read(1 << 20): pass\n"
    drop = "os.posix_fadvise(os.open('/tree/big', 0), 0, 0, os.POSIX_FADV_DONTNEED)"
    hide = f"import os\ntry: {drop}\nexcept OSError: pass\n"
    work = "x = bytearray(100 << 20)\n"
    with Sandbox(path) as sandbox:
        sandbox.run(python(read))
        peaks = [sandbox.run(python(hide + work + read)).peak_bytes for _ in range(3)]
    assert min(peaks) >= 90 * MIB, peaks


@needs_python
def test_nothing_is_written_on_a_device(tree: Path) -> None:
    touch = "import os\ntry: os.utime('/dev/full', (1, 1)); print('touched')\nexcept OSError as e: print(e.errno)"
    before = Path("/dev/full").stat().st_mtime_ns
    with Sandbox(tree) as one, Sandbox(tree) as other:
        assert one.run(python(touch)).stdout.strip() in {b"30", b"1"}
        seen = other.run(python("import os; print(os.stat('/dev/full').st_mtime_ns)"))
        assert one.run(["/bin/sh", "-c", "echo x > /dev/null"]).outcome == "ok"
    assert int(seen.stdout) == before == Path("/dev/full").stat().st_mtime_ns


@needs_python
def test_what_is_cached_of_a_file_is_not_told(sandbox: Sandbox) -> None:
    body = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.inotify_init1(0), ctypes.get_errno())"
    done = sandbox.run(python(body))
    assert done.stdout == b"-1 1\n"
    assert any("inotify_init1" in words for words in done.denied)


def test_a_hard_limit_of_no_cores_is_no_obstacle(tree: Path) -> None:
    body = f"from nightfleet.native import Sandbox; s = Sandbox({str(tree)!r}); s.run(['true']); print(s.facts)"
    script = f'ulimit -Hc 0; exec {sys.executable} -c "$BODY"'
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={**os.environ, "BODY": body}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "RLIMIT_CORE 0" in done.stdout


def test_a_forked_child_neither_uses_nor_breaks_a_sandbox(tree: Path) -> None:
    body = f"""
import os, sys
from nightfleet.native import Sandbox, UserError
s = Sandbox({str(tree)!r})
child = os.fork()
if child == 0:
    try:
        s.run(["true"])
    except UserError as refused:
        print(refused, flush=True)
    del s
    os._exit(0)
os.waitpid(child, 0)
print(s.run(["/bin/echo", "whole"]).stdout.decode())
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, check=True, timeout=60)
    assert "forked child has to make its own" in done.stdout
    assert "whole" in done.stdout


def test_a_trial_dies_with_its_harness_though_a_forked_child_lives(tree: Path) -> None:
    marker = f"nightfleet-orphan-{os.getpid()}"
    body = f"""
import os, time
from nightfleet.native import Sandbox
s = Sandbox({str(tree)!r})
if os.fork() == 0:
    time.sleep(60); os._exit(0)
print("up", flush=True)
s.run(["/bin/sh", "-c", "sleep 50; : {marker}"], timeout_s=100)
"""
    with subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, start_new_session=True) as harness:
        assert harness.stdout is not None
        harness.stdout.readline()
        assert _eventually(lambda: _running(marker, besides=harness.pid))
        harness.kill()
        harness.wait()
        assert _eventually(lambda: not _running(marker, besides=harness.pid))
        os.killpg(harness.pid, signal.SIGKILL)


def _running(marker: str, *, besides: int) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != besides:
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line and b"-c\0\nimport" not in line and b"python" not in line:
                return True
    return False


def _eventually(holds: object, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_calls_that_want_the_same_sandboxes_do_not_wait_for_each_other(tree: Path) -> None:
    with Sandbox(tree) as a, Sandbox(tree) as b:
        echo = Workload(["/bin/cat"])

        def work(sides: list[list[Sandbox]]) -> None:
            run_trials(sides, echo, [[case] for case in range(20)], seed=0)

        threads = [threading.Thread(target=work, args=([[x], [y]],), daemon=True) for x, y in ((a, b), (b, a)) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


def test_a_program_that_reads_nothing_does_not_kill_the_harness(tree: Path) -> None:
    body = f"""
import signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from nightfleet.native import Sandbox
print(Sandbox({str(tree)!r}).run(["true"], stdin=bytes(10_000_000)).outcome)
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_chatter_on_standard_error_is_not_kept(tree: Path) -> None:
    (tree / "p.sh").write_text("head -c 60000 /dev/zero >&2; cat; exit $1")
    give_tree(tree)
    with Sandbox(tree) as sandbox:
        quiet = run_trials([[sandbox]], Workload(["/bin/sh", "p.sh", "0"]), [[1], [2]], seed=0)
        bad = run_trials([[sandbox]], Workload(["/bin/sh", "p.sh", "3"]), [[case] for case in range(300)], seed=0)
    assert [len(text) for text in quiet.stderr[0]] == [0, 0]
    assert len(bad.stderr[0][0]) == 60000
    assert sum(len(text) for text in bad.stderr[0]) <= 8 * MIB


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    with Lease.acquire(runtime_dir=directory) as held:
        yield held


def test_forged_draws_are_refused_and_break_nothing(tree: Path, lease: Lease) -> None:
    one_a_process = Workload(["/bin/echo", "{case}"], feed="argument")
    boxes = [Sandbox(tree, cores=lease.cores) for _ in range(8)]
    runner = PairRunner(boxes[:4], boxes[4:], one_a_process, lease, seed=0)
    forged = Draw(index=2**64 - 1, block=[], candidate_first=True, baseline_copy=0, candidate_copy=0)
    with pytest.raises(UserError, match="no cases"):
        runner.run(forged)
    assert runner.warm_up([3]).identical
    with pytest.raises(UserError, match="two places"):
        PairRunner(boxes[:1] * 4, boxes[4:], one_a_process, lease, seed=0)
    for box in boxes:
        box.close()


def test_a_lease_whose_file_is_gone_times_nothing(tree: Path, lease: Lease, tmp_path: Path) -> None:
    boxes = [Sandbox(tree, cores=lease.cores) for _ in range(8)]
    runner = PairRunner(boxes[:4], boxes[4:], Workload(["/bin/cat"]), lease, seed=0)
    for file in (tmp_path / "run").iterdir():
        file.unlink()
    with pytest.raises(MachineError, match="acquire the lease again"):
        runner.warm_up([1])
    for box in boxes:
        box.close()


def test_busy_is_a_kind_of_machine_trouble() -> None:
    assert issubclass(BusyError, MachineError)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pids": 2**32}, "the most is"),
        ({"pids": -1}, "expected an integer in"),
        ({"memory_bytes": 2**63}, "the most is"),
        ({"memory_bytes": 2**70}, "expected an integer in"),
        ({"cores": [0, 0]}, "named twice"),
        ({"cores": [-1]}, "expected an integer in"),
        ({"env": {"A": "\x01" * 97_000}}, "when encoded"),
        ({"read": [("/usr", "/proc/x")]}, "belongs to the sandbox"),
        ({"read": [("/usr", "/.scratch/x")]}, "belongs to the sandbox"),
        ({"read": [("/usr", "/tree/not-there")]}, "must be there in the tree"),
    ],
)
def test_requests_beyond_every_bound_are_the_users(tree: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as refused:
        Sandbox(tree, **options)  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_a_directory_or_a_case_with_a_nul_is_the_users(sandbox: Sandbox) -> None:
    with pytest.raises(UserError, match="cwd"):
        sandbox.run(["true"], cwd="/tree/\0")
    with pytest.raises(UserError, match="manifest"):
        Workload(["cat"], manifest=["a\nb"])


def test_ctrl_c_while_waiting_for_a_busy_sandbox(tree: Path) -> None:
    body = f"""
import os, signal, threading, time
from nightfleet.native import Sandbox
s = Sandbox({str(tree)!r})
threading.Thread(target=lambda: s.run(["sleep", "30"]), daemon=True).start()
time.sleep(0.5)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    s.run(["true"])
except KeyboardInterrupt:
    print("interrupted", flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, check=False, timeout=25)
    assert done.stdout == "interrupted\n"


def test_groups_of_a_killed_harness_are_reclaimed_by_the_next(tree: Path) -> None:
    hold = f"from nightfleet.native import Sandbox; s = Sandbox({str(tree)!r}); print('up', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        harness.stdout.readline()
        made = _groups(harness.pid)
        harness.kill()
    if not made:
        pytest.skip("no control group is writable here")
    assert _groups(harness.pid)
    # A spawner that still ends holds its groups for some milliseconds more, so the next harness may come too early.
    opened = [sys.executable, "-c", f"from nightfleet.native import Sandbox; Sandbox({str(tree)!r}).close()"]
    assert _eventually(lambda: subprocess.run(opened, check=True).returncode == 0 and not _groups(harness.pid))


def _groups(pid: int) -> list[str]:
    walked = (name for _top, names, _files in os.walk("/sys/fs/cgroup") for name in names)
    return [name for name in walked if name.startswith("nightfleet-") and f"-{pid}-" in name]
