"""Calibration runs: the baseline against itself, timed as candidates will be, until the noise is known.

The pure fit is in `noise`. What comes out is frozen before pair 1 of any candidate.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nightfleet.harness import power
from nightfleet.harness.calibration import Calibration
from nightfleet.harness.layout import Layout, Relinked
from nightfleet.harness.noise import (
    BLOCK_SPREAD,
    PAIRS_FOR_A_NIGHT,
    Clock,
    block_spread,
    calibrate,
    choose_clock,
    cpu_obstacle,
    stable,
)
from nightfleet.harness.reading import Pair, Reading
from nightfleet.harness.rounds import Bench, Blocks, BrokenError, Round
from nightfleet.harness.rules import Quantity, Rules
from nightfleet.native import UserError

__all__ = [
    "PAIRS_FOR_A_NIGHT",
    "PAIRS_FOR_VERIFY",
    "Calibrated",
    "Measured",
    "NoiseFigures",
    "Plan",
    "Summary",
    "conclude",
    "measure",
]

# What one verification asks for; a night asks for `PAIRS_FOR_A_NIGHT` (design: 200).
PAIRS_FOR_VERIFY = 60
# Recorded streams were stable for the first time after 200 to 410 pairs; a machine whose load comes and goes never is.
MOST_PAIRS = 500
# Pairs of each relink, in one verification and for a night.
RELINK_PAIRS_FOR_VERIFY = 6
RELINK_PAIRS_FOR_A_NIGHT = 8
# Looks at stability cost a fit each.
LOOK_EVERY = 10
# Blocks that two passes time to see how much their work differs.
SPREAD_BLOCKS = 20
# Timings that are simulated for each figure of power: their share is known to within 7% then.
POWER_RUNS = 200


@dataclass(frozen=True)
class Plan:
    """What to calibrate for. `cores`: those of a trial. Pairs end at the first stable count from `at_least` to `cap`.

    `relink_pairs`: of each relink, see `layout`. `layout`: what is known of it already; then nothing is relinked.
    """

    rules: Rules
    clock: Clock = "auto"
    cores: int = 1
    at_least: int = PAIRS_FOR_VERIFY
    cap: int = MOST_PAIRS
    relink_pairs: int = RELINK_PAIRS_FOR_VERIFY
    power_runs: int = POWER_RUNS
    layout: Layout | None = None


@dataclass(frozen=True)
class NoiseFigures:
    """The noise scale of one quantity of one series, in log units: of calm pairs, of the median bin, of the worst."""

    series: str
    quantity: Quantity
    lowest: float
    median: float
    highest: float


@dataclass(frozen=True)
class Summary:
    """A calibration for people. `longer` is how many times longer a block should be, None if nothing suffices.

    `power`: (gain, share promoted, mean pairs). `spread`: by workload, of the work of blocks (log units).
    """

    clock: Quantity
    why: str
    noise: tuple[NoiseFigures, ...]
    spread: tuple[tuple[str, float], ...]
    per_block: bool
    power: tuple[tuple[float, float, float], ...]
    longer: int | None
    pairs: int
    void: int
    stable: bool
    seconds: float
    layout: Layout = field(default_factory=Layout)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` gives back an equal summary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Summary":
        """A summary from its plain values. TypeError when they are not one."""
        noise = tuple(NoiseFigures(**figures) for figures in plain["noise"])
        spread = tuple((str(name), float(value)) for name, value in plain["spread"])
        found = tuple((float(gain), float(share), float(pairs)) for gain, share, pairs in plain["power"])
        layout = Layout.from_dict(plain["layout"])
        return cls(**{**plain, "noise": noise, "spread": spread, "power": found, "layout": layout})


@dataclass(frozen=True)
class Calibrated:
    """What a calibration gave: `rules` have the clock that was chosen, `pairs` are the raw A/A pairs that count."""

    rules: Rules
    calibration: Calibration
    pairs: tuple[Pair, ...]
    summary: Summary


@dataclass(frozen=True)
class Measured:
    """The A/A pairs of a calibration that count, and what they were timed by; `next_block` was not used yet."""

    rules: Rules
    why: str
    spread: dict[str, float]
    per_block: bool
    pairs: tuple[Pair, ...]
    void: int
    stable: bool
    next_block: int
    seconds: float


def measure(
    bench: Bench,
    plan: Plan,
    blocks: Callable[[int], Blocks],
    *,
    on_round: Callable[[Round, int], None] | None = None,
) -> Measured:
    """Time the baseline against itself on fresh blocks until the noise is known, or `plan.cap` pairs.

    Args:
        bench: with the same tree on both sides.
        plan: what for.
        blocks: the blocks of a round, by its number.
        on_round: told each round, and how many count so far.

    Raises:
        nightfleet.native.UserError: when the baseline disagrees with itself, or ends badly, or when the clock that was
            asked for cannot be had.
        nightfleet.harness.rounds.TooLoadedError: when too many rounds were void.
    """
    started = time.monotonic()
    rules, why = _clock(plan, bench, _agreeing(bench.warm_up_round(blocks(0))))
    spread = _spread(bench, [blocks(number) for number in range(1, 1 + SPREAD_BLOCKS)], rules.quantity)
    per_block = max(spread.values()) > BLOCK_SPREAD
    runs = _Runs(bench, replace(plan, rules=rules), blocks, per_block, on_round)
    pairs = tuple(runs.until_stable())
    seconds = time.monotonic() - started
    return Measured(rules, why, spread, per_block, pairs, runs.void, runs.stable, runs.next_block, seconds)


def conclude(measured: Measured, plan: Plan, relinked: Relinked | None = None) -> Calibrated:
    """What the pairs say about the noise, what relinks say about layouts, and what can be found by both."""
    started = time.monotonic()
    rules, pairs = measured.rules, measured.pairs
    noise = calibrate(pairs, rules, per_block=measured.per_block)
    layout = plan.layout or (relinked or Relinked()).fit(rules, noise)
    calibration = replace(noise, layout_sd=layout.sd)
    # One trial without a figure is enough for a guard not to be held; what is found without it is found all the same.
    known = {quantity for by_quantity in noise.noise.values() for quantity in by_quantity}
    held = replace(rules, guards=tuple(guard for guard in rules.guards if guard.quantity in known))
    table = power.table(pairs, calibration, held, runs=plan.power_runs)
    summary = Summary(
        clock=rules.quantity,
        why=measured.why,
        noise=_figures(calibration),
        spread=tuple(measured.spread.items()),
        per_block=measured.per_block,
        power=tuple((row.gain, row.promoted, row.mean_pairs) for row in table),
        longer=power.longer_block(pairs, held, runs=plan.power_runs, layout_sd=layout.sd),
        pairs=calibration.pairs,
        void=measured.void,
        stable=measured.stable,
        seconds=measured.seconds + time.monotonic() - started,
        layout=layout,
    )
    return Calibrated(rules, calibration, pairs, summary)


def _clock(plan: Plan, bench: Bench, warm_up: Round) -> tuple[Rules, str]:
    """The rules with the clock to judge by, and why that one."""
    if plan.rules.quantity == "memory":
        return plan.rules, "the metric is memory"
    single, group = warm_up.tasks == 0, bench.facts.get("cpu_source", "rusage") != "rusage"
    chosen = choose_clock(plan.clock, cores=plan.cores, single_threaded=single, group_cpu=group)
    obstacle = cpu_obstacle(cores=plan.cores, single_threaded=single, group_cpu=group)
    if chosen == plan.clock:
        why = f"the program says clock: {plan.clock}"
    elif obstacle:
        why = f"wall, because {obstacle}"
    else:
        why = "CPU time: one thread on one core, and this machine counts all of a trial's processes"
    return replace(plan.rules, quantity=chosen), why


def _spread(bench: Bench, blocks: Sequence[Blocks], quantity: Quantity) -> dict[str, float]:
    """By workload: a pass over all blocks, then another, so that neighbours' common noise is not taken for work."""
    first, second = ([bench.reference(block) for block in blocks] for _ in range(2))
    return {name: block_spread(_of(first, name), _of(second, name), quantity) for name in first[0]}


