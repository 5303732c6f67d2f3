"""`progress.png`: the night as a staircase, every experiment a dot.

A dot stands where the whole program would be if the candidate had been taken: its own gain on top of the steps below
its baseline. The steps have the gains that they were promoted with; what they truly amount to is measured once, in the
morning, and drawn beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger import Ledger, queries
from nightfleet.orchestrator.ledger.queries import Result
from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import count, day, interval, percent, total_gain
from nightfleet.orchestrator.views.paper import COLOURS, INK, OTHER, plain, sheet
from nightfleet.orchestrator.views.summary import KEPT, Morning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "progress.png"
US_PER_HOUR = 3_600_000_000
# Fixed: a picture has room for so many labels of so many characters, this share of its height apart.
MOST_LABELS = 16
LONGEST_LABEL = 38
APART = 0.052
# Gains below this share of what the staircase climbs (or of 5%, if it is low) lie outside of the picture.
BELOW = 0.25
LEAST_CLIMB = 0.05
# A shorter night is counted in minutes.
HOURS_FROM = 1.5
# What was never timed, from the bottom up.
UNTIMED = ("broken", "incorrect", "out_of_scope", "suspicious")


@dataclass(frozen=True)
class Level:
    """One step of the staircase: when, and the gain against the root from then on, with its own interval's ends."""

    number: int
    title: str
    hour: float
    own: float
    total: float
    low: float
    high: float


@dataclass(frozen=True)
class Dot:
    """One experiment that was timed."""

    hour: float
    total: float
    verdict: str


@dataclass(frozen=True)
class Picture:
    """What there is to draw. `untimed` are hours by verdict, `hours` how long the night was."""

    levels: tuple[Level, ...]
    dots: tuple[Dot, ...]
    untimed: Mapping[str, Sequence[float]]
    hours: float
    title: str
    began: str


def draw_progress(ledger: Ledger, night: int, folder: Path, morning: Morning | None = None) -> Path:
    """Draw the picture anew, at once or not at all; its file.

    Raises:
        UserError: matplotlib is not installed.
        nightfleet.native.MachineError: the ledger cannot be read.
        OSError: the folder cannot be written to.
    """
    picture = picture_of(ledger, night)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".draft-{FILE}"
    try:
        with sheet(draft, (12, 6.2)) as figure:
            stairs, strip = figure.subplots(2, 1, sharex=True, height_ratios=(9, 1))
            for axes in (stairs, strip):
                plain(axes)
            _stairs(stairs, picture, morning)
            _untimed(strip, picture)
            figure.suptitle(picture.title, color=INK, x=0.01, ha="left", fontsize=12, fontweight="bold")
    except ImportError:
        raise UserError(f"{FILE} needs matplotlib: type `pip install 'nightfleet[plots]'`") from None
    return draft.replace(folder / FILE)


def picture_of(ledger: Ledger, night: int) -> Picture:
    """Where everything stands. MachineError where the ledger cannot be read."""
    with ledger.read() as reading:
        row, rows, now_us = reading.get(Night, night), queries.results(reading, night), reading.now_us
        steps = queries.steps(reading, night)
    levels: list[Level] = []
    reached = {row.root: 0.0}
    for promotion, candidate, found in steps:
        below = reached.get(promotion.from_commit, 0.0)
        total, low, high = (_over(below, gain or 0.0) for gain in (found.gain, found.low, found.high))
        reached[promotion.to_commit] = total
        hour = _hour(promotion.settled_us or promotion.meant_us, row)
        title = one_line(candidate.description, LONGEST_LABEL)
        levels.append(Level(candidate.number, title, hour, found.gain or 0.0, total, low, high))
    timed = [one for one in rows if one.gain is not None and one.at_us is not None]
    dots = tuple(
        Dot(_hour(one.at_us or 0, row), _over(reached.get(one.baseline or "", 0.0), one.gain or 0.0), _word(one))
        for one in timed
    )
    untimed = {
        verdict: [_hour(one.moved_us, row) for one in rows if one.gain is None and one.verdict == verdict]
        for verdict in UNTIMED
    }
    title = f"night {row.name}: {len(levels)} promoted of {count(len(rows), 'candidate')}"
    return Picture(tuple(levels), dots, untimed, _hour(row.ended_us or now_us, row), title, day(row.began_us))


def _over(below: float, gain: float) -> float:
    """The gain against the root of something that gains so much over what gains `below`."""
    return total_gain((below, gain))


def _hour(moment_us: int, night: Night) -> float:
    return (moment_us - night.began_us) / US_PER_HOUR


def _word(row: Result) -> str:
    """What a dot stands for: one that was to be promoted and was not is no promotion."""
    return "not promoted" if row.verdict in KEPT and not row.promoted else str(row.verdict)


