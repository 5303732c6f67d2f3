"""A thread that is kept to some cores keeps to them whatever it has done: builds, tests, behaviour and the lease."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from heard import hearing
from tiny import FILES, HALF, MAKEFILE, PROGRAM, Tiny

from nightfleet.harness import behaviour
from nightfleet.native import Lease, Sandbox

T = TypeVar("T")
LINE = "Cpus_allowed_list:"


def kept_to(core: int, work: Callable[[], T]) -> T:
    """What `work` gives in a thread that may use one core."""
    found: list[T] = []

    def run() -> None:
        os.sched_setaffinity(0, {core})
        found.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def core() -> int:
    """One of several: not the one that would be leased, which is the last."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two cores")
    return min(cores)


# A trial may have more cores than the thread that prepares it: the lease is another's.
@pytest.mark.parametrize("cores", [1, 2])
def test_what_prepares_a_candidate_keeps_to_its_cores(
    open_ground: Path, monkeypatch: pytest.MonkeyPatch, core: int, cores: int
) -> None:
    slots: list[list[int]] = []

    def sandbox(*arguments: Any, **options: Any) -> Any:
        slots.append(options["cores"])
        return Sandbox(*arguments, **options)

    monkeypatch.setattr(behaviour, "Sandbox", sandbox)
    mask = os.sched_getaffinity(0)
    tested = f"cores: {cores}\ntests: [\"grep -q '^{LINE}.{core}$' /proc/self/status\"]"
    program = PROGRAM.replace("behaviour: exact", tested)
    makefile = f"{MAKEFILE}\tgrep {LINE} /proc/self/status > built-on\n"
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program, "Makefile": makefile})
    tiny.branch("half", {"tiny.c": HALF})
    assert kept_to(core, lambda: hearing(tiny, "half", "v1").prepare())
    built = [path.read_text() for path in tiny.state.glob("builds/*/tree/built-on")]
    assert built == [f"{LINE}\t{core}\n"] * 2
    assert slots
    assert all(slot == [core] for slot in slots)
    assert os.sched_getaffinity(0) == mask


def test_so_does_the_lease_of_a_thread(open_ground: Path, monkeypatch: pytest.MonkeyPatch, core: int) -> None:
    runtime = open_ground / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))

    def leased() -> tuple[list[int], list[int]]:
        with Lease.acquire(cores=1, purpose="a test") as lease:
            return lease.cores, lease.harness_cores

    assert kept_to(core, leased) == ([core], [core])
    assert leased()[0] != [core]
