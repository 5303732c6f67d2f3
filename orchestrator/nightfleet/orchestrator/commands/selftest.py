"""`nightfleet selftest`: the judge judged, on this machine and this arena."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO
from nightfleet.orchestrator.commands.subject import find_subject

if TYPE_CHECKING:
    from nightfleet.harness.selftest import Asked, SelfTest
    from nightfleet.harness.tally import Promotions, Tally
    from nightfleet.orchestrator.commands.subject import Subject


def selftest(
    revision: Annotated[
        str, typer.Argument(metavar="[A]", help="A revision or a directory: what is dressed up and trimmed.")
    ] = "HEAD",
    *,
    aa: Annotated[int, typer.Option(min=0, help="Attempts to promote what changes nothing.")] = 200,
    planted: Annotated[str, typer.Option(help="Shares of a block, in percent, that candidates are spared.")] = "3,6,8",
    each: Annotated[int, typer.Option(min=0, help="Attempts of each planted share.")] = 100,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long; type it again to go on.")] = None,
    alpha: Annotated[float, typer.Option(help="Error rate of one timing; `verify` goes by 0.01.")] = 0.01,
    program: Annotated[Path | None, typer.Option(help="A program.md; without it the one here, else A's own.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where to draw the picture; .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Put candidates of known truth before the judge, on this machine: how often is it wrong, and what does it cost?

    Nulls are A itself, relinked, with more lines above its code, with its functions in another order. Planted gains are
    A on blocks of which the candidate gets only a part. Ctrl-C stops it; the same command goes on from there.

    Exits with 1 if what was seen contradicts the bound on false promotions, with 2 where nothing could be tested.

    Example: `nightfleet selftest --aa 50 --planted 8 --minutes 10`
    """
    from nightfleet.harness.selftest import SelfTest
    from nightfleet.harness.tally import tally
    from nightfleet.orchestrator.commands.watching import Watching

    console = Console(stderr=as_json, highlight=False)
    subject = find_subject(Path.cwd(), revision, program)
    asked = _asked(subject, alpha, nulls=aa, planted=_shares(planted), each=each, minutes=minutes)
    if plot is not None:
        _refuse_plot(plot)
    with Watching(console) as watching:
        test = SelfTest(asked, watching)
        interrupted = _run(test)
    found = tally(test)
    picture = _draw(test, found, plot)
    if as_json:
        typer.echo(json.dumps({**found.to_json(), **_about(test, picture, interrupted=interrupted)}, indent=2))
    else:
        _show(test, found, subject, picture, console)
    if interrupted:
        raise KeyboardInterrupt
    if not found.holds:
        raise typer.Exit(ANSWER_IS_NO)


def _run(test: "SelfTest") -> bool:
    """Run it; whether it was interrupted once there was something to show."""
    try:
        test.run()
    except KeyboardInterrupt:
        if not test.begun:
            raise
        return True
    return False


def _asked(subject: "Subject", alpha: float, **wanted: Any) -> "Asked":
    from nightfleet.harness.selftest import Asked
    from nightfleet.native import UserError

    if not 0 < alpha < 1:
        raise UserError(f"--alpha {alpha:g} is impossible; choose above 0 and below 1, as in --alpha 0.01")
    here = Path.cwd()
    return Asked(subject.program.arena, subject.tree, here, here / ".nightfleet", alpha=alpha, **wanted)


