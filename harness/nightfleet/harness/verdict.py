"""The verdict on speed: from timed pairs to promote, incremental, simplify, reject, undecided or suspicious.

Pure: no clock, no files, no randomness; the same pairs give the same decision, bit for bit, on the same C library.
The fixed constants stand first in `rules`; `evalue`, `estimate`, `track` and `regions` hold one thought each.

A timing goes pair by pair through `Sequential` until a step is not open any more. CONFIRM asks for twenty fresh pairs
with the machine quiet, and `Sequential.confirm` says what came of them. `decide` does the same from lists; what the
ledger keeps, so that anyone can recompute the verdict, is an `evidence.Evidence`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nightfleet.harness import regions
from nightfleet.harness.calibration import Calibration, Noise
from nightfleet.harness.reading import BothSides, Pair, Reading
from nightfleet.harness.regions import OPEN, Outcome, Step
from nightfleet.harness.rules import CONFIRMATION_PAIRS, ErrorBudget, Guard, Quantity, Rules, to_gain, to_log
from nightfleet.harness.track import Shield, Standing, Track

__all__ = [
    "BothSides",
    "Calibration",
    "Decision",
    "ErrorBudget",
    "Guard",
    "Noise",
    "Pair",
    "Reading",
    "Rules",
    "Sequential",
    "Shield",
    "Step",
    "decide",
    "decide_relinked",
]


@dataclass(frozen=True)
class Decision:
    """Where a timing stands. Gains are fractions of the baseline; those of the series that gains least.

    `low` and `high` are the gain -+ k SE. `log_e` is ln E against the promotion's null (the margin's, to simplify),
    `log_e_lesser` against the incremental's. `stopping` is the decision that asked for the confirmation, kept beside it
    because a figure at which one stopped is too high on average and the fresh one is not.
    """

    step: Step
    reason: str
    pairs: int
    series: str = ""
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    total_gain: float | None = None
    log_e: float = 0.0
    log_e_lesser: float = 0.0
    extraordinary: bool = False
    guards: tuple[Shield, ...] = ()
    stopping: "Decision | None" = None

    @property
    def open(self) -> bool:
        """Whether more pairs may be added: at the cap too, when idle time continues an undecided one."""
        return self.step in OPEN and self.stopping is None


NOTHING_YET = Decision(Step.CONTINUE, "no pair has been timed yet", 0)


class Sequential:
    """One timing, pair by pair. Pairs of several workloads come in any order and count when a round is whole."""

    def __init__(self, rules: Rules, calibration: Calibration, blocks: Sequence[BothSides] = ()) -> None:
        self.rules, self.calibration, self.blocks = rules, calibration, tuple(blocks)
        for block in self.blocks:
            _known(block.workload, rules)
        self.decision = NOTHING_YET
        self.rounds: list[list[Pair]] = []
        self._rounds = _Rounds(rules)
        self._judged, self._guarding = _tracks(rules, calibration, self.blocks)

    def add(self, pair: Pair) -> Decision:
        """The decision with one more pair. ValueError once the timing has ended, and for readings that are missing."""
        if not self.decision.open:
            raise ValueError(f"the timing ended after {self.decision.pairs} pairs ({self.decision.step}); no more fit")
        for round_ in self._rounds.add(pair):
            _extend([*self._judged, *self._guarding], round_, self.rules)
            self.rounds.append(round_)
            ground = _ground(self.rules, self.calibration, self._judged, self._guarding)
            self.decision = _decision(regions.region(ground), ground)
        return self.decision

    def confirm(self, pairs: Sequence[Pair]) -> Decision:
        """The verdict after CONFIRM, by twenty fresh pairs of each workload. ValueError for another number."""
        if self.decision.step is not Step.CONFIRM:
            raise ValueError(f"only a timing in step confirm can be confirmed; this one is in {self.decision.step}")
        return _confirm(self, pairs)


def decide(
    rules: Rules,
    calibration: Calibration,
    pairs: Sequence[Pair],
    *,
    blocks: Sequence[BothSides] = (),
    confirmation: Sequence[Pair] = (),
) -> Decision:
    """The decision on recorded pairs. ValueError if pairs follow the one that ended the timing."""
    timing = Sequential(rules, calibration, blocks)
    for pair in pairs:
        timing.add(pair)
    return timing.confirm(confirmation) if confirmation else timing.decision


def decide_relinked(rules: Rules, calibration: Calibration, pairs: Sequence[Pair]) -> Decision:
    """PROMOTE if an extraordinary claim holds between relinked builds of both sides, else SUSPICIOUS.

    Held against the promotion's null at the bar of the guards (20), by twenty fresh pairs of each workload alone.
    ValueError for another number.
    """
    fresh = _fresh(rules, pairs)
    judged, guarding = _tracks(rules, calibration, ())
    for round_ in fresh:
        _extend([*judged, *guarding], round_, rules)
    ground = _ground(rules, calibration, judged, guarding)
    return _decision(regions.relinked(ground), ground)


class _Rounds:
    """Makes rounds of pairs: the k-th pair of each workload makes round k. ValueError if its coins differ."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._waiting: dict[str, list[Pair]] = {workload: [] for workload in rules.workloads}

    def add(self, pair: Pair) -> list[list[Pair]]:
        """The round that this pair completes, if it does."""
        _known(pair.workload, self._rules)
        self._waiting[pair.workload].append(pair)
        if not all(self._waiting.values()):
            return []
        round_ = [waiting.pop(0) for waiting in self._waiting.values()]
        if len({one.candidate_first for one in round_}) > 1:
            raise ValueError("the pairs of one round, one of each workload, share one coin; these do not")
        return [round_]