def _stairs(axes: "Axes", picture: Picture, morning: Morning | None) -> None:
    end = max([1e-3, picture.hours, *(level.hour for level in picture.levels)])
    low, high = _reach(picture, morning)
    axes.axhline(0, color=INK, lw=0.8)
    for verdict in sorted({dot.verdict for dot in picture.dots}, key=lambda word: (*COLOURS, word).index(word)):
        _dots(axes, [dot for dot in picture.dots if dot.verdict == verdict], verdict, low)
    xs = [0.0, *(level.hour for level in picture.levels), end]
    ys = [0.0, *(100 * level.total for level in picture.levels)]
    if picture.levels:
        axes.step(xs, [*ys, ys[-1]], where="post", color=COLOURS["promote"], lw=2, zorder=3)
        for level in picture.levels:
            ends = [100 * level.low, 100 * level.high]
            axes.plot([level.hour] * 2, ends, color=COLOURS["promote"], lw=1, alpha=0.6, zorder=3)
    axes.set_xlim(-0.01 * end, 1.01 * end)
    axes.set_ylim(low, high)
    labels = [(100 * level.total, f"#{level.number}  {percent(level.own)}  {level.title}") for level in picture.levels]
    more = len(labels) - MOST_LABELS
    _labels(axes, labels[-MOST_LABELS:], more, morning)
    axes.set_ylabel("gain against the root, % (steps as promoted)")
    axes.grid(axis="y", color=INK, alpha=0.12)
    axes.tick_params(axis="x", labelbottom=False)
    if picture.dots:
        axes.legend(loc="upper left", frameon=False, fontsize=8, ncols=3, bbox_to_anchor=(0, 1.06))


def _dots(axes: "Axes", dots: Sequence[Dot], verdict: str, low: float) -> None:
    colour = COLOURS.get(verdict, OTHER)
    inside = [dot for dot in dots if 100 * dot.total >= low]
    size, alpha = (34, 1.0) if verdict in KEPT else (16, 0.75)
    xs, ys = [dot.hour for dot in inside], [100 * dot.total for dot in inside]
    axes.scatter(xs, ys, s=size, alpha=alpha, color=colour, linewidths=0, zorder=4, label=f"{verdict} ({len(dots)})")
    if below := [dot.hour for dot in dots if 100 * dot.total < low]:
        # Not left out: they are at the edge that they lie beyond.
        axes.scatter(below, [low] * len(below), s=22, marker="v", color=colour, clip_on=False, zorder=4)


def _reach(picture: Picture, morning: Morning | None) -> tuple[float, float]:
    """What the axis shows, in percent: all of the staircase, and what is not far below it."""
    tops = [level.high for level in picture.levels] + [dot.total for dot in picture.dots]
    if morning is not None and morning.gain is not None:
        tops.append(morning.gain if morning.high is None else morning.high)
    climb = max(LEAST_CLIMB, *tops) if tops else LEAST_CLIMB
    lowest = min([0.0, *(dot.total for dot in picture.dots)])
    return 100 * max(lowest - 0.05 * climb, -BELOW * climb), 108 * climb


def _labels(axes: "Axes", labels: list[tuple[float, str]], more: int, morning: Morning | None) -> None:
    """Titles to the right of the levels that they name, moved apart where they would cover each other."""
    rows = [(height, words, COLOURS["promote"], "normal") for height, words in labels]
    if morning is not None and morning.gain is not None:
        words = f"measured: {percent(morning.gain)} {interval(morning.low, morning.high)}".rstrip()
        rows.append((100 * morning.gain, words, INK, "bold"))
        axes.axhspan(
            100 * (morning.gain if morning.low is None else morning.low),
            100 * (morning.gain if morning.high is None else morning.high),
            color=INK,
            alpha=0.18,
            lw=0,
        )
        axes.axhline(100 * morning.gain, color=INK, lw=1, ls="--")
    low, high = axes.get_ylim()
    rows.sort(key=lambda row: row[0])
    places = _apart([(height - low) / (high - low) for height, *_ in rows])
    for place, (height, words, colour, weight) in zip(places, rows, strict=True):
        axes.annotate(
            words,
            xy=(1, height),
            xycoords=("axes fraction", "data"),
            xytext=(1.05, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=INK,
            fontweight=weight,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)},
        )
    if more > 0:
        axes.text(
            1.03, -0.06, f"and {count(more, 'step')} before these", transform=axes.transAxes, fontsize=8, color=INK
        )


def _apart(heights: list[float]) -> list[float]:
    """Heights, ascending, moved until each is `APART` from the next and all are in the picture."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + APART) if places else height)
    ceiling = 1.0
    for at in reversed(range(len(places))):
        places[at] = min(places[at], ceiling)
        ceiling = places[at] - APART
    return places


def _untimed(axes: "Axes", picture: Picture) -> None:
    """What never came to a timing, below: it has no gain, and is not zero either."""
    for row, verdict in enumerate(UNTIMED):
        hours = picture.untimed[verdict]
        axes.plot(hours, [row] * len(hours), "x", ms=4, color=COLOURS.get(verdict, OTHER))
    names = [f"{verdict.replace('_', ' ')} ({len(picture.untimed[verdict])})" for verdict in UNTIMED]
    axes.set_yticks(range(len(UNTIMED)), names, fontsize=7)
    axes.set_ylim(-0.7, len(UNTIMED) - 0.3)
    if picture.hours < HOURS_FROM:
        axes.xaxis.set_major_formatter(lambda hour, _: f"{60 * hour:g}")
    axes.set_xlabel(f"{'minutes' if picture.hours < HOURS_FROM else 'hours'} since {picture.began}")
    axes.text(1.05, 0.5, "not timed", transform=axes.transAxes, fontsize=8, color=INK, va="center")
