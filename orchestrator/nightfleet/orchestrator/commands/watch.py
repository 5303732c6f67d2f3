"""`nightfleet watch`: a night followed from another terminal."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from nightfleet.orchestrator.commands.recorded import last_night

if TYPE_CHECKING:
    from nightfleet.orchestrator.ledger import Ledger
    from nightfleet.orchestrator.ledger.tables import Night

LOOK_EVERY_S = 0.5


def watch() -> None:
    """Follow the night of this folder until it ends: a screen on a terminal, a line for each event elsewhere.

    It reads the ledger and does nothing else: Ctrl-C leaves, and the night goes on. At the end, or where nobody drives
    the night, it shows what `nightfleet status` shows.

    Example: `nightfleet watch`
    """
    from nightfleet.orchestrator.views.summary import Summary
    from nightfleet.orchestrator.views.telling import tell

    console = Console(highlight=False)
    with last_night(Path.cwd()) as (ledger, night):
        try:
            _follow(ledger, night, console)
        except KeyboardInterrupt:
            typer.echo("left; nothing that you did here changed the night")
            return
        tell(Summary.of(ledger, night.number), console)


def _follow(ledger: "Ledger", night: "Night", console: Console) -> None:
    """Show a night as long as it goes on and, as far as can be told, somebody drives it."""
    from nightfleet.orchestrator.views.live import Live
    from nightfleet.orchestrator.views.summary import budget_of

    with ledger.read() as reading:
        budget = budget_of(reading, night.number)
    ends_at_us = None if budget is None else night.began_us + round(budget.night_s * 1e6)
    live = Live(console, ledger, night.number, ends_at_us=ends_at_us, experiments=night.planned)
    # Of a night that has ended there is nothing to follow.
    if live.goes_on:
        with live:
            while live.goes_on:
                time.sleep(LOOK_EVERY_S)
