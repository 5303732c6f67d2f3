"""What the evidence amounts to: the regions of a timing, in their order, and of its confirmation.

With several series (`worst`) a claim needs all of them and a rejection one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from nightfleet.harness.estimate import Estimate, small_sample
from nightfleet.harness.rules import FEWEST_PAIRS, ORDER_WIDTH, Rules, to_gain, to_log
from nightfleet.harness.track import Shield, Standing


class Step(StrEnum):
    """What to do next, or the verdict of the timing."""

    CONTINUE = "continue"
    CONFIRM = "confirm"
    PROMOTE = "promote"
    INCREMENTAL = "incremental"
    SIMPLIFY = "simplify"
    REJECT = "reject"
    UNDECIDED = "undecided"
    SUSPICIOUS = "suspicious"


OPEN = frozenset({Step.CONTINUE, Step.UNDECIDED})
Outcome: TypeAlias = tuple[Step, str]


@dataclass(frozen=True)
class Evidence:
    """All that a region goes by: how every series and every guard stands. Bounds are in log units."""

    rules: Rules
    layout_sd: float
    standings: Sequence[Standing]
    shields: Sequence[Shield]

    @property
    def pairs(self) -> int:
        """Rounds so far, the same for every series."""
        return self.standings[0].estimate.pairs

    @property
    def bar(self) -> float:
        """What ln E has to reach."""
        return -math.log(self.rules.alpha)

    @property
    def promote(self) -> float:
        """The promotion threshold."""
        return to_log(self.rules.promote)

    @property
    def incremental(self) -> float:
        """The incremental threshold."""
        return to_log(self.rules.incremental)

    @property
    def margin(self) -> float:
        """The loss that a simplification may cost, below 0."""
        return to_log(self.rules.simplify_null(self.layout_sd))

    @property
    def broken(self) -> list[Shield]:
        """The guards that cannot hold any more."""
        return [shield for shield in self.shields if shield.broken and self.pairs >= FEWEST_PAIRS]

    @property
    def shielded(self) -> bool:
        """Whether every guard is shown to hold."""
        return all(shield.held for shield in self.shields)

    @property
    def gaining(self) -> bool:
        """Whether all but the totals speak for an incremental."""
        enough = all(s.log_e_lesser >= self.bar and s.estimate.log_gain >= self.incremental for s in self.standings)
        return enough and not self.broken

    @property
    def promote_totals(self) -> bool:
        """Whether the totals exceed the promotion's null."""
        return self.totals_exceed(to_log(self.rules.promote_null(self.layout_sd)))

    @property
    def incremental_totals(self) -> bool:
        """Whether the totals exceed the incremental's null."""
        return self.totals_exceed(to_log(self.rules.incremental_null(self.layout_sd)))

    def totals_exceed(self, log: float) -> bool:
        """Whether every series' do."""
        return all(s.totals.exceed(log) for s in self.standings)

    def below(self, log: float) -> bool:
        """Whether some series cannot reach it."""
        return any(s.estimate.below(log) for s in self.standings)

    @property
    def least(self) -> Standing:
        """The series that gains least."""
        return min(self.standings, key=lambda s: s.estimate.log_gain)

    @property
    def lowest_total(self) -> float:
        """The lowest of the totals, as a fraction."""
        return to_gain(min(s.totals.lowest for s in self.standings))

    @property
    def figure(self) -> str:
        """The least gain, in words."""
        estimate = self.least.estimate
        name = f" of {self.least.series}" if len(self.standings) > 1 else ""
        return f"gain{name} {to_gain(estimate.log_gain):.1%} ± {estimate.width:.1%} after {estimate.pairs} pairs"


def region(evidence: Evidence) -> Outcome:
    """The region that the evidence lies in, and why."""
    going_on = (Step.CONTINUE, f"{evidence.figure}: undecided so far")
    capped = evidence.pairs >= evidence.rules.cap
    if evidence.rules.purpose == "simplify":
        found = _simplify(evidence) or _broken(evidence) or _too_costly(evidence)
        return found or (_undecided(evidence) if capped else going_on)
    found = _promote(evidence) or _incremental(evidence) or _broken(evidence) or _futile(evidence)
    return found or (_at_the_cap(evidence) if capped else going_on)


def _promote(evidence: Evidence) -> Outcome | None:
    """Never before 5 pairs, and never at the cap: there the timing ends, a win that comes just then may be luck."""
    if evidence.pairs < FEWEST_PAIRS or evidence.pairs == evidence.rules.cap:
        return None
    for s in evidence.standings:
        if s.log_e_promote < evidence.bar or s.estimate.log_gain < evidence.promote:
            return None
    if not (evidence.promote_totals and evidence.shielded):
        return None
    return Step.CONFIRM, f"{evidence.figure}, at least {evidence.rules.promote:.1%}: to be confirmed"


def _incremental(evidence: Evidence) -> Outcome | None:
    if not (evidence.gaining and evidence.incremental_totals and evidence.below(evidence.promote)):
        return None
    return Step.INCREMENTAL, f"incremental: {evidence.figure}, cannot reach {evidence.rules.promote:.1%}"


