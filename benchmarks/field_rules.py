"""The field's ways to decide "is it faster?", each a pure function of times, for many candidates at once.

Written from what their sources say, in our own words and code; nothing is copied. A rule sees times in any unit, as
arrays of shape (candidates, runs): `baseline` and `candidate`. A rule of a whole night sees single runs in the order in
which a fleet would have made them. What comes out is a `Ruling`.

Every rule here is the best reading of its source that fits one question: shall this candidate be the next baseline?
Some were made for another one, and `Rule.fairness` says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, ttest_1samp, ttest_ind

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

# The level at which the fixed-size tests are used everywhere: two-sided 5%, and only the faster side promotes.
LEVEL = 0.05
SINGLE_RUN_GAIN = 0.05
# bazhenov/tango: 2.6 standard errors ("99% significance"), and a difference above `--noise-threshold`, by default 1%.
TANGO_Z = 2.6
TANGO_NOISE = 0.01
TANGO_PAIRS = 30
# fishtest's defaults: alpha = beta = 0.05, so bounds of -+ ln 19. Its Elo bounds become "no gain" and "2%".
GSPRT_ERROR = 0.05
GSPRT_GAINS = (0.0, 0.02)
# The likelihood ratio is an approximation for many games: it is not looked at before this many pairs, nor after these.
GSPRT_FEWEST = 10
GSPRT_CAP = 200
# davebcn87/pi-autoresearch: "likely real" from 2.0 on, no score before 3 runs.
MAD_SCORE = 2.0
MAD_FEWEST = 3


@dataclass(frozen=True)
class Ruling:
    """What a rule says of each candidate: whether it is promoted, with what gain (a fraction), after how many runs."""

    promoted: Bools
    claimed: Floats
    runs: NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """A rule for one candidate, with all that a reader needs to know of it.

    `order`: "paired" takes run i of both sides in turn, under a coin; "in a row" takes all of the baseline's, then all
    of the candidate's. `runs`: the most that it takes of each side.
    """

    name: str
    sentence: str
    source: str
    null: str
    fairness: str
    order: Literal["paired", "in a row"]
    runs: int
    decide: Callable[[Floats, Floats], Ruling]


@dataclass(frozen=True)
class NightRule:
    """A rule that goes by a whole night's runs. `keeps` says it of the last of them.

    It sees the runs so far, shape (nights, runs), and the best time kept, shape (nights,).
    """

    name: str
    sentence: str
    source: str
    null: str
    fairness: str
    keeps: Callable[[Floats, Floats], Bools]


def keep_if_lower(baseline: Floats, candidate: Floats) -> Ruling:
    """One run of each; lower is better."""
    return _ruling(candidate[:, 0] < baseline[:, 0], candidate[:, 0] / baseline[:, 0], 2)


def single_run(baseline: Floats, candidate: Floats) -> Ruling:
    """One run of each, and at least 5% less."""
    ratio = candidate[:, 0] / baseline[:, 0]
    return _ruling(ratio <= 1 - SINGLE_RUN_GAIN, ratio, 2)


def welch(baseline: Floats, candidate: Floats) -> Ruling:
    """Welch's t-test (1947) for unequal variances on the times themselves."""
    found = ttest_ind(candidate, baseline, axis=1, equal_var=False)
    promoted = (found.pvalue < LEVEL) & (found.statistic < 0)
    return _ruling(promoted, candidate.mean(axis=1) / baseline.mean(axis=1), 2 * baseline.shape[1])


def mann_whitney(baseline: Floats, candidate: Floats) -> Ruling:
    """The rank-sum test (Mann & Whitney 1947), exact; the gain is that of the medians."""
    found = mannwhitneyu(candidate, baseline, axis=1, method="exact")
    ratio = np.median(candidate, axis=1) / np.median(baseline, axis=1)
    lower = found.statistic < candidate.shape[1] * baseline.shape[1] / 2
    return _ruling((found.pvalue < LEVEL) & lower, ratio, 2 * baseline.shape[1])


def least(baseline: Floats, candidate: Floats) -> Ruling:
    """The least of the candidate's runs against the least of the baseline's."""
    ratio = candidate.min(axis=1) / baseline.min(axis=1)
    return _ruling(ratio < 1, ratio, 2 * baseline.shape[1])


def paired_t(baseline: Floats, candidate: Floats) -> Ruling:
    """Student's t-test (1908) on ln(t_b / t_c) of pairs."""
    gains = np.log(baseline / candidate)
    found = ttest_1samp(gains, 0.0, axis=1)
    promoted = (found.pvalue < LEVEL) & (found.statistic > 0)
    return _ruling(promoted, np.exp(-gains.mean(axis=1)), 2 * baseline.shape[1])


