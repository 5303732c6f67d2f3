"""What a night looks like while it goes on: a screen for a terminal, one line for a log."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import count, dollars, duration, percent
from nightfleet.orchestrator.views.standing import LONGEST_TITLE, Judged, Standing

# Fixed: a screen has few lines, and whatever is longer goes out of sight at its end.
MOST_AGENTS = 8
MOST_HEARINGS = 4
BAR = 20
STYLES = {
    "promote": "bold green",
    "simplify": "green",
    "incremental": "yellow",
    "undecided": "magenta",
    "suspicious": "bold red",
    "incorrect": "red",
    "broken": "red",
    "out_of_scope": "red",
}


@dataclass(frozen=True)
class Hearing:
    """A candidate before the judge: at which gate, what is being done, how much of it, and how long the rest takes."""

    number: int
    title: str
    gate: str = ""
    words: str = ""
    done: int = 0
    of: int | None = None
    left_s: float | None = None

    @property
    def doing(self) -> str:
        """In words."""
        counted = "" if not self.done else f" {self.done}" if self.of is None else f" {self.done} of {self.of}"
        return ": ".join(part for part in (self.gate, f"{self.words}{counted}".strip()) if part)


@dataclass(frozen=True)
class Limits:
    """What the night ends by: a moment (us since 1970 UTC), or so many experiments."""

    ends_at_us: int | None
    experiments: int


@dataclass(frozen=True)
class Sight:
    """All that there is to be seen."""

    standing: Standing
    limits: Limits
    agents: Mapping[str, str]
    hearings: tuple[Hearing, ...]


def screen(sight: Sight) -> RenderableType:
    """Lines for a terminal. What strangers wrote is text, never markup."""
    parts: list[RenderableType] = [_head(sight), Text(" · ".join(_budgets(sight)), style="dim")]
    for title, rows in (
        ("before the judge", _hearings(sight.hearings)),
        ("agents", _agents(sight.agents)),
        ("verdicts", _verdicts(tuple(sight.standing.latest))),
    ):
        if rows.row_count:
            parts += [Text(title, style="dim underline"), rows]
    parts.append(Text(_states(sight.standing), style="dim"))
    return Group(*parts)


def heartbeat(sight: Sight) -> str:
    """One line for a log: that it goes on, and how far it is."""
    parts = [_times(sight), *_budgets(sight), _steps(sight.standing)]
    parts += [_heard(hearing) for hearing in sight.hearings]
    if sight.agents:
        parts.append(f"{count(len(sight.agents), 'agent')} at work")
    return "; ".join(parts)


def _head(sight: Sight) -> Text:
    night = sight.standing.night
    name = Text.assemble((f"night {night.name}", "bold"), (f"  {_times(sight)}  ", "dim"))
    return name.append(_steps(sight.standing), style="bold green" if sight.standing.gains else "")


def _times(sight: Sight) -> str:
    standing = sight.standing
    gone = duration((standing.now_us - standing.night.began_us) / 1e6)
    if sight.limits.ends_at_us is None:
        return gone
    return f"{gone}, {duration((sight.limits.ends_at_us - standing.now_us) / 1e6)} left"


def _steps(standing: Standing) -> str:
    if not standing.gains:
        return f"0 promoted of {count(standing.candidates, 'candidate')}"
    together = f"about {percent(standing.total_gain)} together"
    return f"{len(standing.gains)} promoted of {count(standing.candidates, 'candidate')}, {together}"


def _budgets(sight: Sight) -> list[str]:
    spent, standing = sight.standing.spent, sight.standing
    words = [f"{sum(standing.verdicts.values())} of {count(sight.limits.experiments, 'experiment')}"]
    indices = sum(number for number, _ in standing.reserved.values())
    alpha = max((used for _, used in standing.reserved.values()), default=0.0)
    words.append(f"{count(indices, 'timing')}, {alpha:.2g} of {standing.night.alpha:g} error budget")
    if spent.tokens:
        words.append(count(spent.tokens, "token"))
    if spent.micro_dollars:
        words.append(dollars(spent.micro_dollars))
    return words


def _states(standing: Standing) -> str:
    found = [f"{number} {state}" for state, number in standing.states.items() if number]
    return " · ".join([*found, f"{standing.strategies} strategies proposed"])


def _heard(hearing: Hearing) -> str:
    left = "" if hearing.left_s is None else f", {duration(hearing.left_s)} left"
    return f"#{hearing.number} {hearing.title}: {hearing.doing}{left}"


def _hearings(hearings: tuple[Hearing, ...]) -> Table:
    rows = _rows()
    for hearing in hearings[:MOST_HEARINGS]:
        bar = ProgressBar(total=hearing.of, completed=hearing.done, width=BAR) if hearing.of else Text()
        left = "" if hearing.left_s is None else f"{duration(hearing.left_s)} left"
        rows.add_row(Text(f"#{hearing.number}", "bold"), Text(hearing.title), Text(hearing.doing), bar, Text(left))
    if more := len(hearings[MOST_HEARINGS:]):
        rows.add_row(Text(""), Text(f"and {more} more", "dim"))
    return rows


def _agents(agents: Mapping[str, str]) -> Table:
    rows = _rows()
    shown = sorted(agents.items())
    for name, doing in shown[:MOST_AGENTS]:
        rows.add_row(Text(one_line(name, LONGEST_TITLE), "bold"), Text(one_line(doing)))
    if more := len(shown[MOST_AGENTS:]):
        rows.add_row(Text(""), Text(f"and {more} more", "dim"))
    return rows


def _verdicts(latest: tuple[Judged, ...]) -> Table:
    rows = _rows()
    for one in reversed(latest):
        gain = Text("" if one.gain is None else percent(one.gain), justify="right")
        rows.add_row(
            Text(f"#{one.number}", "bold"), Text(one.verdict, STYLES.get(one.verdict, "dim")), gain, Text(one.title)
        )
    return rows


def _rows() -> Table:
    rows = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(5):
        rows.add_column(no_wrap=True, overflow="ellipsis")
    return rows
