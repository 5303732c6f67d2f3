"""What a test of the judge amounts to: false promotions with their bound, power, cost, claims against truth. Pure."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import beta, binom, binomtest

from nightfleet.harness.calibrate import Calibrated
from nightfleet.harness.reading import Pair, rounds_of
from nightfleet.harness.rules import Rules, to_gain
from nightfleet.harness.selftest import Attempt, SelfTest, Truth
from nightfleet.harness.track import Track

__all__ = ["Planted", "Promotions", "Tally", "tally"]

# A bound is called broken where a judge that keeps it would do as badly in fewer than 1 of 1,000 tests.
BROKEN = 1e-3
ACCEPTED = frozenset({"promote"})


@dataclass(frozen=True)
class Promotions:
    """How many of how many attempts were promoted, with the 95% interval of the rate (Clopper and Pearson, 1934)."""

    promoted: int
    attempts: int

    @property
    def rate(self) -> float:
        """The share; 0 without attempts."""
        return self.promoted / self.attempts if self.attempts else 0.0

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return float(beta.ppf(0.025, self.promoted, self.attempts - self.promoted + 1)) if self.promoted else 0.0

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        left = self.attempts - self.promoted
        return float(beta.ppf(0.975, self.promoted + 1, left)) if left else 1.0

    def breaks(self, bound: float) -> bool:
        """Whether a rate of at most `bound` would hardly ever give so many."""
        return bool(self.attempts and binom.sf(self.promoted - 1, self.attempts, bound) < BROKEN)


@dataclass(frozen=True)
class Planted:
    """What became of one planted share. Gains are fractions.

    Attributes:
        share: of a block that the candidate was spared.
        true: what that gains, from pairs that no verdict stopped; None before there are any.
        true_se: its standard error.
        claimed: mean of what promotions and incremental verdicts claimed.
        claimed_minus_true: None where nothing was claimed, or the truth is not known.
        stopping_minus_true: the same of the figure at which the confirmation was asked for.
    """

    share: float
    promotions: Promotions
    verdicts: Mapping[str, int]
    true: float | None
    true_se: float | None
    claimed: float | None
    claimed_minus_true: float | None
    stopping_minus_true: float | None
    median_pairs: float
    median_seconds: float

    def is_false(self, rules: Rules) -> bool:
        """Whether a promotion of it is false: its true gain is not above `thresholds.incremental`."""
        return self.true is not None and self.true <= rules.incremental


@dataclass(frozen=True)
class Tally:
    """Everything that the test says.

    Attributes:
        nulls: attempts on what changes nothing.
        incremental: nulls that were taken for a small gain.
        median_pairs: that a null cost.
        programs: distinct ones among the nulls.
        first_share: of all pairs in which the candidate ran first.
        first_p: how often a fair coin is as far off, or further.
        overhead: seconds of attempts for each second of trials that counted.
        holds: whether nothing contradicts the bound that the judge promises.
    """

    nulls: Promotions
    bound: float
    incremental: int
    verdicts: Mapping[str, int]
    median_pairs: float
    median_seconds: float
    programs: int
    planted: tuple[Planted, ...]
    first_share: float
    first_p: float
    pairs: int
    void: int
    overhead: float
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; rates and gains are fractions; null is what nothing is known of."""
        planted = [{**_known(asdict(one)), "promotions": _rate(one.promotions)} for one in self.planted]
        return {**_known(asdict(self)), "nulls": _rate(self.nulls), "planted": planted}


def tally(test: SelfTest) -> Tally:
    """Of what was tried so far."""
    bound = test.asked.alpha
    return count(test.attempts, test.truths, test.calibrated, shares=test.asked.planted, bound=bound)