def _broken(evidence: Evidence) -> Outcome | None:
    if not evidence.broken:
        return None
    shield = evidence.broken[0]
    figure = f"{shield.quantity} {-to_gain(shield.estimate.log_gain):+.1%} ± {shield.estimate.width:.1%}"
    return Step.REJECT, f"rejected: {figure} after {evidence.pairs} pairs, allowed {shield.limit:+.1%}"


def _futile(evidence: Evidence) -> Outcome | None:
    if evidence.pairs < FEWEST_PAIRS or not evidence.below(evidence.incremental):
        return None
    return Step.REJECT, f"rejected: {evidence.figure}, cannot reach {evidence.rules.incremental:.1%}"


def _at_the_cap(evidence: Evidence) -> Outcome:
    """Totals that fail reject only what would be an incremental without them; what shows no gain is undecided."""
    if not evidence.gaining:
        return _undecided(evidence)
    if evidence.incremental_totals:
        return Step.INCREMENTAL, f"incremental: {evidence.figure}, the most pairs there are{_unshown(evidence)}"
    total = f"{evidence.lowest_total:+.1%} in total"
    return Step.REJECT, f"rejected: {evidence.figure}, but {total}: some trials are much slower"


def _simplify(evidence: Evidence) -> Outcome | None:
    shown = all(s.log_e_lesser >= evidence.bar for s in evidence.standings)
    if not (shown and evidence.totals_exceed(evidence.margin) and evidence.shielded):
        return None
    return Step.SIMPLIFY, f"simplify: {evidence.figure}, shown to lose at most {-to_gain(evidence.margin):.2%}"


def _too_costly(evidence: Evidence) -> Outcome | None:
    if evidence.pairs < FEWEST_PAIRS or not evidence.below(evidence.margin):
        return None
    return Step.REJECT, f"rejected: {evidence.figure}, loses more than {-to_gain(evidence.margin):.2%}"


def _undecided(evidence: Evidence) -> Outcome:
    return Step.UNDECIDED, f"undecided: {evidence.figure}{_unshown(evidence)}"


def confirmed(evidence: Evidence, orders: Sequence[tuple[Estimate, Estimate]] | None) -> Outcome:
    """What the fresh pairs say; `evidence.shields` are those of all pairs together.

    `orders`: each series' estimates over candidate-first and over candidate-second pairs; None if the coin never fell
    on one side.
    """
    if orders is None:
        return Step.UNDECIDED, "undecided: the coin gave the confirmation no pair in one of the orders"
    return (
        _order_effect(evidence, orders)
        or _not_confirmed(evidence)
        or _lesser(evidence)
        or (Step.PROMOTE, f"promoted: {evidence.figure} in the confirmation")
    )


def _order_effect(evidence: Evidence, orders: Sequence[tuple[Estimate, Estimate]]) -> Outcome | None:
    """Alarm early: SE is that of all fresh pairs, half that of the difference between two halves.

    What keeps an honest candidate clear of it is the second clause, that the smaller gain is below incremental.
    """
    for standing, (first, second) in zip(evidence.standings, orders, strict=True):
        width = ORDER_WIDTH * small_sample(standing.estimate.pairs) * standing.estimate.se
        apart = abs(first.log_gain - second.log_gain) > width
        if apart and min(first.log_gain, second.log_gain) < evidence.incremental:
            gains = f"{to_gain(first.log_gain):+.1%} when first, {to_gain(second.log_gain):+.1%} when second"
            return Step.SUSPICIOUS, f"suspicious: gain {gains}: it depends on what ran before"
    return None


def _not_confirmed(evidence: Evidence) -> Outcome | None:
    figure = f"undecided: {evidence.figure} in the confirmation"
    if evidence.least.estimate.log_gain < evidence.incremental:
        return Step.UNDECIDED, f"{figure}, below {evidence.rules.incremental:.1%}"
    if not evidence.promote_totals:
        return Step.UNDECIDED, f"{figure}, but {evidence.lowest_total:+.1%} in total"
    if not evidence.shielded:
        return Step.UNDECIDED, f"{figure}{_unshown(evidence)}"
    return None


def _lesser(evidence: Evidence) -> Outcome | None:
    if all(s.estimate.upper >= evidence.promote for s in evidence.standings):
        return None
    figure = f"incremental: {evidence.figure} in the confirmation"
    return Step.INCREMENTAL, f"{figure}, cannot reach {evidence.rules.promote:.1%}"


def _unshown(evidence: Evidence) -> str:
    """Which guards are missing, as the end of a sentence."""
    return "".join(
        f"; {shield.quantity} at most {shield.limit:+.1%} is not shown "
        f"(e-value {math.exp(min(shield.log_e, 50.0)):.2g}, total {-to_gain(shield.totals.lowest):+.1%})"
        for shield in evidence.shields
        if not shield.held
    )
