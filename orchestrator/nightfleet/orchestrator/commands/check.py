"""`nightfleet check`: is this arena ready for a night?"""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO, COULD_NOT
from nightfleet.orchestrator.commands.subject import PROGRAM, Subject, find_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightfleet.harness.readiness import Examination, Readiness
    from nightfleet.harness.suggestion import Suggestion
    from nightfleet.orchestrator.program import Program

MARKS = {"yes": ("✓", "green"), "doubtful": ("!", "yellow"), "no": ("✗", "red")}


def check(
    revision: Annotated[
        str, typer.Argument(metavar="[A]", help="A revision or a directory: what a night would begin from.")
    ] = "HEAD",
    *,
    program: Annotated[Path | None, typer.Option(help="A program.md; without it the one here, else A's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write what is suggested into program.md, keeping comments.")
    ] = False,
    pairs: Annotated[int, typer.Option(min=60, help="Calibration pairs, at least.")] = 200,
    cases: Annotated[
        int | None, typer.Option(min=1, help="Cases of each workload that are run twice; all that fit into a minute.")
    ] = None,
) -> None:
    """Say whether a night would find what there is to find here, with evidence, and keep the calibration it needs.

    The code comes from a commit, never from the working tree. Exits with 0 if ready, 1 if not, 2 if nobody can tell.

    Example: `nightfleet check --fix`
    """
    from nightfleet.harness.readiness import examine
    from nightfleet.orchestrator.commands.watching import Watching

    console = Console(stderr=as_json, highlight=False)
    try:
        subject = _subject(revision, program, fix=fix)
        with Watching(console) as watching:
            found = examine(_asked(subject, pairs, cases), watching)
    except Exception as error:
        if as_json:
            typer.echo(json.dumps({"ready": False, "could_not": str(error), "rows": [], "suggestions": []}, indent=2))
        raise
    written = _fix(subject.file, subject.program, found.suggestions) if fix and subject.file else []
    if as_json:
        typer.echo(json.dumps({**found.to_json(), "notes": list(subject.notes), "written": written}, indent=2))
    else:
        _show(found, subject, written, console)
    if found.could_not:
        typer.echo(f"nightfleet: {found.could_not}", err=True)
        raise typer.Exit(COULD_NOT)
    if not found.ready:
        raise typer.Exit(ANSWER_IS_NO)


def _subject(revision: str, program: Path | None, *, fix: bool) -> Subject:
    from nightfleet.native import UserError

    subject = find_subject(Path.cwd(), revision, program)
    if fix and subject.file is None:
        raise UserError(f"--fix: {PROGRAM} is only in {revision}, and that is not edited; name a file with --program")
    return subject


def _asked(subject: Subject, pairs: int, cases: int | None) -> "Examination":
    from nightfleet.harness.readiness import Examination

    here = Path.cwd()
    arena, tree = subject.program.arena, subject.tree
    return Examination(arena, tree, subject.commit, here, here / ".nightfleet", pairs=pairs, cases=cases)


def _fix(file: Path, program: "Program", suggestions: "Sequence[Suggestion]") -> list[dict[str, Any]]:
    """Write the suggestions, all of them or none; what was written."""
    from nightfleet.harness.frontmatter import read_front_matter
    from nightfleet.orchestrator.program import load_program

    front = program.front
    for one in suggestions:
        head, *rest = one.path
        whole = len(rest) == 1 and head not in front.section.values
        text = front.edited((head,), {str(rest[0]): one.value}) if whole else front.edited(one.path, one.value)
        front = read_front_matter(text, str(file))
    if suggestions:
        load_program(front.text)
        _replace(file, front.text)
    return [{"key": one.key, "value": one.value} for one in suggestions]


def _replace(file: Path, text: str) -> None:
    """Write a file at once or not at all; its mode stays."""
    target = file.resolve()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=target.parent, delete=False) as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
    Path(draft.name).chmod(target.stat().st_mode & 0o7777)
    Path(draft.name).replace(target)


def _show(found: "Readiness", subject: Subject, written: "Sequence[dict[str, Any]]", console: Console) -> None:
    table = Table(show_header=False, box=None, padding=(0, 1))
    for column in ("mark", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("evidence")
    for row in found.rows:
        mark, style = MARKS[row.answer]
        words = Text(row.evidence)
        if row.advice:
            words.append(f"\n→ {row.advice}", style=style)
        table.add_row(Text(mark, style=style), Text(row.name, style="bold"), words)
    console.print(table)
    for note in subject.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    for one in found.suggestions:
        verb = "wrote" if written else "suggested"
        console.print(Text(f"{verb}: {one.key}: {one.value}  ({one.why})", style="cyan"))
    answer = Text("ready", style="bold green") if found.ready else Text("not ready", style="bold red")
    answer.append(f" after {found.seconds:.0f} s. {_next(found, written=bool(written))}", style="default")
    console.print(answer)


def _next(found: "Readiness", *, written: bool) -> str:
    if written:
        return f"Commit {PROGRAM}, then type `nightfleet check` again."
    if found.suggestions:
        return "Type `nightfleet check --fix` to write what is suggested" + (", or begin." if found.ready else ".")
    if found.ready:
        return "Type `nightfleet verify HEAD my-branch` to judge a change."
    return "Mend what is marked ✗, then type `nightfleet check` again."