def _of(readings: Sequence[dict[str, Reading]], name: str) -> list[Reading]:
    return [by_workload[name] for by_workload in readings]


def _agreeing(round_: Round) -> Round:
    """The round. UserError if the baseline disagrees with itself in it."""
    for name, cases in round_.diverged.items():
        where = f" of workload {name}" if name else ""
        raise UserError(
            f"the baseline disagrees with itself on case {cases[0]}{where}: two runs gave different records; "
            "make it deterministic, or have `behaviour: {ignore: …}` remove what differs"
        )
    return round_


@dataclass
class _Runs:
    """The A/A rounds of one calibration."""

    bench: Bench
    plan: Plan
    blocks: Callable[[int], Blocks]
    per_block: bool
    on_round: Callable[[Round, int], None] | None
    void: int = 0
    stable: bool = False
    next_block: int = 1 + SPREAD_BLOCKS

    def until_stable(self) -> list[Pair]:
        """The pairs that count, of every workload."""
        pairs: list[Pair] = []
        counted = 0
        while counted < self.plan.cap and not self.stable:
            round_ = self._round()
            if round_.void is None:
                pairs.extend(round_.pairs)
                counted += 1
                self.stable = counted % LOOK_EVERY == 0 and self._known(pairs)
            else:
                self.void += 1
            if self.on_round is not None:
                self.on_round(round_, counted)
        return pairs

    def _round(self) -> Round:
        self.next_block += 1
        try:
            return _agreeing(self.bench.round(self.blocks(self.next_block - 1), reference=self.per_block))
        except BrokenError as broken:
            raise UserError(f"the baseline against itself: {broken}") from broken

    def _known(self, pairs: Sequence[Pair]) -> bool:
        return stable(pairs, self.plan.rules, at_least=self.plan.at_least, per_block=self.per_block)


def _figures(calibration: Calibration) -> tuple[NoiseFigures, ...]:
    return tuple(
        NoiseFigures(series, quantity, noise.lowest, statistics.median(noise.scales), noise.scales[-1])
        for series, by_quantity in calibration.noise.items()
        for quantity, noise in by_quantity.items()
    )
