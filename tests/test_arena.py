"""The arena: what is accepted means what it says, and what is refused says what to type instead."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfleet.harness.arena import Arena, Manifest, arena_keys, read_arena
from nightfleet.harness.command import read_command, read_commands
from nightfleet.harness.frontmatter import ProgramError, Section, read_front_matter
from nightfleet.harness.keys import ArenaKeys
from nightfleet.harness.quantities import read_count
from nightfleet.native import Workload as NativeWorkload

SMALL = """\
---
name: demo
edit: ["src/**/*.rs"]
workloads:
  - {name: episodes, run: target/sim, cases: 20000}
---
"""
FULL = """\
---
name: demo
edit: ["src/**/*.rs", Cargo.toml]
setup: cargo fetch --locked
build: [cargo build --release, "strip 'a b'"]
workloads:
  - {name: a, run: target/a --fast, cases: 30k, block: 100, unit: episodes, feed: stdin, record: length}
  - {name: b, run: "target/b {case}", cases: {manifest: inputs.txt}, feed: argument, record: stdout}
behaviour: {form: json, ignore: "took [0-9]+", filter: tools/clean}
tests: [cargo test]
metric: {kind: memory, over: worst}
clock: auto
cores: 4
guards: {wall: +2%, cpu: +300%, memory: 5%, build_time: +50%, diff_lines: 400}
thresholds: {promote: 6%, incremental: 1.5%, extraordinary: 40%, false_promotions_per_night: 0.05}
limits: {trial: 200ms, build: 2h, memory: 512MiB, output: 1MiB, changes: 1}
allow: [patches, dependencies]
sandbox: {read: [/opt/toolchain]}
data: [data/big.bin]
budget: {night: 8h}
---
"""


def read(text: str) -> tuple[Arena, Section]:
    return read_arena(read_front_matter(text).section)


def test_everything_that_can_be_said() -> None:
    arena, rest = read(FULL)
    assert dict(rest.values) == {"budget": {"night": "8h"}}
    assert rest.line(("budget", "night")) == 20
    assert arena.build == (("cargo", "build", "--release"), ("strip", "a b"))
    a, b = arena.workloads
    assert (a.run, a.cases, a.block, a.unit, a.record) == (("target/a", "--fast"), 30_000, 100, "episodes", "length")
    assert (b.run, b.cases, b.block, b.files) == (("target/b", "{case}"), Manifest("inputs.txt"), 1, None)
    assert (arena.behaviour.form, arena.behaviour.ignore) == ("json", "took [0-9]+")
    assert arena.behaviour.filter == ("tools/clean",)
    assert (arena.metric.kind, arena.metric.over) == ("memory", "worst")
    assert (arena.clock, arena.cores) == ("wall", 4)
    assert (arena.guards.wall_ratio, arena.guards.cpu_ratio, arena.guards.diff_lines) == (0.02, 3.0, 400)
    assert (arena.thresholds.promote_ratio, arena.thresholds.incremental_ratio) == (0.06, 0.015)
    assert arena.thresholds.false_promotions_per_night == 0.05
    assert (arena.limits.trial_s, arena.limits.build_s, arena.limits.memory_bytes) == (0.2, 7200.0, 512 << 20)
    assert (arena.allow, arena.read, arena.data) == (
        ("dependencies", "patches"),
        ("/opt/toolchain",),
        ("data/big.bin",),
    )
    assert arena.scope.frozen == {"inputs.txt", "data/big.bin", "tools/clean"}
    assert arena.warnings == ()


def test_defaults() -> None:
    arena, _ = read(SMALL)
    assert (arena.setup, arena.build, arena.tests, arena.allow, arena.data) == ((), (), (), (), ())
    (workload,) = arena.workloads
    assert (workload.block, workload.unit, workload.feed, workload.record) == (200, "cases", "stdin", "line")
    assert (arena.behaviour.form, arena.metric.kind, arena.metric.over) == ("exact", "time", "total")
    assert (arena.clock, arena.cores, arena.limits.trial_s, arena.limits.memory_bytes) == ("auto", 1, 60.0, 4 << 30)
    assert (arena.thresholds.promote_ratio, arena.thresholds.false_promotions_per_night) == (0.05, 0.1)
    (files,) = read(SMALL.replace("20000", "20000, record: files, files: '*.txt'"))[0].workloads
    assert (files.record, files.files, files.block) == ("files", "*.txt", 1)
    assert read(SMALL.replace("20000", "50"))[0].workloads[0].block == 50
    argument = SMALL.replace("run: target/sim", "run: 'target/sim {case}', feed: argument")
    assert read(argument)[0].workloads[0].block == 1


def test_native_takes_every_workload() -> None:
    arena, _ = read(FULL)
    assert isinstance(arena.workloads[0].native(arena.behaviour), NativeWorkload)
    assert isinstance(arena.workloads[1].native(arena.behaviour, ["one", "two"]), NativeWorkload)


def test_few_cases_are_allowed_and_said() -> None:
    arena, _ = read(SMALL.replace("20000", "500"))
    (warning,) = arena.warnings
    assert warning.startswith("program.md:5: episodes compares 500 cases")
    assert "'cases: 20000'" in warning
    assert read(SMALL)[0].warnings == ()


LINES: Mapping[str, str] = {
    "name": "demo",
    "edit": '["src/**/*.rs"]',
    "workloads": "[{name: episodes, run: target/sim, cases: 20000}]",
}


def refusal(**changes: str | None) -> ProgramError:
    """The refusal of a small arena with some keys set, added or taken away (None)."""
    lines = {**LINES, **changes}
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
    with pytest.raises(ProgramError) as refused:
        read(f"---\n{text}---\n")
    return refused.value


def workload(**changes: str) -> str:
    keys = {"name": "w", "run": "target/sim", "cases": "20000", **changes}
    return "[{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}]"


REFUSED: list[tuple[dict[str, str | None], int, str]] = [
    ({"name": None}, 2, r"name: is missing; type 'name: grid-simulator'"),
    ({"edit": None}, 2, r'edit: is missing; type \'edit: \["src/\*\*/\*.rs"\]\''),
    ({"name": "a/b"}, 2, r"name: must be letters, digits, '.', '_' and '-'.*got 'a/b'"),
    ({"name": "5"}, 2, r"name: must be text; got 5, so put it in quotes"),
    ({"edit": "[]"}, 3, r"edit: must be 1 to 200 patterns"),
    ({"edit": "[/etc/passwd]"}, 3, r"'/etc/passwd' is absolute"),
    ({"edit": "[src/../../x]"}, 3, r"leads out by '\.\.'"),
    ({"edit": "[~/x]"}, 3, r"is absolute"),
    ({"edit": "[./src/a]"}, 3, r"has an empty part or a '\.'"),
    ({"edit": "[src/]"}, 3, r"names a folder; type 'src/\*\*'"),
    ({"edit": '["src/**.rs"]'}, 3, r"\*\* must stand alone"),
    ({"edit": '["{a,b}.rs"]'}, 3, r"type two patterns"),
    ({"edit": '["a/**/b/**/c/**/d/**"]'}, 3, r"too many stars"),
    ({"edit": "[5]"}, 3, r"must be patterns of paths; got 5"),
    ({"workloads": "[]"}, 4, r"workloads: must be 1 to 32 workloads; got 0"),
    ({"workloads": "{name: x}"}, 4, r"workloads: must be a list"),
    ({"workloads": "[x]"}, 4, r"workloads\[0\]: must be a mapping like \{name: episodes.*got 'x'"),
    ({"workloads": workload(run="''")}, 4, r"workloads\[0\]\.run: must be a command line; got ''"),
    ({"workloads": workload(rnu="x")}, 4, r"workloads\[0\]\.rnu: there is no such key; did you mean 'run'\?"),
    (
        {"workloads": "[{nam: x, run: y, cases: 1}]"},
        4,
        r"workloads\[0\]\.nam: there is no such key; did you mean 'name'",
    ),
    ({"workloads": workload(cases="0")}, 4, r"cases: must be from 1 to 10M; got 0"),
    ({"workloads": workload(cases="11M")}, 4, r"cases: must be from 1 to 10M; got '11M'"),
    ({"workloads": workload(cases="1.5")}, 4, r"cases: must be a whole number from 1 to 10M; got 1.5"),
    ({"workloads": workload(cases="1.0005k")}, 4, r"without a fraction left; got '1.0005k'"),
    ({"workloads": workload(cases="many")}, 4, r"cases: must be a whole number from 1 to 10M; got 'many'"),
    ({"workloads": workload(cases="{manifest: ../x}")}, 4, r"leads out by '\.\.'"),
    ({"workloads": workload(cases="{file: x}")}, 4, r"\{manifest: path\}; got the keys file"),
    ({"workloads": workload(cases="{manifest: src/a.rs}")}, 4, r"must be frozen, but edit matches it"),
    ({"workloads": workload(cases="100", block="200")}, 4, r"block: must be at most cases, 100; got 200"),
    ({"workloads": workload(block="0")}, 4, r"block: must be from 1 to 1M; got 0"),
    ({"workloads": workload(record="stdout", block="2")}, 4, r"block: must be 1 with 'record: stdout'; got 2"),
    (
        {"workloads": workload(run="'a {case}'", feed="argument", block="2")},
        4,
        r"block: must be 1 with 'feed: argument'; got 2",
    ),
    (
        {"workloads": workload(record="lines")},
        4,
        r"must be one of line, stdout, length, files; got 'lines'; did you mean",
    ),
    ({"workloads": workload(record="files")}, 4, r"files: goes together with 'record: files'; record is files"),
    ({"workloads": workload(files="'*'")}, 4, r"files: goes together with 'record: files'; record is line"),
    ({"workloads": workload(feed="argument")}, 4, r"put \{case\} where the case's number belongs"),
    ({"workloads": workload(run="'a {case}'")}, 4, r"type 'feed: argument' or remove \{case\}"),
    ({"workloads": workload(bench="criterion")}, 4, r"bench: is not available in this version; write the workload as"),
    (
        {"workloads": "[{name: a, run: x, cases: 20000}, {name: a, run: y, cases: 20000}]"},
        4,
        r"'a' is taken by workloads",
    ),
    ({"bench": "hyperfine"}, 5, r"bench: is not available in this version"),
    ({"loopback": "true"}, 5, r"loopback: is not available in this version; trials have no network"),
    ({"behaviour": "exat"}, 5, r"must be one of exact, json; got 'exat'; did you mean 'exact'\?"),
    ({"behaviour": "tests"}, 5, r"'tests' is not available in this version; available: exact, json"),
    ({"behaviour": "none"}, 5, r"'none' is not available in this version"),
    ({"behaviour": "[json]"}, 5, r"behaviour: must be exact, json, or a mapping like"),
    ({"behaviour": "{ignore: '('}"}, 5, r"behaviour: ignore is not a regular expression"),
    ({"behaviour": "{ignore: 'a*'}"}, 5, r"ignore must not match the empty string"),
    ({"behaviour": "{filter: src/a.rs}"}, 5, r"src/a.rs decides about candidates and must be frozen"),
    ({"metric": "time"}, 5, r"metric: must be a mapping like \{kind: time, over: total\}; got 'time'"),
    ({"metric": "{kind: score}"}, 5, r"'score' is not available in this version; available: time, memory"),
    ({"metric": "{kind: reported, name: x}"}, 5, r"not available in this version"),
    ({"metric": "{over: mean}"}, 5, r"must be one of total, geomean, worst; got 'mean'"),
    ({"clock": "CPU"}, 5, r"must be one of cpu, wall, auto; got 'CPU'"),
    ({"cores": "0"}, 5, r"cores: must be from 1 to 1024; got 0"),
    ({"cores": "true"}, 5, r"cores: must be a whole number from 1 to 1024; got True"),
    ({"cores": "2", "clock": "cpu"}, 6, r"clock: cpu would count what 2 cores do.*type 'clock: wall' or 'cores: 1'"),
    ({"guards": "{wall: 1}"}, 5, r"guards.wall: must be a percentage from 0.1% to 1000%; got 1; did you mean '1%'\?"),
    ({"guards": "{wall: -1%}"}, 5, r"got '-1%'"),
    ({"guards": "{wall: +0%}"}, 5, r"must be from 0.1% to 1000%; got '\+0%'"),
    ({"guards": "{diff_lines: 0}"}, 5, r"guards.diff_lines: must be from 1 to 100k; got 0"),
    ({"guards": "{ram: 1%}"}, 5, r"guards.ram: there is no such key"),
    ({"thresholds": "{promote: 2%}"}, 5, r"thresholds.promote: must be more than thresholds.incremental"),
    ({"thresholds": "{incremental: 6%}"}, 5, r"must be more than thresholds.incremental, 0.06 \(6.00%\); got 5.00%"),
    ({"thresholds": "{extraordinary: 5%}"}, 5, r"thresholds.extraordinary: must be more than thresholds.promote"),
    ({"thresholds": "{false_promotions_per_night: 0.2}"}, 5, r"must be a number from 0.0001 to 0.1; got 0.2"),
    ({"thresholds": "{false_promotions_per_night: 0}"}, 5, r"must be a number from 0.0001 to 0.1; got 0"),
    ({"thresholds": "{promote: 0.003}"}, 5, r"must be a percentage"),
    ({"thresholds": "{scale: ratio}"}, 5, r"scale: is not available in this version"),
    ({"limits": "{trial: 60}"}, 5, r"must be a duration .* got 60; did you mean '60ms' or '60s' or '60m' or '60h'\?"),
    ({"limits": "{trial: 1ms}"}, 5, r"limits.trial: must be from 10ms to 1h; got '1ms'"),
    ({"limits": "{memory: 4GB}"}, 5, r"got '4GB'; did you mean '4GiB'\?"),
    ({"limits": "{changes: 2}"}, 5, r"limits.changes: can only be 1 in this version; got 2"),
    ({"limits": "{clock: 5m}"}, 5, r"clock: is not available in this version"),
    ({"build": "make && make install"}, 5, r"'&&' needs a shell, and none is used; type: sh -c 'make && make install'"),
    ({"build": "CC=gcc make"}, 5, r"'CC=gcc' is not a program; type: env CC=gcc make"),
    ({"build": '"make \'x"'}, 5, r"No closing quotation"),
    ({"build": "[]"}, 5, r"must be 1 to 32 command lines; got 0"),
    ({"tests": "[5]"}, 5, r"tests: must be a command line; got 5"),
    ({"allow": "[all]"}, 5, r"must be a list of dependencies, build_scripts, patches, outside_paths; got 'all'"),
    ({"sandbox": "{read: [opt]}"}, 5, r"must be absolute paths of this machine"),
    ({"sandbox": "{read: [/]}"}, 5, r"below /"),
    ({"data": "[src/a.rs]"}, 5, r"src/a.rs decides about candidates and must be frozen"),
    ({"data": "[/etc]"}, 5, r"is absolute"),
]


@pytest.mark.parametrize(
    ("changes", "line", "says"), REFUSED, ids=[re.sub(r"\W+", "-", str(c))[:50] for c, _, _ in REFUSED]
)
def test_what_is_impossible_is_refused(changes: dict[str, str | None], line: int, says: str) -> None:
    error = refusal(**changes)
    assert re.search(says, str(error)), str(error)
    assert error.line == line
    assert str(error).startswith(f"program.md:{line}: ")


def test_the_digest_is_of_the_meaning() -> None:
    arena, _ = read(FULL)
    same, _ = read(FULL.replace("30k", "30000").replace("8h", "9h").replace("name: demo", "name: demo  # a comment"))
    assert same.digest == arena.digest
    assert re.fullmatch(r"[0-9a-f]{64}", arena.digest)
    # Known, so that a change of the formula is a decision and not an accident.
    assert read(SMALL)[0].digest == "3fec5275d86c7c7914eff1c5665cda4bef54a4a14f495110a4647011ed96770d"
    assert replace(arena, warnings=("x",)).digest == arena.digest


def test_every_part_counts_in_the_digest() -> None:
    arena, _ = read(FULL)
    others = {"name": "x", "cores": 2, "clock": "cpu", "behaviour": replace(arena.behaviour, form="exact")}
    others |= {"guards": replace(arena.guards, diff_lines=1), "metric": replace(arena.metric, over="total")}
    others |= {"limits": replace(arena.limits, trial_s=1.0), "thresholds": replace(arena.thresholds, promote_ratio=0.5)}
    others |= {"workloads": arena.workloads[:1]}
    others |= dict.fromkeys(("edit", "setup", "build", "tests", "allow", "read", "data"), ())
    changed: dict[str, Any] = others
    assert changed.keys() == set(json.loads(json.dumps(list(Arena.__dataclass_fields__)))) - {"warnings"}
    digests = {replace(arena, **{key: value}).digest for key, value in changed.items()}
    assert len(digests | {arena.digest}) == len(changed) + 1


@given(st.integers(1, 10**7))
def test_counts(number: int) -> None:
    assert read_count(number, "1", "10M") == read_count(str(number), "1", "10M") == number
    assert read_count(f"{number / 1000:.3f}k", "1", "10M") == number


WORDS = st.text(st.characters(categories=("L", "N", "P", "S")) | st.sampled_from(" ;|&<>'\"$"), min_size=1)


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_quoted_words_are_never_a_shells(words: list[str]) -> None:
    line = shlex.join(["run", *words])
    assert read_command(line) == ("run", *words)
    assert read_commands([line, line]) == (read_command(line),) * 2


def test_every_key_of_the_model_is_taken() -> None:
    """A key that the model knows and the arena drops would be a promise that nobody keeps."""
    assert {key.split(".")[0].removesuffix("[]") for key in arena_keys()} == set(ArenaKeys.model_fields)
    taken = set(Arena.__dataclass_fields__) - {"warnings", "read"} | {"sandbox"}
    assert taken == set(ArenaKeys.model_fields)
