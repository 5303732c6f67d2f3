"""The gates from end to end: real git, real builds, real sandboxes; only the clock is simulated."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from calm import calm_machine
from clocked import Bench, calibrated_before, on_clock
from tiny import FILES, HALF, PROGRAM, SOURCE, Tiny, doing

from nightfleet.harness.built import Built, slower_build
from nightfleet.harness.difference import MOST_MATCHED, changed_lines
from nightfleet.harness.folder import Folder
from nightfleet.harness.job import BaselineFailedError
from nightfleet.harness.journal import read_journal
from nightfleet.harness.passing import NAMES, Ended, Passing
from nightfleet.harness.pools import CasePools
from nightfleet.harness.report import FORMAT, Gate, ReportError, Verification, new_id, read_report, write_report
from nightfleet.harness.request import Nobody
from nightfleet.harness.rounds import Blocks, Round, TooLoadedError
from nightfleet.harness.tree import Tree
from nightfleet.harness.verify import CutShortError, verify
from nightfleet.native import MachineError, UserError

# A compiler that is out of reach: what it links stays where it is.
UNMOVED = "tiny: tiny.c\n\tenv -u COMPILER_PATH PATH=/usr/bin:/bin cc -O1 -o tiny tiny.c\n"


class Loaded(Bench):
    """One on a machine that becomes too loaded in its sixth round."""

    def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
        if len(self.asked) == 5:
            raise TooLoadedError("machine too loaded to time: 3 of 20 pairs were void (the limit is 10%)")
        return super().round(blocks, reference=reference)


@pytest.fixture
def tiny(open_ground: Path) -> Tiny:
    return Tiny(open_ground / "tiny")


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every candidate is 12% faster."""
    on_clock(monkeypatch, lambda: Bench(gain=0.12))


def judged(tiny: Tiny, candidate: str, **more: Any) -> tuple[Verification, dict[str, Any]]:
    """A verification, its report read back, and the user's files found untouched."""
    before, top = tiny.digest(), tiny.top()
    found, directory = verify(tiny.request(candidate, **more), Nobody())
    report = read_report(directory)
    assert report["verification"] == found.to_json(directory)
    assert [gate.name for gate in found.gates] == list(NAMES)
    assert tiny.digest() == before
    assert tiny.top() == top | {".nightfleet"}
    return found, report


def gates(found: Verification) -> dict[str, Gate]:
    return {gate.name: gate for gate in found.gates}


def not_reached(found: Verification) -> list[str]:
    return [gate.name for gate in found.gates if gate.reason == "not reached"]


@pytest.mark.parametrize("path", ["README", "program.md", "Makefile"])
def test_a_file_outside_edit_is_out_of_scope(tiny: Tiny, path: str) -> None:
    found, report = judged(tiny, tiny.branch("wide", {path: FILES[path] + "\n# more\n", "tiny.c": HALF}))
    assert found.verdict == "out_of_scope"
    assert path in found.reason
    assert not_reached(found) == list(NAMES[1:])
    assert not found.accepted
    assert report["subject"]["candidate"]["artefact"] is None


def test_program_md_is_frozen_even_where_edit_covers_it(open_ground: Path) -> None:
    everything = PROGRAM.replace('["*.c", "*.h"]', '["**"]')
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": everything})
    found, _ = judged(tiny, tiny.branch("easier", {"program.md": everything.replace("cases: 400", "cases: 100")}))
    assert found.verdict == "out_of_scope"
    assert "program.md" in found.reason


def test_what_does_not_compile_is_broken(tiny: Tiny) -> None:
    found, report = judged(tiny, tiny.branch("typo", {"tiny.c": doing("}{")}))
    assert found.verdict == "broken"
    assert "make" in found.reason
    build = gates(found)["build"]
    assert any("error" in line for line in build.facts["tail"])
    assert Path(build.facts["log"]).exists()
    assert not_reached(found) == list(NAMES[2:])
    assert report["files"] == {}


