"""`nightfleet probe`: what this machine's kernel grants, and which promises of the sandbox that lets us keep."""

import json
from collections.abc import Mapping
from typing import Annotated, TypedDict

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO

# How `nightfleet.native.probe()` begins what is not there: a feature of the kernel, a promise of the sandbox.
ABSENT = ("no: ", "lost: ")


class Findings(TypedDict):
    """What `nightfleet.native.probe()` returns."""

    kernel: dict[str, str]
    """Each feature of the kernel: "yes", a version, or "no: why"."""
    promises: dict[str, str]
    """Each promise of a trial's sandbox: the mechanism that keeps it, or "lost: why"."""
    below_minimum: str | None
    """Why no sandbox can be built here; None where one can."""


def probe(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show which sandbox promises this machine keeps, and by which mechanism.

    Exits with 1 if the machine is below the minimum without which nightfleet runs no candidates, with 0 otherwise.

    Example: `nightfleet probe --json`
    """
    from nightfleet import native

    findings: Findings = native.probe()
    if as_json:
        typer.echo(json.dumps(findings, indent=2))
    else:
        show(findings, Console())
    if findings["below_minimum"] is not None:
        raise typer.Exit(ANSWER_IS_NO)


def show(findings: Findings, console: Console) -> None:
    """Print what was found as tables."""
    console.print(_table("what the kernel grants", findings["kernel"]))
    if findings["below_minimum"] is not None:
        console.print(Text(f"below the minimum: {findings['below_minimum']}", style="bold red"))
        console.print("nightfleet runs no candidates on such a machine.")
        return
    console.print(_table("what the sandbox promises, and by which mechanism", findings["promises"]))
    console.print(Text("the stated minimum holds", style="green"))


def _table(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("mechanism")
    for name, words in rows.items():
        # Text, not markup: the kernel's words may contain brackets.
        table.add_row(Text(name), Text(words, style="yellow" if words.startswith(ABSENT) else ""))
    return table
