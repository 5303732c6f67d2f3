"""Verifications whose gates are real and whose clock is simulated."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from simulated import Simulated, calibrated

from nightfleet.harness import calibrations, ground
from nightfleet.harness.calibrate import Calibrated, Summary
from nightfleet.harness.calibrations import Found
from nightfleet.harness.journal import Recorded
from nightfleet.harness.rules import Rules


class Bench(Simulated):
    """A simulated bench that is entered and left like a real one, and has no journal to go on from."""

    bound = False
    recorded = Recorded()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


def calibrated_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every baseline has a calibration already: that of the simulated clock."""

    def kept(_folder: Path, _key: object) -> Found:
        rules = Rules("wall", workloads=("sums",))
        nothing = Summary("wall", "simulated", (), (), False, (), None, 100, 0, True, 0.0)  # noqa: FBT003
        return Found(Calibrated(rules, calibrated(rules), (), nothing))

    monkeypatch.setattr(calibrations, "load", kept)


def on_clock(monkeypatch: pytest.MonkeyPatch, bench: Callable[[], Bench]) -> None:
    """Time on a simulated clock, calibrated."""
    calibrated_before(monkeypatch)
    monkeypatch.setattr(ground, "PairBench", lambda *_, **__: bench())
