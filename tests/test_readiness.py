"""Is this arena ready? Baselines with one planted fault each, a bench on a simulated clock, and what gets refused."""

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from calm import calm_machine
from simulated import Simulated

from nightfleet.harness import readiness
from nightfleet.harness.arena import read_arena
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import Calibrated
from nightfleet.harness.folder import Folder
from nightfleet.harness.frontmatter import read_front_matter
from nightfleet.harness.gates import Gates
from nightfleet.harness.ground import Ground
from nightfleet.harness.layout import RELINKS
from nightfleet.harness.readiness import Examination, Readiness, examine
from nightfleet.harness.remedy import find_remedy
from nightfleet.harness.request import Nobody, Request, Watch
from nightfleet.harness.requirements import Row
from nightfleet.harness.response import Response
from nightfleet.harness.rounds import Bench, Blocks, Round, TooLoadedError
from nightfleet.orchestrator.commands import edge

HEAD = """\
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static volatile unsigned long sink;
static long ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
static void work(void) { for (long i = 0; i < 200000; i++) sink += (unsigned long)i; }
"""
EACH = 'int main(void) {{ long n; while (scanf("%ld", &n) == 1) {{ work(); {} }} return 0; }}\n'
STEADY = HEAD + EACH.format('printf("%ld\\n", n * 7);')
STAMPED = HEAD + EACH.format('if (n % 10 == 7) printf("%ld took %ld ns\\n", n, ns()); else printf("%ld\\n", n);')
SHUFFLED = HEAD + EACH.format(
    'printf(ns() / 64 % 2 ? "{\\"n\\": %ld, \\"k\\": 1}\\n" : "{\\"k\\":1,\\"n\\":%ld}\\n", n);'
)
MOODY = HEAD + EACH.format('puts(ns() / 64 % 2 ? "cat" : "dog");')
CRASHING = HEAD + EACH.format('fputs("no luck\\n", stderr); abort();')
TIMED = HEAD + (
    'int main(void) { long n, end = ns() + 30000000L; while (scanf("%ld", &n) == 1) printf("%ld\\n", n);'
    " while (ns() < end) work(); return 0; }\n"
)
ONE = HEAD + "int main(int c, char **v) { (void)c; for (int i = 0; i < 1500; i++) work(); puts(v[1]); return 0; }\n"
TIMED_ONE = HEAD + (
    "int main(int c, char **v) { (void)c; long end = ns() + 30000000L;"
    " while (ns() < end) work(); puts(v[1]); return 0; }\n"
)
STARTING = HEAD + (
    "int main(void) { long n, end = ns() + 40000000L; while (ns() < end) work();"
    ' while (scanf("%ld", &n) == 1) { work(); printf("%ld\\n", n); } return 0; }\n'
)
PROGRAM = """\
---
name: small   # what it is called
edit: ["*.c"]
build: make
workloads:
  # the only one
  - {name: w, run: ./p, cases: 400, block: 20}   # a short block
---
# Faster, please
"""
ARGUMENT = PROGRAM.replace("run: ./p, cases: 400, block: 20", "run: './p {case}', feed: argument, cases: 10, block: 1")


@pytest.fixture
def place(open_ground: Path) -> Path:
    if shutil.which("cc") is None or shutil.which("make") is None:
        pytest.skip("no C compiler or no make: install gcc or clang, and make")
    place = open_ground / "place"
    place.mkdir()
    return place


def fill(place: Path, source: str = STEADY, program: str = PROGRAM) -> Path:
    (place / "p.c").write_text(source)
    (place / "Makefile").write_text("p: p.c\n\tcc -O1 -o p p.c\n")
    (place / "program.md").write_text(program)
    return place


def commit(place: Path) -> None:
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command], cwd=place, check=True)


def on(bench: Bench) -> Callable[[Ground, Built, Built], AbstractContextManager[Bench]]:
    return lambda _ground, _built, _other: nullcontext(bench)


