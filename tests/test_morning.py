"""What a night gained: root against champion on further cases, in a report that is audited like any other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clocked import Bench, on_clock
from paperwork import Content, account_of, edit
from tiny import FILES, HALF, PROGRAM, SOURCE, Tiny, doing

from nightfleet.harness.audit import draws
from nightfleet.harness.audit.papers import Papers
from nightfleet.harness.audit.retrial import Retrial
from nightfleet.harness.folder import find_tree
from nightfleet.harness.morning import measure
from nightfleet.harness.pools import CasePools
from nightfleet.harness.report import Verification, read_report
from nightfleet.harness.repository import Repository
from nightfleet.harness.request import Nobody

CASES = 400
STRICT = PROGRAM.replace("behaviour: exact", "guards: {diff_lines: 1}")


def measured(tiny: Tiny, champion: str, **how: Any) -> tuple[Verification, Path]:
    """A figure whose report holds."""
    found, directory, root = measure(tiny.request(champion), Nobody(), **how)
    assert read_report(directory)["root"] == root
    account = account_of(directory)
    assert account.holds, account.failed
    return found, directory


@pytest.fixture
def tiny(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    on_clock(monkeypatch, lambda: Bench(gain=0.5))
    return Tiny(open_ground / "tiny", {**FILES, "program.md": STRICT})


def test_a_nights_gain_is_measured_on_four_times_the_cases_and_audited(tiny: Tiny) -> None:
    champion = tiny.branch("half", {"tiny.c": "/* the\nwhole\nnight */\n" + HALF})
    found, directory = measured(tiny, champion)
    report = read_report(directory)
    assert (found.verdict, found.cases, report["subject"]["times"]) == ("promote", 4 * CASES, 4)
    assert {about["rows"] for about in report["files"].values()} == {4 * CASES}
    assert found.gain is not None
    assert found.gain.estimate == pytest.approx(0.5, abs=0.02)
    assert len(report["speed"]["confirmation"]) == 20
    gates = {gate.name: gate for gate in found.gates}
    assert (gates["limits"].passed, gates["limits"].facts["lines"]) == (True, 5)
    # However large it is, it is no claim.
    assert found.extraordinary
    assert gates["extraordinary"].passed is None
    assert report["speed"]["relinked"] == []
    # What was compared can be drawn and run again, and is not what another number of times would have drawn.
    repository, folder = Repository.find(tiny.root)
    papers = Papers.of_folder(directory)
    retrial = Retrial(papers, lambda name: find_tree(name, repository, folder), tiny.root, tiny.state)
    assert retrial.rerun(50).holds
    assert retrial.case(min(_cases(tiny, 4) - _cases(tiny, 1))).same
    for times in (1, 3, 0):
        edit(directory, _says(times), forged=True)
        assert [check.name for check in account_of(directory).failed] == ["cases"]


@pytest.mark.parametrize("times", [0, -1, 4.0, True, "4", None])
def test_no_report_has_less_than_the_programs_cases(times: object) -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        draws.times({"times": times})


def _cases(tiny: Tiny, times: int) -> set[int]:
    request = tiny.request("main")
    (span,) = CasePools(request.arena, request.baseline, request.master, 0, times=times).behaviour()
    return {int(case) for case in span.cases}


def _says(times: int) -> Callable[[Content], object]:
    return lambda content: content["subject"].update(times=times)


def test_a_case_that_only_the_fourth_part_has_is_seen(tiny: Tiny) -> None:
    case = min(_cases(tiny, 4) - _cases(tiny, 1))
    found, _ = measured(tiny, tiny.branch("rare", {"tiny.c": doing(f"if (number == {case}u) number++;")}))
    assert (found.verdict, found.diverged) == ("incorrect", 1)


def test_a_night_that_gained_nothing_still_has_its_figure(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clock(monkeypatch, Bench)
    found, _ = measured(tiny, tiny.branch("same", {"tiny.c": SOURCE + "/* the end */\n"}), times=2)
    assert (found.verdict, found.cases) == ("reject", 2 * CASES)
    assert found.gain is not None
    assert found.gain.low < found.gain.estimate < found.gain.high


def test_a_manifest_has_no_further_cases_and_a_note_says_so(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.12))
    program = PROGRAM.replace("cases: 400, block: 100", "cases: {manifest: cases.txt}, block: 20")
    manifest = "".join(f"{number}\n" for number in range(40))
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program, "cases.txt": manifest})
    found, _ = measured(tiny, tiny.branch("half", {"tiny.c": HALF}))
    assert (found.verdict, found.cases) == ("promote", 40)
    assert any("all 40 cases of its manifest" in note for note in found.notes)
