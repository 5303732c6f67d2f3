"""A timing in a process of its own that is killed (SIGKILL) at a planted moment: `python killed.py {plan as JSON}`."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calm import Calm, calm_machine
from simulated import calibrated

from nightfleet.harness import journal
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.rounds import Blocks
from nightfleet.harness.rules import Rules
from nightfleet.harness.speed import Speed, SpeedResult
from nightfleet.native import Workload

RULES = Rules("wall", workloads=("a", "b"))
SEED = 5


def bench(folder: Path) -> PairBench:
    """Trees `good` and `other` of a folder, two workloads, one journal."""
    workloads = {name: Workload(["./p"]) for name in RULES.workloads}
    return PairBench(folder / "good", folder / "other", workloads, SEED, folder / "journal.jsonl")


def blocks(number: int) -> Blocks:
    """Ten cases for `a`, twenty for `b`; no case is in two blocks."""
    first = 100 * number
    return {"a": _cases(first, 10), "b": _cases(first + 50, 20)}


def _cases(first: int, count: int) -> Any:
    return list(range(first, first + count))


def timed(opened: PairBench) -> SpeedResult:
    """The timing, from the start or from what is recorded."""
    recorded = opened.recorded
    calibration = calibrated(RULES, 0.02)
    return Speed(opened, RULES, calibration, blocks, previous=recorded.pairs, first_block=recorded.next_block).run()


def _dies(at: int, real: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    calls = 0

    def call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at and before:
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*arguments)
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return call


def main() -> None:
    """Time until the planted moment: before or after the n-th trial pair, or after the n-th result is on disk."""
    plan = json.loads(sys.argv[1])
    folder = Path(plan["folder"])
    patch = pytest.MonkeyPatch()
    calm_machine(folder, patch)
    owner: Any = journal.Journal if plan["moment"] == "recorded" else Calm
    name = "result" if plan["moment"] == "recorded" else "run"
    patch.setattr(owner, name, _dies(plan["at"], getattr(owner, name), before=plan["moment"] == "before"))
    with bench(folder) as opened:
        timed(opened)


if __name__ == "__main__":
    main()
