"""Calibration and power, on A/A pairs whose noise is known."""

import json
import math
import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfleet.harness.calibration import SCALE_FLOOR, Calibration, Noise
from nightfleet.harness.estimate import Estimate
from nightfleet.harness.noise import (
    BLOCK_SPREAD,
    Clock,
    block_spread,
    calibrate,
    choose_clock,
    fit_scale,
    in_order,
    layout_sd,
    longer,
    stable,
)
from nightfleet.harness.power import STRETCH, longer_block, planted, power, resampled, table
from nightfleet.harness.reading import Pair, Reading, rounds_of
from nightfleet.harness.rules import Quantity, Rules
from nightfleet.harness.verdict import Step

WORK_NS = 50_000_000
WALL = Rules("wall")


def trials(count: int, draw: Callable[[random.Random], float], seed: int = 0) -> list[Reading]:
    rng = random.Random(seed)  # noqa: S311
    return [Reading(round(WORK_NS * math.exp(draw(rng)))) for _ in range(count)]


def paired(readings: Iterable[Reading], workload: str = "", seed: int = 0) -> list[Pair]:
    rng = random.Random(seed)  # noqa: S311
    runs = list(readings)
    found = []
    for early, late in zip(runs[::2], runs[1::2], strict=True):
        coin = rng.random() < 0.5
        baseline, candidate = (late, early) if coin else (early, late)
        found.append(Pair(coin, baseline, candidate, workload))
    return found


def normal(sd: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.gauss(0, sd)


def aa(count: int, sd: float, seed: int = 0) -> list[Pair]:
    return paired(trials(2 * count, normal(sd), seed), seed=seed)


# The noise scale


def test_the_noise_scale_is_that_of_a_pair() -> None:
    noise = calibrate(aa(400, 0.01), WALL).of("", "wall")
    assert np.median(noise.scales) == pytest.approx(0.01 * math.sqrt(2), rel=0.15)
    assert noise.reference == pytest.approx(math.log(WORK_NS) - 1.645 * 0.01, abs=0.002)  # the 5% quantile


def test_the_noise_scale_ignores_rare_disturbances() -> None:
    def disturbed(rng: random.Random) -> float:
        return rng.gauss(0, 0.01) + (1.0 if rng.random() < 0.02 else 0.0)

    noise = calibrate(paired(trials(1600, disturbed)), WALL).of("", "wall")
    assert noise.scales[0] < 0.02
    assert noise.scales[-1] > 1.5 * noise.scales[0]  # what is slow is what is disturbed


@pytest.mark.parametrize(("pairs", "bins"), [(1, 1), (49, 1), (50, 2), (200, 8), (1000, 8)])
def test_a_bin_has_at_least_25_pairs(pairs: int, bins: int) -> None:
    rng = np.random.default_rng(0)
    edges, scales = fit_scale(rng.normal(size=pairs), rng.normal(size=pairs))
    assert (len(edges), len(scales)) == (bins - 1, bins)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=300))
def test_the_noise_scale_never_falls_and_has_a_floor(pairs: list[tuple[float, float]]) -> None:
    gains, levels = np.array(pairs).T
    edges, scales = fit_scale(gains, levels)
    assert len(scales) == len(edges) + 1
    assert all(low <= high for low, high in pairwise(scales))
    assert all(low < high for low, high in pairwise(edges))
    assert scales[0] >= SCALE_FLOOR


def test_levels_that_are_all_equal_make_one_bin() -> None:
    edges, scales = fit_scale(np.zeros(200), np.full(200, 0.1))
    assert (edges, scales) == ((), (SCALE_FLOOR,))


def test_the_scale_is_looked_up_by_level() -> None:
    noise = Noise(10.0, (0.1, 0.2), (0.001, 0.002, 0.004))
    assert [noise.scale(10 + u) for u in (-5.0, 0.09, 0.11, 0.19, 0.21, 9.0)] == [
        0.001,
        0.001,
        0.002,
        0.002,
        0.004,
        0.004,
    ]
    assert noise.lowest == 0.001


@pytest.mark.parametrize(
    ("edges", "scales"),
    [((), ()), ((0.1,), (0.001,)), ((0.2, 0.1), (0.001, 0.002, 0.003)), ((0.1,), (0.002, 0.001)), ((), (0.0001,))],
)
def test_impossible_noise_scales_are_refused(edges: tuple[float, ...], scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="scale"):
        Noise(0.0, edges, scales)


# Blocks


def passes(blocks: float, draw: Callable[[random.Random], float]) -> tuple[list[Reading], list[Reading]]:
    rng = random.Random(3)  # noqa: S311
    work = [rng.gauss(0, blocks) for _ in range(200)]
    first, second = ([Reading(round(WORK_NS * math.exp(one + draw(rng)))) for one in work] for _ in range(2))
    return first, second


