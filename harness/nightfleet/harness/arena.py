"""The arena: the contract with the judge, as the rest of the harness sees it.

`read_arena` takes the judge's keys out of a front matter, checks them (pydantic, at this edge only), checks what they
demand of each other, and hands back the keys that it does not own. Quantities carry their unit in their name; a ratio
of 0.05 is 5%.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from nightfleet.harness.command import Command
from nightfleet.harness.frontmatter import KeyPath, Section
from nightfleet.harness.keys import NAME, ArenaKeys, Manifest, WorkloadKeys
from nightfleet.harness.schema import key_names, read_keys
from nightfleet.harness.scope import Scope
from nightfleet.native import UserError
from nightfleet.native import Workload as NativeWorkload

# Fixed: below this many distinct cases, "the same" is a weaker word than the reports make it sound.
CASES_FOR_VERIFICATION = 20_000
DEFAULT_BLOCK = 200
MOST_WORKLOADS = 32

__all__ = ["Arena", "Behaviour", "Guards", "Limits", "Manifest", "Metric", "Thresholds", "Workload", "read_arena"]


@dataclass(frozen=True, slots=True)
class Workload:
    """One way of running the program.

    Attributes:
        name: distinct within the arena.
        run: argument list, run in the tree.
        cases: how many distinct cases the behaviour gate compares, or the file that names them.
        block: cases that one trial handles.
        unit: what a case is called in reports.
        feed: "stdin" (case numbers, one a line) or "argument" (`{case}` in `run`, one process a case).
        record: what one record is: "line", "stdout" (a whole output), "length" (framed by its length) or "files".
        files: glob of output files under /out; only with record "files".
    """

    name: str
    run: Command
    cases: int | Manifest
    block: int
    unit: str
    feed: Literal["stdin", "argument"]
    record: Literal["line", "stdout", "length", "files"]
    files: str | None

    def native(self, behaviour: "Behaviour", manifest: Sequence[str] | None = None) -> NativeWorkload:
        """The same as native's trial runner takes it.

        Args:
            behaviour: the arena's.
            manifest: the lines of the file that `cases` names.

        Raises:
            UserError: an impossible combination, or a regular expression that native cannot read.
        """
        return NativeWorkload(
            self.run,
            feed=self.feed,
            record="output" if self.record == "stdout" else self.record,
            files=self.files or "*",
            canonical=behaviour.form,
            ignore=behaviour.ignore,
            filter=behaviour.filter,
            manifest=manifest,
        )


@dataclass(frozen=True, slots=True)
class Behaviour:
    """When two records are the same: after `filter`, without what `ignore` matches, in this form."""

    form: Literal["exact", "json"]
    ignore: str | None
    filter: Command | None


@dataclass(frozen=True, slots=True)
class Metric:
    """What has to become less, and over several workloads: their sum, geometric mean of ratios, or worst ratio."""

    kind: Literal["time", "memory"]
    over: Literal["total", "geomean", "worst"]


@dataclass(frozen=True, slots=True)
class Guards:
    """What a candidate may cost beyond the baseline: ratios (0.01 is +1%), and changed lines."""

    wall_ratio: float
    cpu_ratio: float
    memory_ratio: float
    build_time_ratio: float
    diff_lines: int


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Gains as ratios (0.05: 5% less), in the order incremental < promote < extraordinary."""

    promote_ratio: float
    incremental_ratio: float
    extraordinary_ratio: float
    false_promotions_per_night: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a trial (seconds, bytes), one command of a build, or a candidate (strategies that it may combine)."""

    trial_s: float
    build_s: float
    memory_bytes: int
    output_bytes: int
    changes: int


@dataclass(frozen=True, slots=True)
class Arena:
    """The whole contract; `docs/program.md` says what each key means.

    Attributes:
        clock: "wall" also where the program said "auto" and leases more than one core.
        read: absolute paths of this machine that sandboxes show read-only.
        data: untracked inputs, relative to the folder of program.md.
        warnings: what is allowed and weakens the evidence, in full sentences; no part of the digest.
    """

    name: str
    edit: tuple[str, ...]
    setup: tuple[Command, ...]
    build: tuple[Command, ...]
    workloads: tuple[Workload, ...]
    behaviour: Behaviour
    tests: tuple[Command, ...]
    metric: Metric
    clock: Literal["cpu", "wall", "auto"]
    cores: int
    guards: Guards
    thresholds: Thresholds
    limits: Limits
    allow: tuple[str, ...]
    read: tuple[str, ...]
    data: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def content(self) -> dict[str, Any]:
        """Everything but the warnings, as plain values for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name != "warnings"}

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) over `content`, as JSON with sorted keys and no blanks."""
        text = json.dumps(
            {"nightfleet arena 1": self.content}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
        )
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def scope(self) -> Scope:
        """What a candidate may change; the files that the arena's own keys name stay frozen."""
        manifests = {workload.cases.path for workload in self.workloads if isinstance(workload.cases, Manifest)}
        return Scope(self.edit, frozenset({*manifests, *self.data, *self._filter_words()}), frozenset(self.allow))

    def _filter_words(self) -> tuple[str, ...]:
        return self.behaviour.filter or ()