def _shares(text: str) -> tuple[float, ...]:
    """`3,6,8` as fractions; nothing for none."""
    from nightfleet.native import UserError

    try:
        percents = [float(word.strip().removesuffix("%")) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UserError(f"--planted {text!r}: type percents with commas between them, as in --planted 3,6,8") from None
    if any(not 0 < one < 100 for one in percents) or len(set(percents)) < len(percents):
        raise UserError(f"--planted {text!r}: each must lie above 0 and below 100, and stand there once")
    return tuple(one / 100 for one in percents)


def _refuse_plot(plot: Path) -> None:
    """UserError where no picture can be drawn: hours later would be too late to say so."""
    from nightfleet.native import UserError
    from nightfleet.orchestrator.views.selftest_plot import FORMATS

    if plot.suffix not in FORMATS:
        raise UserError(f"--plot {plot}: a picture ends in {', '.join(FORMATS)}")
    if not plot.parent.is_dir() or plot.is_dir():
        raise UserError(f"--plot {plot}: there is no folder {plot.parent}, or that is one; name a file")


def _draw(test: "SelfTest", found: "Tally", plot: Path | None) -> Path | None:
    """The picture's file; None where nobody asked for one and there is no matplotlib."""
    from nightfleet.native import UserError
    from nightfleet.orchestrator.views import selftest_plot

    file = plot or test.kept.with_suffix(".png")
    try:
        selftest_plot.draw(found, test.attempts, test.calibrated.rules, file)
    except ImportError:
        if plot is not None:
            raise UserError("--plot needs matplotlib: type `pip install 'nightfleet[plots]'`") from None
        return None
    return file


def _about(test: "SelfTest", picture: Path | None, *, interrupted: bool) -> dict[str, Any]:
    return {
        "clock": test.calibrated.rules.quantity,
        "complete": test.complete,
        "interrupted": interrupted,
        "resumed": test.resumed,
        "programs": [{"name": null.name, "why_not": null.why or None, "cases": null.cases} for null in test.nulls],
        "kept": str(test.kept),
        "plot": None if picture is None else str(picture),
        "notes": test.notes,
    }


def _show(test: "SelfTest", found: "Tally", subject: "Subject", picture: Path | None, console: Console) -> None:
    console.soft_wrap = not console.is_terminal
    table = Table(title=f"{found.nulls.attempts + sum(one.promotions.attempts for one in found.planted)} candidates")
    for name in ("candidates", "truly", "promoted", "small gain", "claim - truth", "pairs", "s"):
        table.add_column(name, justify="left" if name == "candidates" else "right")
    from nightfleet.harness.selftest import percent

    nulls = found.nulls
    table.add_row(
        f"{nulls.attempts} nulls, {found.programs} programs",
        "0%",
        _promoted(nulls),
        str(found.incremental),
        "",
        f"{found.median_pairs:.0f}",
        f"{found.median_seconds:.1f}",
    )
    for one in found.planted:
        table.add_row(
            f"{one.promotions.attempts} spared {percent(one.share)}",
            "" if one.true is None or one.true_se is None else f"{one.true:.1%} ± {1.96 * one.true_se:.1%}",
            _promoted(one.promotions),
            str(one.verdicts.get("incremental", 0)),
            "" if one.claimed_minus_true is None else f"{100 * one.claimed_minus_true:+.2f} pt",
            f"{one.median_pairs:.0f}",
            f"{one.median_seconds:.1f}",
        )
    console.print(table)
    console.print(
        f"The promise: at most {found.bound:.1%} of candidates that gain no more than "
        f"{test.calibrated.rules.incremental:.0%} are promoted; seen: {nulls.promoted} of {nulls.attempts} nulls, "
        f"so the rate is at most {nulls.high:.1%} (95% interval)."
    )
    console.print(
        f"The candidate ran first in {found.first_share:.1%} of {found.pairs} pairs (p = {found.first_p:.2f}); "
        f"{found.void} pairs void; {found.overhead:.2f} s for each second of trials; "
        f"clock {test.calibrated.rules.quantity}."
    )
    for note in (*subject.notes, *test.notes):
        console.print(Text(f"note: {note}", style="yellow"))
    if picture is not None:
        console.print(Text(f"picture: {picture}", style="dim"))
    console.print(Text(f"every attempt: {test.kept}", style="dim"))
    words, style = ("the judge keeps its promise here", "green") if found.holds else (_broken(found), "bold red")
    if not found.nulls.attempts and found.holds:
        words, style = "no null was tried: nothing is said about the promise", "yellow"
    console.print(Text(words, style=style))


def _promoted(of: "Promotions") -> str:
    return f"{of.promoted} ({of.rate:.0%})" if of.attempts else ""


def _broken(found: "Tally") -> str:
    from nightfleet.harness.tally import BROKEN

    if found.first_p < BROKEN:
        return "the order coin is not fair here"
    return "the judge breaks its promise here: do not trust promotions on this machine; `nightfleet check` may say why"
