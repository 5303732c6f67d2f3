"""Profiles of a baseline, taken in the sandbox with what is at hand."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nightfleet.agents.contract import Profile, WorkloadSummary
from nightfleet.agents.profile import profile_baseline
from nightfleet.harness.surroundings import SandboxOptions
from nightfleet.harness.toolchain import resolve

PROGRAM = """
import sys

def slow(case):
    return sum(number * case for number in range(3000))

def quick(case):
    return case

for line in sys.stdin:
    print(slow(int(line)), quick(int(line)))
"""
C_PROGRAM = """
#include <stdio.h>
#define OWN __attribute__((noinline))
OWN long slow(long n) { volatile long s = 0; for (long i = 0; i < 30000; i++) s += i * n; return s; }
OWN long quick(long n) { return n + 1; }
int main(void) { long n; while (scanf("%ld", &n) == 1) printf("%ld %ld\\n", slow(n), quick(n)); return 0; }
"""


def taken(tree: Path, *run: str) -> Profile:
    toolchain = resolve(tree)
    options = SandboxOptions(
        profile="trial", read=list(toolchain.read), write=[], env=dict(toolchain.env), memory_bytes=2 << 30
    )
    workload = WorkloadSummary(name="all", run=run, cases="100", block=10, unit="cases")
    return profile_baseline(tree, options, workload, range(50))


def shares(profile: Profile) -> dict[str, float]:
    return {one.function: one.share for one in profile.shares}


def test_a_python_program_is_profiled_by_its_functions(open_ground: Path) -> None:
    (open_ground / "work.py").write_text(PROGRAM)
    profile = taken(open_ground, "python3", "work.py")
    assert profile.source == "cProfile", profile.remark
    assert {one.path for one in profile.shares} == {"work.py"}
    assert shares(profile)["slow"] > 0.5
    assert shares(profile).get("quick", 0.0) < 0.2


def test_a_native_program_is_profiled_by_its_symbols(open_ground: Path) -> None:
    if shutil.which("valgrind", path="/usr/bin:/bin") is None:
        pytest.skip("no valgrind: install it to see native programs profiled")
    (open_ground / "work.c").write_text(C_PROGRAM)
    subprocess.run(["cc", "-O1", "-o", open_ground / "work", open_ground / "work.c"], check=True)
    profile = taken(open_ground, "./work")
    assert profile.source == "callgrind", profile.remark
    assert shares(profile)["slow"] > 0.5
    assert shares(profile).get("quick", 0.0) < 0.2


def test_a_program_that_fails_has_no_profile_and_says_why(open_ground: Path) -> None:
    (open_ground / "work.py").write_text("raise RuntimeError('not today')\n")
    profile = taken(open_ground, "python3", "work.py")
    assert profile.source == "none"
    assert "not today" in profile.remark


def test_without_a_profiler_there_is_none(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    profile = taken(open_ground, "./work")
    assert profile == Profile(source="none", remark=profile.remark)
    assert "valgrind" in profile.remark
