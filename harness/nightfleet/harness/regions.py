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
from nightfleet.harness.track import GUARD_BAR_LOG, Shield, Standing


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
class Ground:
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
    def hopeless(self) -> bool:
        """Whether some series will hardly be an incremental by the cap."""
        null = to_log(self.rules.incremental_null(self.layout_sd))
        cap = self.rules.cap
        return any(s.estimate.hopeless(self.incremental, null=null, bar=self.bar, cap=cap) for s in self.standings)

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


def region(ground: Ground) -> Outcome:
    """The region that the evidence lies in, and why."""
    going_on = (Step.CONTINUE, f"{ground.figure}: undecided so far")
    capped = ground.pairs >= ground.rules.cap
    if ground.rules.purpose == "simplify":
        found = _simplify(ground) or _broken(ground) or _too_costly(ground)
        return found or (_undecided(ground) if capped else going_on)
    found = _promote(ground) or _incremental(ground) or _broken(ground) or _futile(ground) or _hopeless(ground)
    return found or (_at_the_cap(ground) if capped else going_on)


def _promote(ground: Ground) -> Outcome | None:
    """Never before 5 pairs, and never at the cap: there the timing ends, a win that comes just then may be luck."""
    if ground.pairs < FEWEST_PAIRS or ground.pairs == ground.rules.cap:
        return None
    for s in ground.standings:
        if s.log_e_promote < ground.bar or s.estimate.log_gain < ground.promote:
            return None
    if not (ground.promote_totals and ground.shielded):
        return None
    return Step.CONFIRM, f"{ground.figure}, at least {ground.rules.promote:.1%}: to be confirmed"


def _incremental(ground: Ground) -> Outcome | None:
    if not (ground.gaining and ground.incremental_totals and ground.below(ground.promote)):
        return None
    return Step.INCREMENTAL, f"incremental: {ground.figure}, cannot reach {ground.rules.promote:.1%}"


def _broken(ground: Ground) -> Outcome | None:
    if not ground.broken:
        return None
    shield = ground.broken[0]
    figure = f"{shield.quantity} {-to_gain(shield.estimate.log_gain):+.1%} ± {shield.estimate.width:.1%}"
    return Step.REJECT, f"rejected: {figure} after {ground.pairs} pairs, allowed {shield.limit:+.1%}"


def _futile(ground: Ground) -> Outcome | None:
    if ground.pairs < FEWEST_PAIRS or not ground.below(ground.incremental):
        return None
    return Step.REJECT, f"rejected: {ground.figure}, cannot reach {ground.rules.incremental:.1%}"


def _hopeless(ground: Ground) -> Outcome | None:
    """Undecided before the cap: no rejection, because a gain is not refuted; and open, for whoever has time left."""
    if not ground.hopeless:
        return None
    left = f"{ground.rules.cap - ground.pairs} more would hardly show {ground.rules.incremental:.1%}"
    return Step.UNDECIDED, f"undecided: {ground.figure}; {left}"


def _at_the_cap(ground: Ground) -> Outcome:
    """Totals that fail reject only what would be an incremental without them; what shows no gain is undecided."""
    if not ground.gaining:
        return _undecided(ground)
    if ground.incremental_totals:
        return Step.INCREMENTAL, f"incremental: {ground.figure}, the most pairs there are{_unshown(ground)}"
    total = f"{ground.lowest_total:+.1%} in total"
    return Step.REJECT, f"rejected: {ground.figure}, but {total}: some trials are much slower"


def _simplify(ground: Ground) -> Outcome | None:
    shown = all(s.log_e_lesser >= ground.bar for s in ground.standings)
    if not (shown and ground.totals_exceed(ground.margin) and ground.shielded):
        return None
    return Step.SIMPLIFY, f"simplify: {ground.figure}, shown to lose at most {-to_gain(ground.margin):.2%}"


def _too_costly(ground: Ground) -> Outcome | None:
    if ground.pairs < FEWEST_PAIRS or not ground.below(ground.margin):
        return None
    return Step.REJECT, f"rejected: {ground.figure}, loses more than {-to_gain(ground.margin):.2%}"


def _undecided(ground: Ground) -> Outcome:
    return Step.UNDECIDED, f"undecided: {ground.figure}{_unshown(ground)}"


def confirmed(ground: Ground, orders: Sequence[tuple[Estimate, Estimate]] | None) -> Outcome:
    """What the fresh pairs say; `ground.shields` are those of all pairs together.

    `orders`: each series' estimates over candidate-first and over candidate-second pairs; None if the coin never fell
    on one side.
    """
    if orders is None:
        return Step.UNDECIDED, "undecided: the coin gave the confirmation no pair in one of the orders"
    return (
        _order_effect(ground, orders)
        or _not_confirmed(ground)
        or _lesser(ground)
        or (Step.PROMOTE, f"promoted: {ground.figure} in the confirmation")
    )


def relinked(ground: Ground) -> Outcome:
    """What fresh pairs of both sides in another layout say of an extraordinary claim."""
    for s in ground.standings:
        if s.estimate.log_gain < ground.promote or s.log_e_promote < GUARD_BAR_LOG:
            evidence = f"e-value {math.exp(min(s.log_e_promote, 50.0)):.2g}"
            return (
                Step.SUSPICIOUS,
                f"suspicious: {ground.figure} once both sides are linked to another layout ({evidence})",
            )
    return Step.PROMOTE, f"{ground.figure} in another layout of both sides"


def _order_effect(ground: Ground, orders: Sequence[tuple[Estimate, Estimate]]) -> Outcome | None:
    """Alarm early: SE is that of all fresh pairs, half that of the difference between two halves.

    What keeps an honest candidate clear of it is the second clause, that the smaller gain is below incremental.
    """
    for standing, (first, second) in zip(ground.standings, orders, strict=True):
        width = ORDER_WIDTH * small_sample(standing.estimate.pairs) * standing.estimate.se
        apart = abs(first.log_gain - second.log_gain) > width
        if apart and min(first.log_gain, second.log_gain) < ground.incremental:
            gains = f"{to_gain(first.log_gain):+.1%} when first, {to_gain(second.log_gain):+.1%} when second"
            return Step.SUSPICIOUS, f"suspicious: gain {gains}: it depends on what ran before"
    return None


def _not_confirmed(ground: Ground) -> Outcome | None:
    figure = f"undecided: {ground.figure} in the confirmation"
    if ground.least.estimate.log_gain < ground.incremental:
        return Step.UNDECIDED, f"{figure}, below {ground.rules.incremental:.1%}"
    if not ground.promote_totals:
        return Step.UNDECIDED, f"{figure}, but {ground.lowest_total:+.1%} in total"
    if not ground.shielded:
        return Step.UNDECIDED, f"{figure}{_unshown(ground)}"
    return None


def _lesser(ground: Ground) -> Outcome | None:
    if all(s.estimate.upper >= ground.promote for s in ground.standings):
        return None
    figure = f"incremental: {ground.figure} in the confirmation"
    return Step.INCREMENTAL, f"{figure}, cannot reach {ground.rules.promote:.1%}"


def _unshown(ground: Ground) -> str:
    """Which guards are missing, as the end of a sentence."""
    return "".join(
        f"; {shield.claim} is not shown "
        f"(e-value {math.exp(min(shield.log_e, 50.0)):.2g}, total {-to_gain(shield.totals.lowest):+.1%})"
        for shield in ground.shields
        if not shield.held
    )