def test_what_crashes_is_broken(tiny: Tiny) -> None:
    found, _ = judged(tiny, tiny.branch("crash", {"tiny.c": doing("abort();")}))
    assert found.verdict == "broken"
    assert "signal 6 on workload sums" in found.reason
    assert gates(found)["smoke"].passed is False


def test_one_case_of_400_is_seen_and_shown_with_both_records(tiny: Tiny) -> None:
    request = tiny.request("main")
    (span,) = CasePools(request.arena, request.baseline, request.master, request.index).behaviour()
    case = int(span.cases[-1])
    found, report = judged(tiny, tiny.branch("rare", {"tiny.c": doing(f"if (number == {case}u) number++;")}))
    assert found.verdict == "incorrect"
    assert f"case {case} of workload sums" in found.reason
    assert gates(found)["smoke"].passed is True
    assert found.diverged == 1
    (shown,) = report["divergences"]
    assert shown["case"] == case
    assert shown["baseline"]["text"].split()[0] == str(case)
    assert shown["candidate"]["text"].split()[0] == str(case + 1)
    assert not_reached(found) == ["tests", "limits", "speed", "extraordinary"]
    assert {about["rows"] for about in report["files"].values()} == {400}


def test_a_baseline_that_disagrees_with_itself_is_the_users_to_mend(open_ground: Path) -> None:
    unsteady = "#include <time.h>\n" + doing(
        "struct timespec now; clock_gettime(CLOCK_MONOTONIC, &now); number += (uint64_t)now.tv_nsec;"
    )
    tiny = Tiny(open_ground / "tiny", {**FILES, "tiny.c": unsteady})
    with pytest.raises(UserError, match=r"disagrees with itself on cases .* of workload sums"):
        verify(tiny.request(tiny.branch("other", {"tiny.c": HALF})), Nobody())
    assert not (tiny.state / "reports").exists()


def test_a_baseline_that_does_not_build_is_shown_with_its_last_lines_and_its_log(open_ground: Path) -> None:
    tiny = Tiny(open_ground / "tiny", {**FILES, "tiny.c": doing("}{")})
    with pytest.raises(BaselineFailedError, match="error") as failed:
        verify(tiny.request(tiny.branch("other", {"tiny.c": SOURCE})), Nobody())
    assert failed.value.log.read_text()


def test_tests_that_fail_on_the_candidate_alone_make_it_incorrect(open_ground: Path) -> None:
    program = PROGRAM.replace("behaviour: exact", "tests: [grep -q 20000 tiny.c]")
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program})
    found, _ = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert found.verdict == "incorrect"
    assert "grep -q 20000 tiny.c" in found.reason
    assert gates(found)["behaviour"].passed is True
    assert not_reached(found) == ["limits", "speed", "extraordinary"]


def test_tests_that_the_baseline_fails_are_the_users_to_mend(open_ground: Path) -> None:
    program = PROGRAM.replace("behaviour: exact", "tests: ['false']")
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program})
    with pytest.raises(UserError, match="the baseline does not pass its own"):
        verify(tiny.request(tiny.branch("half", {"tiny.c": HALF})), Nobody())


def test_too_many_changed_lines_are_rejected(open_ground: Path) -> None:
    program = PROGRAM.replace("behaviour: exact", "guards: {diff_lines: 3}")
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program})
    found, _ = judged(tiny, tiny.branch("long", {"tiny.c": "/* 1\n2\n3\n4 */\n" + SOURCE}))
    assert (found.verdict, found.reason) == ("reject", "4 changed lines; guards.diff_lines is 3")


