"""The branch of known truth: it is what it says, and a judge who is never wrong makes the right champion of it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import known_branch
import pytest
import replay_known
import scripted
from known_branch import BRANCH, FILE, SOURCE, WHOLE, Turn, turns
from replay_known import CHAMPION, WORK, Run
from scripted import ScriptedCourt, holding_in

from nightfleet.agents.replay import claim_of
from nightfleet.harness.report import Gain, Verification
from nightfleet.harness.request import Watch
from nightfleet.orchestrator.court import Matter, Sitting
from nightfleet.orchestrator.holding import Wishes
from nightfleet.orchestrator.views import replayed

CASES = 30_000
BOUNDS = {"gain": (0.08, 0.12), "near": (0.027, 0.035), "neutral": (0.0, 0.0), "slower": (-0.065, -0.055)}


def units(source: str) -> int:
    """The work in a source, in its unit."""
    return sum(int(count) for count in re.findall(r"mix\([^)]*, (\d+)\)", source))


def records(folder: Path, source: str) -> list[str]:
    """What a source answers, made quick; the answers have to differ only where the program does."""
    folder.mkdir()
    (folder / FILE).write_text(source.replace("UNIT = 220", "UNIT = 1"))
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", "parcels", FILE], cwd=folder, check=True)
    cases = "".join(f"{case}\n" for case in range(CASES))
    done = subprocess.run([folder / "parcels"], input=cases, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_branch_is_what_was_asked_for() -> None:
    kinds = [known.kind for known in BRANCH]
    assert {kind: kinds.count(kind) for kind in kinds} == {"gain": 4, "near": 2, "neutral": 3, "slower": 2, "wrong": 1}
    assert units(SOURCE) == WHOLE
    for turn in turns():
        assert units(turn.before) - units(turn.after) == turn.known.units
        low, high = BOUNDS.get(turn.known.kind, (0.05, 0.2))
        assert low <= turn.share <= high, turn.known.subject
        assert turn.known.kind != "near" or turn.at_last <= 0.043
    false = [turn for turn in turns() if turn.share <= 0.0 and (claim_of(turn.known.message) or 0.0) > 0.05]
    assert len(false) >= 3
    assert any("1.3x" in known.message for known in BRANCH)


def test_only_the_wrong_commit_gives_other_records_and_it_does_in_one_of_300(tmp_path: Path) -> None:
    same = records(tmp_path / "root", SOURCE)
    for place, turn in enumerate(turns()):
        answers = records(tmp_path / f"{place}", turn.after)
        others = sum(old != new for old, new in zip(same, answers, strict=True))
        expected = CASES / 300 if turn.known.kind == "wrong" else 0
        assert others == pytest.approx(expected, rel=0.4), turn.known.subject


class Counting(ScriptedCourt):
    """Knows the work in every source, and is never wrong."""

    def hear(self, matter: Matter, watch: Watch) -> Sitting:
        return _Counted(self, matter, watch)


class _Counted(scripted._Scripted):
    @property
    def _gain(self) -> float:
        before, after = (units(self._source(commit)) for commit in (self._parent, self._commit))
        return 1.0 - after / before

    @property
    def _parent(self) -> str:
        return self._matter.candidate.parent

    @property
    def _commit(self) -> str:
        return self._matter.candidate.commit

    def _source(self, commit: str) -> str:
        return self._court.place.door.tree(commit).read(FILE).decode()

    @property
    def _verdict(self) -> Any:
        if "lot % 300" not in self._source(self._commit):
            return "incorrect"
        gain = self._gain
        return "promote" if gain >= 0.05 else "incremental" if gain >= 0.02 else "reject"

    def report(self) -> tuple[Verification, Path, str]:
        found, path, root = super().report()
        gain = None if found.verdict == "incorrect" else Gain(self._gain, self._gain - 0.01, self._gain + 0.01, "cpu")
        return Verification(found.id, found.verdict, "as counted", (), gain, found.pairs, 100), path, root


def test_a_judge_who_is_never_wrong_makes_the_right_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    folder = tmp_path / "repository"
    wanted = replay_known.repository(folder)
    held = holding_in(folder, Wishes(replay=WORK, branch=CHAMPION))
    held.court = Counting(held.place)
    night = held.hold()
    rows = replayed.rows(held.place.ledger, night.number, held.replayed)
    verdicts = {"gain": "promote", "near": "incremental", "neutral": "reject", "slower": "reject", "wrong": "incorrect"}
    assert [row.verdict for row in rows] == [verdicts[known.kind] for known in BRANCH]
    assert [row.subject for row in rows] == [known.subject for known in BRANCH]
    assert replay_known.git(folder, "rev-parse", f"{CHAMPION}^{{tree}}") == wanted
    for row, turn in zip(rows, turns(), strict=True):
        expected = turn.at_last if turn.known.kind == "near" else turn.share
        assert row.verdict == "incorrect" or row.gain == pytest.approx(expected), row.subject


def ran(*promoted: int, right: bool = True) -> Run:
    return Run([], list(promoted), right, 0.3, 60.0, 1.0)


def test_a_wrong_promotion_or_two_wrong_champions_break_the_promise() -> None:
    gains = [place for place, known in enumerate(BRANCH) if known.kind == "gain"]
    near = next(place for place, known in enumerate(BRANCH) if known.kind == "near")
    assert replay_known.kept([ran(*gains)] * 9 + [ran(*gains[:3], right=False)])
    assert not replay_known.kept([ran(*gains)] * 8 + [ran(*gains[:3], right=False)] * 2)
    assert not replay_known.kept([ran(*gains)] * 9 + [ran(*gains, near, right=False)])


def test_a_change_that_finds_no_place_is_a_mistake() -> None:
    known = known_branch.Known("gain", "Nothing", 1, (("not there", ""),))
    with pytest.raises(ValueError, match="stands 0 times"):
        known.on(SOURCE)
    assert all(isinstance(turn, Turn) for turn in turns())
