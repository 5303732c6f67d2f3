"""`nightfleet status`: where the night stands, or what it came to."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nightfleet.orchestrator.commands.recorded import last_night


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")] = False) -> None:
    """Show where the night of this folder stands: what was promoted, what was near, what it used, what to type next.

    It is read from the ledger alone and may be asked at any time, whoever drives the night. The last line says
    `PROMOTED n of m candidates`, and the total gain if it was measured.

    Example: `nightfleet status --json`
    """
    from nightfleet.orchestrator.views.summary import Summary
    from nightfleet.orchestrator.views.telling import tell

    with last_night(Path.cwd()) as (ledger, night):
        found = Summary.of(ledger, night.number)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        tell(found, Console(highlight=False))