def arena_keys() -> tuple[str, ...]:
    """Every key of the judge's, dotted."""
    return tuple(key_names(ArenaKeys))


def read_arena(section: Section) -> tuple[Arena, Section]:
    """Take the judge's keys out of a front matter.

    Returns:
        The arena, and the keys that somebody else has to own.

    Raises:
        ProgramError: at the first key that is missing, unknown within a judge's section, or impossible.
    """
    mine, rest = section.split((*ArenaKeys.model_fields, *ArenaKeys.LATER))
    keys = read_keys(mine, ArenaKeys)
    _check_names(mine, keys)
    _check_thresholds(mine, keys)
    if keys.cores > 1 and keys.clock == "cpu":
        raise mine.error(
            ("clock",), f"cpu would count what {keys.cores} cores do as no gain", "type 'clock: wall' or 'cores: 1'"
        )
    arena = _arena(mine, keys)
    for index, workload in enumerate(arena.workloads):
        _check_native(mine, index, workload, arena.behaviour)
    _check_frozen(mine, arena)
    return arena, rest


def _arena(section: Section, keys: ArenaKeys) -> Arena:
    guards, thresholds, limits = keys.guards, keys.thresholds, keys.limits
    workloads = tuple(_workload(section, index, found) for index, found in enumerate(keys.workloads))
    return Arena(
        name=keys.name,
        edit=keys.edit,
        setup=keys.setup,
        build=keys.build,
        workloads=workloads,
        behaviour=Behaviour(keys.behaviour.form, keys.behaviour.ignore, keys.behaviour.filter),
        tests=keys.tests,
        metric=Metric(keys.metric.kind, keys.metric.over),
        clock="wall" if keys.cores > 1 else keys.clock,
        cores=keys.cores,
        guards=Guards(guards.wall, guards.cpu, guards.memory, guards.build_time, guards.diff_lines),
        thresholds=Thresholds(
            thresholds.promote,
            thresholds.incremental,
            thresholds.extraordinary,
            thresholds.false_promotions_per_night,
        ),
        limits=Limits(limits.trial, limits.build, limits.memory, limits.output, limits.changes),
        allow=keys.allow,
        read=keys.sandbox.read,
        data=keys.data,
        warnings=tuple(_warnings(section, workloads)),
    )


def _workload(section: Section, index: int, keys: WorkloadKeys) -> Workload:
    path: KeyPath = ("workloads", index)
    alone = _one_case_a_process(keys)
    block = keys.block or _default_block(keys, alone=alone is not None)
    if isinstance(keys.cases, int) and block > keys.cases:
        raise section.error((*path, "block"), f"must be at most cases, {keys.cases}; got {block}")
    if alone is not None and block != 1:
        raise section.error((*path, "block"), f"must be 1 with '{alone}'; got {block}")
    if (keys.files is not None) != (keys.record == "files"):
        raise section.error((*path, "files"), f"goes together with 'record: files'; record is {keys.record}")
    if (keys.feed == "argument") != any("{case}" in word for word in keys.run):
        raise section.error(
            (*path, "run"),
            f"{{case}} and 'feed: argument' go together; feed is {keys.feed}",
            "put {case} where the case's number belongs"
            if keys.feed == "argument"
            else "type 'feed: argument' or remove {case}",
        )
    return Workload(keys.name, keys.run, keys.cases, block, keys.unit, keys.feed, keys.record, keys.files)


