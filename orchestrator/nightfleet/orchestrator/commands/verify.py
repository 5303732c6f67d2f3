"""`nightfleet verify A B`: two versions of a program in, a verdict out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nightfleet.harness.tree import printable
from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO
from nightfleet.orchestrator.commands.subject import refuse_empty_scope, repository_around

if TYPE_CHECKING:
    from nightfleet.harness.report import Verification
    from nightfleet.harness.repository import Repository
    from nightfleet.harness.request import Request
    from nightfleet.harness.tree import Tree

# Of what failed, so much is shown; the rest is in the report.
LAST_LINES = 10
MEANINGS = {
    "promote": "The same behaviour, and faster: merge it.",
    "simplify": "The same behaviour, and no slower; whether it is simpler is for you to say.",
    "incremental": "The same behaviour and faster, but by less than `thresholds.promote`.",
    "reject": "The same behaviour, but not faster by enough to matter.",
    "undecided": "The same behaviour; after all pairs nobody can say whether it is faster.",
    "incorrect": "It does not do the same: do not merge it.",
    "broken": "It does not build or run: do not merge it.",
    "out_of_scope": "It changes what `edit` does not name.",
    "suspicious": "The figures contradict each other: somebody should read the change.",
}


def verify(
    baseline: Annotated[str, typer.Argument(metavar="A", help="A revision or a directory: what must be beaten.")],
    candidate: Annotated[str, typer.Argument(metavar="B", help="A revision or a directory: what is on trial.")],
    program: Annotated[
        Path | None, typer.Option(help="A program.md to judge by; without it A's own, else the working tree's.")
    ] = None,
    purpose: Annotated[str, typer.Option(help="speed, or simplify (no gain needed, no loss allowed).")] = "speed",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")] = False,
) -> None:
    """Say whether B behaves as A does, and whether it is faster, with evidence.

    Exits with 0 only for promote and simplify, with 1 for every other verdict, with 2 where there is none.

    Example: `nightfleet verify main my-branch`
    """
    from nightfleet.harness.verify import Interrupted
    from nightfleet.harness.verify import verify as judge
    from nightfleet.orchestrator.commands.watching import Watching

    console = Console(stderr=as_json, highlight=False)
    try:
        request = _request(Path.cwd(), baseline, candidate, program, purpose)
        with Watching(console) as watching:
            found, report = judge(request, watching)
    except Interrupted as stopped:
        if as_json:
            typer.echo(json.dumps({**stopped.found.to_json(stopped.report), "error": "interrupted"}, indent=2))
        typer.echo(f"nightfleet: what was found in {stopped.found.pairs} pairs is kept in {stopped.report}", err=True)
        raise
    except Exception as error:
        if as_json:
            typer.echo(json.dumps(_without_verdict(error), indent=2))
        raise
    if as_json:
        typer.echo(json.dumps(found.to_json(report), indent=2))
    else:
        _show(found, report, console)
    if not found.accepted:
        raise typer.Exit(ANSWER_IS_NO)


def _without_verdict(error: Exception) -> dict[str, Any]:
    """The same keys where nothing was decided; `error` says why, and what was measured until then is there."""
    from nightfleet.harness.report import NOTHING_FOUND
    from nightfleet.harness.verify import CutShortError

    found = error.found.to_json(error.report) if isinstance(error, CutShortError) else NOTHING_FOUND
    return {**found, "error": str(error)}


def _request(here: Path, baseline: str, candidate: str, program: Path | None, purpose: str) -> "Request":
    """What the judge is asked; everything that can be refused is refused here, before anything is written."""
    from nightfleet.harness.cases import new_master
    from nightfleet.harness.folder import find_tree
    from nightfleet.harness.request import Request
    from nightfleet.native import UserError
    from nightfleet.orchestrator.program import load_program

    if purpose not in {"speed", "simplify"}:
        raise UserError(f"--purpose: {purpose!r} is none; choose speed or simplify")
    repository, subfolder = repository_around(here, baseline, candidate)
    base = find_tree(baseline, repository, subfolder)
    cand = find_tree(candidate, repository, subfolder)
    if program is not None:
        loaded = load_program(program)
    elif "program.md" in base.entries:
        loaded = load_program(_text(base.read("program.md"), baseline))
    elif (here / "program.md").exists():
        loaded = load_program(here / "program.md")
    else:
        raise UserError(f"there is no program.md in {baseline} nor in {here}; write one, or name one with --program")
    refuse_empty_scope(loaded, base, baseline)
    return Request(
        loaded.arena,
        base,
        cand,
        source=here,
        state=here / ".nightfleet",
        program_text=loaded.front.text,
        master=new_master(),
        purpose="simplify" if purpose == "simplify" else "speed",
        notes=_outside(repository, subfolder, (base, cand)),
    )


def _outside(repository: "Repository | None", subfolder: str, sides: "tuple[Tree, Tree]") -> tuple[str, ...]:
    """A note on what differs between two revisions beside the folder that is judged; nobody looks at that."""
    from nightfleet.native import UserError

    if repository is None or not subfolder or any(Path(side.name).is_absolute() for side in sides):
        return ()
    try:
        before, after = (repository.tree(side.name).entries for side in sides)
    except UserError as error:
        return (f"what differs outside {subfolder}/ was not looked at: {error}",)
    differ = [
        path
        for path in sorted({*before, *after})
        if not path.startswith(f"{subfolder}/")
        and (path not in before or path not in after or before[path].id != after[path].id)
    ]
    if not differ:
        return ()
    named = ", ".join(map(printable, differ[:3])) + (", …" if differ[3:] else "")
    count = f"{len(differ)} file{'s' * (len(differ) != 1)}"
    return (f"{count} outside {subfolder}/ differ too ({named}): nobody has judged them",)


def _text(content: bytes, revision: str) -> str:
    from nightfleet.native import UserError

    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"program.md:{line} in {revision} is not UTF-8 here; save the file as UTF-8") from None


def _show(found: "Verification", report: Path, console: Console) -> None:
    style = "bold green" if found.accepted else "bold red" if found.verdict != "incremental" else "bold yellow"
    console.soft_wrap = not console.is_terminal
    console.print()
    console.print(Text.assemble((found.verdict, style), (f"  {MEANINGS[found.verdict]}", "bold")))
    console.print(Text(found.reason))
    if found.gain is not None:
        gain = found.gain
        console.print(
            f"gain {gain.estimate:+.1%} (from {gain.low:+.1%} to {gain.high:+.1%}, {gain.clock}), {found.pairs} pairs; "
            f"{found.cases} cases"
        )
    for line in _last_lines(found):
        console.print(Text(f"  | {line}", style="dim"))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    console.print(Text(f"evidence: {report}/report.json", style="dim"))
    console.print(Text(f"next: {_next(found)}", style="dim"))


def _last_lines(found: "Verification") -> list[str]:
    """The last that was said by what failed."""
    facts = next((gate.facts for gate in found.gates if gate.passed is False), {})
    said = facts.get("tail") or str(facts.get("stderr", "")).splitlines()
    return [printable(str(line)) for line in said[-LAST_LINES:]]


def _next(found: "Verification") -> str:
    """The command to type now."""
    for gate in found.gates:
        for cases in gate.facts.get("diverged", {}).values() if isinstance(gate.facts.get("diverged"), dict) else ():
            return f"nightfleet audit case {found.id} {cases[0]}"
    return f"nightfleet audit show {found.id}"
