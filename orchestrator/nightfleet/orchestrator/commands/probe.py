"""`nightfleet probe`: what this machine's kernel grants, and which promises of the sandbox that lets us keep."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO

# How `nightfleet.native.probe()` begins the value of a promise that this machine cannot keep.
LOST = "lost"


def probe(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show which sandbox promises this machine keeps, and by which mechanism.

    Exits with 1 if a promise is lost without which nightfleet refuses to run candidates, with 0 otherwise.

    Example: `nightfleet probe --json`
    """
    from nightfleet import native

    facts: Mapping[str, object] = native.probe()  # type: ignore[attr-defined]
    missing = lost_minimum(facts)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
    else:
        _show(facts, missing)
    if missing:
        raise typer.Exit(ANSWER_IS_NO)


def lost_minimum(facts: Mapping[str, object]) -> list[str]:
    """Name the promises of the stated minimum that this machine does not keep.

    Args:
        facts: what `nightfleet.native.probe()` returned. `promises` maps each promise to its mechanism or to
            "lost: why", and `minimum` lists the promises that nightfleet does not run without. Without `promises` the
            whole mapping is taken as promises; without `minimum` all of them are needed.
    """
    promises = facts.get("promises", facts)
    if not isinstance(promises, Mapping):
        raise TypeError(f"probe()['promises'] must map names to mechanisms, not be {promises!r}")
    minimum = facts.get("minimum", list(promises))
    if not isinstance(minimum, Iterable):
        raise TypeError(f"probe()['minimum'] must list names of promises, not be {minimum!r}")
    return [name for name in minimum if is_lost(promises.get(name, LOST))]


def is_lost(mechanism: object) -> bool:
    """Tell whether a promise's mechanism says that there is none."""
    return mechanism is None or mechanism is False or str(mechanism).startswith(LOST)


def _show(facts: Mapping[str, object], missing: list[str]) -> None:
    console = Console()
    loose = {name: fact for name, fact in facts.items() if not isinstance(fact, Mapping)}
    sections = {name: fact for name, fact in facts.items() if isinstance(fact, Mapping)}
    for title, rows in {**sections, "machine": loose}.items():
        if rows:
            console.print(_table(title, rows))
    if missing:
        console.print(Text(f"below the minimum: {', '.join(missing)}", style="bold red"))
        console.print("nightfleet does not run candidates on such a machine.")
    else:
        console.print(Text("the stated minimum holds", style="green"))


def _table(title: str, rows: Mapping[str, object]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("mechanism")
    for name, fact in rows.items():
        # Text, not markup: a mechanism may contain brackets.
        table.add_row(Text(name), Text(_words(fact), style="red" if is_lost(fact) else ""))
    return table


def _words(fact: object) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, list | tuple):
        return ", ".join(map(str, fact))
    return str(fact)
