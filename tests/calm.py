"""Pair runners for busy test machines: no wait for calm cores, no pair void, a lease of the test's own."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nightfleet.harness.pairs import PairBench
from nightfleet.native import Draw, PairRunner


@dataclass
class Calm:
    """A real runner on a machine that is taken for calm, and what it ran."""

    real: PairRunner
    ran: list[Draw] = field(default_factory=list)
    drawn: int = 0

    def warm_up(self, block: Any) -> Any:
        return self._calm(self.real.warm_up(block))

    def draw(self, block: Any, *, wait_s: float) -> Draw:
        del wait_s
        tossed = self.real.warm_up(block).draw
        draw = Draw(
            index=self.drawn,
            block=tossed.block,
            candidate_first=tossed.candidate_first,
            baseline_copy=tossed.baseline_copy,
            candidate_copy=tossed.candidate_copy,
            candidate_cases=tossed.candidate_cases,
        )
        self.resume([draw])
        return draw

    def resume(self, draws: list[Draw]) -> None:
        self.real.resume(draws)
        self.drawn = max([self.drawn, *(draw.index + 1 for draw in draws)])

    def run(self, draw: Draw) -> Any:
        self.ran.append(draw)
        return self._calm(self.real.run(draw))

    def _calm(self, pair: Any) -> Any:
        names = ("draw", "baseline", "candidate", "diverged", "identical")
        return SimpleNamespace(void=None, **{name: getattr(pair, name) for name in names})


def calm_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bench of this test has calm runners; `folder` is where its lease lies."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    real = PairBench._runner
    monkeypatch.setattr(PairBench, "_runner", lambda bench, workload: Calm(real(bench, workload)))
