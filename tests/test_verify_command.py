"""`nightfleet verify` as people and CI see it: exit codes, the JSON of each, one message for what is impossible."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clocked import Bench, on_clock
from residue import gone, processes
from tiny import FILES, HALF, PROGRAM, Tiny, doing

from nightfleet.harness.report import read_report
from nightfleet.harness.rounds import Blocks, Round, TooLoadedError
from nightfleet.orchestrator.commands import edge

KEYS = {
    "id",
    "verdict",
    "reason",
    "gain",
    "pairs",
    "behaviour",
    "extraordinary",
    "repeats",
    "reused",
    "notes",
    "gates",
    "report",
}


@pytest.fixture
def tiny(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    found = Tiny(open_ground / "tiny")
    monkeypatch.chdir(found.root)
    return found


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "nightfleet.orchestrator", "verify", *arguments],
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ending:
        edge.main(["verify", *arguments])
    return ending.value.code


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What --json printed, its shape checked."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found.keys() - {"error"} == KEYS
    assert found["behaviour"].keys() == {"cases", "identical", "diverged"}
    assert found["gain"] is None or found["gain"].keys() == {"estimate", "low", "high", "clock"}
    for gate in found["gates"]:
        assert gate.keys() == {"name", "passed", "reason", "seconds", "facts"}
    return found


def test_promote_is_yes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.12))
    half = tiny.branch("half", {"tiny.c": HALF})
    assert exit_code("main", half, "--json") == 0
    found = answer(capsys)
    assert found["verdict"] == "promote"
    assert 0.1 < found["gain"]["low"] <= found["gain"]["estimate"] < 0.14
    assert found["behaviour"] == {"cases": 400, "identical": True, "diverged": 0}
    assert found["pairs"] > 20
    assert "error" not in found
    assert read_report(Path(found["report"]))["verification"] == found
    assert exit_code("main", half) == 0
    shown = capsys.readouterr()
    assert "merge it" in shown.out
    assert "report.json" in shown.out
    assert shown.err == ""


def test_a_simplification_that_loses_nothing_is_yes(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_clock(monkeypatch, lambda: Bench(sd=0.002))
    plain = tiny.branch("plain", {"tiny.c": doing("/* nothing */")})
    assert exit_code("main", plain, "--purpose", "simplify", "--json") == 0
    found = answer(capsys)
    assert found["verdict"] == "simplify"
    assert read_report(Path(found["report"]))["speed"]["rules"]["purpose"] == "simplify"


def test_every_other_verdict_is_no(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_clock(monkeypatch, Bench)
    candidates = {
        "reject": {"tiny.c": doing("/* nothing */")},
        "broken": {"tiny.c": doing("}{")},
        "incorrect": {"tiny.c": doing("number++;")},
        "out_of_scope": {"README": "better\n"},
    }
    for verdict, files in candidates.items():
        assert exit_code("main", tiny.branch(verdict, files), "--json") == 1
        found = answer(capsys)
        assert found["verdict"] == verdict
        assert read_report(Path(found["report"]))["verification"] == found
    assert exit_code("main", "incorrect") == 1
    shown = capsys.readouterr().out
    assert "do not merge it" in shown
    assert "of workload sums gives another record" in shown
    # The next command runs as it stands there.
    (following,) = [line.removeprefix("next: ") for line in shown.splitlines() if line.startswith("next: ")]
    assert following.startswith("nightfleet audit case v")
    with pytest.raises(SystemExit) as ending:
        edge.main(following.split()[1:])
    assert ending.value.code in {0, 1}, capsys.readouterr()
    capsys.readouterr()
    # What the compiler said is there, and not only in a file.
    assert exit_code("main", "broken") == 1
    shown = capsys.readouterr().out
    assert any(line.startswith("  | ") and "error" in line for line in shown.splitlines())


def test_a_file_where_the_state_should_be_is_refused(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.branch("half", {"tiny.c": HALF})
    tiny.state.write_text("mine\n")
    assert exit_code("main", "half") == 2
    assert "is a file, and nightfleet keeps a folder there" in capsys.readouterr().err
    assert tiny.state.read_text() == "mine\n"


def test_what_differs_beside_the_folder_that_is_judged_is_said(
    open_ground: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {**{f"pkg/{name}": text for name, text in FILES.items()}, "lib/x.c": "int x;\n"}
    whole = Tiny(open_ground / "whole", files)
    whole.branch("wide", {"pkg/tiny.c": HALF, "lib/x.c": "int y;\n"})
    monkeypatch.chdir(whole.root / "pkg")
    on_clock(monkeypatch, lambda: Bench(gain=0.12))
    assert exit_code("main", "wide", "--json") == 0
    assert "1 file outside pkg/ differ too (lib/x.c): nobody has judged them" in answer(capsys)["notes"]
    whole.branch("narrow", {"pkg/tiny.c": HALF})
    assert exit_code("main", "narrow", "--json") == 0
    assert not any("outside" in note for note in answer(capsys)["notes"])


def test_too_loaded_is_could_not_and_keeps_what_it_has(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loaded(Bench):
        def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
            if len(self.asked) == 4:
                raise TooLoadedError("machine too loaded to time: 3 of 20 pairs were void (the limit is 10%)")
            return super().round(blocks, reference=reference)

    on_clock(monkeypatch, Loaded)
    half = tiny.branch("half", {"tiny.c": HALF})
    assert exit_code("main", half, "--json") == 2
    found = answer(capsys)
    assert found["verdict"] == "undecided"
    assert "too loaded" in found["error"]
    assert found["behaviour"]["identical"] is True
    assert found["pairs"] == 4
    assert len(read_report(Path(found["report"]))["speed"]["pairs"]) == 4
    assert exit_code("main", half) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "too loaded to time" in said[0]
    assert "is kept in" in said[0]


def test_a_folder_can_stand_on_either_side(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.12))
    other = tiny.root.parent / "other"
    other.mkdir()
    for path, text in {**FILES, "tiny.c": HALF}.items():
        (other / path).write_text(text)
    assert exit_code("main", str(other), "--json") == 0
    assert answer(capsys)["verdict"] == "promote"
    assert not (other / ".nightfleet").exists()


def changed(old: str, new: str) -> dict[str, str]:
    assert old in PROGRAM
    return {**FILES, "program.md": PROGRAM.replace(old, new)}


BOMB = "---\na: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n---\n"
IMPOSSIBLE: Mapping[str, tuple[dict[str, str], str]] = {
    "a key nobody owns": (changed("build:", "biuld:"), "did you mean 'build'"),
    "a key in a section": (changed("cases: 400", "caess: 400"), "caess"),
    "no edit": (changed('edit: ["*.c", "*.h"]\n', ""), "edit: is missing"),
    "an edit of nothing": (changed('["*.c", "*.h"]', '["*.rs"]'), r"\*\.rs matches no file of main"),
    "an edit of the frozen alone": (changed('["*.c", "*.h"]', "[program.md]"), "program.md"),
    "zero cases": (changed("cases: 400", "cases: 0"), "must be from 1"),
    "a manifest that is not there": (changed("cases: 400, block: 100", "cases: {manifest: no.txt}"), "no.txt"),
    "a manifest without a case": (
        {**changed("cases: 400, block: 100", "cases: {manifest: no.txt}"), "no.txt": ""},
        "no.txt:1: a case cannot be an empty line",
    ),
    "a bomb": ({**FILES, "program.md": BOMB}, "anchors"),
    "not YAML": ({**FILES, "program.md": "---\n{[\n---\n"}, "program.md"),
    "no front matter": ({**FILES, "program.md": "# faster\n"}, "program.md"),
    "a percentage beyond": (changed("behaviour: exact", "thresholds: {promote: 200%}"), "promote"),
    "thresholds upside down": (changed("behaviour: exact", "thresholds: {promote: 1%}"), "promote"),
    "a guard that nothing passes": (changed("behaviour: exact", "guards: {wall: 0.1%}"), "guard wall"),
    "more cores than there are": (changed("behaviour: exact", "cores: 1024"), "cores: 1024 is impossible"),
    "data that is not there": (changed("behaviour: exact", "data: world.bin"), "world.bin is not in"),
    "no program.md": ({path: text for path, text in FILES.items() if path != "program.md"}, "there is no program.md"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_is_impossible_is_told_in_one_message_and_nothing_is_written(
    open_ground: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    files, says = IMPOSSIBLE[name]
    refused(Tiny(open_ground / "tiny", files), says, ("main", "main"), monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("main", "nowhere"), "there is no commit 'nowhere'"),
        (("nowhere", "main"), "there is no commit 'nowhere'"),
        (("main", "--upload-pack=x"), "--upload-pack"),
        (("main", "./nowhere"), "there is no folder"),
        (("main", "main", "--program", "nowhere.md"), "nowhere.md: cannot be read"),
        (("main", "main", "--purpose", "fun"), "choose speed or simplify"),
    ],
)
def test_so_is_what_names_nothing(
    open_ground: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    refused(Tiny(open_ground / "tiny"), says, arguments, monkeypatch, capsys)


def refused(
    tiny: Tiny,
    says: str,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny.root)
    before, top = tiny.digest(), tiny.top()
    assert exit_code(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert "defect" not in shown.err
    assert pytest.RaisesExc(ValueError, match=says).matches(ValueError(shown.err)), shown.err
    if not any(argument.startswith("--upload") for argument in arguments):
        assert exit_code(*arguments, "--json") == 2
        found = answer(capsys)
        assert (found["verdict"], found["report"], found["gates"]) == (None, None, [])
        assert found["error"]
    assert (tiny.digest(), tiny.top()) == (before, top)


def test_outside_of_a_repository_there_are_no_revisions(
    open_ground: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(open_ground)
    assert exit_code("main", "mine") == 2
    assert "is in no git repository" in capsys.readouterr().err
    assert list(open_ground.iterdir()) == []


def test_a_program_that_is_not_text_is_told_with_its_line(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny.root / "program.md").write_bytes(PROGRAM.encode() + b"\xff\n")
    tiny.git("commit", "-q", "-a", "-m", "not text")
    assert exit_code("main", "main") == 2
    assert "program.md:10 in main is not UTF-8 here" in capsys.readouterr().err
    assert not tiny.state.exists()


def test_a_baseline_that_does_not_build_is_shown_and_its_log_is_kept(open_ground: Path) -> None:
    tiny = Tiny(open_ground / "tiny", {**FILES, "tiny.c": doing("}{")})
    with started("main", "main", cwd=tiny.root) as run:
        _, said = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "Traceback" not in said
    assert "tiny.c:" in said
    (log,) = (tiny.state / "logs").iterdir()
    assert str(log) in said
    assert not (tiny.state / "reports").exists()


def test_ctrl_c_ends_with_130_and_leaves_no_process(open_ground: Path, marker: str) -> None:
    program = PROGRAM.replace("run: ./tiny", f"run: ./tiny {marker}")
    endless = {**FILES, "program.md": program, "tiny.c": doing("for (;;) sink++;")}
    tiny = Tiny(open_ground / "tiny", endless)
    with started("main", "main", cwd=tiny.root) as run:
        try:
            assert gone(lambda: not processes(marker), 30.0), "the workload never ran"
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=20)
        finally:
            run.kill()
    assert run.returncode == 130, said
    assert said == "nightfleet: interrupted\n"
    assert gone(lambda: processes(marker))
