"""What a verdict goes by: the fixed constants, the arena's thresholds, and a night's error budget.

The constants come first and no caller can change them. "Design" as a source is the section "Timing and verdict" of the
project's design; "measured" is `benchmarks/verdict_on_streams.py` on recorded timings.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

# The bets of the e-process: shifts beyond the null in log units, and multiples of the noise scale. Any fixed mixture is
# valid; this one loses at most a factor of 20 against its best member (design).
BET_SHIFTS = (0.01, 0.02, 0.04, 0.08, 0.16)
BET_SCALES = (0.5, 1.0, 2.0, 4.0)
# Degrees of freedom of Student's t, the heavy-tailed stand-in for process-time noise (design; Lange, Little & Taylor
# 1989 for its weights (nu + 1) / (nu s^2 + r^2)).
STUDENT = 3.0
# Half-width of the futility bound in standard errors, and its widening for few pairs: k = 2.3 (1 + 4/n) (design).
FUTILITY_WIDTH = 2.3
SMALL_SAMPLE = 4.0
# An estimate is precise when 1.96 (1 + 4/n) SE is below 0.4% after at least 12 pairs (design). A width, not a gain:
# it is compared with log units as it stands.
PRECISE_WIDTH = 0.004
PRECISE_QUANTILE = 1.96
PRECISE_PAIRS = 12
# A timing makes way when the pairs that are left would not even show a gain if they moved the estimate by this many of
# their standard errors, widened likewise: one chance in twenty (predictive power; Spiegelhalter, Freedman & Blackburn
# 1986). Measured: of those that make way on the streams 1 in 100 would have come to a gain; 0.1 points of power at 8%.
HOPE_WIDTH = 1.645
# No region but the e-process may speak before this many pairs (design).
FEWEST_PAIRS = 5
# Pairs after which a timing ends, for speed and for simplification (design).
SPEED_CAP = 60
SIMPLIFY_CAP = 200
# The confirmation: fresh pairs, and the difference between both orders, in standard errors, that is an alarm (design).
CONFIRMATION_PAIRS = 20
ORDER_WIDTH = 3.0
# The smallest gain that an incremental may claim, and the largest loss that a simplification may cost (design).
SMALLEST_GAIN = 0.005
# Relinking identical code moves time: a null is never nearer than this many standard deviations of that (design).
LAYOUT_WIDTH = 2.0
# A guard is shown to hold at this e-value; so is "the wall clock gains too" for programs judged on CPU (design).
GUARD_BAR = 20.0
# Peak memory below this counts as this. Control groups charge in batches of 64 pages a processor, so the peak of one
# small program read 0.49, 0.51 and 0.76 MB in turn (measured); of 8 MiB a batch is 3%.
MEMORY_FLOOR_BYTES = 8 << 20
# The wall guard of a program judged on CPU whose arena names none (design: +1%).
WALL_GUARD = 0.01
# The error rate of one verification outside a night: bar 100 (design).
VERIFY_ALPHA = 0.01
# No caller may ask for more than this many false promotions, per night or per verification (design: 0.1 a night).
LARGEST_ALPHA = 0.1

Quantity: TypeAlias = Literal["wall", "cpu", "memory"]
Over: TypeAlias = Literal["total", "geomean", "worst"]
Purpose: TypeAlias = Literal["speed", "simplify"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


def to_log(gain: float) -> float:
    """Log units of a gain as a fraction of the baseline's time: -ln(1 - gain). A loss is negative."""
    return -math.log1p(-gain)


def to_gain(log: float) -> float:
    """The gain, as a fraction of the baseline's time, of a difference in log units."""
    return -math.expm1(-log)


@dataclass(frozen=True)
class Guard:
    """A quantity that may grow by at most `limit` (a fraction of the baseline's), and must be shown not to."""

    quantity: Quantity
    limit: float

    def __post_init__(self) -> None:
        _within(f"guard {self.quantity}", self.limit, 0.0, math.inf)


