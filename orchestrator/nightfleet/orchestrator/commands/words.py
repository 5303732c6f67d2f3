"""`nightfleet stop`, `branch` and `signoff`: what a person says to a night."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from nightfleet.orchestrator.views.lasting import Lasting

if TYPE_CHECKING:
    from nightfleet.orchestrator.ledger.tables import Candidate, Promotion
    from nightfleet.orchestrator.place import Place


def stop(
    *,
    now: Annotated[bool, typer.Option("--now", help="Without measuring the champion against the root first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")] = False,
) -> None:
    """End the night: the step under way is finished, the champion is measured, and everything is kept.

    To interrupt it and go on later, press Ctrl-C where it runs, and type `nightfleet launch` again.

    Example: `nightfleet stop`
    """
    from nightfleet.orchestrator import stopping
    from nightfleet.orchestrator.ledger import DrivenError, nights
    from nightfleet.orchestrator.place import Place
    from nightfleet.orchestrator.promotion import settle

    place = Place.open(Path.cwd())
    night = place.night()
    try:
        with place.ledger.drive():
            settle(place, night)
            with place.ledger.write() as writing:
                nights.end(writing, night.number, "stopped while nobody drove it")
            words, ended = f"the night {night.name} is over; its champion is on {night.champion_branch}", True
    except DrivenError:
        stopping.ask(place.state, night, measure=not now)
        words, ended = f"the night {night.name} ends after the step under way; `nightfleet status` says when", False
    if as_json:
        typer.echo(json.dumps({"night": night.name, "ended": ended}))
    else:
        typer.echo(words)


def branch(
    number: Annotated[int, typer.Argument(metavar="ID", help="The candidate's number, as in results.tsv.")],
    name: Annotated[str | None, typer.Argument(help="Of the branch; else nightfleet/NIGHT/ID.")] = None,
    *,
    night: Annotated[str | None, typer.Option(help="The night's name; else the last one.")] = None,
) -> None:
    """Make a branch of a candidate, whatever came of it, to look at it or to go on with it.

    Example: `nightfleet branch 14`
    """
    from nightfleet.orchestrator.place import Place

    place = Place.open(Path.cwd())
    candidate, run = _candidate(place, number, night)
    made = name or f"nightfleet/{run}/{number}"
    place.references.new_branch(made, candidate.commit)
    said = candidate.verdict or candidate.state
    typer.echo(f"{made} is candidate {number} ({said}): type `git diff {candidate.parent[:12]} {made}` to see it")


def signoff(
    number: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="The promoted candidate's number; without it, who waits.")
    ] = None,
    *,
    reject: Annotated[
        bool, typer.Option("--reject", help="Take it out of the champion; what came after it is judged without it.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")] = False,
) -> None:
    """Say that you have read a promotion whose gain is too large to be believed unseen, or that you do not want it.

    A rejection moves the champion back; while no night runs here, what was promoted later is judged again at once.

    Example: `nightfleet signoff 14 --reject --reason "it skips the audit log"`
    """
    from nightfleet.orchestrator.ledger import promotions
    from nightfleet.orchestrator.place import Place

    place = Place.open(Path.cwd())
    console = Lasting(stderr=as_json, highlight=False)
    if number is None:
        _waiting(place, as_json=as_json)
        return
    candidate, _ = _candidate(place, number, None)
    promotion = _promotion(place, candidate)
    with place.ledger.write() as writing:
        who = place.checkout.identity()
        promotions.sign_off(writing, promotion.id, accepted=not reject, said_by=who.name, reason=reason)
    if reject:
        _without(place, candidate, console, as_json=as_json)
    elif as_json:
        typer.echo(json.dumps({"candidate": number, "accepted": True}))
    else:
        typer.echo(f"candidate {number} is signed off by {who.name}")


def _waiting(place: "Place", *, as_json: bool) -> None:
    """Who has to be looked at."""
    from nightfleet.orchestrator.ledger import nights, promotions
    from nightfleet.orchestrator.ledger.tables import Candidate, Verification

    with place.ledger.read() as reading:
        night = nights.latest(reading)
        rows = [] if night is None else promotions.awaiting_sign_off(reading, night.number)
        found = [
            (reading.get(Candidate, row.candidate), reading.get(Verification, row.verification), row) for row in rows
        ]
    if as_json:
        typer.echo(json.dumps([{"candidate": one.number, "gain": said.gain} for one, said, _ in found]))
        return
    for one, said, row in found:
        gain = "" if said.gain is None else f" {said.gain:+.1%}"
        typer.echo(f"candidate {one.number}{gain}: {one.description}; type `git show {row.to_commit[:12]}`, then")
        typer.echo(f"  `nightfleet signoff {one.number}` or `nightfleet signoff {one.number} --reject`")
    if not found:
        typer.echo("no promotion waits for a person")


def _without(place: "Place", candidate: "Candidate", console: Console, *, as_json: bool) -> None:
    """Judge the chain without a promotion: here, or by the process that drives the night."""
    from nightfleet.orchestrator.commands.launch import end_of, hold
    from nightfleet.orchestrator.commands.subject import find_subject
    from nightfleet.orchestrator.holding import Wishes
    from nightfleet.orchestrator.ledger import DrivenError, nights

    try:
        with place.ledger.drive(), place.ledger.write() as writing:
            night = nights.reopen(writing, candidate.night)
    except DrivenError:
        console.print(Text(f"candidate {candidate.number} is rejected; the night that runs here goes on without it"))
        return
    console.print(Text(f"judging the champion of {night.name} without candidate {candidate.number}"))
    subject = find_subject(place.here, "HEAD", None)
    end_of(place, hold(place, subject, Wishes(only_again=True), console), console, as_json=as_json)


def _candidate(place: "Place", number: int, night: str | None) -> "tuple[Candidate, str]":
    """A candidate by its number, and its night's name. UserError where there is none."""
    from nightfleet.native import UserError
    from nightfleet.orchestrator.ledger import candidates, nights

    with place.ledger.read() as reading:
        row = nights.latest(reading) if night is None else nights.named(reading, night)
        found = None if row is None else candidates.numbered(reading, row.number, number)
    if row is None:
        raise UserError(f"there is no night {night or ''} here; type `nightfleet status`".replace("  ", " "))
    if found is None:
        raise UserError(
            f"the night {row.name} has no candidate {number}; `nightfleet status` and results.tsv list them"
        )
    return found, row.name


def _promotion(place: "Place", candidate: "Candidate") -> "Promotion":
    from nightfleet.native import UserError
    from nightfleet.orchestrator.ledger import promotions

    with place.ledger.read() as reading:
        found = promotions.of(reading, candidate.id)
    if found is None or found.result != "swapped":
        raise UserError(f"candidate {candidate.number} is not in the champion; there is nothing to sign off")
    return found
