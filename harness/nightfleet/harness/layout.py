"""How much another memory layout of the same program moves its time: relinks of the baseline against the baseline."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.estimate import Estimate
from nightfleet.harness.noise import FEWEST_RELINKS, layout_sd
from nightfleet.harness.reading import Pair, rounds_of
from nightfleet.harness.rounds import Bench, Blocks, Round
from nightfleet.harness.rules import Rules, to_gain
from nightfleet.harness.track import Track

# Fixed: relinks of the baseline that are timed; each costs a build. Of eight the sd is rough still: one time in twenty
# it is less than 0.56 of the true one (chi-squared, 7 degrees of freedom); of four it would be less than 0.34.
RELINKS = 8
# Where linking takes long (s, of all together), so many have to do.
RELINKS_S = 60.0
FEWEST = 4


@dataclass(frozen=True)
class Layout:
    """What relinks said. `sd` and `gains` (of each relink over the plain build) are fractions; `why` there is none."""

    sd: float = 0.0
    gains: tuple[float, ...] = ()
    why: str = "nobody asked"

    @property
    def words(self) -> str:
        """It in words."""
        return (
            f"layout: not measured: {self.why}"
            if self.why
            else f"layout: {self.sd:.2%}, sd of {len(self.gains)} relinks"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` gives back an equal layout."""
        return {**asdict(self), "gains": list(self.gains)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Layout":
        """A layout from its plain values. TypeError when they are not one."""
        return cls(**{**plain, "gains": tuple(plain["gains"])})


@dataclass(frozen=True)
class Relinked:
    """Raw pairs of the baseline (as baseline) and each of its relinks (as candidate), or why there are none."""

    pairs: tuple[tuple[Pair, ...], ...] = ()
    why: str = "nobody asked"

    def fit(self, rules: Rules, calibration: Calibration) -> Layout:
        """The layout of the judged quantity, of the series that minds it most.

        Args:
            rules: with the clock that was chosen.
            calibration: the noise that the gains are weighed by.
        """
        if len(self.pairs) < FEWEST_RELINKS:
            return Layout(why=self.why)
        by_series = [[_gain(pairs, rules, calibration, series) for pairs in self.pairs] for series in rules.series]
        worst = max(by_series, key=layout_sd)
        return Layout(to_gain(layout_sd(worst)), tuple(to_gain(one.log_gain) for one in worst), "")


def take(
    bench: Bench,
    blocks: Callable[[int], Blocks],
    first: int,
    count: int,
    *,
    reference: bool,
    on_round: Callable[[Round, int], None] | None = None,
) -> tuple[list[Round], int]:
    """Rounds until `count` count, after one warm-up; one whose records differ is the last.

    Args:
        bench: what times them.
        blocks: of a round, by its number.
        first: the first number that is fresh.
        count: of rounds that are not void.
        reference: with an extra baseline trial of each block.
        on_round: told each round, and how many count so far.

    Returns:
        The rounds that count, and the next fresh number.

    Raises:
        nightfleet.harness.rounds.BrokenError: the candidate ended badly twice.
        nightfleet.harness.rounds.TooLoadedError: too many were void.
    """
    round_ = bench.warm_up_round(blocks(first))
    taken, number = [round_] if round_.diverged else [], first + 1
    while len(taken) < count and not round_.diverged:
        round_ = bench.round(blocks(number), reference=reference)
        number += 1
        if round_.void is None or round_.diverged:
            taken.append(round_)
        if on_round is not None:
            on_round(round_, len(taken))
    return taken, number


def _gain(pairs: Sequence[Pair], rules: Rules, calibration: Calibration, series: str) -> Estimate:
    members = rules.members(series)
    track = Track(
        series,
        rules.quantity,
        workloads=members,
        over=rules.over,
        noise=calibration.of(series, rules.quantity),
        nulls=(),
        blocks=(),
    )
    for round_ in rounds_of(pairs, members):
        track.add(round_)
    return track.estimate()
