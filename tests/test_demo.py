"""Where a demo goes, and that it is taken for nobody's work and nobody's work for it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from scripted import git

from nightfleet.native import UserError
from nightfleet.orchestrator.commands.demo import Asked, _asked, _begin, _is_whole


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one example."""
    example = tmp_path / "clone/examples/small"
    example.mkdir(parents=True)
    (example / "program.md").write_text("# Make it faster\n")
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def project(place: Path) -> Path:
    """Somebody's repository."""
    place.mkdir(parents=True)
    (place / "program.md").write_text("mine\n")
    git(place, "init", "--quiet")
    return place


def test_an_example_is_committed_whole(clone: Path) -> None:
    asked = _asked("small", None)
    assert asked.folder == clone / ".nightfleet/demo/small"
    _begin(asked)
    assert git(asked.folder, "ls-files").split() == ["program.md"]
    assert git(asked.folder, "status", "--porcelain") == ""
    assert _is_whole(asked.folder)


def test_one_that_was_cut_short_is_begun_again(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(command: list[str], **options: Any) -> Any:
        if "commit" in command:
            raise KeyboardInterrupt
        return real(command, **options)

    real = subprocess.run
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", cut)
        with pytest.raises(KeyboardInterrupt):
            _begin(_asked("small", None))
    asked = _asked("small", None)
    assert asked.folder == clone / ".nightfleet/demo/small"
    assert not _is_whole(asked.folder)
    _begin(asked)
    assert git(asked.folder, "log", "--oneline").count("\n") == 1


def test_a_name_is_one_of_the_examples(clone: Path, tmp_path: Path) -> None:
    mine = project(tmp_path / "mine")
    for name in (str(mine), "../../mine", "..", ""):
        with pytest.raises(UserError, match="there are small"):
            _asked(name, None)
    assert (clone / "examples").exists()


def test_somebody_elses_folder_is_left_alone(clone: Path, tmp_path: Path) -> None:
    mine = project(tmp_path / "mine")
    (file := tmp_path / "file").write_text("")
    for place in (mine, file, clone):
        with pytest.raises(UserError, match="is not empty"):
            _asked("small", place)
    (empty := tmp_path / "empty").mkdir()
    assert _asked("small", empty) == Asked(Path("examples/small"), empty)
    _begin(_asked("small", empty))
    assert _asked("small", empty).folder == empty
