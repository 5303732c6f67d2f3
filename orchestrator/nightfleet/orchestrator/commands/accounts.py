"""What `nightfleet audit` prints. Whatever a candidate may have written is printed without its control characters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.commands.watching import MARKS

if TYPE_CHECKING:
    from nightfleet.harness.audit.account import Account
    from nightfleet.harness.audit.contrast import Contrast
    from nightfleet.harness.audit.retrial import Rerun, SideBySide
    from nightfleet.harness.audit.shelf import Entry

Tell: TypeAlias = Callable[[str, int, int | None], None]
# A commit's id and a digest, as people say them.
SHORT, SHORTER = 12, 8
SIDES = ("baseline", "candidate")
EXCERPT = 16


def show_list(
    entries: "Sequence[Entry]", of: int, folder: Path, whose: Mapping[str, tuple[str, int]], console: Console
) -> None:
    """One line a report; with its night and candidate, by `whose`, if any has them."""
    if not of:
        console.print(_plain(f"no reports in {folder}; `nightfleet verify main my-branch` writes one"), soft_wrap=True)
        return
    nights = ("night",) if whose else ()
    table = _table("id", *nights, "verdict", "gain", "pairs", "cases", "baseline", "candidate")
    for one in entries:
        night, number = whose.get(one.id, ("", 0))
        owner = [_plain(f"{night} #{number}" if night else "")] if whose else []
        if one.problem:
            table.add_row(_plain(one.id), *owner, Text(_clean(one.problem), style="red"))
            continue
        gain = "" if one.gain is None else f"{one.gain:+.1%}"
        figures = (gain, str(one.pairs or ""), str(one.cases or ""))
        names = (_short(one.baseline), _short(one.candidate))
        table.add_row(_plain(one.id), *owner, _plain(one.verdict or ""), *figures, *map(_plain, names))
    console.print(table)
    if len(entries) < of:
        console.print(f"the newest {len(entries)} of {of}; `--all` lists all of them")


def show_account(account: "Account", console: Console) -> None:
    """Line by line what was looked at, and what it amounts to."""
    from nightfleet.harness.audit.account import NOT_HERE

    console.soft_wrap = not console.is_terminal
    for check in account.checks:
        mark, style = MARKS[check.holds]
        name = (f"{_clean(check.name):14}", "bold" if check.holds is not None else "dim")
        line = Text.assemble((f"{mark} ", style), name)
        console.print(line.append(_clean(check.words), style="red" if check.holds is False else ""))
    if account.holds:
        console.print(Text.assemble(("holds", "bold green"), _clean(f"  {account.verdict}: {account.reason}")))
        console.print(_plain(f"Not to be seen here: {NOT_HERE}. Type `nightfleet audit rerun {account.id}`."))
    else:
        console.print(Text.assemble(("does not hold", "bold red"), "  This is no evidence of anything."))


def show_report(content: Mapping[str, Any], console: Console) -> None:
    """A report in words."""
    from nightfleet.native import UserError

    console.soft_wrap = not console.is_terminal
    try:
        _show_head(content, console)
        _show_gates(content["verification"]["gates"], console)
        _show_subject(content["subject"], console)
        for shown in (*content["divergences"], *content.get("sample", ())):
            _show_divergence(shown, console)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UserError(f"this report is malformed ({error!r}); type `nightfleet audit verify` with it") from None
    console.print(
        _plain(f"Nothing of this was checked. Type `nightfleet audit verify {content['verification']['id']}`.")
    )


def _show_head(content: Mapping[str, Any], console: Console) -> None:
    found = content["verification"]
    console.print(Text.assemble((_clean(found["id"]), "bold"), "  ", (_clean(found["verdict"]), "bold")))
    console.print(_plain(found["reason"]))
    if found["gain"] is not None:
        gain = found["gain"]
        console.print(
            _plain(
                f"gain {gain['estimate']:+.1%} (from {gain['low']:+.1%} to {gain['high']:+.1%}, {gain['clock']}), "
                f"{found['pairs']} pairs; {found['behaviour']['cases']} cases, {found['behaviour']['diverged']} differ"
            )
        )
    for note in found["notes"]:
        console.print(Text(f"note: {_clean(note)}", style="yellow"))


def _show_gates(gates: Sequence[Mapping[str, Any]], console: Console) -> None:
    for gate in gates:
        mark, style = MARKS[gate["passed"]]
        name = (f"{_clean(gate['name']):14}", "bold" if gate["passed"] is not None else "dim")
        console.print(Text.assemble((f"{mark} ", style), name, _clean(gate["reason"])))


def _show_subject(subject: Mapping[str, Any], console: Console) -> None:
    rows = [(side, f"{subject[side]['name']}, tree {subject[side]['tree'][:SHORT]}") for side in SIDES]
    machine = subject["machine"]
    rows += [
        (
            "program",
            f"{subject['arena']['name']}, {subject['program'][:SHORT]}, contract {subject['arena']['digest'][:SHORT]}",
        ),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}"),
        ("toolchain", subject["toolchain"][:SHORT]),
        ("error rate", f"{subject['alpha']}, for {subject['purpose']}"),
        ("nightfleet", subject["version"]),
    ]
    for name, words in rows:
        console.print(Text.assemble(("  ", ""), (f"{name:14}", "dim"), _clean(words)))


def _show_divergence(shown: Mapping[str, Any], console: Console) -> None:
    title = f"case {shown['case']} of {shown['workload']}, given {str(shown['fed'])!r}"
    _show_records(_plain(title), [shown[side] for side in SIDES], shown["first"], shown["note"], console)


def show_case(found: "SideBySide", console: Console) -> None:
    """Both records side by side."""
    shown = found.shown.to_dict()
    _show_changed(found.changed, console)
    _show_divergence(shown, console)
    for place, side in enumerate(SIDES):
        recorded = found.recorded[place] if found.recorded else "none: not one of the cases that behaviour compared"
        console.print(_plain(f"{side:10} digest {found.now[place]}, recorded {recorded}"), soft_wrap=True)
    same = Text("the same record", style="bold green") if found.same else Text("different records", style="bold red")
    console.print(same)


def _show_records(
    title: Text, records: Sequence[Mapping[str, Any] | None], first: int | None, note: str, console: Console
) -> None:
    table = Table(title=title, title_justify="left", show_lines=False)
    for side in SIDES:
        table.add_column(side, overflow="fold", ratio=1)
    table.add_row(*(_record(record, first) for record in records))
    console.print(table)
    if first is not None:
        here = " and ".join(map(_from(first), records))
        console.print(_plain(f"the first difference is at byte {first}: {here}"), soft_wrap=True)
    if note:
        console.print(Text(f"note: {_clean(note)}", style="yellow"))


def _record(record: Mapping[str, Any] | None, first: int | None) -> Text:
    if record is None:
        return Text("no record", style="dim")
    words = "\n".join(_clean(line) for line in str(record["text"]).split("\n"))
    text = Text(words)
    start, size = record["start"], record["size"]
    place = _letter(str(record["text"]), first - start) if first is not None else None
    if place is not None:
        text.stylize("bold reverse", place, place + 1)
    if start or size > start + len(str(record["text"]).encode()):
        text.append("\n").append(_clean(f"… from byte {start} of {size}"), style="dim")
    return text


def _from(first: int) -> Callable[[Mapping[str, Any] | None], str]:
    """What a record goes on with from a byte, quoted."""

    def excerpt(record: Mapping[str, Any] | None) -> str:
        text = "" if record is None else str(record["text"])
        place = _letter(text, first - (record["start"] if record else 0))
        return "…" if place is None else repr(_clean(text[place : place + EXCERPT]))

    return excerpt


def _letter(text: str, byte: int) -> int | None:
    """The letter at a byte; None where escapes have moved it, or it is beyond the end."""
    data = text.encode("utf-8")
    if not 0 <= byte < len(data) or "\\" in text:
        return None
    return len(data[:byte].decode("utf-8", "ignore"))


def show_rerun(found: "Rerun", console: Console) -> None:
    """How much was given again."""
    console.soft_wrap = not console.is_terminal
    _show_changed(found.changed, console)
    drawn = ", ".join(f"{count} of {name}" for name, count in found.cases.items())
    console.print(_plain(f"cases run again on both sides: {drawn} (drawn by --seed {found.seed})"))
    for one in found.differing:
        words = f"✗ case {one.case} of {one.workload}, {one.side}: recorded {one.recorded}, now {one.now}"
        console.print(Text(_clean(words), style="red"))
    if found.in_block:
        words = f"{found.in_block} records depend on the cases around them; in their own blocks they are as recorded"
        console.print(Text(f"note: {words}", style="yellow"))
    answer = Text("given again", style="bold green") if found.holds else Text("not given again", style="bold red")
    console.print(answer.append(f"  {found.same} of {found.records} records have the recorded digest", style="default"))
    if not found.holds and found.changed:
        console.print("What changed since may be why; run it again where it was judged.")


def show_contrast(found: "Contrast", console: Console) -> None:
    """What is not the same, by group."""
    table = _table("", "", _plain(found.left), _plain(found.right))
    before = ""
    for change in found.changes:
        group = change.group if change.group != before else ""
        table.add_row(group, _plain(change.name), _plain(_value(change.left)), _plain(_value(change.right)))
        before = change.group
    if found.changes:
        console.print(table)
    for line in found.program:
        console.print(_plain(line), soft_wrap=True)
    same = Text("the same question and the same verdict", style="bold green")
    console.print(same if found.same else Text("not the same", style="bold red"))
    console.print("Each verification has a salt of its own, so the digests of two reports cannot be compared.")


@contextmanager
def telling(console: Console) -> Iterator[Tell]:
    """A bar for as long as something is run."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def tell(words: str, done: int, of: int | None) -> None:
            progress.update(task, description=words, completed=done, total=of)

        yield tell


def _show_changed(changed: Sequence[str], console: Console) -> None:
    for words in changed:
        console.print(Text(f"note: {_clean(words)}", style="yellow"), soft_wrap=True)


def _table(*columns: str | Text) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=str(name) in {"id", "verdict", "gain", "pairs", "cases"}, overflow="fold")
    return table


def _value(value: object) -> str:
    return _short(value)[: 5 * SHORT] if isinstance(value, str) else repr(value)[: 5 * SHORT]


def _short(name: str) -> str:
    """A commit or a digest by its first letters, anything else as it is."""
    return name[:SHORTER] if len(name) in {40, 64} and set(name) <= set("0123456789abcdef") else name


def _clean(words: str) -> str:
    from nightfleet.harness.tree import printable

    return printable(str(words))


def _plain(words: str) -> Text:
    # Text, not markup: what a candidate wrote may hold brackets.
    return Text(_clean(words))