@pytest.mark.usefixtures("clocked")
def test_a_faster_candidate_passes_every_gate_and_its_verdict_is_recomputed_when_read(tiny: Tiny) -> None:
    found, report = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert found.verdict == "promote"
    assert found.accepted
    assert {name: gate.passed for name, gate in gates(found).items()} == {
        **dict.fromkeys(NAMES, True),
        "tests": None,
        "extraordinary": None,
    }
    assert found.gain is not None
    assert found.gain.low < found.gain.estimate < found.gain.high
    assert found.gain.estimate == pytest.approx(0.12, abs=0.02)
    assert found.pairs == len(report["speed"]["pairs"]) + len(report["speed"]["confirmation"])
    forged = Path(report["verification"]["report"]) / "report.json"
    forged.write_text(forged.read_text().replace('"verdict": "promote"', '"verdict": "simplify"'))
    with pytest.raises(ReportError, match="was changed"):
        read_report(forged.parent)


MANIFEST = {
    **FILES,
    "program.md": PROGRAM.replace("cases: 400, block: 100", "cases: {manifest: cases.txt}, block: 20"),
    "cases.txt": "".join(f"{number}\n" for number in range(40)),
}


@pytest.mark.usefixtures("clocked")
def test_the_cases_of_a_manifest_are_finite_and_the_report_says_how_often_they_were_reused(open_ground: Path) -> None:
    tiny = Tiny(open_ground / "tiny", MANIFEST)
    found, report = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    # Two warm-ups and no void round; two blocks make a round of the manifest. Once more for behaviour after smoke.
    assert found.reused == {"sums": 1 + -(-(found.pairs + 2) // 2)}
    assert report["verification"]["reused"] == found.reused
    assert f"the most used was reused {found.reused['sums']} times" in found.notes[-1]
    wrong, _ = judged(tiny, tiny.branch("wrong", {"tiny.c": doing("if (number == 39) number++;")}))
    assert (wrong.verdict, wrong.reused) in [("incorrect", {"sums": 1}), ("incorrect", {})]


def test_an_extraordinary_claim_is_held_against_four_times_the_cases(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.5))
    found, report = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert found.verdict == "promote"
    assert found.extraordinary
    assert gates(found)["extraordinary"].facts["cases"] == 1600
    (note,) = [note for note in found.notes if "read the change" in note]
    assert "it held: gain 5" in note
    assert "1600 further cases" in note
    assert len(report["speed"]["relinked"]) == 20
    assert report["speed"]["relinked_decision"]["step"] == "promote"
    # Raw pairs of another layout are evidence like the others: with a root that fits they are still held against.
    slower = dict(report["speed"]["relinked"][0], candidate=report["speed"]["relinked"][0]["baseline"])
    for relinked in ([slower, *report["speed"]["relinked"][1:]], []):
        wrong = tiny.state / "reports" / new_id()
        speed = {**report["speed"], "relinked": relinked}
        write_report(wrong, found, subject=report["subject"], speed=speed)
        with pytest.raises(ReportError, match="does not follow from its pairs"):
            read_report(wrong)


def test_an_extraordinary_claim_that_another_layout_takes_away_is_suspicious(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    benches = iter([Bench(gain=0.5), Bench(gain=0.04)])
    on_clock(monkeypatch, lambda: next(benches))
    found, report = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert found.verdict == report["speed"]["relinked_decision"]["step"] == "suspicious"
    assert "linked to another layout" in found.reason
    assert report["speed"]["decision"]["step"] == "promote"
    assert not found.accepted
    # The four times as many cases are not asked any more.
    assert "cases" not in gates(found)["extraordinary"].facts


@pytest.mark.parametrize("befalls", ["lies", "breaks"])
def test_what_happens_in_another_layout_is_the_candidates(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, befalls: str
) -> None:
    benches = iter([Bench(gain=0.5), Bench(gain=0.5, **{befalls: lambda k: k == 3})])  # type: ignore[arg-type]
    on_clock(monkeypatch, lambda: next(benches))
    found, report = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert found.verdict == {"lies": "incorrect", "breaks": "broken"}[befalls]
    assert "in another layout" in found.reason
    assert report["speed"]["relinked"] == []
    assert gates(found)["extraordinary"].facts["pairs"]


def test_where_no_other_layout_can_be_had_the_note_says_so(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Tiny(open_ground / "tiny", {**FILES, "Makefile": UNMOVED})
    on_clock(monkeypatch, lambda: Bench(gain=0.5))
    found, report = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert found.verdict == "promote"
    assert any("not timed in another layout: the build gives the same bytes" in note for note in found.notes)
    assert report["speed"]["relinked_decision"] is None


def test_a_candidate_that_alone_cannot_be_relinked_is_suspicious(
    open_ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = PROGRAM.replace('["*.c", "*.h"]', '["*.c", Makefile]')
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program})
    on_clock(monkeypatch, lambda: Bench(gain=0.5))
    found, _ = judged(tiny, tiny.branch("unmoved", {"tiny.c": HALF, "Makefile": UNMOVED}))
    assert found.verdict == "suspicious"
    assert "the candidate not" in found.reason


def test_the_same_program_runs_every_gate_and_gains_nothing(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clock(monkeypatch, Bench)
    found, report = judged(tiny, tiny.branch("same", {"tiny.c": SOURCE + "/* the end */\n"}))
    assert found.verdict in {"reject", "undecided"}
    built = gates(found)["build"].facts
    assert built["baseline"] == built["candidate"]
    assert built["identical"] is False
    assert not_reached(found) == ["extraordinary"]
    assert report["speed"]["pairs"]
    unchanged, _ = judged(tiny, "main")
    assert gates(unchanged)["build"].facts["identical"] is True
    assert not_reached(unchanged) == ["extraordinary"]


@pytest.mark.parametrize("befalls", ["lies", "breaks"])
def test_what_happens_in_a_timed_trial_overrules_the_figures(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, befalls: str
) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.2, **{befalls: lambda k: k == 3}))  # type: ignore[arg-type]
    found, report = judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert found.verdict == {"lies": "incorrect", "breaks": "broken"}[befalls]
    assert len(report["speed"]["pairs"]) == found.pairs == 3


def test_a_machine_too_loaded_keeps_what_was_measured(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clock(monkeypatch, lambda: Loaded(gain=0.12))
    with pytest.raises(CutShortError, match="too loaded to time") as cut:
        verify(tiny.request(tiny.branch("half", {"tiny.c": HALF})), Nobody())
    found, report = cut.value.found, read_report(cut.value.report)
    assert isinstance(cut.value, MachineError)
    assert found.verdict == report["verification"]["verdict"] == "undecided"
    assert "too loaded" in found.reason
    assert gates(found)["speed"].passed is None
    assert gates(found)["speed"].reason.startswith("cut short: ")
    assert gates(found)["behaviour"].passed is True
    assert len(report["speed"]["pairs"]) == found.pairs == 5
    assert str(cut.value.report) in str(cut.value)


def test_a_confirmation_cut_short_keeps_its_pairs_apart(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Bench):
        def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
            if self.warmed == 2 and len(self.asked) - self.timed == 3:
                raise MachineError("the leased cores did not become calm")
            self.timed = len(self.asked) if self.warmed < 2 else self.timed
            return super().round(blocks, reference=reference)

        timed = 0

    on_clock(monkeypatch, lambda: Late(gain=0.12))
    with pytest.raises(CutShortError) as cut:
        verify(tiny.request(tiny.branch("half", {"tiny.c": HALF})), Nobody())
    report = read_report(cut.value.report)
    assert report["speed"]["confirmation"] == []
    assert gates(cut.value.found)["speed"].facts["confirmation"]


def test_a_guard_that_nothing_could_pass_is_refused_before_anything_is_written(open_ground: Path) -> None:
    program = PROGRAM.replace("behaviour: exact", "guards: {wall: +0.1%}")
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program})
    with pytest.raises(UserError, match="guard wall"):
        verify(tiny.request("main"), Nobody())
    assert not tiny.state.exists()


