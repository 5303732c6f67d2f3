"""A bench on a simulated clock: two programs of known times, noise that strikes both alike, and planted accidents."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.noise import calibrate
from nightfleet.harness.reading import Pair, Reading
from nightfleet.harness.rounds import Blocks, BrokenError, Round
from nightfleet.harness.rules import Rules
from nightfleet.native import Draw

WORK_NS = 50_000_000


@dataclass
class Simulated:
    """A `Bench`. `gain` of the candidate, by workload; `sd` of one trial's log time.

    `void(k)`, `lies(k)`, `breaks(k)`: what befalls the k-th round. `work(case)`: how much longer than usual.
    """

    gain: float | Mapping[str, float] = 0.0
    sd: float = 0.01
    seed: int = 0
    work: Callable[[int], float] = lambda _: 1.0
    void: Callable[[int], bool] = lambda _: False
    lies: Callable[[int], bool] = lambda _: False
    breaks: Callable[[int], bool] = lambda _: False
    tasks: int = 0
    facts: dict[str, str] = field(default_factory=lambda: {"cpu_source": "cgroup v2"})
    asked: list[int] = field(default_factory=list)
    referred: list[bool] = field(default_factory=list)
    warmed: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - a simulation that has to be repeatable

    def warm_up_round(self, blocks: Blocks) -> Round:
        self.warmed += 1
        return self._round(blocks, -self.warmed, reference=False)

    def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
        number = len(self.asked)
        self.asked.append(int(next(iter(blocks.values()))[0]))
        self.referred.append(reference)
        return self._round(blocks, number, reference=reference)

    def reference(self, blocks: Blocks) -> dict[str, Reading]:
        return {name: self._trial(name, int(block[0]), 0.0) for name, block in blocks.items()}

    def _round(self, blocks: Blocks, number: int, *, reference: bool) -> Round:
        if self.breaks(number):
            raise BrokenError("", None, "the candidate ended with signal 11")
        coin = self.rng.random() < 0.5
        draws = {
            name: Draw(index=abs(number), block=block, candidate_first=coin, baseline_copy=0, candidate_copy=0)
            for name, block in blocks.items()
        }
        pairs = tuple(self._pair(name, int(block[0]), coin, reference=reference) for name, block in blocks.items())
        diverged = {name: (int(block[0]),) for name, block in blocks.items()} if self.lies(number) else {}
        return Round(draws, pairs, "10 ms were stolen" if self.void(number) else None, diverged, self.tasks)

    def _pair(self, name: str, case: int, coin: bool, *, reference: bool) -> Pair:
        alone = self._trial(name, case, 0.0) if reference else None
        gain = self.gain[name] if isinstance(self.gain, Mapping) else self.gain
        return Pair(coin, self._trial(name, case, 0.0), self._trial(name, case, gain), name, alone)

    def _trial(self, name: str, case: int, gain: float) -> Reading:
        ns = WORK_NS * self.work(case) * (1 - gain) * math.exp(self.rng.gauss(0, self.sd)) * (1 + len(name))
        return Reading(round(ns), round(ns * 0.99), 1 << 20)


def calibrated(rules: Rules, sd: float = 0.01, pairs: int = 100) -> Calibration:
    """What A/A pairs of such a bench give."""
    bench = Simulated(sd=sd, seed=99)
    rounds = [bench.round({name: [k] for name in rules.workloads}) for k in range(pairs)]  # type: ignore[misc]
    return calibrate([pair for round_ in rounds for pair in round_.pairs], rules)
