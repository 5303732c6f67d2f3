"""`nightfleet claim`, `heartbeat`, `practice`, `submit` and `release`: joining a night from outside."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO

if TYPE_CHECKING:
    from nightfleet.agents.contract import Brief
    from nightfleet.orchestrator.outside import Lent, Outside

Answer = TypeVar("Answer")
TaskNumber = Annotated[int, typer.Argument(metavar="TASK", min=1, help="The task's number, as `claim` said it.")]
Token = Annotated[int, typer.Option("--token", min=1, help="The claim's token, as `claim` said it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")]
# Nobody's report is longer; what is read is bounded before it is looked at.
MOST_READ = 1 << 20


def claim(
    role: Annotated[str, typer.Option(help="worker (carries out a strategy) or scout (looks for strategies).")],
    *,
    name: Annotated[str, typer.Option(help="Who you are, for reports and commits.")] = "outside",
    wait: Annotated[str, typer.Option(help="How long to wait for a task: 60s, 10m.")] = "0s",
    as_json: AsJson = False,
) -> None:
    """Take a task of the night under way: a brief, and a tree of the champion that is yours alone.

    Exits with 1 if there is nothing to do. Type it in the folder of program.md, where `nightfleet launch` is at work.

    Example: `nightfleet claim --role worker --name anna --wait 60s`
    """
    from nightfleet.native import UserError

    if role not in {"scout", "worker"}:
        raise UserError(f"--role: {role!r} is none; choose scout or worker")
    wait_s = _seconds(wait)
    lent = _answered(lambda desk: desk.claim("scout" if role == "scout" else "worker", name, wait_s), as_json=as_json)
    if as_json:
        _print_json(_lent_json(lent) if lent is not None else {"task": None})
    elif lent is None:
        typer.echo(f"there is nothing for a {role} to do now; --wait 10m waits for it")
    else:
        _print_lines(_lent_words(lent))
    if lent is None:
        raise typer.Exit(ANSWER_IS_NO)


def heartbeat(task: TaskNumber, token: Token, as_json: AsJson = False) -> None:
    """Say that you are still at work on a task. Exits with 1 if it is not yours any more.

    Example: `nightfleet heartbeat 3 --token 1`
    """
    within_s = _answered(lambda desk: desk.heartbeat(task, token), as_json=as_json)
    if as_json:
        _print_json({"task": task, "heartbeat_within_s": within_s})
    else:
        typer.echo(f"task {task} is yours; the next heartbeat within {within_s:g} s")


def practice(task: TaskNumber, token: Token, as_json: AsJson = False) -> None:
    """Build your tree as the judge would, and run practice cases in it. Worth nothing to the judge.

    Exits with 0 only if every practice record is the same. It waits while the night confirms a promotion.

    Example: `nightfleet practice 3 --token 1`
    """
    found = _answered(lambda desk: desk.practise(task, token), as_json=as_json)
    if as_json:
        _print_json({"task": task, "stage": found.stage, "said": found.said})
    else:
        _print_lines([found.stage, *(f"  {line}" for line in found.said.split("\n"))])
    if found.stage != "same":
        raise typer.Exit(ANSWER_IS_NO)


def submit(
    task: TaskNumber,
    token: Token,
    *,
    summary: Annotated[str, typer.Option(help="A worker's: what you did, in one sentence.")] = "",
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="A report as JSON; - reads standard input.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hand in your tree (a worker), or a report with strategies (a scout), and be done with the task.

    Of a tree only files that `edit` names are taken. The same again is answered the same. Exits with 1 if the task is
    not yours any more, or no candidate came of the tree.

    Example: `nightfleet submit 3 --token 1 --summary "hoist the table out of the loop"`
    """
    from nightfleet.native import UserError

    if report is not None and summary:
        raise UserError("--summary and --report: a report says for itself what was done; type one of them")
    said = None if report is None else _read(report)
    found = _answered(lambda desk: desk.submit(task, token, said, summary), as_json=as_json)
    if as_json:
        answer = {"candidate": found.candidate, "strategies": found.strategies, "said": _clean(found.said)}
        _print_json({"task": task, **answer})
    else:
        made = "" if found.candidate is None else f"candidate {found.candidate}: "
        typer.echo(f"task {task} is done; {made}{_clean(found.said)}")
    if said is None and found.candidate is None:
        raise typer.Exit(ANSWER_IS_NO)