def _known(workload: str, rules: Rules) -> None:
    if workload not in rules.workloads:
        raise ValueError(f"no workload is named {workload!r}; there are {', '.join(map(repr, rules.workloads))}")


def _tracks(rules: Rules, calibration: Calibration, blocks: Sequence[BothSides]) -> tuple[list[Track], list[Track]]:
    """Of the judged quantity, and of the guarded ones: one for each series."""
    layout_sd = calibration.layout_sd
    if rules.purpose == "simplify":
        judged: dict[Quantity, set[float]] = {rules.quantity: {rules.simplify_null(layout_sd)}}
    else:
        judged = {rules.quantity: {rules.promote_null(layout_sd), rules.incremental_null(layout_sd)}}
    guarded: dict[Quantity, set[float]] = {}
    for guard in rules.shields:
        guarded.setdefault(guard.quantity, set()).add(-guard.limit)

    def of(nulls: dict[Quantity, set[float]]) -> list[Track]:
        return [
            Track(
                series,
                quantity,
                workloads=rules.members(series),
                over=rules.over,
                noise=calibration.of(series, quantity),
                nulls=sorted(bounds),
                blocks=blocks,
            )
            for quantity, bounds in nulls.items()
            for series in rules.series
        ]

    return of(judged), of(guarded)


def _extend(tracks: Sequence[Track], round_: Sequence[Pair], rules: Rules) -> None:
    for track in tracks:
        members = rules.members(track.series)
        track.add([pair for pair in round_ if pair.workload in members])


def _standing(track: Track, rules: Rules, layout_sd: float) -> Standing:
    if rules.purpose == "simplify":
        promote = lesser = track.evalues[rules.simplify_null(layout_sd)].log
    else:
        promote = track.evalues[rules.promote_null(layout_sd)].log
        lesser = track.evalues[rules.incremental_null(layout_sd)].log
    return Standing(track.series, track.estimate(), promote, lesser, track.totals)


def _ground(
    rules: Rules, calibration: Calibration, judged: Sequence[Track], guarding: Sequence[Track]
) -> regions.Ground:
    standings = [_standing(track, rules, calibration.layout_sd) for track in judged]
    shields = tuple(
        Shield(
            track.series, track.quantity, guard.limit, track.evalues[-guard.limit].log, track.estimate(), track.totals
        )
        for guard in rules.shields
        for track in guarding
        if track.quantity == guard.quantity
    )
    return regions.Ground(rules, calibration.layout_sd, standings, shields)


def _decision(outcome: Outcome, ground: regions.Ground) -> Decision:
    step, reason = outcome
    estimate = ground.least.estimate
    return Decision(
        step,
        reason,
        estimate.pairs,
        series=ground.least.series,
        gain=to_gain(estimate.log_gain),
        low=to_gain(estimate.log_gain - estimate.width),
        high=to_gain(estimate.upper),
        total_gain=ground.lowest_total,
        log_e=min(s.log_e_promote for s in ground.standings),
        log_e_lesser=min(s.log_e_lesser for s in ground.standings),
        extraordinary=estimate.log_gain >= to_log(ground.rules.extraordinary),
        guards=tuple(ground.shields),
    )


def _fresh(rules: Rules, pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The rounds of a confirmation."""
    rounds = _Rounds(rules)
    fresh = [round_ for pair in pairs for round_ in rounds.add(pair)]
    expected = CONFIRMATION_PAIRS * len(rules.workloads)
    if len(fresh) != CONFIRMATION_PAIRS or len(pairs) != expected:
        raise ValueError(f"a confirmation is {CONFIRMATION_PAIRS} pairs of each workload, {expected}; got {len(pairs)}")
    return fresh


def _confirm(timing: Sequential, pairs: Sequence[Pair]) -> Decision:
    """Gain, totals and order effect come from the fresh pairs alone; guards from all pairs, as evidence adds up."""
    rules, calibration = timing.rules, timing.calibration
    fresh = _fresh(rules, pairs)
    judged, _ = _tracks(rules, calibration, timing.blocks)
    _, guarding = _tracks(rules, calibration, timing.blocks)
    for round_ in fresh:
        _extend(judged, round_, rules)
    for round_ in [*timing.rounds, *fresh]:
        _extend(guarding, round_, rules)
    ground = _ground(rules, calibration, judged, guarding)
    first = [i for i, round_ in enumerate(fresh) if round_[0].candidate_first]
    second = [i for i, round_ in enumerate(fresh) if not round_[0].candidate_first]
    orders = [(track.estimate(first), track.estimate(second)) for track in judged] if first and second else None
    decision = _decision(regions.confirmed(ground, orders), ground)
    extraordinary = decision.extraordinary or timing.decision.extraordinary
    return replace(decision, extraordinary=extraordinary, stopping=timing.decision)
