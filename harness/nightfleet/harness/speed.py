"""Gates 6 and 7, speed and guards: rounds from a bench into the sequential verdict, until it knows, and once more.

Every timed record is compared: one that differs ends the timing at once, whatever the figures say. A round that ended
badly ends it too. What was timed is kept raw, so that the ledger can decide on it again and a later run can go on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.evidence import Evidence
from nightfleet.harness.reading import BothSides, Pair
from nightfleet.harness.regions import Step
from nightfleet.harness.rounds import Bench, Blocks, BrokenError, Round
from nightfleet.harness.rules import CONFIRMATION_PAIRS, Rules
from nightfleet.harness.verdict import Decision, Sequential

__all__ = ["Progress", "Speed", "SpeedResult"]


@dataclass(frozen=True)
class Progress:
    """Where a timing stands after a round; `decision.step` is the region so far, `decision.log_e` is ln E.

    `confirmed` counts the fresh rounds of the confirmation, None before it.
    """

    round: Round
    decision: Decision
    confirmed: int | None
    void: int
    seconds: float


@dataclass(frozen=True)
class SpeedResult:
    """A timing that ended, or as far as it came. At most one of `diverged` and `broken` is set, and overrules all.

    Attributes:
        decision: on all pairs that count.
        pairs: those before the confirmation, the recorded ones that it went on from included.
        confirmation: the fresh ones, fewer than asked for if it was cut short.
        rounds: of this run, in their order, void ones included, warm-ups not.
        next_block: the first block that was not used yet.
        diverged: by workload, the cases whose records differed in a timed trial: the candidate is incorrect.
        broken: how the candidate ended badly in timed trials.
    """

    decision: Decision
    pairs: tuple[Pair, ...]
    confirmation: tuple[Pair, ...]
    rounds: tuple[Round, ...]
    next_block: int
    diverged: Mapping[str, tuple[int, ...]]
    broken: BrokenError | None
    seconds: float

    @property
    def void(self) -> int:
        """Rounds of this run that did not count."""
        return sum(round_.void is not None for round_ in self.rounds)

    def evidence(self, rules: Rules, calibration: Calibration, blocks: Sequence[BothSides] = ()) -> Evidence:
        """What the ledger keeps. ValueError for a timing cut short in its confirmation: its decision is not one yet."""
        if self.confirmation and self.decision.stopping is None:
            raise ValueError(f"the confirmation was cut short after {len(self.confirmation)} pairs; time it again")
        return Evidence(rules, calibration, tuple(blocks), self.pairs, self.confirmation, self.decision)


class _DivergedError(Exception):
    """Timed records differ."""


@dataclass
class Speed:
    """One timing. `run` it once; `result` is there at any moment, after an exception too.

    Args:
        bench: what times a round.
        rules: thresholds, the clock, and the error rate of this timing.
        calibration: frozen before pair 1.
        blocks: the blocks of a round, by its number; no number is asked for twice.
        behaviour: what the blocks of the behaviour gate took; they count in the totals.
        previous: recorded pairs of the same binaries, to go on from; those after the one that asked for the
            confirmation are the confirmation's.
        first_block: the first number that is fresh: `next_block` of the last result.
        bound: the record that it goes on from holds what ended it: the bench is asked, whatever the figures say.
        patient: go on to the cap where that will hardly decide it; a night, where others wait, makes way.
        beyond: how many rounds to add to a timing that is undecided then.
        quiet: entered for the confirmation; while it is, nothing else may run on the machine.
        on_round: told after each round that was not a warm-up.
    """

    bench: Bench
    rules: Rules
    calibration: Calibration
    blocks: Callable[[int], Blocks]
    behaviour: Sequence[BothSides] = ()
    previous: Sequence[Pair] = ()
    first_block: int = 0
    bound: bool = False
    patient: bool = True
    beyond: int = 0
    quiet: Callable[[], AbstractContextManager[object]] = nullcontext
    on_round: Callable[[Progress], None] | None = None
    _timing: Sequential = field(init=False)
    _decision: Decision = field(init=False)
    _pairs: list[Pair] = field(default_factory=list, init=False)
    _confirmation: list[Pair] = field(default_factory=list, init=False)
    _rounds: list[Round] = field(default_factory=list, init=False)
    _diverged: Mapping[str, tuple[int, ...]] = field(default_factory=dict, init=False)
    _broken: BrokenError | None = field(default=None, init=False)
    _next: int = field(init=False)
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._timing = Sequential(self.rules, self.calibration, self.behaviour)
        self._decision = self._timing.decision
        self._take_up()
        self._next, self._started = self.first_block, time.monotonic()

    def _take_up(self) -> None:
        """Recorded pairs lead to the same decisions as when they ran, so it is known what each was for."""
        for pair in self.previous:
            if self._decision.step is Step.CONFIRM:
                self._confirmation.append(pair)
            else:
                self._decision = self._timing.add(pair)
                self._pairs.append(pair)
        if len(self._confirmation) >= CONFIRMATION_PAIRS * len(self.rules.workloads):
            self._decision = self._timing.confirm(self._confirmation)

    def run(self) -> SpeedResult:
        """Time until the verdict knows, then confirm what would be promoted.

        Raises:
            nightfleet.harness.rounds.TooLoadedError: when too many rounds were void.
            nightfleet.native.UserError: when the baseline ended badly twice.
            nightfleet.native.MachineError: when the leased cores do not become calm.
        """
        self._started = time.monotonic()
        try:
            self._time()
            if self._decision.step is Step.CONFIRM:
                self._confirm()
        except BrokenError as broken:
            self._broken = broken
        except _DivergedError:
            pass  # `_diverged` holds it
        return self.result

    @property
    def result(self) -> SpeedResult:
        """What is known so far."""
        return SpeedResult(
            self._decision,
            tuple(self._pairs),
            tuple(self._confirmation),
            tuple(self._rounds),
            self._next,
            dict(self._diverged),
            self._broken,
            time.monotonic() - self._started,
        )

    def _time(self) -> None:
        if self.bound or self._wanted(0):
            self._warm_up()
        beyond = 0
        while self._wanted(beyond):
            beyond += self._makes_way
            round_ = self._round()
            if round_.void is None:
                for pair in round_.pairs:
                    self._decision = self._timing.add(pair)
                    self._pairs.append(pair)
            self._tell(round_, None)

    def _wanted(self, beyond: int) -> bool:
        goes_on = self._decision.step is Step.UNDECIDED and not self._makes_way
        return self._decision.step is Step.CONTINUE or goes_on or (self._makes_way and beyond < self.beyond)

    @property
    def _makes_way(self) -> bool:
        """Whether it is undecided and nobody waits for more pairs, unless they were asked for."""
        patient = self.patient and self._decision.pairs < self.rules.cap
        return self._decision.step is Step.UNDECIDED and not patient

    def _confirm(self) -> None:
        workloads = len(self.rules.workloads)
        with self.quiet():
            self._warm_up()
            while len(self._confirmation) < CONFIRMATION_PAIRS * workloads:
                round_ = self._round()
                if round_.void is None:
                    self._confirmation.extend(round_.pairs)
                if len(self._confirmation) == CONFIRMATION_PAIRS * workloads:
                    self._decision = self._timing.confirm(self._confirmation)
                self._tell(round_, len(self._confirmation) // workloads)

    def _warm_up(self) -> None:
        self._compared(self.bench.warm_up_round(self._fresh()))

    def _round(self) -> Round:
        round_ = self.bench.round(self._fresh(), reference=self.calibration.per_block)
        self._rounds.append(round_)
        return self._compared(round_)

    def _fresh(self) -> Blocks:
        # Counted before anything can fail: a block that may have been seen is never fresh again.
        self._next += 1
        return self.blocks(self._next - 1)

    def _compared(self, round_: Round) -> Round:
        if round_.diverged:
            self._diverged = round_.diverged
            raise _DivergedError
        return round_

    def _tell(self, round_: Round, confirmed: int | None) -> None:
        if self.on_round is not None:
            void = sum(one.void is not None for one in self._rounds)
            seconds = time.monotonic() - self._started
            self.on_round(Progress(round_, self._decision, confirmed, void, seconds))
