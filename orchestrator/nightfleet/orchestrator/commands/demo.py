"""`nightfleet demo`: three changes to a small simulator, whose truth is known, before the judge."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO
from nightfleet.orchestrator.commands.probe import Findings, show

if TYPE_CHECKING:
    from nightfleet.harness.report import Verification
    from nightfleet.harness.request import Request

EXAMPLE = Path("examples/grid-simulator")
PATCHES = Path("tests/patches/grid-simulator")
STATE = Path(".nightfleet/demo")
# What the judge has to say of each patch. The bug shows in one case of about 1,300.
EXPECTED = {"rare-bug": "incorrect", "same": "reject", "gain-8": "promote"}
TRUTH = re.compile(r"^Truth: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Judged:
    """One change, what is known of it, and what the judge found."""

    change: str
    truth: str
    expected: str
    verdict: str
    reason: str
    gain: float | None
    pairs: int
    cases: int
    seconds: float
    report: str


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    clone: Annotated[Path, typer.Option(help="A clone of nightfleet, with the example and its changes.")] = Path(),
) -> None:
    """Show what this machine promises, then judge three changes to a simulator: a bug, nothing at all, and a real gain.

    Nobody tells the judge which is which. The evidence stays in .nightfleet/demo; it takes two minutes.

    Exits with 1 if the machine is below the minimum, or if a verdict is not what the change deserves.

    Example: `nightfleet demo --json`
    """
    from nightfleet import native

    for needed in (clone / EXAMPLE / "program.md", *(clone / PATCHES / f"{name}.patch" for name in EXPECTED)):
        if not needed.exists():
            raise native.UserError(f"{needed} is not there; type `nightfleet demo` in a clone of nightfleet")
    console = Console(stderr=as_json, highlight=False)
    findings: Findings = native.probe()
    show(findings, console)
    if findings["below_minimum"] is not None:
        raise typer.Exit(ANSWER_IS_NO)
    with tempfile.TemporaryDirectory(prefix="nightfleet-demo-") as scratch:
        judged = [_judge(clone, Path(scratch), name, console) for name in EXPECTED]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in judged], indent=2))
    else:
        _show(judged, console)
    if any(one.verdict != one.expected for one in judged):
        raise typer.Exit(ANSWER_IS_NO)


def _judge(clone: Path, scratch: Path, name: str, console: Console) -> Judged:
    """Verify the example with one patch against the example, as `nightfleet verify` does."""
    from nightfleet.harness.verify import verify
    from nightfleet.orchestrator.commands.watching import Watching

    patch = clone / PATCHES / f"{name}.patch"
    found_truth = TRUTH.search(patch.read_text(encoding="utf-8"))
    truth = found_truth[1] if found_truth else ""
    console.print(Text.assemble("\n", (name, "bold"), (f"  {truth}", "dim")), soft_wrap=not console.is_terminal)
    started = time.monotonic()
    baseline, candidate = _copy(clone, scratch / "baseline"), _copy(clone, scratch / name)
    # Inside a repository, git would take the paths of a patch to be relative to its root, and skip them in silence.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(scratch)}
    subprocess.run(["git", "apply", str(patch.resolve())], cwd=candidate, env=environment, check=True)
    with Watching(console) as watching:
        found, report = verify(_request(clone, baseline, candidate), watching)
    return _judged(name, truth, found, report, time.monotonic() - started)


def _copy(clone: Path, to: Path) -> Path:
    ignored = shutil.ignore_patterns("target", ".nightfleet")
    return Path(shutil.copytree(clone / EXAMPLE, to, ignore=ignored, dirs_exist_ok=True))


def _request(clone: Path, baseline: Path, candidate: Path) -> "Request":
    from nightfleet.harness.cases import new_master
    from nightfleet.harness.folder import find_tree
    from nightfleet.harness.request import Request
    from nightfleet.orchestrator.program import load_program

    program = load_program(baseline / "program.md")
    return Request(
        program.arena,
        find_tree(str(baseline), None),
        find_tree(str(candidate), None),
        source=clone / EXAMPLE,
        state=clone / STATE,
        program_text=program.front.text,
        master=new_master(),
    )


def _judged(name: str, truth: str, found: "Verification", report: Path, seconds: float) -> Judged:
    gain = None if found.gain is None else found.gain.estimate
    expected = EXPECTED[name]
    return Judged(
        name, truth, expected, found.verdict, found.reason, gain, found.pairs, found.cases, seconds, str(report)
    )


def _show(judged: list[Judged], console: Console) -> None:
    table = Table(title="\nWhat is true, and what the judge found", title_justify="left")
    for column in ("the change", "verdict", "gain", "cases", "pairs", "time"):
        table.add_column(column, justify="left" if column in {"the change", "verdict"} else "right")
    for one in judged:
        right = one.verdict == one.expected
        table.add_row(
            one.truth,
            Text(one.verdict, style="bold green" if right else "bold red"),
            "" if one.gain is None else f"{one.gain:+.1%}",
            str(one.cases),
            str(one.pairs),
            f"{one.seconds:.0f} s",
        )
    console.print(table)
    wrong = [one for one in judged if one.verdict != one.expected]
    for one in wrong:
        console.print(Text(f"{one.change}: expected {one.expected}: {one.reason}", style="bold red"))
    if not wrong:
        console.print(Text("three of three are right", style="green"))
    console.print(Text(f"evidence: {Path(judged[-1].report).parent}", style="dim"))
