"""`nightfleet launch`: put the fleet to work, and go to bed."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from nightfleet.orchestrator.commands.subject import find_subject
from nightfleet.orchestrator.views.lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightfleet.agents.replay import Commit
    from nightfleet.orchestrator.budget import Limits
    from nightfleet.orchestrator.commands.subject import Subject
    from nightfleet.orchestrator.holding import Holding, Wishes
    from nightfleet.orchestrator.ledger.tables import Night as NightRow
    from nightfleet.orchestrator.place import Place


def launch(
    *,
    experiments: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Candidates to judge; else budget.experiments.")
    ] = None,
    length: Annotated[
        str | None, typer.Option("--for", metavar="8h", help="How long, from when it began; else budget.night.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="07:00", help="Until when, by this machine's clock.")] = None,
    every: Annotated[
        str | None, typer.Option(metavar="30m", help="Begin a night every so often, for as long as --for says.")
    ] = None,
    scouts: Annotated[int | None, typer.Option(min=1, max=64, help="Instead of fleet.scouts.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Instead of fleet.workers.")] = None,
    replay: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Judge the commits of a branch, one by one, and nothing else.")
    ] = None,
    branch: Annotated[str | None, typer.Option(help="The champion's branch; else nightfleet/DATE/champion.")] = None,
    join: Annotated[
        bool, typer.Option("--join", help="Bring agents to the night that another process drives here.")
    ] = False,
    program: Annotated[Path | None, typer.Option(help="A program.md; without it the one here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end instead of words.")] = False,
) -> None:
    """Begin a night from the commit that is checked out, or go on with the one that has not ended.

    The working tree is never touched: what is promoted is on a branch of its own. Whatever ends this process (Ctrl-C, a
    crash, a power cut), the same command again goes on with the same night.

    Exits with 0 when the night is over, with 2 if it could not be held, with 130 when interrupted.

    Example: `nightfleet launch --for 8h --experiments 200`
    """
    from nightfleet.orchestrator.holding import Wishes
    from nightfleet.orchestrator.place import Place

    console = Lasting(stderr=as_json, highlight=False)
    seconds, ends_at_us = _length(length, until, every), None if until is None else _next(until)
    _refuse_contradictions(every=every, join=join, branch=branch)
    subject = find_subject(Path.cwd(), "HEAD", program)
    wishes = Wishes(experiments, seconds, ends_at_us, scouts, workers, replay, branch)
    place = Place.open(Path.cwd(), make=True)
    for note in subject.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    if join:
        bring_agents(place, subject, wishes, console)
    elif every is None:
        end_of(place, hold(place, subject, wishes, console), console, as_json=as_json)
    else:
        series = Series(_duration("--every", every), seconds or 0.0, program)
        again_and_again(place, wishes, console, series, as_json=as_json)


@dataclass(frozen=True)
class Held:
    """A night that was held, and the commits that were judged in it if it was a replay."""

    night: int
    replayed: "Sequence[Commit]" = ()


def hold(place: "Place", subject: "Subject", wishes: "Wishes", console: Console, *, brief: bool = False) -> Held:
    """Hold a night here, before people's eyes. `brief`: calibrate as for one verification."""
    holding = _holding(place, subject, wishes, console, brief=brief)
    with _interruptible(console):
        return Held(holding.hold().number, holding.replayed)


def bring_agents(place: "Place", subject: "Subject", wishes: "Wishes", console: Console) -> None:
    """Seat agents at the night that another process drives here, until it is over."""
    holding = _holding(place, subject, wishes, console, brief=False)
    with _interruptible(console):
        holding.join()


def _holding(place: "Place", subject: "Subject", wishes: "Wishes", console: Console, *, brief: bool) -> "Holding":
    from nightfleet.orchestrator.court import HarnessCourt
    from nightfleet.orchestrator.holding import Holding
    from nightfleet.orchestrator.practice import in_process
    from nightfleet.orchestrator.views.live import Live

    def telling(night: "NightRow", limits: "Limits") -> Live:
        return Live(
            console,
            place.ledger,
            night.number,
            ends_at_us=limits.ends_at_us,
            experiments=limits.experiments,
            papers=lambda: keep_papers(place, night),
        )

    court = HarnessCourt(place, place.master(), brief=brief)
    return Holding(place, subject.program, subject.file, wishes, court, telling, in_process(place))


@contextmanager
def _interruptible(console: Console) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print("everything so far is kept: the same command goes on with this night, `nightfleet stop` ends it")
        raise


@dataclass(frozen=True)
class Series:
    """A night every `every_s` seconds, for `seconds`."""

    every_s: float
    seconds: float
    program: Path | None


