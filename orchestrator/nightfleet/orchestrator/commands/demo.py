"""`nightfleet demo`: the ground under a verdict, on this machine: the sandbox, and a program timed against itself."""

import json
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO
from nightfleet.orchestrator.commands.probe import Findings, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nightfleet.native import Pair

EXAMPLE = Path("examples/grid-simulator")
PROGRAM = ["target/release/sim"]
CASES_A_BLOCK = 200
# The chance that an honest coin fails the check below, by bad luck alone.
COIN_ERROR = 1e-3


def demo(
    pairs: Annotated[int, typer.Option(min=5, help="How many pairs are timed.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    example: Annotated[Path, typer.Option(help="The Cargo project that is built and timed.")] = EXAMPLE,
) -> None:
    """Show what this machine promises, build a simulator in the sandbox, and time it against itself.

    Both sides are the same program, so the figures are what no change at all looks like here.

    Exits with 1 if the machine is below the minimum, if the order coin is not fair, if a record differs, or if the
    program seems faster than itself.

    Example: `nightfleet demo --pairs 50`
    """
    from nightfleet import native

    if not (example / "Cargo.toml").exists():
        raise native.UserError(f"{example}/Cargo.toml is not there; type `nightfleet demo` in a clone of nightfleet")
    console = Console(stderr=as_json)
    findings: Findings = native.probe()
    show(findings, console)
    if findings["below_minimum"] is not None:
        raise typer.Exit(ANSWER_IS_NO)
    with tempfile.TemporaryDirectory(prefix="nightfleet-demo-") as scratch:
        tree = _build(example, Path(scratch), console)
        timed, facts = _time(tree, Path(scratch), pairs, console)
    found = _summarise(timed, facts)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show(found, console)
    if not found["holds"]:
        raise typer.Exit(ANSWER_IS_NO)


def _build(example: Path, scratch: Path, console: Console) -> Path:
    """A copy of the example, built without network in a sandbox of its own."""
    from nightfleet.harness.toolchain import resolve
    from nightfleet.native import MachineError, Sandbox, give_tree

    tree = scratch / "example"
    shutil.copytree(example, tree, ignore=shutil.ignore_patterns("target"))
    give_tree(tree)
    toolchain = resolve(example)
    with (
        console.status("building the example in the sandbox, without network"),
        Sandbox(tree, profile="build", read=toolchain.read, env=toolchain.env) as sandbox,
    ):
        built = sandbox.run(["cargo", "build", "--release", "--offline"], timeout_s=300)
    if built.outcome != "ok":
        raise MachineError(f"the example did not build ({built.outcome} {built.status}):\n{built.stderr.decode()}")
    console.print(f"built in the sandbox in {built.wall_ns / 1e9:.1f} s, without network")
    return tree


def _time(tree: Path, scratch: Path, pairs: int, console: Console) -> "tuple[list[Pair], dict[str, str]]":
    from nightfleet.harness.pairs import PairBench, valid_pairs
    from nightfleet.native import Workload

    seed = secrets.randbits(64)
    blocks = _blocks(seed)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("waiting for the timing lease", total=pairs)

        def waiting(why: str, waited_s: float) -> None:
            progress.update(task, description=f"waiting for {waited_s:.0f} s: {why}")

        bench = PairBench(tree, tree, Workload(PROGRAM), seed, scratch / "draws.jsonl", on_wait=waiting)
        timed = []
        with bench:
            bench.warm_up(next(blocks))
            for pair in valid_pairs(bench, blocks, pairs):
                timed.append(pair)
                progress.update(task, advance=1, description=f"pair {len(timed)} of {pairs}: the same program twice")
    facts = {**bench.facts, "void": str(bench.counts.void), "cores": str(bench.lease.cores)}
    return timed, facts


def _blocks(seed: int) -> "Iterator[NDArray[np.int64]]":
    cases = np.random.default_rng(seed)
    while True:
        yield cases.choice(2**31, CASES_A_BLOCK, replace=False)


def _summarise(timed: "list[Pair]", facts: dict[str, str]) -> dict[str, object]:
    from scipy.stats import binomtest

    first = np.array([pair.draw.candidate_first for pair in timed])
    coin_p = float(binomtest(int(first.sum()), len(first)).pvalue)
    identical = all(pair.identical for pair in timed)
    clocks = {}
    for clock in ("wall", "cpu"):
        both = [(getattr(p.baseline, f"{clock}_ns"), getattr(p.candidate, f"{clock}_ns")) for p in timed]
        gains = np.array([np.log(b / c) for b, c in both if b > 0 and c > 0])
        if len(gains):
            clocks[clock] = _clock(gains, first, float(np.median([b for b, _ in both])) / 1e6)
    quiet = all(abs(clock["gain"]) <= clock["plus_minus"] for clock in clocks.values())
    return {
        "pairs": len(timed),
        "void": int(facts["void"]),
        "cores": facts["cores"],
        "cpu_source": facts["cpu_source"],
        "candidate_first": int(first.sum()),
        "coin_p": coin_p,
        "identical": identical,
        "clocks": clocks,
        "holds": identical and coin_p >= COIN_ERROR and quiet,
    }


def _clock(gains: "NDArray[np.float64]", first: "NDArray[np.bool_]", typical_ms: float) -> dict[str, float]:
    """Location and spread of log ratios by median and MAD; the interval is for 1 in 1,000 under no change."""
    spread = 1.4826 * float(np.median(np.abs(gains - np.median(gains))))
    order = float(np.median(gains[first]) - np.median(gains[~first])) if 0 < first.sum() < len(first) else 0.0
    # The sd of a median is 1.2533 times that of a mean under a normal law; 3.29 sd leave 1 in 1,000.
    return {
        "typical_ms": typical_ms,
        "gain": float(np.median(gains)),
        "plus_minus": 3.29 * 1.2533 * spread / float(np.sqrt(len(gains))) + 1e-4,
        "spread": spread,
        "order_effect": order,
    }


def _show(found: dict[str, object], console: Console) -> None:
    table = Table(title=f"{found['pairs']} pairs of the same program", title_justify="left")
    for name in ("clock", "a run takes", "faster than itself by", "spread of a pair", "first minus second"):
        table.add_column(name, justify="left" if name == "clock" else "right")
    clocks = found["clocks"]
    assert isinstance(clocks, dict)  # noqa: S101 - narrows the type of what _summarise made
    for name, clock in clocks.items():
        table.add_row(
            name,
            f"{clock['typical_ms']:.1f} ms",
            f"{clock['gain']:+.2%} ± {clock['plus_minus']:.2%}",
            f"{clock['spread']:.2%}",
            f"{clock['order_effect']:+.2%}",
        )
    console.print(table)
    console.print(
        f"cores {found['cores']}, CPU time from {found['cpu_source']}; {found['void']} pairs void; the coin put the "
        f"candidate first {found['candidate_first']} times (p = {found['coin_p']:.2f}); every record "
        + ("identical" if found["identical"] else "NOT identical")
    )
    words = (
        "no change looks like no change here" if found["holds"] else "this machine or this sandbox is not to be trusted"
    )
    console.print(Text(words, style="green" if found["holds"] else "bold red"))
