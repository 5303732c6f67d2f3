"""Recorded timings: read, cut into what calibrates and what is judged, and put before the real verdict.

The first 200 pairs of a stream calibrate, the others are judged: noise scales never see what they are used on.
"""

import csv
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.noise import calibrate
from nightfleet.harness.power import Round, resampled
from nightfleet.harness.reading import BothSides, Pair, Reading
from nightfleet.harness.rules import CONFIRMATION_PAIRS, Quantity, Rules
from nightfleet.harness.verdict import Decision, Sequential, Step

DATA = Path(__file__).parent / "data" / "timing-noise"
STREAMS = ("aa_alu_p", "aa_mix_p", "aa_py_p", "aa_alu_q", "aa_mix_q", "aa_py_q", "aa_mem_q")
CLOCKS: tuple[Quantity, ...] = ("cpu", "wall")
CALIBRATION_PAIRS = 200
BLOCKS = 100  # of the behaviour gate: 20,000 cases, 200 to a block

Run = tuple[int, Reading]
Change = Callable[[Pair], Pair]


@dataclass(frozen=True)
class Arena:
    """One stream, cut into what calibrates and what is resampled, judged by one clock."""

    name: str
    rules: Rules
    calibration: Calibration
    rounds: list[list[Pair]]
    calibrating: list[Pair]

    def timing(self, change: Change, rng: random.Random) -> Decision:
        """One candidate, from its behaviour gate to its confirmation."""
        changed = changing(resampled(self.rounds, rng), change)
        blocks = [both_sides(next(changed)) for _ in range(BLOCKS)]
        return judged(self.rules, self.calibration, changed, blocks)


def changing(draw: Callable[[], Round], change: Change) -> Iterator[Pair]:
    """An endless stream of pairs."""
    while True:
        yield from map(change, draw())


def both_sides(pair: Pair) -> BothSides:
    """What a block of the behaviour gate would have taken."""
    return BothSides(pair.baseline, pair.candidate, pair.workload)


def judged(rules: Rules, calibration: Calibration, pairs: Iterator[Pair], blocks: Sequence[BothSides] = ()) -> Decision:
    """The verdict on as many of the pairs as it asks for, its confirmation included."""
    timing = Sequential(rules, calibration, blocks)
    while timing.decision.step is Step.CONTINUE:
        timing.add(next(pairs))
    if timing.decision.step is not Step.CONFIRM:
        return timing.decision
    return timing.confirm([next(pairs) for _ in range(CONFIRMATION_PAIRS)])


def load(name: str) -> list[Run]:
    """A recorded stream: (arm, reading) of each run."""
    return read(DATA / f"{name}.csv")


def read(path: Path) -> list[Run]:
    """The runs of one file: `k` arm, `wall` ns, `ut` and `st` µs; other columns do not matter."""
    with path.open(newline="") as file:
        return [
            (int(row["k"]), Reading(int(row["wall"]), 1000 * (int(row["ut"]) + int(row["st"]))))
            for row in csv.DictReader(file)
        ]


def aa_pairs(runs: Sequence[Run]) -> list[Pair]:
    """Two consecutive runs are a pair; the coin is drawn anew when it is resampled."""
    readings = [reading for _, reading in runs]
    return [
        Pair(candidate_first=False, baseline=first, candidate=second)
        for first, second in zip(readings[::2], readings[1::2], strict=False)
    ]


def two_armed(name: str) -> list[tuple[Run, Run]]:
    """A stream of pairs of arm 0 and another arm, as they ran."""
    runs = load(name)
    return list(zip(runs[::2], runs[1::2], strict=False))


def arm(pair: tuple[Run, Run]) -> int:
    """Which arm is paired with the baseline."""
    return max(pair[0][0], pair[1][0])


def arm_pair(one: Run, two: Run) -> Pair:
    """A recorded pair as it ran: arm 0 is the baseline."""
    first = one[0] > two[0]
    baseline, candidate = (two[1], one[1]) if first else (one[1], two[1])
    return Pair(first, baseline, candidate)


def arenas(alpha: float) -> list[Arena]:
    """Every stream by CPU and by wall."""
    return [arena for name in STREAMS for arena in arenas_of(name, load(name), alpha)]


def arenas_of(name: str, runs: Sequence[Run], alpha: float) -> list[Arena]:
    """One stream by CPU and by wall. ValueError when nothing is left after the pairs that calibrate."""
    pairs = aa_pairs(runs)
    if len(pairs) <= CALIBRATION_PAIRS:
        raise ValueError(f"{name} has {len(pairs)} pairs; {CALIBRATION_PAIRS} calibrate, and some more are judged")
    found = []
    for clock in CLOCKS:
        rules = Rules(clock, alpha=alpha)
        calibration = calibrate(pairs[:CALIBRATION_PAIRS], rules)
        rounds = [[pair] for pair in pairs[CALIBRATION_PAIRS:]]
        found.append(Arena(name, rules, calibration, rounds, pairs[:CALIBRATION_PAIRS]))
    return found