@dataclass(frozen=True)
class Rules:
    """One arena's thresholds, as fractions. ValueError for impossible or dangerously loose ones.

    `alpha` is the error rate of this one timing: `ErrorBudget.alpha` in a night. A simplification has `loss_spent`, the
    measured loss of earlier simplifications since the last speed promotion, taken off its margin; timing it directly
    against that promotion, with nothing spent, is sharper.
    """

    quantity: Quantity
    workloads: tuple[str, ...] = ("",)
    over: Over = "total"
    purpose: Purpose = "speed"
    promote: float = 0.05
    incremental: float = 0.02
    extraordinary: float = 0.30
    alpha: float = VERIFY_ALPHA
    guards: tuple[Guard, ...] = ()
    loss_spent: float = 0.0

    def __post_init__(self) -> None:
        _within("promote", self.promote, 0.0, 1.0)
        _within("incremental", self.incremental, SMALLEST_GAIN, self.promote)
        _within("extraordinary", self.extraordinary, self.promote, 1.0)
        _within("alpha", self.alpha, 0.0, LARGEST_ALPHA)
        if self.alpha == 0:
            raise ValueError("alpha must be above 0: at 0 nothing is ever promoted")
        _within("loss_spent", self.loss_spent, 0.0, 1.0)
        if not self.workloads or len(set(self.workloads)) < len(self.workloads):
            raise ValueError(f"workloads must be one or more distinct names; got {self.workloads}")
        for guard in self.guards:
            # Two equal programs never show "at most +0%": that guard would forbid every promotion.
            _within(f"guard {guard.quantity}", guard.limit, SMALLEST_GAIN, math.inf)
        if len({guard.quantity for guard in self.guards}) < len(self.guards):
            raise ValueError(f"one guard for each quantity at most; got {self.guards}")

    @property
    def cap(self) -> int:
        """The pairs after which the timing ends without waiting for more."""
        return SIMPLIFY_CAP if self.purpose == "simplify" else SPEED_CAP

    @property
    def series(self) -> tuple[str, ...]:
        """What is tested: each workload by itself for `worst` or if there is one, else all of them as one ("*")."""
        return self.workloads if self.over == "worst" or len(self.workloads) == 1 else ("*",)

    def members(self, series: str) -> tuple[str, ...]:
        """The workloads of a series."""
        return self.workloads if self.series == ("*",) else (series,)

    @property
    def shields(self) -> tuple[Guard, ...]:
        """What must be shown to hold. Limit 0 means that it must gain.

        A program judged on CPU always has the wall clock as a guard and, for speed, must gain on it: CPU time can fall
        while everybody waits longer.
        """
        guards = self.guards
        if self.quantity != "cpu":
            return guards
        if all(guard.quantity != "wall" for guard in guards):
            guards = (Guard("wall", WALL_GUARD), *guards)
        return guards if self.purpose == "simplify" else (*guards, Guard("wall", 0.0))

    def promote_null(self, layout_sd: float) -> float:
        """A promotion refutes "the gain is at most this"."""
        return max(self.incremental, LAYOUT_WIDTH * layout_sd)

    def incremental_null(self, layout_sd: float) -> float:
        """An incremental refutes "the gain is at most this"."""
        return max(SMALLEST_GAIN, LAYOUT_WIDTH * layout_sd)

    def simplify_null(self, layout_sd: float) -> float:
        """A simplification refutes "the gain is at most this", a loss; 0 once earlier ones have used up the margin."""
        return -max(0.0, max(SMALLEST_GAIN, LAYOUT_WIDTH * layout_sd) - self.loss_spent)


@dataclass(frozen=True)
class ErrorBudget:
    """A night's expected false promotions, split over timed tests so that the sum holds in any order of finishing.

    Block j = 1, 2, ... of `planned` tests gets alpha 2^-j / planned each: the union bound over Ville's inequality,
    under any dependence. An index is reserved before pair 1 and never returned. Incremental, simplify and score each
    have such a budget of their own, equal to this one.
    """

    alpha: float
    planned: int

    def __post_init__(self) -> None:
        _within("false promotions per night", self.alpha, 0.0, LARGEST_ALPHA)
        if self.alpha == 0:
            raise ValueError("false promotions per night must be above 0: at 0 nothing is ever promoted")
        if self.planned < 1:
            raise ValueError(f"a night plans at least 1 experiment; got {self.planned}")

    def of(self, index: int) -> float:
        """The error rate of the test that reserved `index`, counted from 0."""
        if index < 0:
            raise ValueError(f"a reserved index counts from 0; got {index}")
        block = index // self.planned + 1
        # Rounded towards 0, so that not even rounding errors can add up to more than the budget.
        return math.nextafter(math.ldexp(self.alpha / self.planned, -block), 0.0)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}; got {value:g}")