def _one_case_a_process(keys: WorkloadKeys) -> str | None:
    """The key by which a process has no more than one case; None without one."""
    if keys.feed == "argument":
        return "feed: argument"
    return f"record: {keys.record}" if keys.record in {"stdout", "files"} else None


def _default_block(keys: WorkloadKeys, *, alone: bool) -> int:
    if alone or isinstance(keys.cases, Manifest):
        return 1
    return min(DEFAULT_BLOCK, keys.cases)


def _check_names(section: Section, keys: ArenaKeys) -> None:
    if not 1 <= len(keys.workloads) <= MOST_WORKLOADS:
        raise section.error(("workloads",), f"must be 1 to {MOST_WORKLOADS} workloads; got {len(keys.workloads)}")
    named: list[tuple[KeyPath, str]] = [(("name",), keys.name)]
    named += [(("workloads", index, "name"), workload.name) for index, workload in enumerate(keys.workloads)]
    for path, name in named:
        # Names become parts of file names, refs and trailers.
        if not re.fullmatch(NAME, name):
            raise section.error(
                path, f"must be letters, digits, '.', '_' and '-', a letter or digit first; got {name!r}"
            )
    names = [workload.name for workload in keys.workloads]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise section.error(("workloads", index, "name"), f"{name!r} is taken by workloads[{names.index(name)}]")


def _check_thresholds(section: Section, keys: ArenaKeys) -> None:
    given = keys.thresholds
    rising = (("incremental", given.incremental), ("promote", given.promote), ("extraordinary", given.extraordinary))
    for (low, least), (high, most) in itertools.pairwise(rising):
        if most <= least:
            raise section.error(
                ("thresholds", high), f"must be more than thresholds.{low}, {least:.4g} ({least:.2%}); got {most:.2%}"
            )


def _check_native(section: Section, index: int, workload: Workload, behaviour: Behaviour) -> None:
    try:
        workload.native(behaviour, ["a line"] if isinstance(workload.cases, Manifest) else None)
    except UserError as error:
        at_behaviour = str(error).startswith(("ignore", "filter"))
        path: KeyPath = ("behaviour",) if at_behaviour else ("workloads", index)
        raise section.error(path, str(error)) from None


def _check_frozen(section: Section, arena: Arena) -> None:
    """Refuse an `edit` that covers what decides about candidates."""
    for path, key in _deciding(arena):
        if Scope(arena.edit).matches(path):
            raise section.error(key, f"{path} decides about candidates and must be frozen, but edit matches it")


def _deciding(arena: Arena) -> Iterator[tuple[str, KeyPath]]:
    for index, workload in enumerate(arena.workloads):
        if isinstance(workload.cases, Manifest):
            yield workload.cases.path, ("workloads", index, "cases")
    yield from ((path, ("data",)) for path in arena.data)
    yield from ((word, ("behaviour", "filter")) for word in arena.behaviour.filter or ())


def _warnings(section: Section, workloads: Sequence[Workload]) -> Iterator[str]:
    for index, workload in enumerate(workloads):
        if isinstance(workload.cases, int) and workload.cases < CASES_FOR_VERIFICATION:
            line = section.line(("workloads", index, "cases"))
            yield (
                f"{section.file}:{line}: {workload.name} compares {workload.cases} cases; behaviour that is rarer than "
                f"one in {workload.cases} may change unseen. Type 'cases: {CASES_FOR_VERIFICATION}' or more if you can "
                "afford it."
            )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
