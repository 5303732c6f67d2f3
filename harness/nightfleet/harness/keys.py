"""The keys of `program.md` that the judge owns: names, units, bounds and defaults. `docs/program.md` lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from nightfleet.harness.command import Command, read_command, read_commands
from nightfleet.harness.quantities import count, duration, percent, plain, read_count, size
from nightfleet.harness.schema import Keys, one_of, text
from nightfleet.harness.scope import read_inner_path, read_patterns

# Fixed: a night claims at most this many false promotions, and no program can make it claim more.
MOST_FALSE_PROMOTIONS = 0.1
MOST_CASES = "10M"

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
ALLOWANCES = ("dependencies", "build_scripts", "patches", "outside_paths")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Cases named by the lines of a frozen file; `path` is relative to the folder of program.md."""

    path: str


def _cases(value: object) -> int | Manifest:
    if isinstance(value, dict):
        if set(value) != {"manifest"}:
            raise ValueError(f"must be a number or {{manifest: path}}; got the keys {', '.join(value)}")
        return Manifest(read_inner_path(value["manifest"]))
    return read_count(value, "1", MOST_CASES)


def _behaviour(value: object) -> object:
    return {"form": value} if isinstance(value, str) else value


def _words(*words: str) -> PlainValidator:
    def read(value: object) -> tuple[str, ...]:
        items = value if isinstance(value, list) else [value]
        unknown = [item for item in items if item not in words]
        if unknown:
            raise ValueError(f"must be a list of {', '.join(words)}; got {unknown[0]!r}")
        return tuple(sorted(set(items)))

    return PlainValidator(read)


def _host_paths(value: object) -> tuple[str, ...]:
    paths = value if isinstance(value, list) else [value]
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/") or not path.strip("/") or ".." in path.split("/"):
            raise ValueError(f"must be absolute paths of this machine, below /, without '..'; got {path!r}")
    return tuple(paths)


def _inner_paths(value: object) -> tuple[str, ...]:
    return tuple(read_inner_path(path) for path in (value if isinstance(value, list) else [value]))


class WorkloadKeys(Keys):
    """One way of running the program."""

    LATER: ClassVar[Mapping[str, str]] = {
        "bench": "write the workload as a filter: case numbers on standard input, one record a line on standard output",
    }
    SHAPE: ClassVar[str] = "a mapping like {name: episodes, run: target/release/sim, cases: 20000, block: 200}"

    name: Annotated[str, text(longest=64)] = Field(pattern=NAME, examples=["episodes"])
    run: Annotated[Command, PlainValidator(read_command)] = Field(examples=["target/release/sim"])
    cases: Annotated[int | Manifest, PlainValidator(_cases)] = Field(examples=["20000"])
    block: Annotated[int, count("1", "1M")] | None = None
    unit: Annotated[str, text(longest=32)] = "cases"
    feed: Annotated[Literal["stdin", "argument"], one_of("stdin", "argument")] = "stdin"
    record: Annotated[Literal["line", "stdout", "length", "files"], one_of("line", "stdout", "length", "files")] = (
        "line"
    )
    files: Annotated[str, text()] | None = None


class BehaviourKeys(Keys):
    """When two records are the same."""

    SHAPE: ClassVar[str] = 'exact, json, or a mapping like {form: json, ignore: "regex", filter: "command"}'

    form: Annotated[Literal["exact", "json"], one_of("exact", "json", later=("tests", "none"))] = "exact"
    ignore: Annotated[str, text(longest=1000)] | None = None
    filter: Annotated[Command, PlainValidator(read_command)] | None = None


class MetricKeys(Keys):
    """What has to become less."""

    LATER: ClassVar[Mapping[str, str]] = {"name": "metrics that a program reports of itself come later; remove it"}
    SHAPE: ClassVar[str] = "a mapping like {kind: time, over: total}"

    kind: Annotated[Literal["time", "memory"], one_of("time", "memory", later=("score", "reported"))] = "time"
    over: Annotated[Literal["total", "geomean", "worst"], one_of("total", "geomean", "worst")] = "total"


