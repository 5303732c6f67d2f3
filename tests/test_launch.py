"""`launch` and what a person says to a night, as they are typed: what is refused, and in which words."""

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nightwork
import pytest
import scripted
from rich.console import Console
from scripted import PROGRAM, Silent, git, new_repository
from tiny import FILES, Tiny, doing

from nightfleet.native import MachineError
from nightfleet.orchestrator.commands import edge
from nightfleet.orchestrator.commands import launch as launching
from nightfleet.orchestrator.holding import Wishes
from nightfleet.orchestrator.ledger import candidates, nights, promotions
from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.place import Place

FASTER = FILES["tiny.c"].replace("20000", "12000")


@pytest.fixture(autouse=True)
def own_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = new_repository(tmp_path / "repository")
    monkeypatch.chdir(place)
    return place


def typed(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ending:
        edge.main(list(arguments))
    assert isinstance(ending.value.code, int)
    return ending.value.code


def commit(folder: Path, text: str) -> None:
    (folder / "program.md").write_text(text)
    git(folder, "commit", "--quiet", "--all", "--message=edit")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("# Make it faster\n", ""), "says no goal"),
        (("# Make it faster\n", "faster " * 10_000), "the goal may have 65536 characters; it has 70000"),
        (("budget: {experiments: 100", "budget: {experiments: 0"), "budget.experiments"),
        (("budget: {experiments: 100, night: 1h", "budget: {experiments: 100, night: 0s"), "budget.night"),
        (("fleet:", "thresholds: {promote: 2%, incremental: 5%}\nfleet:"), "thresholds"),
        (("fleet:", "wishes: many\nfleet:"), "wishes"),
        (('edit: ["src/*.txt"]', 'edit: ["nowhere/*"]'), "matches no file"),
        (("workers: 2", "workers: 2, worker: gpt"), "fleet.worker"),
    ],
)
def test_programs_that_no_night_can_go_by(
    folder: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], words: str
) -> None:
    commit(folder, PROGRAM.replace(*change))
    assert typed("launch") == 2
    assert words in capsys.readouterr().err
    assert git(folder, "branch", "--list").split() == ["*", "main"]


def test_wishes_that_contradict_each_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--for", "8h", "--until", "07:00"], "type one of them"),
        (["--every", "30m"], "--every needs --for"),
        (["--for", "soon"], "--for must be a duration"),
        (["--until", "25:00"], "--until is a time of day"),
        (["--until", "07:00+02:00"], "--until is a time of day"),
        (["--every", "30m", "--for", "8h", "--branch", "mine"], "leave --branch out"),
        (["--join", "--every", "30m", "--for", "8h"], "--join begins no night"),
        (["--replay", "nowhere"], "nowhere"),
    ):
        assert typed("launch", *arguments) == 2
        assert words in capsys.readouterr().err
    assert typed("stop") == 2
    assert "nightfleet launch" in capsys.readouterr().err
    assert folder.exists()