def test_changed_lines_are_those_of_a_diff_and_never_take_long(open_ground: Path) -> None:
    def tree(name: str, text: str) -> Tree:
        (open_ground / name).mkdir()
        (open_ground / name / "a.c").write_text(text)
        return Folder(open_ground / name).tree()

    base = tree("base", "one\ntwo\nthree\n")
    assert changed_lines(base, tree("other", "one\n2\nthree\nfour\n"), ["a.c"]) == 3
    assert changed_lines(base, base, ["a.c"]) == 0
    lines = [f"{number}\n" for number in range(2 * int(MOST_MATCHED**0.5))]
    long = tree("long", "".join(lines))
    assert changed_lines(long, tree("longer", "".join([*lines, "x\n"])), ["a.c"]) == 1
    assert changed_lines(long, tree("turned", "".join(reversed(lines))), ["a.c"]) == 0
    assert changed_lines(base, tree("moved", "three\ntwo\none\n"), ["a.c"]) == 4


def test_the_state_is_invisible_to_git(tiny: Tiny) -> None:
    judged(tiny, tiny.branch("typo", {"tiny.c": doing("}{")}))
    assert tiny.git("status", "--porcelain") == ""
    assert json.loads(next(tiny.state.glob("reports/*/report.json")).read_text())["format"] == FORMAT


