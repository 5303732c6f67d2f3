"""Hearings on a planted clock, in this process or in one that is killed: `python heard.py {plan as JSON}`.

Builds, sandboxes, journals and reports are real. Only what a pair took is planted: it follows from the pair's number.
"""

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from math import exp
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from calm import Calm, calm_machine
from clocked import calibrated_before
from tiny import Tiny

from nightfleet.harness import journal
from nightfleet.harness.hearing import Hearing
from nightfleet.harness.request import Nobody

WORK_NS = 50_000_000


def paced(runtime: Path, patch: pytest.MonkeyPatch, gain: float, sd: float = 0.01, lies: Collection[int] = ()) -> None:
    """Every baseline is calibrated and every pair takes what its number says; those in `lies` differ in a record."""
    runtime.mkdir(exist_ok=True)
    calm_machine(runtime, patch)
    calibrated_before(patch)
    real = Calm.run

    def run(calm: Calm, draw: Any) -> Any:
        pair = real(calm, draw)
        noise = random.Random(draw.index)  # noqa: S311 - it has to be repeatable
        pair.baseline, pair.candidate = (
            _took(trial, round(WORK_NS * share * exp(noise.gauss(0, sd))))
            for trial, share in ((pair.baseline, 1.0), (pair.candidate, 1.0 - gain))
        )
        pair.diverged = [int(draw.block[0])] if draw.index in lies else pair.diverged
        return pair

    patch.setattr(Calm, "run", run)


def _took(trial: Any, wall_ns: int) -> SimpleNamespace:
    names = ("outcome", "status", "stderr", "tasks")
    kept = {name: getattr(trial, name) for name in names}
    return SimpleNamespace(wall_ns=wall_ns, cpu_ns=wall_ns, peak_bytes=1 << 20, **kept)


def hearing(tiny: Tiny, candidate: str, name: str, **changes: Any) -> Hearing:
    """One whose report has this name."""
    return Hearing(replace(tiny.request(candidate), id=name, **changes), Nobody())


def _dies_after(count: int, real: Callable[..., None]) -> Callable[..., None]:
    calls = 0

    def call(*arguments: Any) -> None:
        nonlocal calls
        real(*arguments)
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return call


def main() -> None:
    """A hearing until so many results of trials are on disk."""
    plan = json.loads(sys.argv[1])
    patch = pytest.MonkeyPatch()
    root = Path(plan["root"])
    paced(root.parent / "killed", patch, plan["gain"], plan["sd"], plan["lies"])
    patch.setattr(journal.Journal, "result", _dies_after(plan["results"], journal.Journal.result))
    tiny = Tiny.__new__(Tiny)
    tiny.root, tiny.state = root, root / ".nightfleet"
    heard = hearing(tiny, plan["candidate"], plan["name"])
    heard.prepare()
    heard.time(plan["alpha"], beyond=plan["beyond"])


if __name__ == "__main__":
    main()
