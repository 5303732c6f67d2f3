"""What `decision_rules.py` found: kept as JSON, told as Markdown, drawn as a plot, and put into the page about it."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from drawing import INK, OUR_INK, drawn
from field_rules import NIGHT_RULES, RULES, NightRule, Rule
from scipy.stats import binom
from streams import CALIBRATION_PAIRS
from table import Figure

from nightfleet.harness.rules import CONFIRMATION_PAIRS, SPEED_CAP

HERE = Path(__file__).parent
FIGURES = HERE / "decision_rules.json"
TABLES = HERE / "DECISION_RULES.md"
PAGE = HERE.parent / "docs" / "decision-rules.md"
PLOT = HERE.parent / "docs" / "decision-rules.svg"

# A night's 700 candidates by their true gain: 450 change nothing, 150 are slower, 100 gain, most of them little.
NIGHT = {0.0: 450, -0.01: 100, -0.03: 50, 0.01: 60, 0.03: 25, 0.06: 5, 0.07: 5, 0.08: 5}
OURS = ("nightfleet", "nightfleet, incremental counted")
ORDER = (*(rule.name for rule in NIGHT_RULES), *(rule.name for rule in RULES), *OURS)
RIVAL = "paired t, 30"
# What a promise's count may be at most before it is called broken: as rare as this.
RARE = 1e-3
PLOTTED = (0.03, 0.05, 0.08)
LETTERS = "abcdefghijklmnop"


@dataclass(frozen=True)
class Cell:
    """One rule on candidates of one gain, on one stream by one clock; `excess` sums claimed - true of the promoted."""

    stream: str
    clock: str
    rule: str
    gain: float
    candidates: int
    promoted: int
    excess: float
    runs: int


@dataclass(frozen=True)
class NightRow:
    """A mixed night in the morning: promotions, those of gains <= 0, those of gains of 2% or less, sums of logs."""

    stream: str
    clock: str
    rule: str
    promoted: int
    false: int
    small: int
    claimed_log: float
    true_log: float
    runs: int


@dataclass(frozen=True)
class Hardening:
    """What was promoted with one clause of the verdict taken out."""

    stream: str
    clock: str
    without: str
    gain: float
    candidates: int
    promoted: int


@dataclass(frozen=True)
class Recording:
    """One stream by one clock: the robust sd of a pair's log gain, and what `nightfleet check` would make of it.

    `longer`: how many times longer a block it asks for; None where none is long enough.
    """

    stream: str
    clock: str
    noise: float
    longer: int | None


Row = Cell | NightRow | Hardening | Recording
LISTS: dict[str, type[Row]] = {"cells": Cell, "nights": NightRow, "hardening": Hardening, "recordings": Recording}


@dataclass(frozen=True)
class Figures:
    """All that was counted. `neutral_pairs[place][n]`: how many candidates without gain took us n pairs.

    `rejected[place]`: the share of our rejections among candidates of no gain, and among those of 3%.
    """

    seed: int
    nulls: int
    runs: int
    nights_each: int
    alpha: float
    fresh: str
    cells: list[Cell]
    nights: list[NightRow]
    hardening: list[Hardening]
    recordings: list[Recording]
    neutral_pairs: dict[str, list[int]]
    likely_real: dict[str, float]
    rejected: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` gives back equal figures. Rows are lists, and `columns` names what is in them."""
        kinds = {name: [field.name for field in fields(kind)] for name, kind in LISTS.items()}
        rows = {name: [list(astuple(row)) for row in getattr(self, name)] for name in LISTS}
        return {"columns": kinds, **{field.name: getattr(self, field.name) for field in fields(self)}, **rows}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Figures":
        """Figures from plain values. TypeError when they are not some."""
        made = {name: [kind(*row) for row in plain[name]] for name, kind in LISTS.items()}
        return cls(**{**{name: value for name, value in plain.items() if name != "columns"}, **made})


