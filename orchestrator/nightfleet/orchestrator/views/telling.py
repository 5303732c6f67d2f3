"""A summary on paper: what a person should know first comes first, and what they may type next comes last."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import (
    columns,
    count,
    day,
    dollars,
    duration,
    interval,
    percent,
    short,
    total_gain,
)
from nightfleet.orchestrator.views.standing import LONGEST_TITLE
from nightfleet.orchestrator.views.summary import Step, Summary

# Of each list that could be as long as the night.
MOST_NEAR = 8
MOST_NUMBERS = 12


def tell(summary: Summary, console: Console) -> None:
    """Print a summary. Its last line is `summary.last_line`, whole."""
    for line in _lines(summary):
        console.print(line, soft_wrap=True)
    console.print(Text(summary.last_line, style="bold green" if summary.steps else "bold"), soft_wrap=True)


def _lines(summary: Summary) -> Iterator[Text]:
    yield from _head(summary)
    yield from map(_awaiting, summary.awaiting)
    if summary.steps:
        yield from _staircase(summary.steps)
        together = percent(total_gain(step.gain for step in summary.steps))
        yield Text(f"each with its own figure they come to about {together}; what counts is the last line", "dim")
        yield from _named("no more use", list(_redundant(summary.steps)))
        yield from _named("left in", [f"#{step.number} {step.now_says}" for step in summary.steps if step.now_says])
    yield from _named("near", list(_near(summary)))
    yield from _named("not promoted", [_numbers(kind, found) for kind, found in summary.failed.items()])
    yield from _named("run again", list(_again(summary)))
    yield from _named("under way", [f"{number} {state}" for state, number in _under_way(summary).items()])
    yield from _named("used", list(_used(summary)))
    yield from _named("time", _where_time_went(summary))
    yield Text("next, type", style="dim")
    for command in _commands(summary):
        yield Text(f"  {command}")


def _head(summary: Summary) -> Iterator[Text]:
    night = summary.night
    yield Text.assemble(
        (f"night {night.name}", "bold"),
        f", begun {day(night.began_us)}, {duration(summary.elapsed_s)}; {night.base_branch} at {short(night.root)}",
        f" → {night.champion_branch} at {short(night.champion)}",
    )
    if night.ending is not None:
        yield Text(f"ended: {one_line(night.ending)}")
    elif summary.driven is False:
        yield Text("nobody drives it; type `nightfleet launch` to go on", style="bold yellow")
    elif summary.driven is None:
        yield Text(f"driven by {summary.driver}, if that still runs: nobody can tell from here", style="yellow")
    else:
        yield Text(f"driven by {summary.driver}")


def _awaiting(step: Step) -> Text:
    claim = "" if step.gain is None else f" claims {percent(step.gain)} {interval(step.low, step.high)}".rstrip()
    return Text(
        f"AWAITING SIGN-OFF: #{step.number} {step.title}{claim}: too much to be believed unseen. Look at it with "
        f"`nightfleet audit show {step.report}`; then type `nightfleet signoff {step.number}`, or "
        f"`nightfleet signoff --reject {step.number}`",
        style="bold red",
    )


def _staircase(steps: tuple[Step, ...]) -> Iterator[Text]:
    """A row for each step."""
    # What it is worth by the morning only where somebody looked.
    looked = any(step.now is not None or step.now_says for step in steps)
    names = ("#", "gain", "interval", *(("by now", "interval") if looked else ()), "pairs", "cases", "commit", "title")
    rows = [names]
    for step in steps:
        gain = "" if step.gain is None else percent(step.gain)
        now = ("" if step.now is None else percent(step.now), interval(step.now_low, step.now_high))
        figures = (interval(step.low, step.high), *(now if looked else ()), f"{step.pairs}", f"{step.cases:,}")
        rows.append((f"{step.number}", gain, *figures, step.commit, step.title))
    for place, line in enumerate(columns(rows, left={len(rows[0]) - 2})):
        yield Text(line, style="" if place else "bold")


def _again(summary: Summary) -> Iterator[str]:
    lines = [" → ".join(f"#{number}" for number in line) for line in summary.lineages]
    if lines:
        more = f" and {len(lines) - MOST_NUMBERS} more" if lines[MOST_NUMBERS:] else ""
        yield f"on later champions: {', '.join(lines[:MOST_NUMBERS])}{more}"


def _redundant(steps: tuple[Step, ...]) -> Iterator[str]:
    for step in steps:
        if step.redundant:
            now = f"{percent(step.now or 0.0)} {interval(step.now_low, step.now_high)}"
            yield f"#{step.number} {now}: {step.title}; take it out: `nightfleet signoff --reject {step.number}`"


def _near(summary: Summary) -> Iterator[str]:
    for row in summary.near[:MOST_NEAR]:
        gain = "" if row.gain is None else f" {percent(row.gain)} {interval(row.low, row.high)}".rstrip()
        yield f"#{row.number} {row.verdict}{gain}, {row.pairs} pairs: {one_line(row.description, LONGEST_TITLE)}"
    if more := len(summary.near[MOST_NEAR:]):
        yield f"and {more} more"


def _numbers(kind: str, found: list[int]) -> str:
    more = f" and {len(found) - MOST_NUMBERS} more" if found[MOST_NUMBERS:] else ""
    return f"{len(found)} {kind}: {', '.join(f'#{number}' for number in found[:MOST_NUMBERS])}{more}"


def _under_way(summary: Summary) -> dict[str, int]:
    return {state: number for state, number in summary.status.states.items() if state not in {"judged", "stale"}}


def _used(summary: Summary) -> Iterator[str]:
    spent, budget, night = summary.status.spent, summary.budget, summary.night
    yield f"{sum(summary.status.verdicts.values())} of {count(night.planned, 'experiment')}"
    yield f"{duration(summary.elapsed_s)}; agents worked {duration(spent.wall_us / 1e6)}"
    tokens = "" if budget is None else f" of {budget.tokens:,}"
    money = "" if budget is None else f" of {dollars(budget.cost_cents * 10_000)}"
    yield f"{spent.tokens:,}{tokens} tokens, {dollars(spent.micro_dollars)}{money}"
    for purpose, (indices, alpha) in summary.status.reserved.items():
        if indices or purpose == "speed":
            yield _error_budget(purpose, indices, alpha, night)


def _error_budget(purpose: str, indices: int, alpha: float, night: Night) -> str:
    return f"error budget for {purpose}: {count(indices, 'timing')}, {alpha:.3g} of {night.alpha:g}"


def _where_time_went(summary: Summary) -> list[str]:
    total = sum(summary.gate_seconds.values())
    gates = sorted(summary.gate_seconds.items(), key=lambda item: -item[1])
    return [f"{gate} {duration(seconds)} ({seconds / total:.0%})" for gate, seconds in gates if seconds >= total / 100]


def _commands(summary: Summary) -> Iterator[str]:
    night = summary.night
    if night.ending is None:
        yield "nightfleet watch" if summary.driven is not False else "nightfleet launch"
    if summary.steps:
        yield f"git log {short(night.root)}..{night.champion_branch}"
        yield f"git diff {short(night.root)} {night.champion_branch}"
        yield f"nightfleet audit show {(summary.awaiting or summary.steps)[-1].report}"
    elif summary.near:
        yield "nightfleet audit list"
    for step in summary.awaiting:
        yield f"nightfleet signoff {step.number}"
    yield "nightfleet status --json"


def _named(name: str, lines: list[str]) -> Iterator[Text]:
    for place, line in enumerate(lines):
        yield Text.assemble((f"{name if place == 0 else '':14}", "dim"), line)
