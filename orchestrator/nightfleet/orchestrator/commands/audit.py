"""`nightfleet audit`: whatever a verdict rests on, looked at again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from nightfleet.orchestrator.commands import accounts
from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO

if TYPE_CHECKING:
    from nightfleet.harness.audit.account import Account
    from nightfleet.harness.audit.papers import Papers
    from nightfleet.harness.audit.retrial import Retrial
    from nightfleet.harness.audit.shelf import Shelf

audit = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Id = Annotated[
    str, typer.Argument(metavar="ID", help="A report's id or part of it, `latest`, its folder, or a bundle.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")]
BaselineName = Annotated[
    str | None, typer.Option("--baseline", help="Where the baseline is, if not where the report says.")
]
CandidateName = Annotated[
    str | None, typer.Option("--candidate", help="Where the candidate is, if not where the report says.")
]


@audit.callback()
def about() -> None:
    """Look at the evidence behind a verdict, and derive the verdict from it again.

    Example: `nightfleet audit verify latest`
    """


@audit.command("list")
def list_reports(
    most: Annotated[int, typer.Option("--limit", min=1, help="How many of the newest.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the reports of this folder, the newest first, by what they say of themselves.

    Where a night was begun, the ledger says which of its candidates a report is about.

    Example: `nightfleet audit list --all`
    """
    shelf = _shelf()
    entries = shelf.entries(None if everything else most)
    whose = _whose_reports()
    if as_json:
        reports = [entry.to_json() | _owner(whose.get(entry.id)) for entry in entries]
        _print_json({"reports": reports, "of": len(shelf.ids())})
    else:
        accounts.show_list(entries, len(shelf.ids()), shelf.folder, whose, Console(highlight=False))


@audit.command()
def show(report: Id, as_json: AsJson = False) -> None:
    """Show what a report says: verdict, gates, figures, what was compared, and the records that differ.

    Nothing is checked; `audit verify` does that. `--json` prints everything that report.json holds.

    Example: `nightfleet audit show latest`
    """
    content = _shelf().content(report)
    if as_json:
        _print_json(content)
    else:
        accounts.show_report(content, Console(highlight=False))


@audit.command()
def verify(report: Id, as_json: AsJson = False) -> None:
    """Hold a report, or a bundle of one, against itself: digests, cases, counts, and the verdict from the raw pairs.

    By Python's hashlib and xxhash, independent of what wrote it. Exits with 0 if everything holds, with 1 and what
    differs if not, with 2 if there is no such report or it is of another format.

    Example: `nightfleet audit verify latest`
    """
    account, _ = _examined(report)
    if as_json:
        _print_json(account.to_json())
    else:
        accounts.show_account(account, Console(highlight=False))
    if not account.holds:
        raise typer.Exit(ANSWER_IS_NO)


@audit.command()
def rerun(
    report: Id,
    *,
    sample: Annotated[int, typer.Option(min=1, help="How many cases are run again.")] = 200,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the sample, to draw the same one again.")] = None,
    baseline: BaselineName = None,
    candidate: CandidateName = None,
    as_json: AsJson = False,
) -> None:
    """Build both programs of a report again, run a random sample of its cases, and compare with the recorded digests.

    Type it in the folder that was judged, or name the trees. Exits with 0 if every record is given again, with 1 if
    not or if the report does not hold, with 2 if the trees cannot be found or built.

    Example: `nightfleet audit rerun latest --sample 200`
    """
    console = Console(stderr=as_json, highlight=False)
    with accounts.telling(console) as tell:
        found = _retrial(report, (baseline, candidate), tell, console).rerun(sample, seed)
    if as_json:
        _print_json(found.to_json())
    else:
        accounts.show_rerun(found, console)
    if not found.holds:
        raise typer.Exit(ANSWER_IS_NO)


@audit.command()
def case(
    report: Id,
    number: Annotated[int, typer.Argument(metavar="CASE", help="A case's number.")],
    *,
    workload: Annotated[str | None, typer.Option(help="Its workload, where several have such a case.")] = None,
    baseline: BaselineName = None,
    candidate: CandidateName = None,
    as_json: AsJson = False,
) -> None:
    """Run one case of a report again and show both records side by side.

    Exits with 0 if they are the same, with 1 if they differ, with 2 if there is no such case.

    Example: `nightfleet audit case latest 1729`
    """
    console = Console(stderr=as_json, highlight=False)
    with accounts.telling(console) as tell:
        found = _retrial(report, (baseline, candidate), tell, console).case(number, workload)
    if as_json:
        _print_json(found.to_json())
    else:
        accounts.show_case(found, console)
    if not found.same:
        raise typer.Exit(ANSWER_IS_NO)