def tango(baseline: Floats, candidate: Floats) -> Ruling:
    """Mean difference of pairs beyond 2.6 of its standard errors and beyond the noise threshold."""
    differences = candidate - baseline
    error = differences.std(axis=1, ddof=1) / math.sqrt(baseline.shape[1])
    share = differences.mean(axis=1) / baseline.mean(axis=1)
    promoted = (differences.mean(axis=1) <= -TANGO_Z * error) & (share < -TANGO_NOISE)
    return _ruling(promoted, 1 + share, 2 * baseline.shape[1])


def gsprt(baseline: Floats, candidate: Floats) -> Ruling:
    """The generalised sequential probability ratio test of "gains nothing" against "gains 2%", on log ratios.

    Normal noise of unknown variance: the likelihood is at its highest, under each hypothesis, with the mean square
    about that hypothesis as variance, so that ln LR = n/2 ln(r0 / r1). Accepted at ln 19, refused at -ln 19.
    """
    gains = np.log(baseline / candidate)
    looks = np.arange(GSPRT_FEWEST, gains.shape[1] + 1)

    def mean(values: Floats) -> Floats:
        return np.asarray(np.cumsum(values, axis=1)[:, GSPRT_FEWEST - 1 :] / looks)

    nothing, something = (mean((gains + math.log1p(-gain)) ** 2) for gain in GSPRT_GAINS)
    ratio = looks / 2 * np.log(nothing / something)
    bound = math.log((1 - GSPRT_ERROR) / GSPRT_ERROR)
    over = np.abs(ratio) >= bound
    stop = np.where(over.any(axis=1), over.argmax(axis=1), len(looks) - 1)
    rows = np.arange(len(gains))
    return Ruling(ratio[rows, stop] >= bound, -np.expm1(-mean(gains)[rows, stop]), 2 * looks[stop])


def below_the_record(seen: Floats, best: Floats) -> Bools:
    """Lower than the best run that was ever kept."""
    return np.asarray(seen[:, -1] < best)


def mad_score(seen: Floats, best: Floats) -> Bools:
    """Lower than the best run kept, and beyond the first by twice the median absolute deviation of all runs."""
    if seen.shape[1] < MAD_FEWEST:
        return np.zeros(len(seen), dtype=np.bool_)
    score = np.abs(seen[:, -1] - seen[:, 0]) / spread(seen)
    return np.asarray((seen[:, -1] < best) & (score >= MAD_SCORE))


def spread(seen: Floats) -> Floats:
    """The median absolute deviation of each night's runs; infinite where it is 0, as then there is no score."""
    deviation = np.median(np.abs(seen - np.median(seen, axis=1, keepdims=True)), axis=1)
    return np.asarray(np.where(deviation > 0, deviation, np.inf))


@dataclass(frozen=True)
class Night:
    """What a night rule made of nights: arrays of shape (nights, candidates).

    `would` says, for each gain asked about, whether a candidate of that gain would have been kept in its place, and
    `would_claim` with what gain.
    """

    promoted: Bools
    claimed: Floats
    would: dict[float, Bools]
    would_claim: dict[float, Floats]


def through_the_night(rule: NightRule, times: Floats, gains: Floats, asked: Sequence[float] = ()) -> Night:
    """Run nights under a rule: a candidate that is kept is what the next ones start from.

    Args:
        rule: the rule.
        times: what each run would take without any change, shape (nights, 1 + candidates); the first is the baseline's.
        gains: the candidates' true gains over what they start from, shape (nights, candidates).
        asked: gains to ask about besides.
    """
    seen = np.empty_like(times)
    seen[:, 0] = best = times[:, 0]
    level = np.ones(len(times))
    promoted, claimed = np.zeros(gains.shape, dtype=np.bool_), np.zeros(gains.shape)
    would = {gain: np.zeros(gains.shape, dtype=np.bool_) for gain in asked}
    would_claim = {gain: np.zeros(gains.shape) for gain in asked}
    for at in range(gains.shape[1]):
        unchanged, upto = times[:, at + 1] * level, seen[:, : at + 2]
        for gain, kept in would.items():
            upto[:, -1] = unchanged * (1 - gain)
            kept[:, at] = rule.keeps(upto, best)
            would_claim[gain][:, at] = 1 - upto[:, -1] / best
        upto[:, -1] = unchanged * (1 - gains[:, at])
        promoted[:, at] = keeps = rule.keeps(upto, best)
        claimed[:, at] = 1 - upto[:, -1] / best
        best = np.where(keeps, upto[:, -1], best)
        level = np.where(keeps, level * (1 - gains[:, at]), level)
    return Night(promoted, claimed, would, would_claim)


