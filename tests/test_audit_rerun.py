"""Cases of a report run again: what is given again, what is not, and why."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from paperwork import content_of, edit, put_rows, report_of, rows_of, seal, two_reports
from tiny import FILES, PROGRAM, SOURCE, Tiny, doing

from nightfleet.harness.arena import read_arena
from nightfleet.harness.audit.draws import manifest_order
from nightfleet.harness.cases import verification_salt
from nightfleet.harness.frontmatter import read_front_matter
from nightfleet.orchestrator.commands import edge

# What a case is answered depends on how many came before it.
COUNTS = SOURCE.replace("int main(void) {", "static int before;\nint main(void) {").replace(
    "number * 2654435761u", "number * 2654435761u + before++"
)


@pytest.fixture(scope="module")
def judged() -> Iterator[Tiny]:
    with two_reports() as tiny:
        yield tiny


@pytest.fixture
def tiny(judged: Tiny, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    monkeypatch.chdir(judged.root)
    return judged


def of(tiny: Tiny, verdict: str) -> Path:
    return next(
        path for path in (tiny.state / "reports").iterdir() if content_of(path)["verification"]["verdict"] == verdict
    )


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ending:
        edge.main(["audit", *map(str, arguments), "--json"])
    shown = capsys.readouterr()
    assert ending.value.code == code, shown
    found: dict[str, Any] = json.loads(shown.out) if shown.out else {"error": shown.err}
    return found


@pytest.mark.parametrize("verdict", ["promote", "incorrect"])
def test_a_sample_of_an_honest_report_is_given_again(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], verdict: str
) -> None:
    report = of(tiny, verdict)
    found = answer(capsys, "rerun", report.name, "--sample", 50, "--seed", 7)
    assert (found["holds"], found["cases"], found["records"], found["same"]) == (True, {"sums": 50}, 100, 100)
    assert (found["seed"], found["differing"], found["changed"]) == (7, [], [])
    everything = answer(capsys, "rerun", report.name, "--sample", 10**6)
    assert everything["records"] == 2 * len(rows_of(report, "digests-0.npy"))


@pytest.mark.usefixtures("tiny")
def test_the_sample_is_chosen_anew_and_can_be_chosen_again(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = {answer(capsys, "rerun", "latest", "--sample", 1)["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_invented_digests_are_found(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = of(tiny, "promote")
    forged = Path(shutil.copytree(original, tmp_path / original.name))
    for name in ("digests-0.npy", "digests-1.npy"):
        rows = rows_of(forged, name).copy()
        rows["low"] ^= 1
        put_rows(forged, name, rows)
    seal(forged, content_of(forged))
    # Whoever forges both sides alike leaves nothing to be seen in the report itself.
    assert answer(capsys, "verify", forged)["holds"]
    found = answer(capsys, "rerun", forged, "--sample", 20, code=1)
    assert (found["same"], found["records"], len(found["differing"])) == (0, 40, 20)
    assert found["differing"][0].keys() == {"workload", "case", "side", "recorded", "now"}


def test_a_report_that_does_not_hold_is_not_run(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = of(tiny, "promote")
    copy = Path(shutil.copytree(original, tmp_path / original.name))
    edit(copy, lambda content: content["verification"].update(verdict="simplify"))
    assert "/verification/verdict" in answer(capsys, "rerun", copy, code=1)["error"]


def test_what_changed_since_is_said(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = of(tiny, "promote")
    copy = Path(shutil.copytree(original, tmp_path / original.name))
    content = content_of(copy)
    content["subject"]["machine"]["kernel"] = "2.4.20"
    content["subject"]["toolchain"] = "0" * 64
    content["subject"]["candidate"]["artefact"] = "0" * 64
    seal(copy, content)
    changed = " ".join(answer(capsys, "rerun", copy, "--sample", 5)["changed"])
    assert "the machine changed since: kernel 2.4.20 →" in changed
    assert "the toolchain changed since" in changed
    assert "the candidate's build is another" in changed


def test_records_that_depend_on_their_neighbours_are_no_forgery(
    open_ground: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Tiny(open_ground / "tiny", {**FILES, "tiny.c": COUNTS})
    report = report_of(tiny, monkeypatch, "same", COUNTS + "/* the end */\n")
    monkeypatch.chdir(tiny.root)
    found = answer(capsys, "rerun", report.name, "--sample", 20)
    assert found["holds"]
    assert found["in_block"] > 30


def other_trees(tiny: Tiny, folder: Path) -> Mapping[str, Path]:
    """Both trees as folders, which have other ids than the commits."""
    found = {}
    for branch in ("main", "half"):
        found[branch] = folder / branch
        found[branch].mkdir()
        for path in FILES:
            (found[branch] / path).write_text(tiny.git("show", f"{branch}:{path}"))
    return found


def test_trees_that_are_not_those_of_the_report_are_refused(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = of(tiny, "promote")
    said = answer(capsys, "rerun", report.name, "--candidate", "rare", code=2)["error"]
    assert "is not the candidate that was judged" in said
    assert "--candidate REVISION-OR-FOLDER" in said
    assert answer(capsys, "rerun", report.name, "--sample", 5, "--baseline", "main", "--candidate", "half")["holds"]
    folders = other_trees(tiny, tmp_path)
    said = answer(capsys, "rerun", report.name, "--baseline", folders["main"], code=2)["error"]
    assert "is not the baseline that was judged" in said
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert "the baseline is not here" in answer(capsys, "rerun", report, code=2)["error"]


def elsewhere(original: Path, folder: Path, **subject: Any) -> Path:
    """A report that somebody sent, saying something else than what was judged here; every digest forged."""
    copy = Path(shutil.copytree(original, folder / original.name))
    content = content_of(copy)
    content["subject"] |= subject
    seal(copy, content)
    return copy


def test_a_report_from_elsewhere_does_not_choose_what_is_run_here(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As the set-up of a hostile one: it has the network, and would be shown whatever `sandbox.read` names.
    text = PROGRAM.replace("build: make", "build: make -s")
    arena, _ = read_arena(read_front_matter(text).section)
    about: dict[str, Any] = {"program_text": text, "program": hashlib.sha256(text.encode()).hexdigest()}
    about |= {"contract": json.loads(json.dumps(arena.content)), "arena": {"name": "tiny", "digest": arena.digest}}
    copy = elsewhere(of(tiny, "promote"), tmp_path, **about)
    assert answer(capsys, "verify", copy)["holds"]
    said = answer(capsys, "rerun", copy, "--sample", 5, code=2)["error"]
    assert "neither the baseline's nor the one in" in said
    # Whoever has read it may put it there.
    kept = (tiny.root / "program.md").read_text()
    try:
        (tiny.root / "program.md").write_text(text)
        assert answer(capsys, "rerun", copy, "--sample", 5)["holds"]
    finally:
        (tiny.root / "program.md").write_text(kept)


def test_a_report_from_elsewhere_does_not_choose_what_is_read_here(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = of(tiny, "promote")
    baseline = {**content_of(original)["subject"]["baseline"], "name": "/"}
    copy = elsewhere(original, tmp_path, baseline=baseline)
    said = answer(capsys, "rerun", copy, code=2)["error"]
    assert "its baseline is no commit but '/'; type --baseline" in said
    assert answer(capsys, "rerun", copy, "--sample", 5, "--baseline", "main")["holds"]


def test_one_case_is_shown_on_both_sides(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    report = of(tiny, "incorrect")
    shown = content_of(report)["divergences"][0]
    found = answer(capsys, "case", report.name, shown["case"], code=1)
    assert {key: found[key] for key in shown} == shown
    assert found["digests"]["now"] == found["digests"]["recorded"]
    assert found["digests"]["now"]["baseline"] != found["digests"]["now"]["candidate"]
    rows = [rows_of(report, name) for name in ("digests-0.npy", "digests-1.npy")]
    same = int(rows[0]["case"][rows[0]["high"] == rows[1]["high"]][0])
    found = answer(capsys, "case", report.name, same)
    assert found["baseline"] == found["candidate"]
    assert found["baseline"]["text"] == f"{same} {same * 2654435761 % 2**64}\n"
    with pytest.raises(SystemExit):
        edge.main(["audit", "case", report.name, str(shown["case"])])
    said = capsys.readouterr().out
    assert f"the first difference is at byte {shown['first']}: '" in said
    assert "different records" in said


@pytest.mark.usefixtures("tiny")
def test_a_case_that_is_not_there_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(capsys, "case", "latest", 3, code=2)["error"]
    assert "there is no case 3 in this report" in said
    assert "nightfleet audit show" in said
    assert "there are sums" in answer(capsys, "case", "latest", 3, "--workload", "products", code=2)["error"]


def test_a_case_of_two_workloads_has_to_be_named(
    open_ground: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"{number}\n" for number in range(1, 201))
    workload = "  - {name: NAME, run: ./tiny, cases: {manifest: cases.txt}, block: 100}\n"
    old = "  - {name: sums, run: ./tiny, cases: 400, block: 100}\n"
    program = PROGRAM.replace(old, workload.replace("NAME", "first") + workload.replace("NAME", "second"))
    tiny = Tiny(open_ground / "tiny", {**FILES, "program.md": program, "cases.txt": lines})
    # A line that neither workload's smoke gate runs.
    salt = verification_salt(bytes(range(32)), 0)
    first, second = (set(manifest_order(salt, name, 200)[100:]) for name in ("first", "second"))
    line = min(first & second)
    report = report_of(tiny, monkeypatch, "wrong", doing(f"if (number == {line + 1}) number++;"))
    monkeypatch.chdir(tiny.root)
    assert answer(capsys, "verify", report.name)["holds"]
    assert answer(capsys, "rerun", report.name)["holds"]
    assert "type --workload NAME" in answer(capsys, "case", report.name, line, code=2)["error"]
    found = answer(capsys, "case", report.name, line, "--workload", "first", code=1)
    assert found["fed"] == str(line + 1)
    assert found["baseline"]["text"].startswith(f"{line + 1} ")


def test_a_verdict_without_digests_has_nothing_to_run(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = report_of(tiny, monkeypatch, "broken", doing("}{"))
    assert "the candidate does not build" in answer(capsys, "rerun", broken.name, code=2)["error"]
    early = report_of(tiny, monkeypatch, "early", doing("number++;"))
    assert "this report holds no digests" in answer(capsys, "rerun", early.name, code=2)["error"]
    case = content_of(early)["divergences"][0]["case"]
    assert answer(capsys, "case", early.name, case, code=1)["digests"]["recorded"] is None
