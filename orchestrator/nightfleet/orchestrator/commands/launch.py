"""`nightfleet launch`: put the fleet to work, go to bed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nightfleet.orchestrator.commands.subject import find_subject

if TYPE_CHECKING:
    from nightfleet.orchestrator.holding import Wishes
    from nightfleet.orchestrator.ledger.tables import Night
    from nightfleet.orchestrator.place import Place
    from nightfleet.orchestrator.program import Program


def launch(
    *,
    experiments: Annotated[
        int | None, typer.Option(min=1, help="Candidates to judge; else budget.experiments.")
    ] = None,
    length: Annotated[str | None, typer.Option("--for", metavar="8h", help="How long; else budget.night.")] = None,
    until: Annotated[str | None, typer.Option(metavar="07:00", help="Until when, by this machine's clock.")] = None,
    scouts: Annotated[int | None, typer.Option(min=0, max=64, help="Instead of fleet.scouts.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Instead of fleet.workers.")] = None,
    replay: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Judge the commits of a branch, one by one, and nothing else.")
    ] = None,
    branch: Annotated[str | None, typer.Option(help="The champion's branch; else nightfleet/DATE/champion.")] = None,
    program: Annotated[Path | None, typer.Option(help="A program.md; without it the one here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end instead of words.")] = False,
) -> None:
    """Begin a night from the commit that is checked out, or go on with the one that has not ended.

    The working tree is never touched; what is promoted is on a branch of its own. Whatever ends this process (Ctrl-C, a
    crash, a power cut), typing the same command again goes on with the same night.

    Exits with 0 when the night is over, with 2 if it could not be held, with 130 when interrupted.

    Example: `nightfleet launch --for 8h --experiments 200`
    """
    from nightfleet.native import UserError
    from nightfleet.orchestrator.place import Place

    console = Console(stderr=as_json, highlight=False)
    here = Path.cwd()
    if length is not None and until is not None:
        raise UserError("--for and --until say the same thing twice; type one of them")
    subject = find_subject(here, "HEAD", program)
    for note in subject.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    wishes = _wishes(experiments, length, until, scouts, workers, replay, branch)
    place = Place.open(here, make=True)
    ended = hold(place, subject.program, subject.file, wishes, console)
    show(place, ended, console, as_json=as_json)


def hold(place: "Place", program: "Program", file: Path | None, wishes: "Wishes", console: Console) -> "Night":
    """Hold the night here, before people's eyes."""
    raise NotImplementedError