def again_and_again(place: "Place", wishes: "Wishes", console: Console, series: Series, *, as_json: bool) -> None:
    """Hold a series of nights; none from a commit at which there was nothing left to try.

    A machine that could not go on with one is asked again when the next would begin.
    """
    from nightfleet.native import MachineError
    from nightfleet.orchestrator.ledger import nights
    from nightfleet.orchestrator.ledger.tables import Night as NightRow
    from nightfleet.orchestrator.night import EXHAUSTED, STOPPED

    began, number = time.monotonic(), -1
    while (due_s := (number := number + 1) * series.every_s) < series.seconds:
        time.sleep(max(0.0, due_s - (time.monotonic() - began)))
        left_s = series.seconds - (time.monotonic() - began)
        if left_s <= 0.0:
            return
        subject = find_subject(place.here, "HEAD", series.program)
        with place.ledger.read() as reading:
            last = nights.latest(reading)
        if last is not None and last.ending == EXHAUSTED and last.root == subject.commit:
            console.print(f"nothing was left to try at {last.root[:12]}; the next look is in {series.every_s:g} s")
            continue
        try:
            held = hold(place, subject, replace(wishes, seconds=min(series.every_s, left_s)), console)
        except MachineError as error:
            console.print(Text(f"this night waits for the next look: {error}", style="yellow"), soft_wrap=True)
            continue
        end_of(place, held, console, as_json=as_json)
        with place.ledger.read() as reading:
            ending = reading.get(NightRow, held.night).ending
        if ending == STOPPED:
            console.print("stopped; no other night is begun")
            return


def keep_papers(place: "Place", night: "NightRow") -> None:
    """`results.tsv` and `events.jsonl`, as the ledger has them now."""
    from nightfleet.orchestrator.views.events import append_events
    from nightfleet.orchestrator.views.results import write_results

    folder = place.folder(night)
    write_results(place.ledger, night.number, folder)
    append_events(place.ledger, night.number, folder)


def end_of(place: "Place", held: Held, console: Console, *, as_json: bool) -> None:
    """What came of it, with the views beside the ledger."""
    from nightfleet.native import UserError
    from nightfleet.orchestrator.views import replayed
    from nightfleet.orchestrator.views.progress_plot import draw_progress
    from nightfleet.orchestrator.views.summary import Summary
    from nightfleet.orchestrator.views.telling import tell

    found = Summary.of(place.ledger, held.night)
    rows = replayed.rows(place.ledger, held.night, held.replayed)
    folder = place.folder(found.night)
    keep_papers(place, found.night)
    files = f"results.tsv and events.jsonl are in {folder}"
    try:
        draw_progress(place.ledger, held.night, folder, found.morning)
        files = f"results.tsv, events.jsonl and progress.png are in {folder}"
    except UserError as error:
        files += f"; {error}"
    if as_json:
        replay = {"replay": replayed.to_json(rows)} if rows else {}
        typer.echo(json.dumps({**found.to_json(), "folder": str(folder), **replay}, indent=2))
        return
    console.print(Text(files, style="dim"), soft_wrap=True)
    if rows:
        replayed.tell(rows, console)
    tell(found, console)


def _length(length: str | None, until: str | None, every: str | None) -> float | None:
    """How many seconds the night may take. UserError for wishes that contradict each other."""
    from nightfleet.native import UserError

    if length is not None and until is not None:
        raise UserError("--for and --until both say when the night ends; type one of them")
    if every is not None and length is None:
        raise UserError("--every needs --for: for how long to begin nights, like '--every 30m --for 3d'")
    return None if length is None else _duration("--for", length)


def _refuse_contradictions(*, every: str | None, join: bool, branch: str | None) -> None:
    from nightfleet.native import UserError

    if every is not None and branch is not None:
        raise UserError("--every begins many nights, and each has a branch of its own; leave --branch out")
    if join and (every is not None or branch is not None):
        raise UserError("--join begins no night: leave --every and --branch out")


def _next(until: str) -> int:
    """When a time of day comes next where the reader is, microseconds since 1970 UTC."""
    from nightfleet.native import UserError
    from nightfleet.orchestrator.ledger.clock import to_us

    try:
        clock = clock_time.fromisoformat(until)
    except ValueError:
        clock = None
    if clock is None or clock.tzinfo is not None:
        raise UserError(f"--until is a time of day like 07:00; got {until!r}")
    # Without a zone until the day is known: in some nights clocks are changed.
    now = datetime.now(UTC).astimezone().replace(tzinfo=None)
    end = datetime.combine(now.date(), clock)
    return to_us((end if end > now else end + timedelta(days=1)).astimezone())


def _duration(option: str, text: str) -> float:
    from nightfleet.harness.quantities import read_duration
    from nightfleet.native import UserError

    try:
        return read_duration(text, "1m", "365d")
    except ValueError as error:
        raise UserError(f"{option} {error}") from None