class Hours:
    """A clock for a series of nights, each of which takes so many hours."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, place: Place, nights_h: list[float], endings: list[str]
    ) -> None:
        self.now_s, self.held = 0.0, list[tuple[float, float]]()
        self._place, self._nights_h, self._endings = place, nights_h, endings
        monkeypatch.setattr(launching, "time", SimpleNamespace(monotonic=lambda: self.now_s, sleep=self._sleep))
        monkeypatch.setattr(launching, "hold", self._hold)
        monkeypatch.setattr(launching, "end_of", lambda *_, **__: None)

    def _sleep(self, seconds: float) -> None:
        assert seconds >= 0.0
        self.now_s += seconds

    def _hold(self, place: Place, _subject: object, wishes: Wishes, _console: object) -> launching.Held:
        assert wishes.seconds is not None
        self.held.append((self.now_s / 3600, wishes.seconds / 3600))
        self.now_s += 3600 * self._nights_h.pop(0)
        with place.ledger.write() as writing:
            number = nightwork.begin(writing, name=f"n{len(self.held)}")
            nights.end(writing, number, self._endings.pop(0))
        return launching.Held(number)


def test_a_series_begins_no_night_after_its_end_and_none_reaches_beyond_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.open(folder, make=True)
    hours = Hours(monkeypatch, place, [0.5, 1.25, 0.1, 9.0], ["x"] * 4)
    series = launching.Series(3600.0, 2.5 * 3600, None)
    launching.again_and_again(place, Wishes(), Console(quiet=True), series, as_json=False)
    assert hours.held == [(0.0, 1.0), (1.0, 1.0), (2.25, 0.25)]


def test_a_machine_that_fails_in_one_night_ends_no_series(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.open(folder, make=True)
    hours = Hours(monkeypatch, place, [0.5, 0.5], ["x", "x"])
    hold, failures = hours._hold, [MachineError("too loaded")]

    def fails_once(*arguments: Any) -> launching.Held:
        if failures:
            raise failures.pop()
        return hold(*arguments)

    monkeypatch.setattr(launching, "hold", fails_once)
    launching.again_and_again(
        place, Wishes(), Console(quiet=True), launching.Series(3600.0, 9000.0, None), as_json=False
    )
    assert [at for at, _ in hours.held] == [1.0, 2.0]


def test_a_night_that_is_stopped_ends_its_series(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.open(folder, make=True)
    hours = Hours(monkeypatch, place, [0.5, 0.5], ["x", "stopped"])
    series = launching.Series(3600.0, 9 * 3600, None)
    launching.again_and_again(place, Wishes(), Console(quiet=True), series, as_json=False)
    assert len(hours.held) == 2


def test_a_folder_without_a_commit_or_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "none"
    bare.mkdir()
    (bare / "program.md").write_text(PROGRAM)
    monkeypatch.chdir(bare)
    assert typed("launch") == 2
    assert "repository" in capsys.readouterr().err
    git(bare, "init", "--quiet")
    assert typed("launch") == 2
    assert "no commit" in capsys.readouterr().err


def test_a_branch_that_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(folder, "branch", "mine")
    assert typed("launch", "--branch", "mine") == 2
    assert "there is a branch mine; name another" in capsys.readouterr().err
    git(folder, "branch", "nightfleet")
    assert typed("launch") == 2
    assert "in the way" in capsys.readouterr().err
    with Place.open(folder).ledger.read() as reading:
        assert nights.latest(reading) is None


def test_a_ledger_of_a_newer_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Place.open(folder, make=True).ledger.close()
    database = sqlite3.connect(folder / ".nightfleet/ledger.sqlite")
    database.execute("UPDATE alembic_version SET version_num = '99'")
    database.commit()
    assert typed("launch") == 2
    assert "newer" in capsys.readouterr().err


def test_what_a_person_should_know_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shallow clone, detached, dirty, without an identity: the night begins all the same."""
    origin = new_repository(tmp_path / "origin")
    git(origin, "commit", "--quiet", "--allow-empty", "--message=second")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{origin}", clone], check=True)
    git(clone, "switch", "--quiet", "--detach")
    (clone / "src/1.txt").write_text("not committed\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    said: list[str] = []

    class Heard(Silent):
        def say(self, words: str) -> None:
            said.append(words)

    night = scripted.holding_in(clone, telling=Heard()).hold()
    for words in ("not committed take no part", "detached head", "shallow clone"):
        assert any(words in line for line in said), words
    assert git(clone, "log", "-1", "--format=%an", night.champion_branch).strip() == "nightfleet"
    assert (clone / "src/1.txt").read_text() == "not committed\n"


@pytest.fixture
def night(folder: Path) -> Place:
    scripted.holding_in(folder).hold()
    return Place.open(folder)


def test_a_branch_of_a_candidate(night: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("branch", "1") == 0
    with night.ledger.read() as reading:
        row = nights.latest(reading)
    assert row is not None
    name = f"nightfleet/{row.name}/1"
    assert name in capsys.readouterr().out
    assert git(night.here, "rev-parse", name) == git(night.here, "rev-parse", f"refs/nightfleet/{row.name}/1")
    assert typed("branch", "1") == 2
    assert "taken" in capsys.readouterr().err
    assert typed("branch", "999") == 2
    assert "no candidate 999" in capsys.readouterr().err


def test_the_last_words_of_a_night(night: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("status") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("PROMOTED 4 of ")
    assert last.endswith("total gain 20.0% (19.0% to 21.0%), 400/400 cases identical")
    assert typed("stop") == 2
    assert night.here.exists()


@pytest.mark.parametrize("moved", [False, True])
def test_a_swap_that_was_cut_short_is_settled_before_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moved: bool
) -> None:
    """`stop` after a kill between what the ledger means and what git does."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    held = scripted.holding_in(folder)
    with monkeypatch.context() as patch:
        patch.setattr(type(held.place.references), "move_branch", killed)
        # The first to be called is at the opening.
        patch.setattr("nightfleet.orchestrator.opening.set_back", lambda _place: None)
        with pytest.raises(KeyboardInterrupt):
            held.hold()
    night = held.place.night()
    with held.place.ledger.read() as reading:
        meant = promotions.unsettled(reading, night.number)
    assert meant is not None
    if moved:
        mine = git(folder, "commit-tree", "-m", "mine", "HEAD^{tree}").strip()
        git(folder, "update-ref", f"refs/heads/{night.champion_branch}", mine)
    assert typed("stop") == 0
    with held.place.ledger.read() as reading:
        assert promotions.unsettled(reading, night.number) is None
        assert len(promotions.in_champion(reading, night.number)) == (0 if moved else 1)
    if not moved:
        assert git(folder, "rev-parse", night.champion_branch).strip() == meant.to_commit
    assert night.name in capsys.readouterr().out


def test_a_promotion_is_signed_off(night: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("signoff") == 0
    assert "no promotion waits" in capsys.readouterr().out
    with night.ledger.read() as reading:
        (promoted, *_), (other, *_) = (candidates.with_verdict(reading, 1, one) for one in ("promote", "reject"))
    assert typed("signoff", str(promoted.number), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"candidate": promoted.number, "accepted": True}
    assert typed("signoff", str(other.number)) == 2
    assert "not in the champion" in capsys.readouterr().err
    assert night.ledger.check().sound


def test_a_rejected_promotion_leaves_and_those_after_it_are_judged_again(folder: Path) -> None:
    held = scripted.holding_in(folder)
    first = held.hold()
    with held.place.ledger.write() as writing:
        swapped = promotions.in_champion(writing, first.number)
        promotions.sign_off(writing, swapped[1].id, accepted=False, said_by="me", reason="no")
    with held.place.ledger.drive(), held.place.ledger.write() as writing:
        nights.reopen(writing, first.number)
    again = scripted.holding_in(folder, Wishes(only_again=True)).hold()
    assert again.number == first.number
    good = (0, 3, 6, 9)
    files = {number: git(folder, "show", f"{again.champion_branch}:src/{number}.txt").strip() for number in good}
    assert sorted(files.values()) == ["fast", "fast", "fast", "slow"]
    with held.place.ledger.read() as reading:
        assert len(promotions.in_champion(reading, first.number)) == 3
        assert reading.get(Night, first.number).ended_us is not None
    assert held.place.ledger.check().sound


def test_a_baseline_that_cannot_be_judged_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Tiny(tmp_path / "broken", {**FILES, "tiny.c": "int main(void) { return nothing; }\n"})
    monkeypatch.chdir(broken.root)
    assert typed("launch") == 2
    said = capsys.readouterr().err
    assert "nothing" in said
    unsteady = doing('printf("%p ", (void *)&state); ')
    other = Tiny(tmp_path / "unsteady", {**FILES, "tiny.c": unsteady})
    monkeypatch.chdir(other.root)
    assert typed("launch") == 2
    said = capsys.readouterr().err
    assert "does not agree with itself" in said
    assert "nightfleet check" in said
    shutil.rmtree(other.state)