# Each record ends in another word each time; what the filter keeps of it does not.
STAMPED = SOURCE.replace("#include <stdint.h>", "#include <stdint.h>\n#include <time.h>").replace(
    "        printf(",
    "        struct timespec now;\n        clock_gettime(CLOCK_MONOTONIC, &now);\n"
    '        printf("%ld ", now.tv_nsec);\n        printf(',
)
SIEVED = PROGRAM.replace("behaviour: exact", "behaviour: {filter: \"cut -d ' ' -f 2-\"}")


@pytest.fixture
def sieved(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """An arena with a filter, on a real bench that takes the machine for calm."""
    calm_machine(open_ground, monkeypatch)
    calibrated_before(monkeypatch)
    return Tiny(open_ground / "tiny", {**FILES, "tiny.c": STAMPED, "program.md": SIEVED})


def test_what_goes_through_a_filter_is_timed_and_gets_its_verdict(sieved: Tiny) -> None:
    found, report = judged(sieved, sieved.branch("quarter", {"tiny.c": STAMPED.replace("20000", "5000")}))
    assert found.verdict in {"promote", "undecided", "suspicious"}, found.reason
    assert len(report["speed"]["pairs"]) >= 5
    gains = [1 - pair["candidate"]["wall_ns"] / pair["baseline"]["wall_ns"] for pair in report["speed"]["pairs"]]
    assert sorted(gains)[len(gains) // 2] > 0.2
    # What tests of the judge may do is never on here.
    assert "trim" not in gates(found)["speed"].facts["mechanisms"]
    (journal,) = sieved.state.glob("journals/*-speed.jsonl")
    drawn = [draw for entry in read_journal(journal).entries for draw in entry.draws.values()]
    assert drawn
    assert all(draw.candidate_cases == draw.baseline_cases == 100 for draw in drawn)


def test_what_a_filter_shows_to_differ_only_where_it_is_timed_is_caught_there(sieved: Tiny) -> None:
    request = sieved.request("main")
    pools = CasePools(request.arena, request.baseline, request.master, request.index)
    # Of the first block after the warm-up: no other gate has it.
    case = int(pools.timing(1)["sums"][7])
    lying = STAMPED.replace("/* here */", f"if (number == {case}u) number++;")
    found, _ = judged(sieved, sieved.branch("rare", {"tiny.c": lying}))
    assert gates(found)["behaviour"].passed is True
    assert (found.verdict, found.pairs) == ("incorrect", 0)
    assert f"case {case} of workload sums" in found.reason


FORGETFUL = """\
tiny: main.o work.o
\tcc -o tiny main.o work.o
%.o: %.c
\tcc -O1 -c $<
"""
MAIN = SOURCE.replace("int main", "uint64_t work(uint64_t);\nint main").replace("number * 2654435761u", "work(number)")
WORK = '#include <stdint.h>\n#include "scale.h"\nuint64_t work(uint64_t number) { return number * SCALE; }\n'


@pytest.mark.usefixtures("clocked")
def test_what_is_judged_is_what_the_commit_builds(open_ground: Path) -> None:
    # Going on from the baseline's build, make would keep the work.o that was made with the old header.
    files = {
        "program.md": PROGRAM,
        "Makefile": FORGETFUL,
        "main.c": MAIN,
        "work.c": WORK,
        "scale.h": "#define SCALE 2\n",
    }
    tiny = Tiny(open_ground / "tiny", files)
    faster = MAIN.replace("20000", "10000")
    found, _ = judged(tiny, tiny.branch("scale", {"scale.h": "#define SCALE 3\n", "main.c": faster}))
    assert found.verdict == "incorrect"
    assert "gives another record" in found.reason


@pytest.mark.usefixtures("clocked")
def test_what_a_candidate_says_does_not_reach_the_terminal_as_it_is(tiny: Tiny) -> None:
    shout = r'fprintf(stderr, "\033[2Jpromote\n"); return 3;'
    found, _ = judged(tiny, tiny.branch("loud", {"tiny.c": doing(shout)}))
    assert found.verdict == "broken"
    gate = Passing("speed")
    with pytest.raises(Ended) as ended:
        gate.no("broken", "ended: \x1b[2J\u202epromote")
    assert ended.value.reason == gate.reason == "ended: \\x1b[2J\\u202epromote"


def test_a_timing_is_counted_before_its_first_pair(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        """In place of a kill -9."""

    class Killed(Bench):
        def warm_up_round(self, blocks: Blocks) -> Round:
            raise KilledError(blocks)

    on_clock(monkeypatch, Killed)
    with pytest.raises(KilledError):
        judged(tiny, tiny.branch("half", {"tiny.c": HALF}))
    on_clock(monkeypatch, lambda: Bench(gain=0.12))
    found, _ = judged(tiny, "half")
    assert found.repeats == 1
    assert any("verification 2 of these two trees" in note for note in found.notes)


@pytest.mark.parametrize(
    ("candidate", "baseline", "expected"),
    [
        # Elapsed and processor time of either, in s. Load lengthens the first, more cores the second.
        ((9.0, 2.1), (3.0, 2.0), (0.05, 0.1)),
        ((3.3, 9.0), (3.0, 2.0), (0.1, 0.3)),
        ((9.0, 6.0), (3.0, 3.0), (1.0, 3.0)),
        # A machine that tells no processor time.
        ((6.0, 0.0), (3.0, 0.0), (1.0, 3.0)),
        # Nothing is built.
        ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)),
    ],
)
def test_a_build_is_slower_by_the_clock_that_says_less(
    candidate: tuple[float, float], baseline: tuple[float, float], expected: tuple[float, float]
) -> None:
    def built(times: tuple[float, float]) -> Built:
        wall_ns, cpu_ns = (round(1e9 * time) for time in times)
        return cast("Built", SimpleNamespace(build_ns=wall_ns, build_cpu_ns=cpu_ns))

    ratio, slower_ns = slower_build(built(candidate), built(baseline))
    assert (ratio, slower_ns / 1e9) == pytest.approx(expected)


@pytest.mark.slow
def test_half_the_work_on_the_real_clock(tiny: Tiny) -> None:
    request = tiny.request(tiny.branch("half", {"tiny.c": HALF}))
    try:
        found, directory = verify(request, Nobody())
    except CutShortError as cut:
        found, directory = cut.found, cut.report
    assert found.verdict in {"promote", "undecided"}, found.reason
    assert read_report(directory)["verification"]["verdict"] == found.verdict
    assert gates(found)["behaviour"].passed is True
    if found.verdict == "promote":
        assert found.gain is not None
        assert found.gain.low > 0.02