def mad_nights(times: Floats) -> Bools:
    """Which nights without any gain end as "likely real": whatever is lower is kept, the score is that of the best."""
    best = times.min(axis=1)
    return np.asarray((times[:, 0] - best) / spread(times) >= MAD_SCORE)


def _ruling(promoted: Bools | np.bool_ | bool, ratio: Floats, runs: int) -> Ruling:
    return Ruling(np.asarray(promoted), 1 - ratio, np.full(len(ratio), runs))


RULES = (
    Rule(
        "keep if lower",
        "One run of each, one after the other; lower is kept.",
        "what remains of most loops when nobody says how to compare",
        "none",
        "It claims no error rate.",
        "in a row",
        1,
        keep_if_lower,
    ),
    Rule(
        "single run, 5%",
        "One run of each; kept if at least 5% lower.",
        "the usual remedy: keep if lower, with a margin",
        "none",
        "It claims no error rate.",
        "in a row",
        1,
        single_run,
    ),
    Rule(
        "min of 10",
        "10 runs of the baseline, then 10 of the candidate; kept if the least is lower.",
        "Python's `timeit` documentation (look at the minimum); Chen & Revels 2016 for why",
        "none",
        "It is an estimate and no test; noise that only adds is what it is made for.",
        "in a row",
        10,
        least,
    ),
    Rule(
        "Welch 10 + 10",
        "10 runs of the baseline, then 10 of the candidate; kept if Welch's test says faster at p < 0.05.",
        "Welch 1947; what most comparing benchmark tools compute",
        "gain ≤ 0",
        "It assumes independent runs. Interleaved, it would be nearer to the paired t.",
        "in a row",
        10,
        welch,
    ),
    Rule(
        "Mann-Whitney 10 + 10",
        "10 runs of the baseline, then 10 of the candidate; kept if the rank-sum test says faster at p < 0.05.",
        "Mann & Whitney 1947; Go's `benchstat` uses it",
        "gain ≤ 0",
        "It assumes independent runs, of any distribution.",
        "in a row",
        10,
        mann_whitney,
    ),
    *(
        Rule(
            f"paired t, {pairs}",
            f"{pairs} pairs in an order drawn by coin; kept if the t-test on log ratios says faster at p < 0.05.",
            "Student 1908",
            "gain ≤ 0",
            "The fair rival: same pairs, same coin as ours.",
            "paired",
            pairs,
            paired_t,
        )
        for pairs in (10, 20, 30)
    ),
    Rule(
        "tango z",
        f"{TANGO_PAIRS} pairs; kept if the mean difference is beyond {TANGO_Z} standard errors and {TANGO_NOISE:.0%}.",
        "bazhenov/tango, `tango-bench/src/lib.rs`, `DiffEstimate`, and `cli.rs`, `--noise-threshold`",
        "gain ≤ 0",
        "Made for functions called thousands of times in one process; here it gets whole processes.",
        "paired",
        TANGO_PAIRS,
        tango,
    ),
    Rule(
        "GSPRT",
        f"Pairs until the likelihood ratio of a gain of {GSPRT_GAINS[1]:.0%} against none is beyond 19 or 1/19; "
        f"{GSPRT_CAP} at most.",
        "official-stockfish/fishtest, `server/fishtest/stats` (error rates of 0.05)",
        "gain ≤ 0",
        "Made for tens of thousands of chess games with bounded scores; here log ratios, with normal noise assumed.",
        "paired",
        GSPRT_CAP,
        gsprt,
    ),
)

NIGHT_RULES = (
    NightRule(
        "below the record",
        "One run of the candidate; kept if lower than the best run that was ever kept. The baseline is not run again.",
        "karpathy/autoresearch, `program.md`, the experiment loop",
        "none",
        "Made for training runs of five minutes, whose noise is small beside what is looked for.",
        below_the_record,
    ),
    NightRule(
        "MAD score",
        "As before, and it beats the first run by at least 2.0 times the median absolute deviation of all runs so far.",
        "davebcn87/pi-autoresearch, README, “Confidence scoring”",
        "none",
        "Advisory there: it says “likely real”, and the agent decides. Here 2.0 decides.",
        mad_score,
    ),
)
