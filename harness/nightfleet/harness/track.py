"""One quantity of one series, pair after pair: its evidence, its estimate and its totals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nightfleet.harness.calibration import Noise
from nightfleet.harness.estimate import Estimate, estimate
from nightfleet.harness.evalue import EValue
from nightfleet.harness.reading import BothSides, Pair, observe, total_gain
from nightfleet.harness.rules import GUARD_BAR, Over, Quantity, to_log

GUARD_BAR_LOG = math.log(GUARD_BAR)


@dataclass(frozen=True, slots=True)
class Totals:
    """Untrimmed ln(sum t_b / sum t_c) over the timed pairs, and over them and the behaviour gate's blocks together.

    Together and not over the blocks alone: a few noisy blocks are one fixed number that no further pair could mend.
    Measured on recorded streams with 100 blocks, the second sum costs an honest +8% nothing, the first 0-8% of power.
    """

    pairs: float
    with_blocks: float

    def exceed(self, log: float) -> bool:
        """Whether both do: neither may hide the other's slow trials."""
        return min(self.pairs, self.with_blocks) > log

    @property
    def lowest(self) -> float:
        """The lower of both, in log units."""
        return min(self.pairs, self.with_blocks)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the judged quantity of a series stands: evidence against both nulls, as ln E, estimate and totals."""

    series: str
    estimate: Estimate
    log_e_promote: float
    log_e_lesser: float
    totals: Totals


@dataclass(frozen=True, slots=True)
class Shield:
    """Where a guard stands: `limit` as a fraction (0: must gain), ln E against "worse than the limit"."""

    series: str
    quantity: Quantity
    limit: float
    log_e: float
    estimate: Estimate
    totals: Totals

    @property
    def claim(self) -> str:
        """What has to be shown, in words."""
        return f"{self.quantity} at most {self.limit:+.1%}" if self.limit else f"a gain in {self.quantity} time"

    @property
    def held(self) -> bool:
        """Shown to hold, which is more than not shown broken: by evidence, and in the untrimmed totals."""
        return self.log_e >= GUARD_BAR_LOG and self.totals.exceed(to_log(-self.limit))

    @property
    def broken(self) -> bool:
        """Whether it cannot hold any more."""
        return self.limit > 0 and self.estimate.below(to_log(-self.limit))


class Track:
    """The observations of one quantity of one series. Adding a pair costs 20 logs for each null."""

    def __init__(
        self,
        series: str,
        quantity: Quantity,
        *,
        workloads: Sequence[str],
        over: Over,
        noise: Noise,
        nulls: Sequence[float],
        blocks: Sequence[BothSides],
    ) -> None:
        self.series, self.quantity, self.over, self.noise = series, quantity, over, noise
        self.workloads = tuple(workloads)
        self.evalues = {null: EValue(null) for null in nulls}
        self.gains: list[float] = []
        self.scales: list[float] = []
        self._pair_sums = _sums((), quantity, self.workloads)
        self._block_sums = _sums(blocks, quantity, self.workloads)

    def add(self, round_: Sequence[Pair]) -> None:
        """One more round: one pair of each of the series' workloads."""
        seen = observe(round_, self.quantity, self.over, per_block=self.noise.per_block)
        scale = self.noise.scale(seen.level)
        self.gains.append(seen.gain)
        self.scales.append(scale)
        self.evalues = {null: evalue.add(seen.gain, scale) for null, evalue in self.evalues.items()}
        self._pair_sums = _joined(self._pair_sums, _sums(round_, self.quantity, self.workloads))

    def estimate(self, rounds: Sequence[int] | None = None) -> Estimate:
        """The gain over all rounds, or those with these indices."""
        chosen = range(len(self.gains)) if rounds is None else rounds
        return estimate([self.gains[i] for i in chosen], [self.scales[i] for i in chosen], self.noise.lowest)

    @property
    def totals(self) -> Totals:
        """Of every round so far."""
        pairs = total_gain(self._pair_sums, self.over)
        return Totals(pairs, total_gain(_joined(self._pair_sums, self._block_sums), self.over))


def _sums(sides: Sequence[Pair | BothSides], quantity: Quantity, workloads: Sequence[str]) -> list[tuple[int, int]]:
    """(baseline, candidate) for each workload."""
    return [
        (
            sum(side.baseline.of(quantity) for side in sides if side.workload == workload),
            sum(side.candidate.of(quantity) for side in sides if side.workload == workload),
        )
        for workload in workloads
    ]


def _joined(left: Sequence[tuple[int, int]], right: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(a + c, b + d) for (a, b), (c, d) in zip(left, right, strict=True)]