def test_blocks_that_differ_are_told_from_noise() -> None:
    assert block_spread(*passes(0.20, normal(0.02)), "wall") > BLOCK_SPREAD
    assert block_spread(*passes(0.0, normal(0.20)), "wall") < BLOCK_SPREAD
    assert block_spread(*passes(0.0, normal(0.0)), "wall") == 0.0


def test_with_references_the_level_is_relative_to_them() -> None:
    rng = random.Random(0)  # noqa: S311
    pairs = []
    for pair in aa(200, 0.005):
        times = math.exp(rng.gauss(0, 0.5))
        baseline, candidate = (Reading(round(one.wall_ns * times)) for one in (pair.baseline, pair.candidate))
        pairs.append(Pair(pair.candidate_first, baseline, candidate, reference=Reading(round(WORK_NS * times))))
    noise = calibrate(pairs, WALL, per_block=True).of("", "wall")
    assert (noise.per_block, noise.reference) == (True, 0.0)
    assert max(map(abs, noise.edges)) < 0.02
    with pytest.raises(ValueError, match="one extra baseline trial"):
        calibrate(aa(50, 0.005), WALL, per_block=True)


def test_layout_bias_is_what_relinks_scatter_beyond_noise() -> None:
    rng = np.random.default_rng(0)
    relinks = [Estimate(float(gain), 0.0001, 60) for gain in rng.normal(0, 0.0016, 200)]
    assert layout_sd(relinks) == pytest.approx(0.0016, rel=0.15)
    assert layout_sd([Estimate(float(gain), 0.002, 60) for gain in rng.normal(0, 0.0015, 200)]) == 0
    # Eight estimates of nothing seldom say anything, however noisy they are.
    nothing = [layout_sd([Estimate(float(gain), 0.025, 8) for gain in rng.normal(0, 0.025, 8)]) for _ in range(400)]
    assert 0.02 < sum(sd > 0 for sd in nothing) / 400 < 0.08
    with pytest.raises(ValueError, match="at least 3 relinks"):
        layout_sd(relinks[:2])


# When to stop


def test_calibration_stops_when_it_would_hardly_change() -> None:
    pairs = aa(400, 0.01)
    assert not stable(pairs[:199], WALL)
    assert not stable(pairs[:49], WALL, at_least=1)
    stops = [next(n for n in range(200, 401, 20) if stable(aa(n, 0.01, seed), WALL)) for seed in range(5)]
    assert max(stops) <= 400


def exact(count: int, gain: float, level: float = 0.0) -> list[Pair]:
    """Pairs whose noise is the same in each of them."""
    trial = round(WORK_NS * math.exp(level))
    return paired([Reading(trial), Reading(round(trial * math.exp(gain)))] * count)


def test_a_machine_that_gets_noisier_is_not_stable() -> None:
    assert stable(exact(200, 0.002), WALL)
    assert not stable([*exact(150, 0.002), *exact(50, 0.05)], WALL)


def test_a_machine_that_gets_slower_or_faster_is_not_stable() -> None:
    assert not stable([*exact(150, 0.002), *exact(50, 0.002, level=-0.05)], WALL)
    assert not stable([*exact(10, 0.002), *exact(190, 0.002, level=0.05)], WALL)


# The clock


@pytest.mark.parametrize(
    ("asked", "cores", "single_threaded", "group_cpu", "expected"),
    [
        ("auto", 1, True, True, "cpu"),
        ("auto", 2, True, True, "wall"),
        ("auto", 1, False, True, "wall"),
        ("auto", 1, True, False, "wall"),
        ("wall", 1, True, True, "wall"),
        ("cpu", 1, True, True, "cpu"),
    ],
)
def test_the_clock(asked: Clock, cores: int, single_threaded: bool, group_cpu: bool, expected: Quantity) -> None:
    assert choose_clock(asked, cores=cores, single_threaded=single_threaded, group_cpu=group_cpu) == expected


