"""Draws how a verdict comes about, pair by pair, on recorded timings of programs that really do less work.

Writes `docs/verdict-path.svg`. Each panel is the beginning of one arm of `pw_alu_q`, with the coins that it had; the
first 200 pairs of the arm that leaves nothing out calibrate and are not shown.

    python benchmarks/verdict_path.py
"""

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from drawing import INK, OUR_INK, drawn
from streams import CALIBRATION_PAIRS, arm, arm_pair, two_armed

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.noise import calibrate
from nightfleet.harness.reading import Pair, observe
from nightfleet.harness.rules import CONFIRMATION_PAIRS, Rules, to_gain
from nightfleet.harness.verdict import Decision, Sequential, Step

PLOT = Path(__file__).parents[1] / "docs" / "verdict-path.svg"
RULES = Rules("cpu")
# Arm, and the share of its work that is left out.
ARMS = ((1, 0.0), (3, 0.03), (5, 0.08))


@dataclass(frozen=True)
class Course:
    """One timing: each pair's gain (a fraction), the decision after it, and the confirmation if there was one."""

    gains: list[float]
    decisions: list[Decision]
    confirmed: Decision | None

    @property
    def last(self) -> Decision:
        """The verdict."""
        return self.confirmed or self.decisions[-1]


def follow(pairs: list[Pair], calibration: Calibration) -> Course:
    """Judge the pairs one by one, as many as it takes."""
    timing, source = Sequential(RULES, calibration), iter(pairs)
    gains, decisions = [], []
    while timing.decision.step is Step.CONTINUE:
        pair = next(source)
        gains.append(to_gain(observe([pair], RULES.quantity, RULES.over, per_block=False).gain))
        decisions.append(timing.add(pair))
    confirmed = None
    if timing.decision.step is Step.CONFIRM:
        confirmed = timing.confirm(list(islice(source, CONFIRMATION_PAIRS)))
    return Course(gains, decisions, confirmed)


def courses() -> list[Course]:
    """The timings that are drawn."""
    both = two_armed("pw_alu_q")
    by_arm = {k: [arm_pair(*pair) for pair in both if arm(pair) == k] for k, _ in ARMS}
    calibration = calibrate(by_arm[1][:CALIBRATION_PAIRS], RULES)
    by_arm[1] = by_arm[1][CALIBRATION_PAIRS:]
    return [follow(by_arm[k], calibration) for k, _ in ARMS]


def draw(found: list[Course], path: Path) -> None:
    """A column for each timing: estimate above, evidence below."""
    with drawn(path, 2, len(ARMS), (9, 5.2), sharex="col", sharey="row") as (drawing, panels):
        for column, (timing, (_, left_out)) in enumerate(zip(found, ARMS, strict=True)):
            _estimate(panels[0][column], timing)
            _evidence(panels[1][column], timing)
            panels[0][column].set_title(f"{left_out:.0%} of the work left out: {timing.last.step}", fontsize=10)
            panels[1][column].set_xlabel("pairs")
        for bound, name in ((RULES.incremental, "incremental"), (RULES.promote, "promote")):
            panels[0][0].text(1, 100 * bound + 0.2, f"{name} {bound:.0%}", fontsize=8)
        panels[1][0].text(1, 1.3 / RULES.alpha, f"{1 / RULES.alpha:.0f}: enough", fontsize=8)
        panels[1][0].legend(title="against", frameon=False, fontsize=8, title_fontsize=8, loc="upper left")
        panels[0][0].set_ylabel("gain, %")
        panels[1][0].set_ylabel("the bet holds")
        drawing.tight_layout()


def _estimate(panel: Any, timing: Course) -> None:
    pairs = range(1, len(timing.gains) + 1)
    low, high, centre = ([100 * getattr(d, name) for d in timing.decisions] for name in ("low", "high", "gain"))
    panel.scatter(pairs, [100 * gain for gain in timing.gains], s=8, color=INK, alpha=0.7, linewidths=0)
    panel.fill_between(pairs, low, high, color=OUR_INK, alpha=0.2, linewidth=0)
    panel.plot(pairs, centre, color=OUR_INK)
    for bound in (RULES.incremental, RULES.promote):
        panel.axhline(100 * bound, color=INK, linestyle="--", linewidth=0.8)
    if timing.confirmed:
        at, gain = len(timing.gains) + 1.5, 100 * (timing.confirmed.gain or 0.0)
        panel.scatter([at], [gain], marker="D", s=28, color=OUR_INK)
        panel.text(at, gain + 2, f"{CONFIRMATION_PAIRS} fresh pairs: {gain:.1f}%", ha="right", fontsize=8)
    panel.set_ylim(-4, 14)


def _evidence(panel: Any, timing: Course) -> None:
    pairs = range(1, len(timing.gains) + 1)
    panel.plot(pairs, [math.exp(d.log_e) for d in timing.decisions], color=OUR_INK, label="“gains at most 2%”")
    panel.plot(
        pairs,
        [math.exp(d.log_e_lesser) for d in timing.decisions],
        color=OUR_INK,
        linestyle=":",
        label="“gains at most 0.5%”",
    )
    panel.axhline(1 / RULES.alpha, color=INK, linestyle="--", linewidth=0.8)
    panel.set_yscale("log")
    panel.set_ylim(1e-2, 1e6)


if __name__ == "__main__":
    followed = courses()
    draw(followed, PLOT)
    print(*(timing.last.reason for timing in followed), sep="\n")
