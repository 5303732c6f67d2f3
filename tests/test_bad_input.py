"""Programs that fail, hang, flood or explode: each has one exact outcome, ends in time, and leaves nothing behind."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
import pytest
from residue import control_groups, gone, mounts, processes

from nightfleet.native import Completed, Sandbox, Workload, run_trials

MIB = 1 << 20


class Limits(TypedDict, total=False):
    """Those of `Sandbox`."""

    memory_bytes: int
    pids: int
    file_bytes: int


@dataclass(frozen=True)
class Bomb:
    """A program, the limits it is run under, and what must come of it."""

    name: str
    argv: tuple[str, ...]  # the marker is put in as the first argument
    outcome: str
    status: int | None = None
    stdout: bytes | None = None
    within_s: float = 20.0
    timeout_s: float = 60.0
    output_bytes: int = 64 * MIB
    limits: Limits = field(default_factory=Limits)
    stdin: bytes = b""


def squares(count: int) -> bytes:
    return b"".join(b"%d\n" % (n * n) for n in range(count))


BOMBS = [
    Bomb("missing", ("./absent",), "start", errno.ENOENT),
    Bomb("missing-on-path", ("nightfleet-absent",), "start", errno.ENOENT),
    Bomb("not-executable", ("./plain.txt",), "start", errno.EACCES),
    Bomb("directory", ("./folder",), "start", errno.EACCES),
    Bomb("no-format", ("./no-format",), "start", errno.ENOEXEC),
    Bomb("no-interpreter", ("./no-interpreter",), "start", errno.ENOENT),
    Bomb("truncated-elf", ("./truncated",), "start", errno.ENOEXEC),
    Bomb("binary", ("./output", "binary"), "ok", 0, bytes(range(256)) * 4),
    Bomb("early", ("./output", "early"), "ok", 0, b""),
    Bomb("closed", ("./output", "closed"), "ok", 0, b"answer\n"),
    Bomb("noisy", ("./output", "noisy"), "ok", 0, b"answer\n"),
    Bomb("endless", ("./output", "endless"), "output", output_bytes=MIB),
    Bomb("endless-deaf", ("./output", "deaf-pipe"), "output", output_bytes=MIB),
    Bomb("endless-stderr", ("./output", "endless-stderr"), "output", output_bytes=MIB),
    Bomb("exit", ("/bin/sh", "-c", "exit 7"), "exit", 7),
    Bomb("hang", ("./ignore_sigterm",), "timeout", timeout_s=1),
    Bomb("spin", ("./spin",), "timeout", timeout_s=1),
    Bomb("stopped", ("./stop",), "timeout", timeout_s=1),
    Bomb("segfault", ("./die", str(int(signal.SIGSEGV))), "signal", signal.SIGSEGV, b"before\n"),
    Bomb("killed", ("./die", str(int(signal.SIGKILL))), "signal", signal.SIGKILL, b"before\n"),
    Bomb("terminated", ("./die", str(int(signal.SIGTERM))), "signal", signal.SIGTERM, b"before\n"),
    Bomb("fork-bomb", ("./fork_bomb",), "pids", timeout_s=10, limits=Limits(pids=64)),
    Bomb("fork-bomb-polite", ("./fork_bomb_polite",), "pids", timeout_s=10, limits=Limits(pids=64)),
    Bomb("thread-bomb", ("./thread_bomb",), "pids", timeout_s=10, limits=Limits(pids=64)),
    Bomb("memory", ("./memory_bomb", "heap", "512"), "memory", limits=Limits(memory_bytes=128 * MIB)),
    Bomb("memory-children", ("./memory_bomb", "children", "512"), "memory", limits=Limits(memory_bytes=256 * MIB)),
    Bomb("memory-enough", ("./memory_bomb", "heap", "64"), "ok", 0, b"", limits=Limits(memory_bytes=256 * MIB)),
    Bomb("big-file", ("./big_file", "8"), "file-size", limits=Limits(file_bytes=4 * MIB)),
    Bomb("big-file-enough", ("./big_file", "2"), "ok", 0, b"", limits=Limits(file_bytes=4 * MIB)),
    Bomb("stdin-closed", ("./input", "close"), "ok", 0, b"answer\n", stdin=b"x" * (64 * MIB)),
    Bomb("stdin-left", ("./input", "leave"), "ok", 0, b"answer\n", stdin=b"x" * (64 * MIB)),
    Bomb("big-answer", ("./records",), "ok", 0, squares(50000), stdin=b"".join(b"%d\n" % n for n in range(50000))),
]


@pytest.fixture
def tree(programs: Path, open_ground: Path) -> Path:
    """The programs, and some files that only look like programs."""
    tree = open_ground / "tree"
    shutil.copytree(programs, tree)
    (tree / "folder").mkdir()
    (tree / "plain.txt").write_text("not a program\n")
    # Without a first line that names an interpreter, execve itself refuses; a shell would have guessed.
    (tree / "no-format").write_text("echo guessed\n")
    (tree / "no-interpreter").write_text("#!/usr/bin/nightfleet-absent\n")
    (tree / "truncated").write_bytes((programs / "spin").read_bytes()[:40])
    for name in ("no-format", "no-interpreter", "truncated"):
        (tree / name).chmod(0o755)
    return tree


@pytest.fixture
def clean(marker: str) -> Iterator[str]:
    """The marker to run under; afterwards nothing of the trial may be left on the host."""
    before = mounts(), control_groups()
    yield marker
    survivors = [] if gone(lambda: processes(marker)) else processes(marker)
    for pid in survivors:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert survivors == []
    assert gone(lambda: mounts() - before[0]), mounts() - before[0]
    assert gone(lambda: control_groups() - before[1]), control_groups() - before[1]


def explode(tree: Path, bomb: Bomb, marker: str) -> tuple[Completed, Completed]:
    """The run of a bomb, and a plain run in the same sandbox after it."""
    with Sandbox(tree, **bomb.limits) as sandbox:
        done = sandbox.run(
            [bomb.argv[0], marker, *bomb.argv[1:]] if bomb.argv[0] != "/bin/sh" else [*bomb.argv, marker],
            stdin=bomb.stdin,
            timeout_s=bomb.timeout_s,
            output_bytes=bomb.output_bytes,
        )
        assert gone(lambda: processes(marker)), "the tree outlived its trial"
        after = sandbox.run(["./output", marker, "binary"])
    return done, after


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_outcome_is_exact_and_in_time(bomb: Bomb, tree: Path, clean: str) -> None:
    started = time.monotonic()
    done, after = explode(tree, bomb, clean)
    took = time.monotonic() - started
    told = f"{done.outcome} {done.status} {done.stdout[:200]!r} {done.stderr[-200:]!r}"
    assert done.outcome == bomb.outcome, told
    if bomb.status is not None:
        assert done.status == bomb.status, told
    if bomb.stdout is not None:
        assert done.stdout == bomb.stdout, told
    assert took < bomb.within_s
    assert done.wall_ns <= took * 1e9
    assert len(done.stderr) <= 64 * 1024
    assert len(done.stdout) <= bomb.output_bytes
    assert (after.outcome, len(after.stdout)) == ("ok", 1024), "the sandbox did not survive its trial"


def test_stderr_keeps_its_tail(tree: Path) -> None:
    with Sandbox(tree) as sandbox:
        done = sandbox.run(["./output", "-", "noisy"])
    assert done.stderr == bytes([ord("a") + 159 % 26]) * 65536


def test_a_closed_stdout_does_not_end_the_trial(tree: Path) -> None:
    with Sandbox(tree) as sandbox:
        done = sandbox.run(["./output", "-", "closed"])
    assert done.wall_ns > 250e6


def test_a_stopped_program_costs_no_cpu(tree: Path) -> None:
    with Sandbox(tree) as sandbox:
        done = sandbox.run(["./stop"], timeout_s=1)
    assert done.outcome == "timeout"
    assert 0.9e9 < done.wall_ns < 5e9
    assert done.cpu_ns < 0.3e9


def test_memory_in_dev_shm_is_bounded(tree: Path, clean: str) -> None:
    # A control group counts it as memory; without one the file system's own limit must hold.
    with Sandbox(tree, memory_bytes=128 * MIB, scratch_bytes=1024 * MIB) as sandbox:
        counted = str(sandbox.facts["memory_source"]).startswith("cgroup")
        done = sandbox.run(["./memory_bomb", clean, "shm", "512"])
    told = f"{done.outcome} {done.status} {done.stderr!r}"
    if counted:
        assert done.outcome == "memory", told
    else:
        assert (done.outcome, done.status) in {("memory", done.status), ("exit", 5)}, told


def test_a_full_disk_is_named(tree: Path, clean: str) -> None:
    places = ["/tmp", "/home/nightfleet", "/dev/shm", "/out"]  # noqa: S108 -- inside the sandbox
    with Sandbox(tree, scratch_bytes=MIB) as sandbox:
        done = sandbox.run(["./full_disk", clean, *places])
        again = sandbox.run(["./full_disk", clean, *places])
    for run in (done, again):
        assert (run.outcome, run.stdout.decode().splitlines()) == ("ok", [f"{place} ENOSPC" for place in places])


def test_a_deaf_program_sees_the_file_limit(tree: Path, clean: str) -> None:
    with Sandbox(tree, file_bytes=4 * MIB) as sandbox:
        done = sandbox.run(["./big_file", clean, "8", "deaf"])
    assert done.stdout == b"errno EFBIG\n"
    assert done.outcome in {"ok", "file-size"}


def test_a_denied_call_is_named_with_its_setting(tree: Path, clean: str) -> None:
    with Sandbox(tree) as sandbox:
        done = sandbox.run(["./need_network", clean])
        quiet = sandbox.run(["./records", clean])
    assert (done.outcome, done.status) == ("exit", 1)
    named = [entry for entry in done.denied if entry.startswith("socket(AF_INET)")]
    assert len(named) == 1, done.denied
    assert "loopback: true" in named[0]
    assert quiet.denied == [], "another trial's refusals were reported"
    with Sandbox(tree, network="loopback") as sandbox:
        allowed = sandbox.run(["./need_network", clean])
    assert (allowed.outcome, allowed.denied) == ("ok", [])


@dataclass(frozen=True)
class Records:
    """A workload over ten cases and the outcome of its trial."""

    name: str
    argv: tuple[str, ...]
    outcome: str


RECORDS = [
    Records("right", ("./records", "-", "0"), "ok"),
    Records("too-few", ("./records", "-", "-3"), "records"),
    Records("too-many", ("./records", "-", "3"), "records"),
    Records("none", ("./output", "-", "early"), "records"),
    Records("killed", ("./die", "-", "9"), "signal"),
    Records("missing", ("./absent",), "start"),
]


@pytest.mark.parametrize("row", RECORDS, ids=lambda row: row.name)
def test_records_are_counted(row: Records, tree: Path) -> None:
    with Sandbox(tree) as sandbox:
        trials = run_trials([[sandbox]], Workload(row.argv), [np.arange(10, dtype=np.int64)], seed=1)
    assert trials.outcome == [[row.outcome]]
    assert bool(trials.done[0])


def test_the_scanners_see_what_they_look_for(tree: Path, marker: str) -> None:
    with subprocess.Popen([tree / "ignore_sigterm", marker]) as process:
        try:
            assert gone(lambda: not processes(marker))
        finally:
            process.kill()
    assert gone(lambda: processes(marker))
    assert mounts()


def test_a_killed_parent_leaves_nothing(tree: Path, clean: str) -> None:
    script = (
        "import sys\nfrom nightfleet.native import Sandbox\n"
        "with Sandbox(sys.argv[1]) as sandbox:\n    sandbox.run(['./ignore_sigterm', sys.argv[2]], timeout_s=60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, tree, clean]) as parent:
        # The parent bears the marker too; its trial is the second.
        assert gone(lambda: len(processes(clean)) < 2, within_s=20)
        parent.kill()
    assert gone(lambda: processes(clean))
