"""`nightfleet demo`, on the change that is known first: the whole of it takes minutes and is `make demo`."""

import json
import shutil
from pathlib import Path

import pytest

from nightfleet.orchestrator.commands import demo as command
from nightfleet.orchestrator.commands import edge

CLONE = Path(__file__).parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The parts of a clone that the demonstration needs."""
    for part in (command.EXAMPLE, command.PATCHES):
        ignored = shutil.ignore_patterns("target", ".nightfleet")
        shutil.copytree(CLONE / part, tmp_path / part, ignore=ignored)
    return tmp_path


def run(clone: Path) -> object:
    with pytest.raises(SystemExit) as ending:
        edge.main(["demo", "--json", "--clone", str(clone)])
    return ending.value.code


@pytest.mark.parametrize(("expected", "code"), [("incorrect", 0), ("promote", 1)])
def test_the_answer_is_whether_the_verdict_is_what_the_change_deserves(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], expected: str, code: int
) -> None:
    monkeypatch.setattr(command, "EXPECTED", {"rare-bug": expected})
    assert run(clone) == code
    (judged,) = json.loads(capsys.readouterr().out)
    assert (judged["verdict"], judged["expected"]) == ("incorrect", expected)
    assert "gives another record" in judged["reason"]
    assert "1,300" in judged["truth"]
    assert (Path(judged["report"]) / "report.json").exists()
    # Nothing but the state is left in the clone.
    assert {path.name for path in clone.iterdir()} == {"examples", "tests", ".nightfleet"}
    assert not (clone / command.EXAMPLE / "target").exists()


def test_elsewhere_than_in_a_clone_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 2
    assert "examples/grid-simulator/program.md is not there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