def count(
    attempts: Sequence[Attempt],
    truths: Sequence[Truth],
    calibrated: Calibrated,
    *,
    shares: Sequence[float],
    bound: float,
) -> Tally:
    """Of attempts, whatever they come from."""
    idle = [attempt for attempt in attempts if attempt.planted == 0]
    promotions = _promotions(idle)
    planted = tuple(_planted(share, attempts, truths, calibrated) for share in shares)
    pairs = sum(attempt.pairs + attempt.confirming for attempt in attempts)
    first = sum(attempt.first for attempt in attempts)
    first_p = float(binomtest(first, pairs).pvalue) if pairs else 1.0
    trials_s = sum(attempt.trials_s for attempt in attempts)
    wrong = any(one.promotions.breaks(bound) for one in planted if one.is_false(calibrated.rules))
    ended = any(attempt.verdict in {"incorrect", "broken"} for attempt in attempts)
    return Tally(
        nulls=promotions,
        bound=bound,
        incremental=sum(attempt.verdict == "incremental" for attempt in idle),
        verdicts=_verdicts(idle),
        median_pairs=_median([attempt.pairs for attempt in idle]),
        median_seconds=_median([attempt.seconds for attempt in idle]),
        programs=len({attempt.of for attempt in idle}),
        planted=planted,
        first_share=first / pairs if pairs else 0.5,
        first_p=first_p,
        pairs=pairs,
        void=sum(attempt.void for attempt in attempts),
        overhead=sum(attempt.seconds for attempt in attempts) / trials_s if trials_s else math.nan,
        holds=not (promotions.breaks(bound) or wrong or ended or first_p < BROKEN),
    )


def true_gain(pairs: Sequence[Pair], calibrated: Calibrated) -> tuple[float, float]:
    """The gain of pairs that no verdict stopped, and its standard error: of the series that gains least."""
    rules, calibration = calibrated.rules, calibrated.calibration
    found = []
    for series in rules.series:
        members, noise = rules.members(series), calibration.of(series, rules.quantity)
        track = Track(series, rules.quantity, workloads=members, over=rules.over, noise=noise, nulls=(), blocks=())
        for round_ in rounds_of(pairs, members):
            track.add(round_)
        found.append(track.estimate())
    least = min(found, key=lambda one: one.log_gain)
    return to_gain(least.log_gain), least.se


def _planted(share: float, attempts: Sequence[Attempt], truths: Sequence[Truth], calibrated: Calibrated) -> Planted:
    own = [attempt for attempt in attempts if attempt.planted == share]
    pairs = [pair for truth in truths if truth.planted == share for pair in truth.pairs]
    true, true_se = true_gain(pairs, calibrated) if pairs else (None, None)
    promoted = [attempt for attempt in own if attempt.verdict in ACCEPTED]
    claims = [one.gain for one in own if one.verdict in {"promote", "incremental"} and one.gain is not None]
    stops = [one.stopping for one in promoted if one.stopping is not None]
    claimed = statistics.fmean(claims) if claims else None
    return Planted(
        share=share,
        promotions=_promotions(own),
        verdicts=_verdicts(own),
        true=true,
        true_se=true_se,
        claimed=claimed,
        claimed_minus_true=None if claimed is None or true is None else claimed - true,
        stopping_minus_true=None if not stops or true is None else statistics.fmean(stops) - true,
        median_pairs=_median([attempt.pairs for attempt in own]),
        median_seconds=_median([attempt.seconds for attempt in own]),
    )


def _promotions(attempts: Sequence[Attempt]) -> Promotions:
    return Promotions(sum(attempt.verdict in ACCEPTED for attempt in attempts), len(attempts))


def _verdicts(attempts: Sequence[Attempt]) -> dict[str, int]:
    return dict(Counter(attempt.verdict for attempt in attempts).most_common())


def _median(values: Sequence[float]) -> float:
    return float(statistics.median(values)) if values else math.nan


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if isinstance(one, float) and math.isnan(one) else one for name, one in values.items()}


def _rate(of: Promotions) -> dict[str, float]:
    return {"promoted": of.promoted, "attempts": of.attempts, "rate": of.rate, "low": of.low, "high": of.high}
