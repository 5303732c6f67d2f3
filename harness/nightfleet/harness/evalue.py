"""The symmetry e-process: evidence against "the gain is at most x", good for looking after every pair.

Symmetry e-tests (Vovk & Wang 2022; Ramdas et al. 2020): if the sign of d is a fair coin given everything else, then
2 f(d) / (f(d) + f(-d)) has mean 1 for any f, and products of it exceed 1/alpha with probability alpha at most (Ville).
The coin is ours: which program ran first. Assumed: noise of a slot multiplies both programs alike.

At a true gain y < x the level u, and with it the scale s(u), is still the same in either order. Given the noise, both
signs then meet the same factor h, with mean (h(e - c) + h(-e - c)) / 2 <= (h(e) + h(-e)) / 2 = 1 as h is monotone.
Without the clip h falls again for large d, and this fails: a cheat can then feed on its own losses.
"""

import math
from dataclasses import dataclass

from nightfleet.harness.rules import BET_SCALES, BET_SHIFTS, STUDENT, to_log

BETS = tuple((shift, scale) for shift in BET_SHIFTS for scale in BET_SCALES)
LN2 = math.log(2.0)


def log_factor(d: float, shift: float, scale: float) -> float:
    """The log of h(d) = 2 f(d) / (f(d) + f(-d)), f Student's t density about `shift`; at most ln 2, never falls in d.

    Beyond the square root of shift^2 + 3 scale^2 the odds f(d) / f(-d) would fall again: d is clipped there.
    """
    variance = STUDENT * scale * scale
    edge = math.sqrt(shift * shift + variance)
    d = min(max(d, -edge), edge)
    power = (STUDENT + 1) / 2
    log_odds = power * math.log((variance + (d + shift) ** 2) / (variance + (d - shift) ** 2))
    return LN2 - math.log1p(math.exp(-log_odds))


@dataclass(frozen=True, slots=True)
class EValue:
    """E_n(x): the mean over all bets of their products, kept as one log per bet."""

    null: float
    logs: tuple[float, ...] = (0.0,) * len(BETS)

    def add(self, gain: float, scale: float) -> "EValue":
        """With one more pair: its log gain and noise scale."""
        d = gain - to_log(self.null)
        logs = zip(self.logs, BETS, strict=True)
        return EValue(self.null, tuple(log + log_factor(d, shift, times * scale) for log, (shift, times) in logs))

    @property
    def log(self) -> float:
        """The log of E_n(x)."""
        top = max(self.logs)
        return top + math.log(math.fsum(math.exp(log - top) for log in self.logs) / len(self.logs))
