"""What was read off timed trials, and how several workloads become one observation.

A *round* is one pair of every workload, all drawn by one coin: the k-th pair of each workload makes round k, and a pair
of one workload alone is a round if there is only one. A *series* is what is tested (`Rules.series`):

- `total`: a round's time is the sum over its workloads. Its sign is the coin's, exactly, if all workloads gain alike or
  the round's noise is common to them, and to first order otherwise.
- `geomean`: the mean of the workloads' log gains; exact whatever each of them gains.
- `worst`: every workload is a series by itself and each must pass: the null "some workload gains at most x" is refuted
  when all are, with no correction (intersection-union test, Berger 1982).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nightfleet.harness.rules import MEMORY_FLOOR_BYTES, Over, Quantity


@dataclass(frozen=True, slots=True)
class Reading:
    """One trial's wall and CPU time in ns and its peak memory in bytes; None where the machine cannot tell."""

    wall_ns: int
    cpu_ns: int | None = None
    peak_bytes: int | None = None

    def of(self, quantity: Quantity) -> int:
        """The quantity. ValueError if it was not measured or is not positive."""
        value = self._value(quantity)
        if value is None or value <= 0:
            raise ValueError(f"a trial has {quantity} {value}; a verdict on it needs a positive number")
        return value

    def has(self, quantity: Quantity) -> bool:
        """Whether the quantity was measured."""
        return (self._value(quantity) or 0) > 0

    def _value(self, quantity: Quantity) -> int | None:
        peak = max(self.peak_bytes, MEMORY_FLOOR_BYTES) if self.peak_bytes else self.peak_bytes
        return {"wall": self.wall_ns, "cpu": self.cpu_ns, "memory": peak}[quantity]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two trials on one block; `reference` is the block's extra baseline trial, run before the coin was drawn."""

    candidate_first: bool
    baseline: Reading
    candidate: Reading
    workload: str = ""
    reference: Reading | None = None


@dataclass(frozen=True, slots=True)
class BothSides:
    """What one block of the behaviour gate took on both sides. It counts in the totals and nowhere else."""

    baseline: Reading
    candidate: Reading
    workload: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """A round in log units: the gain ln(t_b / t_c), and the level (ln t_b + ln t_c) / 2, the same in either order.

    With per-block references the level is relative to the reference's.
    """

    gain: float
    level: float


def rounds_of(pairs: Sequence[Pair], workloads: Sequence[str]) -> list[list[Pair]]:
    """The whole rounds: the k-th pair of each workload makes round k; what has no partner yet is left out."""
    by_workload = [[pair for pair in pairs if pair.workload == workload] for workload in workloads]
    return [list(round_) for round_ in zip(*by_workload, strict=False)]


def observe(round_: Sequence[Pair], quantity: Quantity, over: Over, *, per_block: bool) -> Observation:
    """One observation of a round, whose pairs are of distinct workloads. ValueError for unmeasured quantities."""
    baseline = _combined([pair.baseline.of(quantity) for pair in round_], over)
    candidate = _combined([pair.candidate.of(quantity) for pair in round_], over)
    level = (baseline + candidate) / 2
    if per_block:
        level -= _combined([_reference(pair).of(quantity) for pair in round_], over)
    return Observation(baseline - candidate, level)


def total_gain(sums: Sequence[tuple[int, int]], over: Over) -> float:
    """ln(sum t_b / sum t_c) of (baseline, candidate) sums, one per workload; those without trials do not count."""
    known = [both for both in sums if all(both)]
    if not known:
        return 0.0
    return _combined([baseline for baseline, _ in known], over) - _combined([candidate for _, candidate in known], over)


def _combined(values: Sequence[int], over: Over) -> float:
    """The log of a round's value: of the sum, or the mean of logs."""
    if over == "geomean":
        return math.fsum(math.log(value) for value in values) / len(values)
    return math.log(sum(values))


def _reference(pair: Pair) -> Reading:
    if pair.reference is None:
        raise ValueError("this calibration needs one extra baseline trial for every pair; a pair has none")
    return pair.reference