def release(
    task: TaskNumber,
    token: Token,
    *,
    reason: Annotated[str, typer.Option(help="Why, in one sentence.")] = "",
    as_json: AsJson = False,
) -> None:
    """Give a task back unfinished, for somebody else; its tree goes. Exits with 1 if it is not yours any more.

    Example: `nightfleet release 3 --token 1 --reason "it needs a compiler that I have not"`
    """
    _answered(lambda desk: desk.release(task, token, reason), as_json=as_json)
    if as_json:
        _print_json({"task": task, "released": True})
    else:
        typer.echo(f"task {task} is back at the desk")


def _answered(ask: "Callable[[Outside], Answer]", *, as_json: bool) -> Answer:
    """The desk's answer. A refusal is a no; with --json every error is told there as well."""
    from nightfleet.orchestrator.ledger.tasks import RefusedError
    from nightfleet.orchestrator.outside import Outside
    from nightfleet.orchestrator.place import Place

    try:
        return ask(Outside(Place.open(Path.cwd())))
    except RefusedError as refused:
        if as_json:
            _print_json({"refused": _clean(str(refused))})
        typer.echo(f"nightfleet: {_clean(str(refused))}", err=True)
        raise typer.Exit(ANSWER_IS_NO) from None
    except Exception as error:
        if as_json:
            _print_json({"error": str(error)})
        raise


def _lent_json(lent: "Lent") -> dict[str, Any]:
    return {
        "task": lent.claim.task,
        "token": lent.claim.token,
        "role": lent.claim.role,
        "name": lent.who,
        "tree": str(lent.brief.tree),
        "heartbeat_within_s": lent.lease_s,
        "brief_file": str(lent.brief_file),
        "brief": lent.brief.model_dump(mode="json"),
    }


def _lent_words(lent: "Lent") -> Iterator[str]:
    """What a person needs to begin."""
    brief, claimed = lent.brief, lent.claim
    yield f"task {claimed.task}, token {claimed.token}: you are a {claimed.role}"
    yield f"tree: {brief.tree}"
    yield f"everything that you are told, for programs: {lent.brief_file}"
    yield ""
    yield from (f"  {line}" for line in brief.goal.strip().split("\n"))
    yield ""
    yield from _what(brief)
    yield f"only this may be edited: {', '.join(brief.arena.edit)}"
    tried = [one for one in brief.tried if one.verdict != "running"]
    if tried:
        yield "what was tried:"
        yield from (f"  {one.verdict:12} {one.title}" for one in tried[-20:])
    yield ""
    yield f"the task is yours for {lent.lease_s:g} s after each claim, practice or heartbeat; next, in {Path.cwd()}:"
    own = f"{claimed.task} --token {claimed.token}"
    if claimed.role == "worker":
        yield f"  nightfleet practice {own}"
    yield f"  nightfleet heartbeat {own}"
    yield f"  nightfleet submit {own} " + ("--report FILE" if claimed.role == "scout" else '--summary "what you did"')
    yield f"  nightfleet release {own}"


def _what(brief: "Brief") -> Iterator[str]:
    strategy = brief.strategy
    if strategy is not None:
        yield f"strategy: {strategy.title}"
        yield from (f"  {line}" for line in strategy.hypothesis.split("\n"))
        if strategy.files:
            yield f"  files: {', '.join(strategy.files)}"
        if strategy.how_it_could_fail:
            yield f"  it could fail: {strategy.how_it_could_fail}"
    if brief.area:
        yield from brief.area.split("\n")


def _read(name: str) -> bytes:
    """A report from a file, or from standard input; one byte more than it may have, so that it is refused for that."""
    from nightfleet.native import UserError

    if name == "-":
        return sys.stdin.buffer.read(MOST_READ + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(MOST_READ + 1)
    except OSError as error:
        raise UserError(f"--report: {name} cannot be read: {error.strerror}") from None


def _seconds(text: str) -> float:
    from nightfleet.harness.quantities import read_duration
    from nightfleet.native import UserError

    try:
        return read_duration(text, "0s", "24h")
    except ValueError as error:
        raise UserError(f"--wait {error}") from None


def _print_lines(lines: "Iterator[str] | list[str]") -> None:
    for line in lines:
        typer.echo(_clean(line))


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _clean(words: str) -> str:
    from nightfleet.harness.tree import printable

    return printable(words)
