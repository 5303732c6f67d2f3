"""How large the gain is: a robust location of log gains, with an honest width."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nightfleet.harness.rules import (
    FUTILITY_WIDTH,
    HOPE_WIDTH,
    PRECISE_PAIRS,
    PRECISE_QUANTILE,
    PRECISE_WIDTH,
    SMALL_SAMPLE,
    STUDENT,
)

# The fixed point converges linearly; the limit is for data on which it creeps.
TOLERANCE = 1e-10
ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Estimate:
    """A log gain, its standard error and the pairs behind it."""

    log_gain: float
    se: float
    pairs: int

    @property
    def width(self) -> float:
        """The half-width k SE, k = 2.3 (1 + 4/n): what futility and the regions go by."""
        return FUTILITY_WIDTH * small_sample(self.pairs) * self.se

    @property
    def upper(self) -> float:
        """The log gain that it could still be."""
        return self.log_gain + self.width

    @property
    def precise(self) -> bool:
        """Whether more pairs would not say much more."""
        width = PRECISE_QUANTILE * small_sample(self.pairs) * self.se
        return self.pairs >= PRECISE_PAIRS and width < PRECISE_WIDTH

    def below(self, log: float) -> bool:
        """Whether the gain cannot reach `log`, or is known precisely and does not."""
        return self.upper < log or (self.precise and self.log_gain < log)

    def hopeless(self, log: float, *, null: float, bar: float, cap: int) -> bool:
        """Whether `cap` pairs in all will hardly show a gain of `log` with ln E = `bar` against `null` (log units).

        Stochastic curtailment (Lan, Simon & Halperin 1982) by predictive power: the estimate after all pairs scatters
        about this one by SE sqrt(1 - n/cap). The evidence asks for Z standard errors beyond the null, Z^2 / 2 = bar:
        the likelihood ratio of normal noise at its peak, mostly more than what a bet holds.
        """
        if not PRECISE_PAIRS <= self.pairs < cap:
            return False
        share = self.pairs / cap
        best = self.log_gain + HOPE_WIDTH * small_sample(self.pairs) * self.se * math.sqrt(1 - share)
        return best < max(log, null + math.sqrt(2 * bar) * self.se * math.sqrt(share))


def small_sample(pairs: int) -> float:
    """How much wider an interval from few pairs has to be."""
    return 1 + SMALL_SAMPLE / pairs


def estimate(gains: Sequence[float], scales: Sequence[float], lowest_scale: float) -> Estimate:
    """The fixed point of the weighted mean with weights 4 / (3 s^2 + (g - mean)^2), from the median on.

    The likelihood may have several peaks; the median is a start that no minority of pairs can move. The standard error
    is floored at lowest_scale / sqrt(n): a few pairs that agree by chance are not that precise. ValueError without
    pairs.
    """
    if not gains:
        raise ValueError("an estimate needs at least 1 pair")
    spreads = [STUDENT * scale * scale for scale in scales]
    centre = statistics.median(gains)
    for _ in range(ITERATIONS):
        weights = _weights(gains, spreads, centre)
        moved = math.fsum(w * g for w, g in zip(weights, gains, strict=True)) / math.fsum(weights)
        done = abs(moved - centre) <= TOLERANCE
        centre = moved
        if done:
            break
    weights = _weights(gains, spreads, centre)
    scatter = math.fsum((w * (g - centre)) ** 2 for w, g in zip(weights, gains, strict=True))
    se = math.sqrt(scatter) / math.fsum(weights)
    return Estimate(centre, max(se, lowest_scale / math.sqrt(len(gains))), len(gains))


def _weights(gains: Sequence[float], spreads: Sequence[float], centre: float) -> list[float]:
    return [(STUDENT + 1) / (spread + (g - centre) ** 2) for g, spread in zip(gains, spreads, strict=True)]