@pytest.mark.parametrize(
    ("cores", "single_threaded", "group_cpu", "message"),
    [
        (2, True, True, "a trial has 2 cores"),
        (1, False, True, "several threads"),
        (1, True, False, "no CPU time of a trial's whole group"),
    ],
)
def test_cpu_that_cannot_be_trusted_is_refused(
    cores: int, single_threaded: bool, group_cpu: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose_clock("cpu", cores=cores, single_threaded=single_threaded, group_cpu=group_cpu)


# What is measured


def test_every_quantity_and_series_is_calibrated() -> None:
    pairs = [
        Pair(pair.candidate_first, with_cpu(pair.baseline), with_cpu(pair.candidate), workload)
        for workload in "ab"
        for pair in aa(100, 0.01, seed=ord(workload))
    ]
    worst = calibrate(pairs, Rules("cpu", workloads=("a", "b"), over="worst"), layout_sd=0.001)
    assert {name: set(noise) for name, noise in worst.noise.items()} == {"a": {"wall", "cpu"}, "b": {"wall", "cpu"}}
    assert (worst.pairs, worst.layout_sd) == (100, 0.001)
    total = calibrate(pairs, Rules("cpu", workloads=("a", "b")))
    assert set(total.noise) == {"*"}
    assert np.median(total.of("*", "cpu").scales) == pytest.approx(0.01, rel=0.25)  # sums are calmer
    with pytest.raises(ValueError, match="at least 1 pair of every workload"):
        calibrate(pairs, Rules("cpu", workloads=("a", "c")))
    with pytest.raises(ValueError, match="was not calibrated"):
        worst.of("a", "memory")


def with_cpu(reading: Reading) -> Reading:
    return Reading(reading.wall_ns, reading.wall_ns)


def test_a_calibration_survives_json() -> None:
    found = calibrate(aa(200, 0.01), WALL, layout_sd=0.0016)
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(ValueError, match="layout_sd"):
        Calibration.from_dict({**found.to_dict(), "layout_sd": -1.0})


# Power


def test_power_on_a_quiet_machine() -> None:
    pairs = aa(200, 0.003)
    found = {one.gain: one for one in table(pairs, calibrate(pairs, WALL), WALL, runs=20)}
    assert list(found) == [0.02, 0.03, 0.05, 0.08]
    assert found[0.08].promoted == 1.0
    assert found[0.03].shares == {Step.INCREMENTAL: 1.0}
    assert found[0.02].promoted == 0.0
    assert 25 < found[0.08].mean_pairs < 35  # twenty of them confirm
    assert sum(found[0.05].shares.values()) == pytest.approx(1)


def test_power_is_repeatable_and_falls_with_noise() -> None:
    calm, wild = aa(200, 0.003), aa(200, 0.1)
    once = power(calm, calibrate(calm, WALL), WALL, 0.08, runs=10, seed=4)
    assert once == power(calm, calibrate(calm, WALL), WALL, 0.08, runs=10, seed=4)
    assert power(wild, calibrate(wild, WALL), WALL, 0.08, runs=10).promoted < 0.5


def test_a_longer_block_is_offered_where_noise_asks_for_it() -> None:
    assert longer_block(aa(100, 0.002), WALL, runs=20) == 1
    assert longer_block(aa(600, 0.045), WALL, runs=20) in {2, 4, 8}
    assert longer_block(aa(30, 0.2), WALL, runs=10) is None


def test_a_longer_block_is_made_of_neighbours() -> None:
    runs = [Reading(10**i, 10**i, i + 1) for i in range(9)]
    pairs = paired(runs[:8])
    assert [trial for pair in pairs for trial in in_order(pair)] == runs[:8]
    early, late = in_order(longer(pairs, 4)[0])
    assert (early.wall_ns, late.wall_ns) == (1111, 11110000)
    assert (early.cpu_ns, early.peak_bytes) == (1111, 4)
    assert len(longer(pairs, 2)) == 2


def test_neighbours_are_resampled_together() -> None:
    pairs = paired([Reading(i + 1) for i in range(80)])
    draw = resampled(rounds_of(pairs, [""]), random.Random(0))  # noqa: S311
    drawn = [in_order(draw()[0])[0].wall_ns for _ in range(5 * STRETCH)]
    for at in range(0, len(drawn), STRETCH):
        assert {b - a for a, b in pairwise(drawn[at : at + STRETCH])} == {2}
    assert len({drawn[at] for at in range(0, len(drawn), STRETCH)}) > 1
    with pytest.raises(ValueError, match="nothing to resample"):
        resampled([], random.Random(0))  # noqa: S311


def test_power_is_of_what_is_judged() -> None:
    memory = Rules("memory")
    chance = random.Random(3)  # noqa: S311 - a simulation that has to be repeatable
    peaks = [round((64 << 20) * (1 + chance.gauss(0, 0.002))) for _ in range(400)]
    pairs = paired([Reading(10**7, 10**7, peak) for peak in peaks])
    found = power(pairs, calibrate(pairs, memory), memory, 0.08, runs=10)
    assert found.promoted == 1.0


def test_a_planted_gain_is_what_it_says() -> None:
    pair = planted(Pair(candidate_first=True, baseline=Reading(100, 100, 7), candidate=Reading(100, 100, 7)), 0.08)
    assert pair.candidate == Reading(92, 92, 7)
    assert pair.baseline == Reading(100, 100, 7)
    large = Pair(candidate_first=True, baseline=Reading(9, 9, 10**9), candidate=Reading(9, 9, 10**9))
    assert planted(large, 0.08, "memory").candidate == Reading(9, 9, 920_000_000)
