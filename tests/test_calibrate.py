"""Calibration runs on a simulated clock and on a real program, and the folder they are kept in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calm import calm_machine
from planted import planted
from simulated import Simulated

from nightfleet.harness.calibrate import Calibrated, Plan, conclude, measure
from nightfleet.harness.calibrations import Key, Machine, load, store
from nightfleet.harness.noise import calibrate
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.rounds import Blocks, Round
from nightfleet.harness.rules import Guard, Rules
from nightfleet.native import UserError, Workload

WALL = Rules("wall")
MACHINE = Machine("a processor", 2, "6.1.0")
KEY = Key("epoch", "artefact", MACHINE)


def blocks(number: int) -> Blocks:
    return {"": np.array([number], dtype=np.int64)}


def ran(bench: Simulated, **plan: object) -> Calibrated:
    settings = {"rules": WALL, "power_runs": 20, **plan}
    asked = Plan(**settings)  # type: ignore[arg-type]
    return conclude(measure(bench, asked, blocks), asked)


def test_it_ends_at_the_first_stable_count_and_knows_the_noise() -> None:
    told: list[int] = []
    bench = Simulated(sd=0.01)
    plan = Plan(WALL, power_runs=20)
    found = conclude(measure(bench, plan, blocks, on_round=lambda _, counted: told.append(counted)), plan)
    assert found.summary.stable
    assert 60 <= found.summary.pairs == len(found.pairs) < plan.cap
    assert told == list(range(1, found.summary.pairs + 1))
    wall = next(figures for figures in found.summary.noise if figures.quantity == "wall")
    # The gain of a pair has sqrt(2) times the noise of a trial.
    assert wall.median == pytest.approx(0.01 * 2**0.5, rel=0.4)
    assert wall.lowest <= wall.median <= wall.highest
    assert found.calibration.of("", "cpu").lowest > 0


def test_a_night_asks_for_more_pairs_and_a_machine_that_never_calms_down_ends_at_the_cap() -> None:
    assert ran(Simulated(), at_least=200).summary.pairs >= 200
    bench = Simulated()
    real = bench._round

    def wilder(given: Blocks, number: int, *, reference: bool) -> Round:
        bench.sd = 0.001 * 1.05 ** max(number, 0)
        return real(given, number, reference=reference)

    bench._round = wilder  # type: ignore[method-assign, assignment]
    found = ran(bench, cap=90)
    assert (found.summary.pairs, found.summary.stable) == (90, False)


@pytest.mark.parametrize(
    ("plan", "bench", "chosen", "why"),
    [
        ({}, {}, "cpu", "one thread on one core"),
        ({}, {"tasks": 3}, "wall", "several threads"),
        ({}, {"facts": {"cpu_source": "rusage"}}, "wall", "whole group"),
        ({"cores": 2}, {}, "wall", "2 cores"),
        ({"clock": "wall"}, {}, "wall", "the program says clock: wall"),
        ({"clock": "cpu"}, {}, "cpu", "the program says clock: cpu"),
    ],
)
def test_the_clock_is_chosen_from_what_was_seen_and_says_why(
    plan: dict[str, Any], bench: dict[str, Any], chosen: str, why: str
) -> None:
    found = ran(Simulated(**bench), **plan)
    assert found.rules.quantity == found.summary.clock == chosen
    assert why in found.summary.why


def test_a_clock_that_cannot_be_had_is_refused_and_memory_stays_memory() -> None:
    with pytest.raises(ValueError, match="several threads"):
        ran(Simulated(tasks=3), clock="cpu")
    assert ran(Simulated(), rules=Rules("memory"), cap=60).rules.quantity == "memory"


def test_blocks_of_unequal_work_get_a_reference_trial_each() -> None:
    even, uneven = Simulated(), Simulated(work=lambda case: 1.0 + case % 3)
    assert not ran(even).summary.per_block
    assert not any(even.referred)
    found = ran(uneven)
    assert found.summary.per_block
    assert found.summary.spread[0][1] > 0.3
    assert all(uneven.referred)
    assert found.calibration.of("", "cpu").per_block
    # Their work is common to both sides of a pair and is no noise.
    assert found.calibration.of("", "cpu").lowest < 0.03


def test_stability_is_judged_beside_the_references_where_there_are_any() -> None:
    # Ever shorter blocks: their times never settle, their noise does.
    found = ran(Simulated(work=lambda case: 0.98**case), cap=150)
    assert found.summary.per_block
    assert found.summary.stable


def test_power_falls_with_noise_and_a_longer_block_is_offered() -> None:
    quiet, loud = ran(Simulated(sd=0.005)), ran(Simulated(sd=0.08), at_least=300, cap=300)
    assert [gain for gain, _, _ in quiet.summary.power] == [0.02, 0.03, 0.05, 0.08]
    assert quiet.summary.power[-1][1] == 1.0
    assert loud.summary.power[-1][1] < 0.9
    assert quiet.summary.longer == 1
    assert loud.summary.longer != 1


def test_void_rounds_do_not_count_and_no_block_is_used_twice() -> None:
    bench = Simulated(void=lambda k: k % 15 == 0)
    found = ran(bench)
    assert found.summary.void == len(bench.asked) - found.summary.pairs > 0
    assert len(set(bench.asked)) == len(bench.asked)
    assert min(bench.asked) == 21  # after the warm-up and the blocks whose work was measured


@pytest.mark.parametrize("at", [-1, 0, 30])
def test_a_baseline_that_disagrees_with_itself_is_reported(at: int) -> None:
    with pytest.raises(UserError, match="the baseline disagrees with itself on case"):
        ran(Simulated(lies=lambda k: k == at))


def test_a_baseline_that_breaks_is_the_users_affair() -> None:
    with pytest.raises(UserError, match="the baseline against itself"):
        ran(Simulated(breaks=lambda k: k == 5))


def test_what_is_stored_comes_back_equal(tmp_path: Path) -> None:
    found = ran(Simulated(work=lambda case: 1.0 + case % 3), cap=60)
    path = store(tmp_path / "new", KEY, found)
    assert load(tmp_path / "new", KEY).calibrated == found
    assert [path] == list((tmp_path / "new").iterdir())
    store(tmp_path / "new", KEY, found)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_guard_that_one_trial_does_not_measure_is_not_held_and_nothing_breaks() -> None:
    class Forgetful(Simulated):
        def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
            found = super().round(blocks, reference=reference)
            if len(self.asked) != 30:
                return found
            (pair,) = found.pairs
            return replace(found, pairs=(replace(pair, candidate=replace(pair.candidate, peak_bytes=None)),))

    guarded = replace(WALL, guards=(Guard("wall", 0.01), Guard("memory", 0.1)))
    plan = Plan(guarded, clock="wall", cap=60, power_runs=5)
    bench = Forgetful()
    found = conclude(measure(bench, plan, lambda number: {"": np.array([number], dtype=np.int64)}), plan)
    assert found.calibration.noise[""].keys() == {"wall", "cpu"}
    assert found.rules.guards == guarded.guards
    assert found.summary.power[-1][1] > 0.5


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 2}', "null"])
def test_a_damaged_calibration_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    path = store(tmp_path, KEY, ran(Simulated(), cap=60))
    path.write_text(damage)
    found = load(tmp_path, KEY)
    assert found.calibrated is None
    assert "run `nightfleet check` again" in found.why


def test_another_machine_or_program_is_told_and_nothing_is_used(tmp_path: Path) -> None:
    found = ran(Simulated(), cap=60)
    assert "not calibrated here yet" in load(tmp_path, KEY).why
    path = store(tmp_path, KEY, found)
    moved = load(tmp_path, replace(KEY, machine=replace(MACHINE, kernel="6.2.0", cores=4)))
    assert moved.calibrated is None
    assert "cores 2 → 4, kernel 6.1.0 → 6.2.0" in moved.why
    for other in (replace(KEY, epoch="next"), replace(KEY, artefact="next")):
        assert load(tmp_path, other).calibrated is None
        assert "not calibrated" in load(tmp_path, other).why
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "epoch": "forged"}))
    assert load(tmp_path, KEY).calibrated is None
    # One from before layouts were measured.
    path.write_text(json.dumps({**values, "format": 1}))
    assert load(tmp_path, KEY).calibrated is None
    assert "run `nightfleet check` again" in load(tmp_path, KEY).why


def test_this_machine_has_an_identity_that_stays() -> None:
    here = Machine.here()
    assert here == Machine.here()
    assert here.cpu
    assert here.since(here) == ""


def test_a_real_program_is_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm_machine(tmp_path, monkeypatch)
    tree = planted(tmp_path, "tree", loops=200_000)
    with PairBench(tree, tree, Workload(["./p"]), 1, tmp_path / "draws.jsonl") as bench:
        plan = Plan(WALL, clock="wall", cap=20, power_runs=5)
        found = conclude(
            measure(bench, plan, lambda number: {"": np.arange(5 * number, 5 * number + 5, dtype=np.int64)}), plan
        )
    assert found.summary.pairs == 20
    # However noisy the machine is, the fit is that of the pairs that are kept.
    fitted = calibrate(found.pairs, WALL, per_block=found.summary.per_block)
    assert found.calibration.of("", "wall") == fitted.of("", "wall")