def family(stream: str, clock: str) -> str:
    """What a stream is called in the tables."""
    kinds = {"p": "pinned, neighbour quiet", "q": "neighbour busy", "f": "this machine, the example"}
    return f"{clock.upper() if clock == 'cpu' else clock} time, {kinds[stream[-1]]}"


def recorded(row: Row) -> bool:
    """Whether it belongs to the recorded streams, and not to the fresh one."""
    return row.stream[-1] != "f"


def markdown(figures: Figures) -> str:
    """Everything as Markdown."""
    return "\n\n".join(f"{text}" for text in sections(figures).values()) + "\n"


def sections(figures: Figures) -> dict[str, str]:
    """The pieces of the Markdown by name, in order; the page shows some of them word for word."""
    families = list(dict.fromkeys(family(cell.stream, cell.clock) for cell in figures.cells))
    found = {
        "head": _head(figures),
        "rules": _rules(),
        "total": _titled("All recorded streams", _table(figures, recorded)),
    }
    for name in families:
        found[name] = _titled(name, _table(figures, _within(name)))
    found["night"] = _titled("A mixed night of 700", _composition() + "\n\n" + _night_table(figures, recorded))
    for name in families:
        found[f"night, {name}"] = _titled(f"The same, {name}", _night_table(figures, _within(name)))
    found["by recording"] = _titled("The runs of that night, by recording", _by_recording(figures))
    found["likely real"] = _titled("Nights of 30 without any gain", _likely_real(figures))
    found["hardening"] = _titled("What the hardening costs", _hardening(figures))
    found["promises"] = _titled("What is promised", _promises(figures))
    return found


def write(figures: Figures) -> None:
    """The committed files: figures, tables, plot, and the tables in the page."""
    plain = figures.to_dict()
    rows = {name: [json.dumps(row) for row in plain[name]] for name in LISTS}
    rest = {name: value for name, value in plain.items() if name not in rows}
    # A row a line: a change of one figure is a change of one line.
    lists = ",\n".join(f'"{name}": [\n' + ",\n".join(lines) + "\n]" for name, lines in rows.items())
    FIGURES.write_text(json.dumps(rest)[:-1] + ",\n" + lists + "}\n", encoding="utf-8")
    TABLES.write_text(markdown(figures), encoding="utf-8")
    if PAGE.exists():
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), sections(figures)), encoding="utf-8")
    plot(figures, PLOT)


def read() -> Figures:
    """The committed figures."""
    return Figures.from_dict(json.loads(FIGURES.read_text(encoding="utf-8")))


def filled(page: str, pieces: dict[str, str]) -> str:
    """The page with the piece that each pair of marks names, without its heading. KeyError for a name that is none."""
    parts = page.split("<!-- figures: ")
    done = [parts[0]]
    for part in parts[1:]:
        name, rest = part.split(" -->", 1)
        body = pieces[name].split("\n\n", 1)[1]
        done.append(f"{name} -->\n\n{body}\n\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}")
    return "<!-- figures: ".join(done)


def kept(figures: Figures) -> bool:
    """Whether all that is promised holds."""
    return all(figure.kept for figure in promises(figures))


def promises(figures: Figures) -> list[Figure]:
    """What our verdict promises about these figures."""
    nulls = [cell for cell in figures.cells if cell.rule == OURS[0] and not cell.gain]
    count, false = sum(cell.candidates for cell in nulls), sum(cell.promoted for cell in nulls)
    allowed = float(binom.ppf(1 - RARE, count, figures.alpha))
    return [
        Figure(f"false promotions in {count:,} candidates without gain", false, "", most=allowed),
        Figure("pairs for a candidate without gain, median over all", neutral_median(figures), "", most=8),
        Figure(f"runs of a mixed night / those of {RIVAL}", run_ratio(figures, recorded), "x", most=0.4),
    ]


