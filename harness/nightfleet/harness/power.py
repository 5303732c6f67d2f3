"""What a timing can find on this machine: the verdict run on resampled A/A pairs with planted gains.

Blocks of consecutive pairs are resampled, never single ones: neighbours correlate by up to 0.7, and a resampling that
breaks that up promises more than the machine keeps.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.noise import PAIRS_PER_BIN, calibrate, in_order, longer
from nightfleet.harness.reading import BothSides, Pair, Reading, rounds_of
from nightfleet.harness.rules import CONFIRMATION_PAIRS, MEMORY_FLOOR_BYTES, Quantity, Rules
from nightfleet.harness.verdict import Decision, Sequential, Step

# Fixed: gains to ask about, consecutive pairs kept together, and the least power to be content with (design: 80% at the
# threshold + 1%).
GAINS = (0.02, 0.03, 0.05, 0.08)
STRETCH = 10
ENOUGH_POWER = 0.80
ABOVE_THRESHOLD = 0.01
LONGER = (2, 4, 8, 16)

Round = Sequence[Pair]


@dataclass(frozen=True)
class Power:
    """How timings of a planted gain end: shares of each step, and the mean number of pairs, confirmations included."""

    gain: float
    runs: int
    shares: dict[Step, float]
    mean_pairs: float

    @property
    def promoted(self) -> float:
        """The share of timings that end in a confirmed promotion."""
        return self.shares.get(Step.PROMOTE, 0.0)


def power(
    pairs: Sequence[Pair],
    calibration: Calibration,
    rules: Rules,
    gain: float,
    *,
    runs: int = 200,
    blocks: int = 0,
    seed: int = 0,
) -> Power:
    """Time a candidate of that gain `runs` times on resampled A/A pairs. ValueError without a whole round.

    `blocks`: rounds of the behaviour gate that count in the totals. Nothing is asked of guards but the wall clock's
    where CPU is judged, and of others that `rules` name and the pairs can tell.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation that has to be repeatable
    rounds = rounds_of(pairs, rules.workloads)
    decisions = [timed(resampled(rounds, rng), calibration, rules, gain, blocks=blocks) for _ in range(runs)]
    steps = Counter(decision.step for decision in decisions)
    counted = sum(decision.pairs + (decision.stopping.pairs if decision.stopping else 0) for decision in decisions)
    return Power(gain, runs, {step: count / runs for step, count in steps.items()}, counted / runs)


def table(
    pairs: Sequence[Pair], calibration: Calibration, rules: Rules, *, runs: int = 200, seed: int = 0
) -> list[Power]:
    """Power at 2, 3, 5 and 8%."""
    return [power(pairs, calibration, rules, gain, runs=runs, seed=seed) for gain in GAINS]


def longer_block(
    pairs: Sequence[Pair], rules: Rules, *, runs: int = 200, seed: int = 0, layout_sd: float = 0.0
) -> int | None:
    """How many times longer a block has to be for 80% power at the threshold + 1%: 1 if it is long enough already.

    None if sixteen times is not enough, or there are too few pairs to tell.
    """
    gain = rules.promote + ABOVE_THRESHOLD
    for factor in (1, *LONGER):
        merged = longer(pairs, factor) if factor > 1 else list(pairs)
        if len(merged) < PAIRS_PER_BIN * len(rules.workloads):
            return None
        calibration = calibrate(merged, rules, layout_sd=layout_sd)
        found = power(merged, calibration, rules, gain, runs=runs, seed=seed)
        if found.promoted >= ENOUGH_POWER:
            return factor
    return None


def timed(
    draw: Callable[[], Round], calibration: Calibration, rules: Rules, gain: float, *, blocks: int = 0
) -> Decision:
    """One timing, with its confirmation, of a candidate that takes 1 - gain of the time that `draw` gives it.

    As in a night: what will hardly be decided makes way.
    """
    pairs = [planted(pair, gain, rules.quantity) for _ in range(blocks) for pair in draw()]
    timing = Sequential(rules, calibration, [BothSides(p.baseline, p.candidate, p.workload) for p in pairs])
    while timing.decision.step is Step.CONTINUE:
        for pair in draw():
            timing.add(planted(pair, gain, rules.quantity))
    if timing.decision.step is not Step.CONFIRM:
        return timing.decision
    return timing.confirm([planted(pair, gain, rules.quantity) for _ in range(CONFIRMATION_PAIRS) for pair in draw()])


def resampled(rounds: Sequence[Round], rng: random.Random) -> Callable[[], Round]:
    """Draws rounds: stretches of consecutive ones from random starts, each under a coin of its own."""
    if not rounds:
        raise ValueError("nothing to resample: not a whole round of A/A pairs")
    place = {"at": 0, "left": 0}

    def draw() -> Round:
        if not place["left"]:
            place["at"], place["left"] = rng.randrange(max(1, len(rounds) - STRETCH + 1)), STRETCH
        round_ = rounds[place["at"] % len(rounds)]
        place["at"], place["left"] = place["at"] + 1, place["left"] - 1
        coin = rng.random() < 0.5
        return [_recoined(pair, coin) for pair in round_]

    return draw


def planted(pair: Pair, gain: float, quantity: Quantity = "wall") -> Pair:
    """The pair with a candidate that needs 1 - gain of its time or, judged by that, memory. Same hands, same noise."""
    share, one = 1 - gain, pair.candidate
    if quantity == "memory":
        peak = None if one.peak_bytes is None else round(max(one.peak_bytes, MEMORY_FLOOR_BYTES) * share)
        return replace(pair, candidate=replace(one, peak_bytes=peak))
    cpu_ns = None if one.cpu_ns is None else round(one.cpu_ns * share)
    return replace(pair, candidate=Reading(round(one.wall_ns * share), cpu_ns, one.peak_bytes))


def _recoined(pair: Pair, coin: bool) -> Pair:
    first, second = in_order(pair)
    baseline, candidate = (second, first) if coin else (first, second)
    return replace(pair, candidate_first=coin, baseline=baseline, candidate=candidate)
