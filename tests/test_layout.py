"""How much layouts move time: known truths on a simulated clock, and the baseline's relinks on real builds."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated import Simulated, calibrated
from tiny import FILES, Tiny

from nightfleet.harness import ground as ground_module
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import Calibrated
from nightfleet.harness.ground import Ground
from nightfleet.harness.layout import FEWEST, RELINKS, Layout, Relinked, take
from nightfleet.harness.reading import Pair
from nightfleet.harness.rounds import Bench, Blocks
from nightfleet.harness.rules import Rules

ONE = Rules("wall", workloads=("w",))
TWO = Rules("wall", workloads=("a", "b"), over="worst")


def blocks(*names: str) -> Callable[[int], Blocks]:
    return lambda number: {name: np.array([number], dtype=np.int64) for name in names}


def relink(gain: float, *names: str, seed: int = 0, sd: float = 0.004, count: int = 40) -> tuple[Pair, ...]:
    gains = dict.fromkeys(names, 0.0) | {names[-1]: gain}
    rounds, _ = take(Simulated(gain=gains, sd=sd, seed=seed), blocks(*names), 0, count, reference=False)
    return tuple(pair for round_ in rounds for pair in round_.pairs)


def test_the_sd_of_planted_layouts_is_found_and_none_is_found_where_none_is() -> None:
    noise = calibrated(ONE, sd=0.004)
    planted = (-0.02, 0.01, 0.03, 0.0)
    found = Relinked(tuple(relink(gain, "w", seed=i) for i, gain in enumerate(planted)), "").fit(ONE, noise)
    assert found.why == ""
    assert found.sd == pytest.approx(float(np.std(planted, ddof=1)), rel=0.15)
    assert found.gains == pytest.approx(planted, abs=0.004)
    # What the plain build has of its own is common to all: no layout is far from the others.
    same = Relinked(tuple(relink(0.03, "w", seed=i) for i in range(4)), "").fit(ONE, noise)
    assert same.sd < 0.002
    assert Layout.from_dict(found.to_dict()) == found


def test_the_series_that_minds_most_counts() -> None:
    planted = (-0.02, 0.01, 0.03, 0.0)
    pairs = tuple(relink(gain, "a", "b", seed=i) for i, gain in enumerate(planted))
    found = Relinked(pairs, "").fit(TWO, calibrated(TWO, sd=0.004))
    assert found.gains == pytest.approx(planted, abs=0.004)


def test_fewer_than_three_relinks_are_no_measurement_and_say_why() -> None:
    pairs = tuple(relink(0.03, "w", seed=i) for i in range(2))
    found = Relinked(pairs, "too few").fit(ONE, calibrated(ONE))
    assert (found.sd, found.words) == (0.0, "layout: not measured: too few")


def test_void_rounds_are_passed_over_and_one_that_differs_is_the_last() -> None:
    bench = Simulated(void=lambda k: k in {0, 3})
    rounds, following = take(bench, blocks("w"), 7, 5, reference=True)
    assert len(rounds) == 5
    assert bench.asked == list(range(8, 15))
    assert following == 15
    assert set(bench.referred) == {True}
    assert bench.warmed == 1
    rounds, _ = take(Simulated(lies=lambda k: k == 2), blocks("w"), 0, 5, reference=False)
    assert len(rounds) == 3
    assert rounds[-1].diverged
    rounds, _ = take(Simulated(lies=lambda k: k == -1), blocks("w"), 0, 5, reference=False)
    assert [bool(round_.diverged) for round_ in rounds] == [True]


class On:
    """Benches for two builds: the plain one against itself, then relinks with these gains."""

    def __init__(self, *gains: float, lies: bool = False) -> None:
        self.gains, self.lies = iter(gains), lies
        self.asked: list[tuple[str, str]] = []
        self.cases: list[int] = []

    def __call__(self, baseline: Built, other: Built) -> AbstractContextManager[Bench]:
        relinked = other.key != baseline.key
        self.asked.append((baseline.artefact_digest, other.artefact_digest))
        bench = Simulated(sd=0.004, seed=len(self.asked), gain=next(self.gains) if relinked else 0.0)
        if relinked and self.lies:
            bench.lies = lambda k: k == 4
        self.cases = bench.asked
        return nullcontext(bench)


def ground(tiny: Tiny) -> Ground:
    request = tiny.request("main")
    return Ground(request.arena, request.baseline, request.source, request.state, salts=(request.master, 0))


def calibrate(place: Ground, benches: On) -> Calibrated:
    return place.calibrate(replace(place.plan(60, 60), power_runs=5), benches)


def test_a_calibration_times_relinks_of_real_builds_and_keeps_what_they_said(open_ground: Path) -> None:
    place, benches = ground(Tiny(open_ground / "tiny")), On(*[-0.02, 0.01, 0.03, 0.0] * 2)
    found = calibrate(place, benches)
    assert found.calibration.layout_sd == found.summary.layout.sd == pytest.approx(0.021, rel=0.3)
    # Each of them is another program, and none is the plain one.
    plain, *others = benches.asked
    assert len(others) == RELINKS
    assert plain[0] == plain[1]
    assert len({plain[0], *(other for _, other in others)}) == 1 + RELINKS
    assert {baseline for baseline, _ in others} == {plain[0]}
    kept = place.kept(place.workspace.build(place.baseline))
    assert kept == found
    # The rules believe no gain within two of it.
    assert found.rules.promote_null(found.calibration.layout_sd) > 0.03


def test_where_linking_takes_long_fewer_relinks_have_to_do(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground_module, "RELINKS_S", 0.0)
    benches = On(*[-0.02, 0.01, 0.03, 0.0] * 2)
    found = calibrate(ground(Tiny(open_ground / "tiny")), benches)
    assert len(benches.asked) == 1 + FEWEST
    assert len(found.summary.layout.gains) == FEWEST


def test_a_baseline_whose_records_depend_on_its_layout_is_not_measured(open_ground: Path) -> None:
    found = calibrate(ground(Tiny(open_ground / "tiny")), On(*[0.1] * 8, lies=True))
    assert found.calibration.layout_sd == 0.0
    assert "relinked, the baseline gives another record of case" in found.summary.layout.why


def test_a_program_without_a_layout_says_so(open_ground: Path) -> None:
    script = {**FILES, "Makefile": "tiny:\n\tprintf '#!/bin/sh\\ncat\\n' > tiny\n\tchmod +x tiny\n"}
    found = calibrate(ground(Tiny(open_ground / "tiny", script)), On())
    assert found.summary.layout.words == "layout: not measured: the build gives the same bytes"
