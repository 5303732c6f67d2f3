"""A test of the judge as a picture: what was promoted of what is known, and what was claimed against what is true."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightfleet.harness.rules import Rules
from nightfleet.harness.selftest import Attempt, percent
from nightfleet.harness.tally import Tally
from nightfleet.orchestrator.views.paper import COLOURS, INK, OTHER, plain, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
# Narrower parts of a bar have no room for words.
WORDS_FROM = 0.08


def draw(tally: Tally, attempts: Sequence[Attempt], rules: Rules, file: Path) -> None:
    """Write a picture, as the file's ending says: PNG, SVG or PDF.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    with sheet(file, (11, 4.2)) as figure:
        verdicts, claims = figure.subplots(1, 2, width_ratios=(1, 1.4))
        for axes in (verdicts, claims):
            plain(axes)
        _verdicts(verdicts, tally)
        _claims(claims, tally, attempts, rules)


def _verdicts(axes: "Axes", tally: Tally) -> None:
    """A bar for each kind of candidate, made of its verdicts."""
    rows = [(f"nulls ({tally.nulls.attempts})", tally.verdicts)]
    rows += [(f"{percent(one.share)} planted ({one.promotions.attempts})", one.verdicts) for one in tally.planted]
    for place, (_, found) in enumerate(rows):
        left, of = 0.0, sum(found.values()) or 1
        for verdict in sorted(found, key=lambda name: (*COLOURS, name).index(name)):
            share = found[verdict] / of
            axes.barh(place, share, left=left, color=COLOURS.get(verdict, OTHER))
            if share >= WORDS_FROM:
                words, middle = f"{verdict} {found[verdict]}", left + share / 2
                axes.text(middle, place, words, ha="center", va="center", color="white", fontsize=8)
            left += share
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_title("verdicts", color=INK)


def _claims(axes: "Axes", tally: Tally, attempts: Sequence[Attempt], rules: Rules) -> None:
    """A dot for each attempt: what was claimed over what is true; on the line both are the same."""
    known = {0.0: 0.0, **{one.share: one.true for one in tally.planted}}
    for attempt in attempts:
        true = known.get(attempt.planted)
        if attempt.gain is not None and true is not None:
            colour = COLOURS.get(attempt.verdict, OTHER)
            axes.plot(100 * true, 100 * attempt.gain, "o", ms=4, alpha=0.5, color=colour)
    most = 130 * max([0.08, *known])
    axes.plot([0, most], [0, most], color=INK, lw=0.8)
    axes.axhline(100 * rules.promote, color=INK, lw=0.8, ls=":")
    axes.annotate("thresholds.promote", (0, 100 * rules.promote), color=INK, fontsize=8, va="bottom")
    axes.set_xlabel("true gain, %")
    axes.set_ylabel("gain when the judge stopped, %")
    axes.set_title("each attempt", color=INK)