def asked(place: Path, **more: object) -> Examination:
    arena = read_arena(read_front_matter((place / "program.md").read_text()).section)[0]
    settings: dict[str, object] = {"pairs": 60, "power_runs": 10, "bench": on(Simulated(sd=0.004)), **more}
    tree = Folder(place).tree()
    return Examination(arena, tree, None, place, place / ".nightfleet", **settings)  # type: ignore[arg-type]


def looked_at(place: Path, **more: object) -> Readiness:
    return examine(asked(place, **more), Nobody())


def row(found: Readiness, name: str) -> Row:
    return next(row for row in found.rows if row.name == name)


def test_a_good_arena_is_ready_and_verify_finds_its_calibration(place: Path) -> None:
    fill(place)
    question = asked(place)
    found = examine(question, Nobody())
    assert found.ready, found.rows
    assert found.suggestions == ()
    # A folder is no commit, and 400 cases are few.
    assert {one.name for one in found.rows if one.answer != "yes"} <= {"traceable output", "bounded environment"}
    assert row(found, "determinism").facts["cases"] == 400
    assert row(found, "clock").facts["clock"] == "cpu"
    assert len(row(found, "layout").facts["gains"]) == RELINKS
    assert f"sd of {RELINKS} relinks" in row(found, "layout").evidence
    assert [gain for gain, _, _ in row(found, "power").facts["table"]] == [0.02, 0.03, 0.05, 0.08]
    assert row(found, "fast and cheap iteration").facts["verdicts_per_hour"] > 0

    request = Request(question.arena, question.baseline, question.baseline, place, question.state, "", bytes(32))
    gates = Gates(request, Nobody())
    gates.scope()
    gates.build()
    kept = gates.ground.kept(gates._baseline)
    assert isinstance(kept, Calibrated)
    assert kept.summary.pairs >= 60


@pytest.mark.slow
def test_a_good_arena_on_this_machine(place: Path) -> None:
    found = looked_at(fill(place), bench=None)
    if found.could_not:
        pytest.skip(found.could_not)
    assert {row(found, name).answer for name in ("determinism", "response", "clock")} == {"yes"}
    assert row(found, "noise").facts["pairs"] >= 60
    assert row(found, "fast and cheap iteration").facts["pair_s"] > 0


