"""What nights are called: no two of one repository alike, whatever their ledgers know of each other."""

import json
import shutil
from pathlib import Path

import pytest
import scripted
from scripted import FILES, PROGRAM, Scripts, git, holding_in, new_repository

from nightfleet.native import UserError
from nightfleet.orchestrator.holding import Wishes
from nightfleet.orchestrator.ledger import Ledger, nights
from nightfleet.orchestrator.naming import FILE


@pytest.fixture(autouse=True)
def nothing_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion that never moves stays where the next night begins: that is where names were confused."""
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    monkeypatch.setattr(scripted, "VERDICTS", ("reject",) * FILES)


def test_two_arenas_of_one_repository(tmp_path: Path) -> None:
    root = new_repository(tmp_path / "repository")
    for name in ("one", "two"):
        shutil.copytree(root / "src", root / name / "src")
        (root / name / "program.md").write_text(PROGRAM)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=arenas")
    first = holding_in(root / "one", Wishes(experiments=2)).hold()
    second = holding_in(root / "two", Wishes(experiments=2)).hold()
    assert second.name == f"{first.name}-2"
    assert second.champion_branch != first.champion_branch


def test_a_state_directory_that_was_thrown_away(tmp_path: Path) -> None:
    folder = new_repository(tmp_path / "repository")
    first = holding_in(folder, Wishes(experiments=2)).hold()
    shutil.rmtree(folder / ".nightfleet")
    second = holding_in(folder, Wishes(experiments=2), agent=Scripts(lambda _path, _text: "another\n")).hold()
    assert second.name == f"{first.name}-2"


def test_the_same_with_branches_that_a_person_named(tmp_path: Path) -> None:
    folder = new_repository(tmp_path / "repository")
    first = holding_in(folder, Wishes(experiments=2, branch="mine")).hold()
    shutil.rmtree(folder / ".nightfleet")
    second = holding_in(folder, Wishes(experiments=2, branch="other")).hold()
    assert (first.champion_branch, second.champion_branch) == ("mine", "other")
    assert second.name == f"{first.name}-2"


@pytest.mark.parametrize("branch", [None, "mine"])
@pytest.mark.parametrize("step", ["new_branch", "begin_or_continue"])
def test_who_is_killed_before_the_night_is_recorded_goes_on_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, branch: str | None, step: str
) -> None:
    folder = new_repository(tmp_path / "repository")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    held = holding_in(folder, Wishes(experiments=1, branch=branch))
    with monkeypatch.context() as patch:
        patch.setattr(type(held.place.references) if step == "new_branch" else nights, step, killed)
        with pytest.raises(KeyboardInterrupt):
            held.hold()
    begun = json.loads((held.place.state / FILE).read_text())
    night = holding_in(folder, Wishes(experiments=1, branch=branch)).hold()
    assert (night.name, night.champion_branch) == (begun["name"], begun["branch"])
    assert not (held.place.state / FILE).exists()


def test_a_branch_that_is_none_takes_no_name(tmp_path: Path) -> None:
    folder = new_repository(tmp_path / "repository")
    for branch, words in (("main", "there is a branch main"), ("a..b", "cannot be a branch")):
        with pytest.raises(UserError, match=words):
            holding_in(folder, Wishes(branch=branch)).hold()
    assert git(folder, "for-each-ref", "refs/nightfleet") == ""


def test_a_branch_in_the_way_is_named(tmp_path: Path) -> None:
    folder = new_repository(tmp_path / "repository")
    git(folder, "branch", "nightfleet")
    with pytest.raises(UserError, match="'git branch -m nightfleet mine'"):
        holding_in(folder).hold()
    git(folder, "branch", "-m", "nightfleet", "mine")
    holding_in(folder, Wishes(experiments=1)).hold()
    with Ledger.open(folder / ".nightfleet/ledger.sqlite") as ledger, ledger.read() as reading:
        assert len(nights.names(reading)) == 1
