"""A verification that somebody ends while it times: what was measured is in a report, and nothing is left running."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from residue import gone, processes
from tiny import FILES, HALF, PROGRAM, Tiny

from nightfleet.harness.report import read_report

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PAIRS = 7
# The command line with a clock that stops in the round after these, until a signal comes.
STOPPED = f"""
import sys, time
from pathlib import Path
import pytest
from clocked import Bench, on_clock
from nightfleet.orchestrator.commands import edge

class Stopped(Bench):
    def round(self, blocks, *, reference=False):
        if len(self.asked) == {PAIRS}:
            Path("reached").touch()
            time.sleep(60)
        return super().round(blocks, reference=reference)

on_clock(pytest.MonkeyPatch(), lambda: Stopped(gain=0.12))
edge.main(["verify", *sys.argv[1:]])
"""


def ended(run: subprocess.Popen[str], how: signal.Signals) -> tuple[str, str]:
    run.send_signal(how)
    said = run.communicate(timeout=30)
    assert run.returncode == 130, said
    return said


@pytest.mark.parametrize("how", SIGNALS)
def test_what_was_timed_is_in_a_report(open_ground: Path, how: signal.Signals) -> None:
    tiny = Tiny(open_ground / "tiny")
    tiny.branch("half", {"tiny.c": HALF})
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, "main", "half", "--json"],
        cwd=tiny.root,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parent)},
    ) as run:
        try:
            assert gone(lambda: not (tiny.root / "reached").exists(), 60.0), "it never came to the timing"
            printed, said = ended(run, how)
        finally:
            run.kill()
    (report,) = (tiny.state / "reports").iterdir()
    stopped = json.loads(printed)
    assert (stopped["verdict"], stopped["error"]) == ("undecided", "interrupted")
    assert said.splitlines()[-2:] == [
        f"nightfleet: what was found in {PAIRS} pairs is kept in {report}",
        "nightfleet: interrupted",
    ]
    content = read_report(report)
    found = content["verification"]
    assert (found["verdict"], found["reason"]) == ("undecided", f"interrupted after {PAIRS} pairs")
    assert found["pairs"] == len(content["speed"]["pairs"]) == PAIRS
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert (gates["speed"]["passed"], gates["speed"]["reason"]) == (None, "cut short: interrupted")
    assert gates["behaviour"]["passed"] is True
    assert gates["extraordinary"]["reason"] == "not reached"


@pytest.mark.parametrize("how", SIGNALS)
def test_so_can_waiting_for_a_calm_machine_and_timing_on_the_real_clock(
    open_ground: Path, marker: str, how: signal.Signals
) -> None:
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": PROGRAM.replace("./tiny", f"./tiny {marker}")})
    tiny.branch("half", {"tiny.c": HALF})
    journals = tiny.state / "journals"
    with subprocess.Popen(
        [sys.executable, "-m", "nightfleet.orchestrator", "verify", "main", "half"],
        cwd=tiny.root,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    ) as run:
        try:
            assert gone(lambda: not journals.exists(), 60.0), "it never came to the timing"
            ended(run, how)
        finally:
            run.kill()
    assert gone(lambda: processes(marker))
    (report,) = (tiny.state / "reports").iterdir()
    assert read_report(report)["verification"]["reason"].startswith("interrupted after ")
