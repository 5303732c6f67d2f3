"""The whole program: who owns which key, and that its documentation names them all."""

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfleet.harness.frontmatter import ProgramError
from nightfleet.orchestrator.commands import edge
from nightfleet.orchestrator.program import Budget, Fleet, load_program, program_keys

ROOT = Path(__file__).parents[1]
SMALL = """\
---
name: demo
edit: [src/main.rs]
workloads:
  - {name: episodes, run: target/sim, cases: 20000}
{}
---
# Faster, please
"""
# A key's row in the documentation's tables: key, meaning, unit and bounds, default.
ROW = re.compile(r"^\| `([a-z_.\[\]]+)` (?:\|[^|]*){3}\|$", re.MULTILINE)
# The example of the design, as this version can read it: nothing in it had to be left out.
DESIGN = """\
---
name: grid-simulator
edit: ["src/**/*.rs", "Cargo.toml"]          # the action space; every other file is frozen, program.md always
setup: cargo fetch --locked                   # once per lockfile digest, network allowed
build: cargo build --release --offline        # sandboxed, no network
workloads:
  - {name: episodes, run: target/release/sim, cases: 20000, block: 200, unit: episodes}
behaviour: exact                              # exact | json
tests: [cargo test --release --offline]       # optional further gates
metric: {kind: time, over: total}             # time | memory
clock: auto                                   # cpu | wall | auto (calibration decides)
cores: 1                                      # cores leased to a trial; > 1 is judged by wall
guards: {wall: +1%, cpu: +10%, memory: +10%, build_time: +100%, diff_lines: 600}
thresholds: {promote: 5%, incremental: 2%, extraordinary: 30%, false_promotions_per_night: 0.1}
limits: {trial: 60s, memory: 4GiB, output: 64MiB, changes: 1}
budget: {experiments: 200, night: 8h, task: 15m, tokens: 2M, cost: $20}
fleet: {scouts: 2, workers: 4, scout: search, worker: search}
---
# Make the simulator faster
"""


def refusal(line: str) -> str:
    with pytest.raises(ProgramError) as refused:
        load_program(SMALL.replace("{}", line))
    return str(refused.value)


def test_our_own_program() -> None:
    program = load_program(ROOT / "program.md")
    text = (ROOT / "program.md").read_text(encoding="utf-8")
    assert program.arena.name == "nightfleet-hashing"
    assert program.budget == Budget(200, 28_800.0, 900.0, 2_000_000, 2_000)
    assert program.fleet == Fleet(2, 4, "search", "search")
    assert program.prose.startswith("# Make the splitting")
    assert program.digest == hashlib.sha256(text.encode()).hexdigest()
    assert program.warnings == ()
    assert all((ROOT / path).is_file() for path in program.arena.edit)


def test_the_designs_example_and_the_defaults() -> None:
    full = load_program(DESIGN)
    assert (full.budget, full.fleet) == (load_program(SMALL.replace("{}", "")).budget, Fleet(2, 4, "search", "search"))
    assert full.prose == "# Make the simulator faster\n"
    small = load_program(SMALL.replace("{}", "budget: {tokens: 1, cost: $0.50}\nfleet: {workers: 1}"))
    assert (small.budget.tokens, small.budget.cost_cents, small.fleet.workers, small.fleet.scouts) == (1, 50, 1, 2)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "bugdet: {}",
            r"^program\.md:6: bugdet: there is no such key; did you mean 'budget'\?; known: name, edit, .*fleet$",
        ),
        ("colour: red", r"^program\.md:6: colour: there is no such key; known: "),
        ("budget: {experimets: 3}", r"budget\.experimets: there is no such key; did you mean 'experiments'"),
        ("budget: 200", r"budget: must be a mapping like \{experiments: 200, night: 8h\}; got 200"),
        ("budget: {experiments: 0}", r"budget\.experiments: must be from 1 to 100k; got 0"),
        ("budget: {cost: 20}", r"must be an amount from \$0 to \$100000, like '\$20' or '\$0.50'; got 20"),
        ("budget: {cost: $0.005}", r"got '\$0.005'"),
        ("budget: {cost: $100001}", r"got '\$100001'"),
        ("budget: {night: 8}", r"got 8; did you mean '8ms' or '8s' or '8m' or '8h'"),
        ("budget: {night: 10m}", r"budget\.task: must fit into budget\.night, 600 s; got 900 s"),
        ("fleet: {scouts: 0}", r"fleet\.scouts: must be from 1 to 64; got 0"),
        (
            "fleet: {scout: claude}",
            r"must be one of search, outside; got 'claude'; models and command-line agents are not available",
        ),
        ("bench: go", r"bench: is not available in this version"),
    ],
)
def test_refusals(line: str, says: str) -> None:
    assert re.search(says, refusal(line)), refusal(line)


def test_a_misspelt_key_is_told_before_a_missing_one() -> None:
    with pytest.raises(ProgramError, match="workload: there is no such key; did you mean 'workloads'"):
        load_program("---\nname: x\nedit: [a]\nworkload: []\n---\n")


def test_a_refusal_is_the_users_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nightfleet import native

    monkeypatch.setattr(native, "probe", lambda: load_program("no front matter"))
    with pytest.raises(SystemExit) as ending:
        edge.main(["probe"])
    assert ending.value.code == 2
    assert capsys.readouterr().err == (
        "nightfleet: program.md:1: must be '---', where the front matter begins; got 'no front matter'\n"
    )


@given(st.text() | st.text("-:\n {}[]&*!ab%'\"").map("---\n{}\n---\n".format))
def test_no_text_is_a_defect(text: str) -> None:
    with pytest.raises(ProgramError):
        load_program(text)


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    documented = ROW.findall((ROOT / "docs/program.md").read_text(encoding="utf-8"))
    assert sorted(documented) == sorted(program_keys())
    assert ROW.findall("| `a.b[].c` | x | y | z |\n| `a kind` | x |\n| `kind` | x |\n") == ["a.b[].c"]


def test_the_documented_example_can_be_used() -> None:
    page = (ROOT / "docs/program.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```markdown\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        assert load_program(example).warnings == ()