@pytest.mark.slow
def test_an_arena_with_a_filter_is_checked_up_to_its_noise(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sieved = PROGRAM.replace("\n---\n#", "\nbehaviour: {filter: sed 's/ took.*//'}\n---\n#")
    calm_machine(place.parent, monkeypatch)
    found = looked_at(fill(place, STAMPED, sieved), bench=None)
    assert not found.could_not
    assert {row(found, name).answer for name in ("determinism", "clock")} == {"yes"}
    assert row(found, "response").answer != "no"
    assert row(found, "noise").facts["pairs"] >= 60


@pytest.mark.parametrize(
    ("source", "typed"),
    [
        (STAMPED, "behaviour: {ignore: ' took [0-9]+'}"),
        (SHUFFLED, "behaviour: json"),
        (MOODY, None),
    ],
)
def test_a_baseline_that_disagrees_with_itself_gets_the_form_that_settles_it(
    place: Path, source: str, typed: str | None
) -> None:
    found = looked_at(fill(place, source))
    assert not found.ready
    assert not found.could_not
    seen = row(found, "determinism")
    assert seen.answer == "no"
    assert seen.facts["remedy"] == typed
    assert seen.facts["unsteady"]["w"]
    assert (typed or "make it deterministic") in seen.advice
    assert row(found, "objective score").answer == "no"
    assert row(found, "noise").answer == "no"
    assert json.loads(json.dumps(found.to_json()))["ready"] is False
    if typed is not None:
        # And it does settle it.
        settled = fill(place, source, PROGRAM.replace("build: make", f"build: make\n{typed}"))
        assert row(looked_at(settled), "determinism").answer == "yes"


@pytest.mark.parametrize(("source", "program"), [(TIMED, PROGRAM), (TIMED_ONE, ARGUMENT)])
def test_a_workload_that_fills_a_fixed_time_is_refused(place: Path, source: str, program: str) -> None:
    found = looked_at(fill(place, source, program))
    assert not found.ready
    assert "workload w does not respond" in found.could_not
    assert row(found, "response").answer == "no"
    assert row(found, "determinism").answer == "no"
    assert not list((place / ".nightfleet" / "calibrations").glob("*"))


def test_a_program_that_mostly_starts_is_not_one_that_fills_a_fixed_time(place: Path) -> None:
    found = looked_at(fill(place, STARTING, PROGRAM.replace("cases: 400", "cases: 2000")), cases=100)
    assert not found.could_not
    seen = row(found, "response")
    assert seen.answer == "doubtful"
    assert seen.facts["w"]["share"] < 0.2 < seen.facts["w"]["wider"]
    (suggested,) = found.suggestions
    assert suggested.key == "workloads[0].block"
    assert row(found, "determinism").facts["cases"] == 100
    assert "100 of 2000 cases" in row(found, "determinism").evidence


def test_a_block_that_cannot_be_cut_responds_to_a_second_one_beside_it(place: Path) -> None:
    seen = row(looked_at(fill(place, ONE, ARGUMENT)), "response")
    assert seen.answer == "yes"
    assert seen.facts["w"]["planted"] == "two at once"
    assert seen.facts["w"]["share"] >= 0.2


def test_the_share_of_a_trial_that_answers_to_its_work() -> None:
    assert Response("w", "half a block", 50, 100, 0).share == 1.0
    assert Response("w", "half a block", 100, 100, 0).share == 0.0
    # 60 to start, 40 of work: half a block takes 80.
    assert Response("w", "half a block", 80, 100, 0).share == pytest.approx(0.4)
    assert Response("w", "two at once", 50, 100, 0).share == 1.0
    assert Response("w", "two at once", 100, 90, 0).share == 0.0


class Loaded(Simulated):
    def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
        if len(self.asked) == 30:
            raise TooLoadedError("machine too loaded to time: 5 of 30 pairs were void")
        return super().round(blocks, reference=reference)


def test_a_loaded_machine_says_so_and_keeps_what_was_found(place: Path) -> None:
    found = looked_at(fill(place), bench=on(Loaded()))
    assert "too loaded" in found.could_not
    assert not found.ready
    assert row(found, "determinism").answer == row(found, "response").answer == "yes"
    assert "too loaded" in row(found, "noise").evidence


def test_a_clock_that_cannot_be_had_is_a_no_with_what_to_type(place: Path) -> None:
    fill(place, program=PROGRAM.replace("build: make", "build: make\nclock: cpu"))
    found = looked_at(place, bench=on(Simulated(tasks=3)))
    assert not found.ready
    assert row(found, "clock").answer == "no"
    assert "clock: wall" in row(found, "clock").evidence


@pytest.mark.parametrize(
    ("left", "right", "typed"),
    [
        (b"7 at 123\n", b"7 at 99\n", "behaviour: {ignore: ' at [0-9]+'}"),
        (b'{"a":1,"b":2}\n', b'{"b":2, "a":1}\n', "behaviour: json"),
        (
            b'{"a":1,"t":2.5}\n',
            b'{"a":1,"t":31.5}\n',
            "behaviour: {ignore: ',\"t\":[0-9]+\\.[0-9]+([eE][-+]?[0-9]+)?'}",
        ),
        (b"id 3f2a9c1e77 x\n", b"id 99ab01c2d3 x\n", "behaviour: {ignore: 'id [0-9a-f]{8,}'}"),
        (b"(it's) 0x7ffe1\n", b"(it's) 0x7ffe2\n", "behaviour: {ignore: '\\(it''s\\) 0x[0-9a-fA-F]+'}"),
        (b"cat\n", b"dog\n", None),
        # Without a word before it, the expression would remove every number there is.
        (b"12 of 3\n", b"13 of 3\n", None),
        (b"one\n", b"one\n", None),
    ],
)
def test_remedies(left: bytes, right: bytes, typed: str | None) -> None:
    found = find_remedy([(left, right)])
    assert (found and found.typed) == typed


def nightfleet(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ending:
        edge.main(list(arguments))
    return ending.value.code


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[Bench], None]:
    """Lets `nightfleet check` time on a simulated bench."""
    real = readiness.examine

    def use(bench: Bench) -> None:
        def examined(question: Examination, watch: Watch) -> Readiness:
            return real(replace(question, pairs=60, power_runs=10, bench=on(bench)), watch)

        monkeypatch.setattr(readiness, "examine", examined)

    return use


def test_fix_writes_a_longer_block_and_keeps_every_comment(
    place: Path,
    quick: Callable[[Bench], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commit(fill(place))
    monkeypatch.chdir(place)
    quick(Simulated(sd=0.05))
    nightfleet("check", "--fix", "--json")
    found = json.loads(capsys.readouterr().out)
    (written,) = found["written"]
    assert written["key"] == "workloads[0].block"
    assert written["value"] > 20
    assert [one["key"] for one in found["suggestions"]] == ["workloads[0].block"]
    expected = PROGRAM.replace("block: 20}", f"block: {written['value']}}}")
    assert (place / "program.md").read_text() == expected
    assert not list(place.glob("tmp*"))


def test_fix_writes_a_threshold_where_no_block_is_long_enough(
    place: Path,
    quick: Callable[[Bench], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A block cannot have more cases than there are.
    commit(fill(place, program=PROGRAM.replace("cases: 400, block: 20", "cases: 60, block: 60")))
    monkeypatch.chdir(place)
    quick(Simulated(sd=0.05))
    nightfleet("check", "--fix")
    shown = capsys.readouterr().out
    text = (place / "program.md").read_text()
    assert "wrote: thresholds.promote" in shown, shown
    assert "thresholds:\n  promote: " in text or "thresholds: {promote: " in text
    assert "# what it is called" in text
    assert "# a short block" in text


def test_a_ready_arena_exits_with_0_and_says_what_comes_next(
    place: Path,
    quick: Callable[[Bench], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commit(fill(place))
    # Code comes from the commit: what lies around is not looked at.
    (place / "p.c").write_text("this does not compile\n")
    monkeypatch.chdir(place)
    quick(Simulated(sd=0.004))
    assert nightfleet("check") == 0
    shown = capsys.readouterr().out
    assert "nightfleet verify HEAD my-branch" in shown
    assert (place / "program.md").read_text() == PROGRAM


def test_a_workload_that_does_not_respond_exits_with_2_and_its_rows(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(fill(place, TIMED))
    monkeypatch.chdir(place)
    assert nightfleet("check", "--json") == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["ready"] is False
    assert "does not respond" in shown.err


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (None, "there is no program.md"),
        (PROGRAM.replace("build:", "biuld:"), "biuld"),
        (PROGRAM.replace("cases: 400", "cases: 0"), "cases"),
        (PROGRAM.replace('"*.c"', '"*.rs"'), "matches no file of HEAD"),
        ("no front matter\n", "---"),
        (
            PROGRAM.replace("cases: 400, block: 20", "cases: {manifest: none.txt}"),
            "none.txt:1: a case cannot be an empty",
        ),
    ],
)
def test_bad_input_exits_with_2_and_one_message_and_writes_nothing(
    place: Path,
    program: str | None,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(place, program=program or "")
    (place / "none.txt").write_text("\n")
    if program is None:
        (place / "program.md").unlink()
    commit(place)
    refused(place, says, monkeypatch, capsys)


def test_a_folder_that_is_no_repository_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(fill(place), "is in no git repository", monkeypatch, capsys)


def refused(place: Path, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    assert nightfleet("check", "--fix") == 2
    shown = capsys.readouterr()
    # A progress bar that never showed anything leaves an empty line.
    assert shown.out.strip() == ""
    assert len(shown.err.splitlines()) == 1
    assert says in shown.err
    assert sorted(place.iterdir()) == before


def test_a_baseline_that_fails_is_told_in_its_own_words(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(fill(place, CRASHING))
    monkeypatch.chdir(place)
    assert nightfleet("check") == 2
    shown = capsys.readouterr().err
    assert "the baseline ends with signal 6" in shown
    assert "no luck" in shown
