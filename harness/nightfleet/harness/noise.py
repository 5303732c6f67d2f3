"""Fits a calibration from A/A pairs: the baseline against itself, timed as candidates will be.

Pure: pairs in, calibration out. Run pairs until `stable` says so, then `calibrate`; `power` tells what can be found.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import chi2

from nightfleet.harness.calibration import SCALE_FLOOR, Calibration, Noise
from nightfleet.harness.estimate import Estimate
from nightfleet.harness.reading import Pair, Reading, observe, rounds_of
from nightfleet.harness.rules import QUANTITIES, Quantity, Rules
from nightfleet.native import UserError

# The level of an undisturbed trial: this quantile of log baseline times (design).
REFERENCE_QUANTILE = 0.05
# Where the levels of blocks spread by more than this, every pair needs its own reference trial (design: 10%).
BLOCK_SPREAD = 0.10
# Bins of the noise scale: as many as give each 25 pairs, 8 at most (design).
MOST_BINS = 8
PAIRS_PER_BIN = 25
# The median absolute deviation of a normal distribution is its sd divided by this (Hampel 1974).
MAD_TO_SD = 1.4826
# Pairs before which no calibration is stable, and what a night asks for (design: 200).
FEWEST_PAIRS = 2 * PAIRS_PER_BIN
PAIRS_FOR_A_NIGHT = 200
FEWEST_RELINKS = 3
# Scatter of relinks' gains below this quantile of what their noise alone would give is taken for noise.
SCATTER_LEVEL = 0.95
# Stable: from the first three quarters of the pairs to all of them, the scale moves by less than 15% on average over
# the bins, and the reference by less than 2%. A mean, because a median does not see a quarter of pairs turn wild; and
# 15%, because with 25 pairs in a bin chance alone moves it by about 13%.
STABLE_SCALE = 0.15
STABLE_REFERENCE = 0.02

Clock: TypeAlias = Literal["auto", "cpu", "wall"]
Floats: TypeAlias = NDArray[np.float64]


def choose_clock(asked: Clock, *, cores: int, single_threaded: bool, group_cpu: bool) -> Quantity:
    """The clock to judge by: CPU for one thread on one core whose whole group's CPU time is known, else wall.

    UserError if CPU was asked for and cannot be had.
    """
    obstacle = cpu_obstacle(cores=cores, single_threaded=single_threaded, group_cpu=group_cpu)
    if asked == "cpu" and obstacle:
        raise UserError(f"clock: cpu is not possible, because {obstacle}; write clock: wall or clock: auto")
    return "wall" if asked == "wall" or obstacle else "cpu"


def cpu_obstacle(*, cores: int, single_threaded: bool, group_cpu: bool) -> str | None:
    """Why nothing can be judged by CPU time here, if so.

    Without the group's figure CPU time can be hidden in children; with several threads it is not what anyone waits for.
    """
    return (
        f"a trial has {cores} cores"
        if cores > 1
        else "the program runs several threads"
        if not single_threaded
        else "this machine gives no CPU time of a trial's whole group"
        if not group_cpu
        else None
    )


def calibrate(pairs: Sequence[Pair], rules: Rules, *, per_block: bool = False, layout_sd: float = 0.0) -> Calibration:
    """The noise of every series in every quantity that all trials have, from A/A pairs.

    `per_block`: every pair brings a reference trial, see `block_spread`. ValueError without a whole round, or when a
    reference is missing.
    """
    noise: dict[str, dict[Quantity, Noise]] = {}
    for series in rules.series:
        rounds = rounds_of(pairs, rules.members(series))
        if not rounds:
            raise ValueError("a calibration needs at least 1 pair of every workload")
        noise[series] = {quantity: _fit(rounds, quantity, rules, per_block) for quantity in _measured(pairs)}
    return Calibration(noise, layout_sd, len(rounds_of(pairs, rules.workloads)))


def block_spread(first: Sequence[Reading], second: Sequence[Reading], quantity: Quantity) -> float:
    """How much the work of blocks differs, in log units, from two trials of each: a pass over all, and another pass.

    Above `BLOCK_SPREAD`, pairs need reference trials. The spread of one pass would be wrong: a memory-bound program on
    a busy machine spreads by 20% on one and the same block (recorded). With x, y the passes' log times, (x + y) / 2
    holds block and noise, (x - y) / 2 the noise alone, provided that the passes lie far apart in time: neighbours share
    noise. Even so that program's noise alone comes to 10%; a reference where none was needed only costs a trial.
    """
    x = np.log([trial.of(quantity) for trial in first])
    y = np.log([trial.of(quantity) for trial in second])
    both, noise = (x + y) / 2, (x - y) / 2
    block = _spread(both - np.median(both)) ** 2 - _spread(noise - np.median(noise)) ** 2
    return math.sqrt(max(0.0, block))


def layout_sd(relinks: Sequence[Estimate]) -> float:
    """How much relinking identical code moves its time (sd, log units), from gains of relinks over the baseline.

    Their scatter less what the estimates scatter by themselves; 0 where that alone explains it (chi-squared, 95%): of
    eight estimates that are good to 2.5%, one set in ten would otherwise say 2% where there is nothing. ValueError for
    fewer than 3: no sd to speak of.
    """
    if len(relinks) < FEWEST_RELINKS:
        raise ValueError(f"layout bias needs at least {FEWEST_RELINKS} relinks; got {len(relinks)}")
    scatter = float(np.var([relink.log_gain for relink in relinks], ddof=1))
    own, freedom = float(np.mean([relink.se**2 for relink in relinks])), len(relinks) - 1
    if scatter <= own * float(chi2.ppf(SCATTER_LEVEL, freedom)) / freedom:
        return 0.0
    return math.sqrt(scatter - own)


def stable(pairs: Sequence[Pair], rules: Rules, *, at_least: int = PAIRS_FOR_A_NIGHT, per_block: bool = False) -> bool:
    """Whether more A/A pairs would hardly change the calibration of the judged quantity: the time to stop.

    The recorded streams are stable for the first time after 200 to 410 pairs. A machine whose load comes and goes may
    never be: the caller needs a limit, and says so when it is reached.
    """
    rounds = len(pairs) // len(rules.workloads)
    if rounds < max(at_least, FEWEST_PAIRS):
        return False
    early = calibrate(pairs[: len(pairs) * 3 // 4], rules, per_block=per_block)
    late = calibrate(pairs, rules, per_block=per_block)
    return all(_agree(early.of(s, rules.quantity), late.of(s, rules.quantity)) for s in rules.series)


def fit_scale(gains: Floats, levels: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The inner edges and scales of s(u) from gains and levels of shape (n,): monotone, floored."""
    bins = max(1, min(MOST_BINS, len(gains) // PAIRS_PER_BIN))
    # Equal levels make equal edges, and those make empty bins: both go.
    edges = np.unique(np.quantile(levels, np.arange(1, bins) / bins))
    places = np.searchsorted(edges, levels, side="right")
    filled = np.unique(places)
    raw = np.array([_spread(gains[places == place]) for place in filled])
    counts = np.array([np.count_nonzero(places == place) for place in filled], dtype=np.float64)
    scales = np.maximum(isotonic_regression(raw, weights=counts).x, SCALE_FLOOR)
    return tuple(float(edges[place - 1]) for place in filled[1:]), tuple(float(scale) for scale in scales)


def longer(pairs: Sequence[Pair], factor: int) -> list[Pair]:
    """A/A pairs as a block `factor` times as long would have given: that many trials in a row are one longer trial.

    Trials are taken in the order they ran, so that what neighbours share stays shared. Left-over trials are dropped.
    """
    merged: list[Pair] = []
    for workload in dict.fromkeys(pair.workload for pair in pairs):
        trials = [trial for pair in pairs if pair.workload == workload for trial in in_order(pair)]
        sums = [_sum(trials[at : at + factor]) for at in range(0, len(trials) - factor + 1, factor)]
        coins = [pair.candidate_first for pair in pairs if pair.workload == workload]
        for coin, first, second in zip(coins, sums[::2], sums[1::2], strict=False):
            baseline, candidate = (second, first) if coin else (first, second)
            merged.append(Pair(coin, baseline, candidate, workload))
    return merged


def in_order(pair: Pair) -> tuple[Reading, Reading]:
    """Both trials, the earlier one first."""
    return (pair.candidate, pair.baseline) if pair.candidate_first else (pair.baseline, pair.candidate)


def _fit(rounds: Sequence[Sequence[Pair]], quantity: Quantity, rules: Rules, per_block: bool) -> Noise:
    seen = [observe(round_, quantity, rules.over, per_block=per_block) for round_ in rounds]
    gains = np.array([observation.gain for observation in seen])
    levels = np.array([observation.level for observation in seen])
    # Both sides are the baseline here: its log times are level +- gain / 2.
    logs = np.concatenate([levels + gains / 2, levels - gains / 2])
    reference = 0.0 if per_block else float(np.quantile(logs, REFERENCE_QUANTILE))
    edges, scales = fit_scale(gains, levels - reference)
    return Noise(reference, edges, scales, per_block)


def _measured(pairs: Sequence[Pair]) -> list[Quantity]:
    """What every trial has."""
    trials = [trial for pair in pairs for trial in (pair.baseline, pair.candidate)]
    return [quantity for quantity in QUANTITIES if all(trial.has(quantity) for trial in trials)]


def _agree(early: Noise, late: Noise) -> bool:
    """Both scales at the same quantiles of u.

    Not at the same u: the scale is a steep staircase, and an edge that moves a little would look like much (measured:
    so compared, a stream of 1200 quiet pairs was hardly ever stable).
    """
    bins = len(late.scales)
    matched = [early.scales[(2 * i + 1) * len(early.scales) // (2 * bins)] for i in range(bins)]
    moved = float(np.mean(np.abs(np.log(matched) - np.log(late.scales))))
    return moved <= STABLE_SCALE and abs(early.reference - late.reference) <= STABLE_REFERENCE


def _spread(values: Floats) -> float:
    return MAD_TO_SD * float(np.median(np.abs(values)))


def _sum(trials: Sequence[Reading]) -> Reading:
    cpu = [trial.cpu_ns for trial in trials if trial.cpu_ns is not None]
    peak = [trial.peak_bytes for trial in trials if trial.peak_bytes is not None]
    return Reading(
        sum(trial.wall_ns for trial in trials),
        sum(cpu) if len(cpu) == len(trials) else None,
        max(peak) if len(peak) == len(trials) else None,
    )