@audit.command()
def diff(
    left: Annotated[str, typer.Argument(metavar="ID", help="A report, as elsewhere.")],
    right: Annotated[str, typer.Argument(metavar="ID", help="Another.")],
    as_json: AsJson = False,
) -> None:
    """Say what differs between two reports: trees, program, machine, toolchain, verdict, figures.

    Exits with 0 if the same question, on the same ground, got the same verdict (figures differ by chance), else with 1.

    Example: `nightfleet audit diff 3f9c2a latest`
    """
    from nightfleet.harness.audit.contrast import contrast
    from nightfleet.native import UserError

    shelf = _shelf()
    contents = [shelf.content(name) for name in (left, right)]
    try:
        found = contrast(contents[0], contents[1])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"a report is malformed ({error!r}); type `nightfleet audit verify` with each") from None
    if as_json:
        _print_json(found.to_json())
    else:
        accounts.show_contrast(found, Console(highlight=False))
    if not found.same:
        raise typer.Exit(ANSWER_IS_NO)


@audit.command()
def export(
    report: Id,
    output: Annotated[Path | None, typer.Option(help="The file to write; ID.tar.gz in this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report into one file that anybody can check, with nightfleet or with NumPy alone.

    Only a report that holds is exported: exits with 1, and writes nothing, if it does not.

    Example: `nightfleet audit export latest --output evidence.tar.gz`
    """
    from nightfleet.harness.audit import bundle
    from nightfleet.native import UserError

    papers = _holding(report, Console(stderr=True, highlight=False))
    target = output or Path(f"{papers.name}.tar.gz")
    data = bundle.pack(papers)
    try:
        _write_new(target, data)
    except FileExistsError:
        raise UserError(f"{target} is there already; remove it, or name another file with --output") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{target} cannot be written: {error.strerror}; name another file with --output") from None
    if as_json:
        _print_json({"id": papers.name, "file": str(target), "bytes": len(data)})
    else:
        typer.echo(f"wrote {target}, {len(data)} bytes; `nightfleet audit verify {target}` checks it anywhere")


def _shelf() -> "Shelf":
    from nightfleet.harness.audit.shelf import Shelf

    return Shelf(Path.cwd() / ".nightfleet")


def _whose_reports() -> dict[str, tuple[str, int]]:
    """Whose each report is, as far as the ledger tells; reports can be listed without one."""
    from nightfleet.native import MachineError, UserError
    from nightfleet.orchestrator.commands.recorded import whose_reports

    try:
        return whose_reports(Path.cwd())
    except (UserError, MachineError) as error:
        typer.echo(f"nightfleet: whose reports these are cannot be told: {error}", err=True)
        return {}


def _owner(whose: tuple[str, int] | None) -> dict[str, Any]:
    night, number = whose or (None, None)
    return {"night": night, "number": number}


def _write_new(target: Path, data: bytes) -> None:
    """A file that was not there before, whole or not at all."""
    with target.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _examined(report: str) -> "tuple[Account, Papers | None]":
    """Every check of a report, and the papers that were checked: what lies there a moment later may be others.

    UserError where there is none to check.
    """
    from nightfleet.harness.audit.account import Account
    from nightfleet.harness.audit.contract import check_contract
    from nightfleet.harness.audit.examination import examine
    from nightfleet.harness.audit.papers import ContradictionError, UnknownFormatError
    from nightfleet.native import UserError

    try:
        papers = _shelf().papers(report)
        account = examine(papers)
    except UnknownFormatError as error:
        raise UserError(str(error)) from None
    except ContradictionError as contradiction:
        return Account.refused(Path(report).name, str(contradiction)), None
    if account.holds:
        account.look("contract", lambda: check_contract(papers.content["subject"]))
    return account, papers


def _holding(report: str, console: Console) -> "Papers":
    """The papers of a report that holds; the answer is no where it does not."""
    account, papers = _examined(report)
    if papers is None or not account.holds:
        accounts.show_account(account, console)
        raise typer.Exit(ANSWER_IS_NO)
    return papers


def _retrial(report: str, names: tuple[str | None, str | None], tell: "accounts.Tell", console: Console) -> "Retrial":
    """Both programs of a report, built again. One that does not hold is not worth the electricity."""
    from nightfleet.harness.audit.retrial import Retrial
    from nightfleet.harness.folder import find_tree
    from nightfleet.orchestrator.commands.subject import repository_around

    papers = _holding(report, console)
    here = Path.cwd()
    repository, subfolder = repository_around(here, str(here))
    return Retrial(
        papers,
        lambda name: find_tree(name, repository, subfolder),
        here,
        here / ".nightfleet",
        names=names,
        own=_shelf().holds(papers),
        tell=tell,
    )


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=2))