class GuardKeys(Keys):
    """What must not become more than this, against the baseline."""

    SHAPE: ClassVar[str] = "a mapping like {wall: +1%, memory: +10%}"

    wall: Annotated[float, percent("0.1%", "1000%")] = 0.01
    cpu: Annotated[float, percent("0.1%", "1000%")] = 0.10
    memory: Annotated[float, percent("0.1%", "1000%")] = 0.10
    build_time: Annotated[float, percent("1%", "10000%")] = 1.00
    diff_lines: Annotated[int, count("1", "100k")] = 600


class ThresholdKeys(Keys):
    """How much less makes which verdict."""

    LATER: ClassVar[Mapping[str, str]] = {"scale": "it belongs to scores, which come later; remove it"}
    SHAPE: ClassVar[str] = "a mapping like {promote: 5%, incremental: 2%}"

    promote: Annotated[float, percent("0.5%", "90%")] = 0.05
    incremental: Annotated[float, percent("0.5%", "90%")] = 0.02
    extraordinary: Annotated[float, percent("1%", "99%")] = 0.30
    false_promotions_per_night: Annotated[float, plain(0.0001, MOST_FALSE_PROMOTIONS)] = MOST_FALSE_PROMOTIONS


class LimitKeys(Keys):
    """What ends a trial, a build or a candidate."""

    LATER: ClassVar[Mapping[str, str]] = {"clock": "the fixed clock comes with scores; remove it"}
    SHAPE: ClassVar[str] = "a mapping like {trial: 60s, memory: 4GiB}"

    trial: Annotated[float, duration("10ms", "1h")] = 60.0
    build: Annotated[float, duration("1s", "8h")] = 900.0
    memory: Annotated[int, size("16MiB", "1TiB")] = 4 << 30
    output: Annotated[int, size("1KiB", "1GiB")] = 64 << 20
    changes: Annotated[int, count("1", "1")] = 1


class SandboxKeys(Keys):
    """What else a sandbox shows."""

    SHAPE: ClassVar[str] = "a mapping like {read: [/opt/toolchain]}"

    read: Annotated[tuple[str, ...], PlainValidator(_host_paths)] = ()


class ArenaKeys(Keys):
    """The contract with the judge."""

    LATER: ClassVar[Mapping[str, str]] = {
        "bench": "write the workload as a filter: case numbers on standard input, one record a line on standard output",
        "loopback": "trials have no network at all; let the workload call the code without a socket",
    }

    name: Annotated[str, text(longest=64)] = Field(examples=["grid-simulator"])
    edit: Annotated[tuple[str, ...], PlainValidator(read_patterns)] = Field(examples=['["src/**/*.rs"]'])
    setup: Annotated[tuple[Command, ...], PlainValidator(read_commands)] = ()
    build: Annotated[tuple[Command, ...], PlainValidator(read_commands)] = ()
    workloads: list[WorkloadKeys] = Field(examples=["[{name: episodes, run: target/release/sim, cases: 20000}]"])
    behaviour: Annotated[BehaviourKeys, BeforeValidator(_behaviour)] = BehaviourKeys()
    tests: Annotated[tuple[Command, ...], PlainValidator(read_commands)] = ()
    metric: MetricKeys = MetricKeys()
    clock: Annotated[Literal["cpu", "wall", "auto"], one_of("cpu", "wall", "auto")] = "auto"
    cores: Annotated[int, count("1", "1024")] = 1
    guards: GuardKeys = GuardKeys()
    thresholds: ThresholdKeys = ThresholdKeys()
    limits: LimitKeys = LimitKeys()
    allow: Annotated[tuple[str, ...], _words(*ALLOWANCES)] = ()
    sandbox: SandboxKeys = SandboxKeys()
    data: Annotated[tuple[str, ...], PlainValidator(_inner_paths)] = ()