def run_ratio(figures: Figures, chosen: Callable[[Row], bool]) -> float:
    """The runs of our mixed nights for each run of the paired t's; NaN where there is none."""
    nights = [row for row in figures.nights if chosen(row)]
    ours, theirs = (sum(row.runs for row in nights if row.rule == name) for name in (OURS[0], RIVAL))
    return ours / theirs if theirs else math.nan


def neutral_median(figures: Figures) -> float:
    """The median number of pairs after which a candidate without gain is done."""
    most = max(len(counts) for counts in figures.neutral_pairs.values())
    counts = sum(np.pad(counts, (0, most - len(counts))) for counts in figures.neutral_pairs.values())
    return float(np.median(np.repeat(np.arange(most), counts)))


def _within(name: str) -> Callable[[Row], bool]:
    return lambda row: family(row.stream, row.clock) == name


def _titled(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _head(figures: Figures) -> str:
    return (
        "# Decision rules on recorded noise\n\n"
        "Written by `benchmarks/decision_rules.py --write`; do not edit. What it means: "
        "[docs/decision-rules.md](../docs/decision-rules.md).\n\n"
        f"Seed {figures.seed}; for each stream and clock {figures.nulls:,} candidates without gain, {figures.runs} of "
        f"each planted gain, {figures.nights_each} mixed nights. Our bar is that of the first test of a night of 700 "
        f"with 0.1 false promotions in all: {1 / figures.alpha:,.0f}. {figures.fresh}"
    )


def _rules() -> str:
    lines = ["| rule | what it does | source | refutes | to be fair |", "|---|---|---|---|---|"]
    theirs: list[Rule | NightRule] = [*NIGHT_RULES, *RULES]
    lines += [f"| {r.name} | {r.sentence} | {r.source} | {r.null} | {r.fairness} |" for r in theirs]
    until = f"Pairs until it knows, or until {SPEED_CAP} will hardly tell; {SPEED_CAP} at most"
    first = f"{until}; then {CONFIRMATION_PAIRS} fresh ones. Promoted from 5% on."
    need = f"It needs {CALIBRATION_PAIRS} pairs of calibration, once a night."
    lines.append(f"| {OURS[0]} | {first} | `harness/nightfleet/harness/verdict.py` | gain ≤ 2% | {need} |")
    second = "The same, and “incremental” counts as kept: a real gain that is not worth 5%."
    fair = "Our rule asked the question of its rivals: anything that gains."
    lines.append(f"| {OURS[1]} | {second} | the same | gain ≤ 0.5% | {fair} |")
    return _titled("The rules", "\n".join(lines))


def _table(figures: Figures, chosen: Callable[[Row], bool]) -> str:
    gaining = "promoted of 2% | of 3% | of 5% | of 8% | runs, no gain | runs, 8%"
    lines = [f"| rule | false promotions in 700 | {gaining} | claimed - true at 5% | at 8% |", f"|---|{'--:|' * 9}"]
    cells = [cell for cell in figures.cells if chosen(cell)]
    for rule in ORDER:
        by_gain = {gain: [c for c in cells if c.rule == rule and c.gain == gain] for gain in (0.0, *_gains(cells))}
        powers = [f"{_share(by_gain[gain]):.0%}" for gain in _gains(cells)]
        runs = [f"{_each(by_gain[gain]):.0f}" for gain in (0.0, 0.08)]
        excess = [_excess(by_gain[gain]) for gain in (0.05, 0.08)]
        lines.append(f"| {rule} | {_false(by_gain[0.0])} | {' | '.join([*powers, *runs, *excess])} |")
    return "\n".join(lines)


def _gains(cells: Iterable[Cell]) -> list[float]:
    return sorted({cell.gain for cell in cells} - {0.0})


def _share(cells: Sequence[Cell]) -> float:
    return sum(cell.promoted for cell in cells) / sum(cell.candidates for cell in cells)


def _each(cells: Sequence[Cell]) -> float:
    return sum(cell.runs for cell in cells) / sum(cell.candidates for cell in cells)


def _excess(cells: Sequence[Cell]) -> str:
    """Claimed minus true in points; nothing where hardly anything was promoted."""
    promoted = sum(cell.promoted for cell in cells)
    return f"{100 * sum(cell.excess for cell in cells) / promoted:+.1f}" if promoted >= 10 else ""


def _false(cells: Sequence[Cell]) -> str:
    """Per 700 candidates; where there was none, with the figure that 95% of luckier machines would not exceed."""
    share, candidates = _share(cells), sum(cell.candidates for cell in cells)
    if not share:
        return f"0 (≤ {700 * -math.expm1(math.log(0.05) / candidates):.2g})"
    return f"{700 * share:.0f}" if 700 * share >= 9.95 else f"{700 * share:.2g}"


def _composition() -> str:
    parts = [f"{count} of {gain:+.0%}" if gain else f"{count} of no gain" for gain, count in NIGHT.items()]
    best = math.exp(sum(-count * math.log1p(-gain) for gain, count in NIGHT.items() if gain > 0))
    return (
        f"In random order: {', '.join(parts)}. Whoever keeps every gain and nothing else ends {best:.1f} times as "
        "fast. Means of a night; our runs include 200 pairs of calibration; times as fast are geometric means."
    )


def _night_table(figures: Figures, chosen: Callable[[Row], bool]) -> str:
    lines = [
        "| rule | promotions | gain ≤ 0 | gain of 1% | gain ≥ 3% | claimed: times as fast | true | runs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for rule in ORDER:
        rows = [row for row in figures.nights if row.rule == rule and chosen(row)]
        count = len(rows)
        false, small, promoted = (
            sum(getattr(row, name) for row in rows) / count for name in ("false", "small", "promoted")
        )
        claimed, true = (math.exp(sum(getattr(row, n) for row in rows) / count) for n in ("claimed_log", "true_log"))
        lines.append(
            f"| {rule} | {promoted:.1f} | {false:.1f} | {small:.1f} | {promoted - false - small:.1f} "
            f"| {_times(claimed)} | {_times(true)} | {sum(row.runs for row in rows) / count:,.0f} |"
        )
    return "\n".join(lines)


def _by_recording(figures: Figures) -> str:
    remark = (
        f"Noise is the robust sd of a pair; the ratio is of our runs, calibration included, to those of {RIVAL}. "
        "Blocks: whether `nightfleet check` would ask for longer ones, to promote 80% of gains of 6%. Rejected: of "
        "candidates without gain, and of gains of 3%; nearly all others are undecided, or incremental."
    )
    lines = [
        remark,
        "",
        "| recording | clock | noise | blocks | runs, ours | ratio | rejected of no gain | of 3% |",
        "|---|---|--:|---|--:|--:|--:|--:|",
    ]
    for found in figures.recordings:
        here = [row for row in figures.nights if (row.stream, row.clock) == (found.stream, found.clock)]
        mine = [row.runs for row in here if row.rule == OURS[0]]
        ratio = run_ratio(replace(figures, nights=here), lambda _: True)
        rejected = figures.rejected[f"{found.stream} by {found.clock}"]
        blocks = "long enough" if found.longer == 1 else f"{found.longer} times" if found.longer else "none would do"
        lines.append(
            f"| {found.stream} | {found.clock} | {found.noise:.1%} | {blocks} "
            f"| {sum(mine) / len(mine):,.0f} | {ratio:.2f} | {' | '.join(f'{share:.0%}' for share in rejected)} |"
        )
    return "\n".join(lines)


def _times(factor: float) -> str:
    return f"{factor:.2f}" if factor < 100 else f"{factor:,.0f}" if factor < 1e6 else f"{factor:.0e}"


def _likely_real(figures: Figures) -> str:
    shares = {place: share for place, share in figures.likely_real.items() if "_f " not in place}
    return (
        "Whatever is lower is kept, as the MAD score's instructions say. In the morning it calls "
        f"{np.mean(list(shares.values())):.0%} of them “likely real”; by stream, {min(shares.values()):.0%} to "
        f"{max(shares.values()):.0%}."
    )


def _hardening(figures: Figures) -> str:
    rows = [row for row in figures.hardening if recorded(row)]
    gains = sorted({row.gain for row in rows})
    lines = [
        "Promoted, on the same candidates, with clauses taken out that were added against cheats.",
        "",
        f"| without | {' | '.join(f'of {gain:.0%}' for gain in gains)} |",
        f"|---|{'--:|' * len(gains)}",
    ]
    for without in dict.fromkeys(row.without for row in rows):
        chosen = [[row for row in rows if (row.without, row.gain) == (without, gain)] for gain in gains]
        shares = [sum(row.promoted for row in of) / sum(row.candidates for row in of) for of in chosen]
        lines.append(f"| {without} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join(lines)


def _promises(figures: Figures) -> str:
    lines = ["| what | figure | promise |", "|---|--:|---|"]
    for figure in promises(figures):
        broken = "" if figure.kept else " **not kept**"
        lines.append(f"| {figure.name} | {figure.value:.3g} {figure.unit} | {figure.promise}{broken} |")
    return "\n".join(lines)


def plot(figures: Figures, path: Path) -> None:
    """False promotions in 700 against power, a panel for each gain; a dot's area goes with the runs of a null."""
    from matplotlib.ticker import PercentFormatter

    cells = [cell for cell in figures.cells if recorded(cell)]
    with drawn(path, 1, len(PLOTTED), (9, 4.6), sharey=True) as (drawing, panels):
        for panel, gain in zip(panels, PLOTTED, strict=True):
            for letter, rule in zip(LETTERS, ORDER, strict=False):
                _dot(panel, letter, rule, cells, gain)
            panel.set_title(f"true gain {gain:.0%}", fontsize=10)
            panel.set_xscale("symlog", linthresh=0.1, linscale=0.5)
            panel.set_xlim(-0.06, 900)
            panel.set_xticks([0, 0.1, 1, 10, 100, 700], ["0", "0.1", "1", "10", "100", "700"])
            panel.set_ylim(-0.06, 1.06)
            panel.set_xlabel("false promotions in 700")
        panels[0].set_ylabel("promoted")
        panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        _legend(drawing, cells)


def _of(cells: Sequence[Cell], rule: str, gain: float) -> list[Cell]:
    return [cell for cell in cells if cell.rule == rule and cell.gain == gain]


def _dot(panel: Any, letter: str, rule: str, cells: Sequence[Cell], gain: float) -> None:
    nulls = _of(cells, rule, 0.0)
    x, y, ink = 700 * _share(nulls), _share(_of(cells, rule, gain)), OUR_INK if rule in OURS else INK
    panel.scatter([x], [y], s=4 * _each(nulls) + 6, color=ink, alpha=0.55, linewidths=0)
    panel.annotate(letter, (x, y), xytext=(5, 4), textcoords="offset points", color=ink, fontweight="bold")


def _legend(drawing: Any, cells: Sequence[Cell]) -> None:
    drawing.subplots_adjust(left=0.085, right=0.985, top=0.93, bottom=0.36, wspace=0.08)
    rows = -(-len(ORDER) // 3)
    for place, (rule, runs) in enumerate(_runs_of_a_null(cells).items()):
        column, row = divmod(place, rows)
        ink = OUR_INK if rule in OURS else INK
        text = f"{LETTERS[place]}  {rule}: {runs:.0f} {'run' if round(runs) == 1 else 'runs'}"
        drawing.text(0.05 + 0.29 * column, 0.2 - 0.045 * row, text, color=ink)


def runs_of_a_null(figures: Figures) -> dict[str, float]:
    """The mean runs that each rule takes for a candidate without gain, on the recorded streams."""
    return _runs_of_a_null([cell for cell in figures.cells if recorded(cell)])


def _runs_of_a_null(cells: Sequence[Cell]) -> dict[str, float]:
    return {rule: _each(_of(cells, rule, 0.0)) for rule in ORDER}
