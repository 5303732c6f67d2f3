"""The night with a scripted judge: what is recorded, what moves, and what happens when something is in the way."""

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scripted
from databases import new_schema
from scripted import FILES, VERDICTS, Scripts, Silent, git, holding_in, new_repository
from sqlalchemy import select

from nightfleet.agents.contract import Brief, Desk, Failed, Report, Spend
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator import budget, stopping
from nightfleet.orchestrator.holding import Wishes
from nightfleet.orchestrator.ledger import DrivenError, Ledger, candidates, errorbudget, queries, spending
from nightfleet.orchestrator.ledger.tables import Candidate, Night, Reservation, Task, Verification
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program_file import read_back
from nightfleet.orchestrator.repo.guard import fingerprint
from nightfleet.orchestrator.repo.promotion import promotions
from nightfleet.orchestrator.repo.refs import MovedError
from nightfleet.orchestrator.views.summary import Summary

KILLS = 50
GOOD = [number for number in range(FILES) if VERDICTS[number % len(VERDICTS)] == "promote"]


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, words: str) -> None:
        self.said.append(words)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    return new_repository(tmp_path / "repository")


def champion_files(folder: Path, branch: str) -> dict[int, str]:
    return {number: git(folder, "show", f"{branch}:src/{number}.txt").strip() for number in range(FILES)}


def fast(folder: Path, branch: str) -> list[int]:
    return [number for number, text in champion_files(folder, branch).items() if text == "fast"]


def assert_sound(place: Place, night: Night) -> None:
    """Nothing lost, nothing twice, and everything that is said can be found."""
    assert place.ledger.check().sound
    with place.ledger.read() as reading:
        rows = list(reading.session.scalars(select(Candidate).order_by(Candidate.number)))
        verifications = list(reading.session.scalars(select(Verification)))
        reservations = list(reading.session.scalars(select(Reservation)))
        _, alpha = errorbudget.used(reading, night.number)["speed"]
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    rerun = {row.rebased_from for row in rows}
    for row in rows:
        assert row.state in {"judged", "stale"}
        spent = row.depth == candidates.MOST_RERUNS and "run again 3 times" in row.reason
        assert row.state == "judged" or row.id in rerun or spent, f"{row.number} was dropped: {row.reason}"
        assert git(place.here, "rev-parse", f"refs/nightfleet/{night.name}/{row.number}").strip() == row.commit
    judged = [one.candidate for one in verifications]
    assert len(judged) == len(set(judged))
    assert len({one.timing for one in reservations}) == len(reservations)
    assert [one.index for one in reservations] == list(range(len(reservations)))
    assert alpha <= night.alpha
    steps = promotions(place.door, night.champion, night.root)
    assert [one.shown.number for one in steps] == [row.number for row in rows if row.verdict == "promote"]
    assert git(place.here, "rev-parse", night.champion_branch).strip() == night.champion


def left_in(trees: Path) -> list[str]:
    return [path.name for path in trees.iterdir() if path.name not in {"templates", ".gate"}]


def test_a_night_promotes_what_is_faster_and_nothing_else(folder: Path) -> None:
    held = holding_in(folder)
    (folder / "src/0.txt").write_text("the user is at work\n")
    (folder / "notes").write_text("mine\n")
    git(folder, "stash", "push", "--quiet", "--include-untracked", "--", "notes")
    git(folder, "config", "user.signingkey", "mine")
    before = fingerprint(held.place.checkout)
    night = held.hold()
    assert night.ending == "nothing is left to try"
    assert fast(folder, night.champion_branch) == GOOD
    assert_sound(held.place, night)
    assert fingerprint(held.place.checkout, champions=[night.champion_branch]).differences(before) == []
    assert left_in(held.place.trees.root) == []


def test_what_agents_cost_is_in_the_ledger_and_ends_the_night(folder: Path) -> None:
    class Costly(Scripts):
        def worker(self, brief: Brief, desk: Desk) -> Report:
            desk.spend(Spend(tokens=600, micro_dollars=5))
            desk.spend(Spend(tokens=300, micro_dollars=4))
            return super().worker(brief, desk).model_copy(update={"spend": Spend(tokens=100, micro_dollars=20)})

    program = (folder / "program.md").read_text().replace("budget: {", "budget: {tokens: 2000, ", 1)
    (folder / "program.md").write_text(program)
    git(folder, "commit", "--quiet", "--all", "--message=a budget")
    held = holding_in(folder, Wishes(workers=1), agent=Costly())
    night = held.hold()
    assert night.ending == "2700 of 2000 tokens are spent"
    with held.place.ledger.read() as reading:
        spent = spending.total(reading, night.number)
        assert spent.tokens == 2700
        assert spent.micro_dollars == 60
        assert spent.wall_us > 0
        assert spending.open_spends(reading, night.number) == []


def test_near_misses_and_those_that_wait_are_run_again(folder: Path) -> None:
    held = holding_in(folder)
    held.hold()
    with held.place.ledger.read() as reading:
        rows = {row.description: row for row in reading.session.scalars(select(Candidate).order_by(Candidate.number))}
        near = candidates.lineage(reading, rows["Make src/2.txt fast"])
    assert [row.verdict for row in near].count("incremental") >= 2
    assert [row.depth for row in near] == list(range(len(near)))
    summary = Summary.of(held.place.ledger, 1)
    assert [row.number for row in near] in summary.lineages
    # Only what was not run again counts as stale.
    assert not {row.number for row in near[:-1]} & {number for some in summary.failed.values() for number in some}
    assert all(row.parent != near[0].parent for row in near[1:])


def test_more_promotions_than_reruns_leave_a_word(folder: Path) -> None:
    everything = scripted.VERDICTS
    try:
        scripted.VERDICTS = ("incremental", "promote", "promote", "promote", "promote", "promote")
        held = holding_in(folder, Wishes(workers=1))
        held.hold()
    finally:
        scripted.VERDICTS = everything
    with held.place.ledger.read() as reading:
        first = candidates.lineage(reading, queries_first(reading, "Make src/0.txt fast"))
    assert len(first) == 1 + candidates.MOST_RERUNS
    assert first[-1].state == "stale"
    assert "run again 3 times" in first[-1].reason


def queries_first(reading: Any, description: str) -> Candidate:
    found = reading.session.scalars(select(Candidate).where(Candidate.description == description)).first()
    assert isinstance(found, Candidate)
    return found


def test_the_experiments_are_a_hard_stop(folder: Path) -> None:
    held = holding_in(folder, Wishes(experiments=3))
    night = held.hold()
    assert night.ending == "3 experiments are done"
    with held.place.ledger.read() as reading:
        assert sum(row.verdict is not None for row in queries.results(reading, night.number)) == 3


def test_time_is_a_hard_stop_and_what_the_last_step_found_is_promoted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = threading.Event()

    def spend(step: str, _number: int) -> None:
        if step == "time":
            late.set()

    monkeypatch.setattr(budget, "used_up", lambda *_: "the time is up" if late.is_set() else None)
    held = holding_in(folder, Wishes(workers=1), before=spend)
    night = held.hold()
    assert night.ending == "the time is up"
    assert fast(folder, night.champion_branch) == [0]
    with held.place.ledger.read() as reading:
        assert queries.status(reading, night.number).verdicts == {"promote": 1}


def test_the_clock_ends_a_night(folder: Path) -> None:
    held = holding_in(folder, Wishes(seconds=0.001))
    assert held.hold().ending == "the time is up"


def test_a_night_can_be_stopped_from_another_process(folder: Path) -> None:
    def ask(step: str, number: int) -> None:
        if (step, number) == ("time", 1):
            stopping.ask(held.place.state, held.place.night(), measure=False)

    held = holding_in(folder, before=ask)
    assert held.hold().ending == "stopped"
    assert not (held.place.state / "stop").exists()


def test_the_next_night_begins_where_a_person_left_it_and_not_at_the_champion(folder: Path) -> None:
    first = holding_in(folder, Wishes(experiments=1)).hold()
    second = holding_in(folder, Wishes(experiments=1)).hold()
    assert (first.root, first.champion_branch) != (second.root, second.champion_branch)
    assert second.root == first.root
    assert second.name == f"{first.name}-2"


def test_a_second_process_is_refused(folder: Path) -> None:
    def meanwhile(step: str, _number: int) -> None:
        if step == "rehearse":
            with pytest.raises(DrivenError, match="launch --join"):
                holding_in(folder).hold()

    holding_in(folder, Wishes(experiments=1), before=meanwhile).hold()


def test_a_champion_that_somebody_moved_ends_the_night_with_words(folder: Path) -> None:
    def move(step: str, number: int) -> None:
        if (step, number) == ("time", 1):
            git(folder, "update-ref", f"refs/heads/{held.place.night().champion_branch}", other)

    other = git(folder, "commit-tree", "-m", "mine", "HEAD^{tree}").strip()
    held = holding_in(folder, before=move)
    with pytest.raises(MovedError, match="somebody else moved it"):
        held.hold()
    night = held.place.night()
    assert git(folder, "rev-parse", night.champion_branch).strip() == other
    with pytest.raises(MovedError):
        holding_in(folder).hold()
    git(folder, "update-ref", f"refs/heads/{night.champion_branch}", night.champion)
    assert fast(folder, holding_in(folder).hold().champion_branch) == GOOD


def test_who_lost_the_last_swap_is_promoted_once_the_champion_is_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is faster, so that no later promotion has it run again."""
    monkeypatch.setattr(scripted, "VERDICTS", ("promote", *("reject",) * (FILES - 1)))
    other = git(folder, "commit-tree", "-m", "mine", "HEAD^{tree}").strip()

    def move(step: str, number: int) -> None:
        if (step, number) == ("time", 1):
            git(folder, "update-ref", f"refs/heads/{held.place.night().champion_branch}", other)

    held = holding_in(folder, before=move)
    with pytest.raises(MovedError, match="somebody else moved it"):
        held.hold()
    night = held.place.night()
    git(folder, "update-ref", f"refs/heads/{night.champion_branch}", night.champion)
    night = holding_in(folder).hold()
    assert fast(folder, night.champion_branch) == [0]
    assert_sound(held.place, night)


def test_a_champion_that_is_checked_out_is_not_moved(folder: Path) -> None:
    def check_out(step: str, number: int) -> None:
        if (step, number) == ("time", 1):
            git(folder, "switch", "--quiet", held.place.night().champion_branch)

    held = holding_in(folder, before=check_out)
    with pytest.raises(UserError, match="is checked out"):
        held.hold()
    git(folder, "switch", "--quiet", "main")
    night = holding_in(folder).hold()
    assert fast(folder, night.champion_branch) == GOOD
    assert_sound(held.place, night)


def test_a_conflict_goes_back_to_a_worker_with_both_diffs(folder: Path) -> None:
    """Two strategies for one line: the second is carried over by a worker once the first is in."""
    areas: list[str] = []

    class Rivals(Scripts):
        def worker(self, brief: Any, desk: Any) -> Any:
            areas.append(brief.area)
            shared = brief.tree / "src/11.txt"
            shared.write_text(f"{shared.read_text().strip()} {brief.strategy.files[0]}\n")
            return super().worker(brief, desk)

    night = holding_in(folder, agent=Rivals()).hold()
    told = [area for area in areas if area]
    assert told
    assert "+slow src/" in told[0]
    assert "what the baseline became" in told[0]
    assert set(GOOD) <= set(fast(folder, night.champion_branch))


def test_an_exact_recipe_that_lost_its_place_is_proposed_anew_and_never_handed_out_twice(folder: Path) -> None:
    class Exact(Scripts):
        """Every strategy also changes one line that all of them share; a recipe fits one baseline only."""

        def scout(self, brief: Any, desk: Any) -> Any:
            shared = (brief.tree / "src/11.txt").read_text()
            brief = brief.model_copy(update={"tried": tuple(one for one in brief.tried if one.verdict != "stale")})
            report = super().scout(brief, desk)
            if report.outcome.kind != "proposed":
                return report
            strategies = tuple(one.model_copy(update={"recipe": shared}) for one in report.outcome.strategies)
            return report.model_copy(update={"outcome": report.outcome.model_copy(update={"strategies": strategies})})

        def worker(self, brief: Any, desk: Any) -> Any:
            shared = brief.tree / "src/11.txt"
            if shared.read_text() != brief.strategy.recipe:
                return Report(outcome=Failed(cause="its place is gone"))
            shared.write_text(f"{shared.read_text().strip()} {brief.strategy.files[0]}\n")
            return super().worker(brief, desk)

    held = holding_in(folder, agent=Exact())
    night = held.hold()
    assert set(GOOD) <= set(fast(folder, night.champion_branch))
    with held.place.ledger.read() as reading:
        given = list(reading.session.scalars(select(Task.strategy).where(Task.strategy.is_not(None))))
        left = list(reading.session.scalars(select(Candidate.reason).where(Candidate.state == "stale")))
    assert len(given) == len(set(given))
    assert any("conflicts" in why for why in left)


def test_an_edit_of_thresholds_holds_from_the_next_candidate_on(folder: Path) -> None:
    heard = Heard()

    def edit(step: str, number: int) -> None:
        if (step, number) == ("time", 1):
            text = (folder / "program.md").read_text().replace("---\n#", "thresholds: {promote: 6%}\n---\n#")
            (folder / "program.md").write_text(text)

    held = holding_in(folder, before=edit, telling=heard)
    night = held.hold()
    assert any("it holds from the next candidate on" in words for words in heard.said)
    with held.place.ledger.read() as reading:
        assert reading.get(Night, night.number).epoch == 0
    assert fast(folder, night.champion_branch) == GOOD


def test_an_edit_of_the_workload_judges_all_that_is_open_anew(folder: Path) -> None:
    heard, edits = Heard(), iter(["cases: 200"])

    def edit(step: str, number: int) -> None:
        if step == "time" and number > 2 and (cases := next(edits, None)):
            text = (folder / "program.md").read_text()
            (folder / "program.md").write_text(text.replace("cases: 100", cases))

    held = holding_in(folder, Wishes(workers=4), before=edit, telling=heard)
    night = held.hold()
    assert any("judged anew" in words for words in heard.said)
    assert night.epoch == 1
    with held.place.ledger.read() as reading:
        rows = list(reading.session.scalars(select(Candidate)))
    assert {row.epoch for row in rows if row.verdict != "promote" and row.state == "judged"} <= {0, 1}
    near = [row for row in rows if row.verdict in {"incremental", "undecided"} and row.state == "judged"]
    assert near
    assert all(row.epoch == 1 for row in near)
    assert fast(folder, night.champion_branch) == GOOD


def interrupted(folder: Path, step: str, number: int) -> None:
    """A night that somebody ends at a step of this candidate, or of the next that comes so far."""

    def interrupt(now: str, of: int) -> None:
        if now == step and of >= number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        holding_in(folder, before=interrupt).hold()


def test_a_night_that_goes_on_says_what_it_began_from_and_not_where_a_person_is_now(folder: Path) -> None:
    interrupted(folder, "time", 1)
    git(folder, "commit", "--quiet", "--allow-empty", "--message=later")
    (folder / "notes").write_text("mine\n")
    heard = Heard()
    night = holding_in(folder, Wishes(experiments=1), telling=heard).hold()
    (words,) = [one for one in heard.said if "not committed" in one]
    assert f"begins from {night.root[:12]}" in words


@pytest.mark.parametrize(("cases", "epoch"), [("cases: 200", 1), ("cases: 100", 0)])
def test_an_edit_while_nobody_drives_the_night_is_an_edit(folder: Path, cases: str, epoch: int) -> None:
    heard = Heard()
    interrupted(folder, "time", 3)
    text = (folder / "program.md").read_text()
    edited = text.replace("cases: 100", cases).replace("# Make", "# Do make")
    (folder / "program.md").write_text(edited)
    held = holding_in(folder, telling=heard)
    night = held.hold()
    assert night.epoch == epoch
    assert read_back(held.place, night.number).front.text == edited
    assert any("program.md was edited" in words for words in heard.said)
    with held.place.ledger.read() as reading:
        near = candidates.with_verdict(reading, night.number, "incremental", "undecided")
    assert all(row.epoch == epoch for row in near if row.state == "judged")
    assert fast(folder, night.champion_branch) == GOOD


def test_the_morning_goes_by_the_program_that_the_night_went_by_in_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    morning = scripted.ScriptedCourt.morning

    def listen(court: Any, night: Night, program: Any, watch: Any) -> Any:
        measured.append(program.arena.workloads[0].cases)
        return morning(court, night, program, watch)

    def edit(step: str, _number: int) -> None:
        if step == "time":
            text = (folder / "program.md").read_text()
            (folder / "program.md").write_text(text.replace("cases: 100", "cases: 200"))

    monkeypatch.setattr(scripted.ScriptedCourt, "morning", listen)
    holding_in(folder, before=edit).hold()
    assert measured == [200]


def test_what_was_found_before_an_edit_of_the_workload_moves_no_champion_after_it(folder: Path) -> None:
    """The edit comes while the first candidate is timed: by the time of its verdict another contract holds."""
    edits = iter(["cases: 200"])

    def edit(step: str, number: int) -> None:
        if (step, number) == ("time", 1) and (cases := next(edits, None)):
            text = (folder / "program.md").read_text()
            (folder / "program.md").write_text(text.replace("cases: 100", cases))

    held = holding_in(folder, Wishes(workers=1), before=edit)
    night = held.hold()
    with held.place.ledger.read() as reading:
        steps = [(found.epoch, found.depth) for _, found, _ in queries.steps(reading, night.number)]
        first = candidates.numbered(reading, night.number, 1)
    assert first is not None
    assert (first.verdict, first.state) == ("promote", "stale")
    assert {epoch for epoch, _ in steps} == {1}
    assert fast(folder, night.champion_branch) == GOOD


def test_a_time_of_day_is_a_time_of_day_however_long_ago_the_night_began(folder: Path) -> None:
    held = holding_in(folder, Wishes(ends_at_us=1))
    assert held.hold().ending == "the time is up"
    interrupted(folder, "time", 1)
    later = holding_in(folder, Wishes(ends_at_us=held.place.night().began_us + 10**13))
    assert later._limits(later.place.night()).ends_at_us == held.place.night().began_us + 10**13


def test_a_build_that_came_out_otherwise_after_a_crash_is_timed_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(folder, "time", 1)
    held, put_aside = holding_in(folder), set[str]()
    monkeypatch.setattr(scripted._Scripted, "binary", "c" * 64)
    monkeypatch.setattr(scripted.ScriptedCourt, "begun", lambda _, matter: matter.timing not in put_aside)
    monkeypatch.setattr(scripted.ScriptedCourt, "abandon", lambda _, matter: put_aside.add(matter.timing))
    night = held.hold()
    (timing,) = put_aside
    with held.place.ledger.read() as reading:
        of = errorbudget.of_timing(reading, timing)
        assert of is not None
        spent = reading.session.scalars(select(Reservation.why).where(Reservation.candidate == of.candidate))
        assert list(spent) == ["first", "restart"]
    assert_sound(held.place, night)


@pytest.mark.parametrize("step", ["prepare", "time", "report", "tidy"])
def test_whatever_step_the_machine_fails_in_is_done_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also where the report or the build store could not be written: nothing stays in the middle of a step."""
    once = [True]

    def fail(now: str, _number: int) -> None:
        if now == step and once:
            once.clear()
            raise MachineError("no space")

    monkeypatch.setattr("nightfleet.orchestrator.judging.TIDY_EVERY", 1)
    held = holding_in(folder, Wishes(seconds=60), before=fail)
    night = held.hold()
    assert night.ending == "nothing is left to try"
    assert fast(folder, night.champion_branch) == GOOD
    assert_sound(held.place, night)


def test_a_candidate_that_no_machine_can_judge_stands_in_nobodys_way(folder: Path) -> None:
    judged: list[int] = []

    def fail(step: str, number: int) -> None:
        if step == "prepare":
            if number == 1:
                raise MachineError("what a candidate")
            judged.append(number)

    held = holding_in(folder, Wishes(workers=3), before=fail)
    with contextlib.suppress(MachineError):
        held.hold()
    assert len(judged) > 3


def test_a_candidate_that_is_hundreds_of_times_slower_is_a_candidate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scripted.GAINS, "reject", -250.0)
    night = holding_in(folder).hold()
    assert fast(folder, night.champion_branch) == GOOD


def test_scouts_that_fail_are_asked_again_and_then_believed(folder: Path) -> None:
    asked = [0]

    class Blind(Scripts):
        def scout(self, brief: Any, desk: Any) -> Any:
            asked[0] += 1
            return super().scout(brief, desk) if asked[0] == 2 else Report(outcome=Failed(cause="\x1b[31mno eyes"))

    night = holding_in(folder, agent=Blind()).hold()
    assert fast(folder, night.champion_branch) == GOOD
    assert asked[0] > 3
    assert night.ending == "the scouts failed: no eyes"


def test_a_report_that_cannot_be_kept_is_its_agents_failure(folder: Path) -> None:
    class Odd(Scripts):
        def scout(self, brief: Any, desk: Any) -> Any:
            report = super().scout(brief, desk)
            if brief.tried or report.outcome.kind != "proposed":
                return report
            odd = report.outcome.strategies[0].model_copy(update={"hypothesis": "\0"})
            return report.model_copy(update={"outcome": report.outcome.model_copy(update={"strategies": (odd,)})})

    held = holding_in(folder, agent=Odd())
    assert "could not be taken" in (held.hold().ending or "")
    assert held.place.ledger.check().sound


def test_an_edit_that_cannot_be_read_is_said_and_not_taken(folder: Path) -> None:
    heard = Heard()

    def edit(step: str, number: int) -> None:
        if (step, number) == ("prepare", 1):
            (folder / "program.md").write_text("nonsense")

    night = holding_in(folder, before=edit, telling=heard).hold()
    assert any("not taken" in words for words in heard.said)
    assert fast(folder, night.champion_branch) == GOOD


def test_a_machine_that_fails_now_and_then_is_put_up_with(folder: Path) -> None:
    heard, failed = Heard(), set[int]()

    def fail(step: str, number: int) -> None:
        if step == "time" and number not in failed and len(failed) < 2:
            failed.add(number)
            raise MachineError("too loaded")

    held = holding_in(folder, before=fail, telling=heard)
    night = held.hold()
    assert sum("could not be judged now: too loaded" in words for words in heard.said) == 2
    assert fast(folder, night.champion_branch) == GOOD
    assert_sound(held.place, night)


def test_a_machine_that_fails_again_and_again_ends_it_and_nothing_is_lost(folder: Path) -> None:
    def fail(step: str, _number: int) -> None:
        if step == "prepare":
            raise MachineError("no space")

    with pytest.raises(MachineError, match="no space"):
        holding_in(folder, before=fail).hold()
    held = holding_in(folder)
    night = held.hold()
    assert fast(folder, night.champion_branch) == GOOD
    assert_sound(held.place, night)


@pytest.mark.parametrize("when", ["prepare", "time", "report", "morning"])
def test_ctrl_c_keeps_everything(folder: Path, when: str) -> None:
    once = [True]

    def interrupt(step: str, _number: int) -> None:
        if step == when and once:
            once.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        holding_in(folder, before=interrupt).hold()
    held = holding_in(folder)
    night = held.hold()
    assert fast(folder, night.champion_branch) == GOOD
    assert_sound(held.place, night)


def test_a_champion_that_cannot_be_timed_just_now_is_tried_again(folder: Path) -> None:
    rehearsals = [0]

    def fail(step: str, _number: int) -> None:
        if step == "rehearse":
            rehearsals[0] += 1
            if rehearsals[0] == 2:
                raise MachineError("too loaded")

    heard = Heard()
    night = holding_in(folder, before=fail, telling=heard).hold()
    assert "the champion could not be judged now: too loaded" in heard.said
    assert fast(folder, night.champion_branch) == GOOD


def test_an_agent_that_raises_has_failed_and_nothing_else(folder: Path) -> None:
    class Clumsy(Scripts):
        def worker(self, brief: Any, desk: Any) -> Any:
            if brief.strategy.files == ("src/0.txt",):
                raise RuntimeError("\x1b[31mno idea")
            return super().worker(brief, desk)

    held = holding_in(folder, agent=Clumsy())
    night = held.hold()
    assert fast(folder, night.champion_branch) == [number for number in GOOD if number]
    with held.place.ledger.read() as reading:
        (task,) = reading.session.scalars(select(Task).where(Task.reason.startswith("failed:")))
        assert task.reason == "failed: RuntimeError: no idea"


def test_candidates_are_prepared_while_others_are_timed_where_there_are_cores(folder: Path) -> None:
    overlapped: list[tuple[str, int]] = []
    timing = threading.Event()

    def watch(step: str, number: int) -> None:
        if step == "time":
            timing.set()
            time.sleep(0.1)
            timing.clear()
        elif step == "prepare" and timing.wait(0.2):
            overlapped.append((step, number))

    held = holding_in(folder, before=watch, cores=frozenset(os.sched_getaffinity(0)) | {0, 1, 2, 3})
    held._builders = lambda: frozenset({0})  # type: ignore[method-assign]
    night = held.hold()
    assert overlapped
    assert fast(folder, night.champion_branch) == GOOD
    assert_sound(held.place, night)


def hold_there(folder: Path) -> None:
    os.setpgrp()
    holding_in(folder).hold()


def test_kills_at_any_moment_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-9 again and again, and each time the next process goes on: the champion's tree is that of a quiet night."""
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    moments = random.Random(20261120)  # noqa: S311 - it has to be repeatable
    forking = multiprocessing.get_context("fork")
    kills, nights = 0, 0
    while kills < KILLS:
        nights += 1
        folder = new_repository(tmp_path / f"repository-{nights}")
        while True:
            process = forking.Process(target=hold_there, args=(folder,))
            process.start()
            process.join(moments.uniform(0.0, 1.0))
            if process.exitcode is not None:
                break
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        assert process.exitcode == 0
        with Ledger.open(folder / ".nightfleet/ledger.sqlite") as ledger, ledger.read() as reading:
            night = reading.get(Night, 1)
        assert night.ending == "nothing is left to try"
        assert fast(folder, night.champion_branch) == GOOD
        place = Place.open(folder)
        assert_sound(place, night)
        place.trees.reclaim()
    assert left_in(tmp_path / "trees") == []


def test_a_night_in_postgresql(folder: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTFLEET_LEDGER", new_schema(postgres))
    once = [True]

    def interrupt(step: str, number: int) -> None:
        if step == "time" and number > 1 and once:
            once.clear()
            raise KeyboardInterrupt

    first = holding_in(folder, before=interrupt)
    with contextlib.closing(first.place.ledger), pytest.raises(KeyboardInterrupt):
        first.hold()
    held = holding_in(folder)
    with contextlib.closing(held.place.ledger):
        night = held.hold()
        assert not (folder / ".nightfleet/ledger.sqlite").exists()
        assert fast(folder, night.champion_branch) == GOOD
        assert_sound(held.place, night)


def test_those_who_join_work_until_the_night_is_over(folder: Path) -> None:
    """A second process brings agents; the first has none of its own."""
    driver = holding_in(folder, Wishes(workers=1), before=lambda _step, _number: time.sleep(0.02))
    driver._seats = list  # type: ignore[method-assign]
    joined: list[int] = []
    begun = threading.Event()

    class Heard(Silent):
        def say(self, words: str) -> None:
            assert words
            begun.set()

    driver.telling = lambda _night, _limits: contextlib.nullcontext(Heard())

    def join() -> None:
        begun.wait()
        joined.append(holding_in(folder).join())

    helper = threading.Thread(target=join)
    helper.start()
    # Without seats of its own a night would end at once, were nobody waited for.
    fleet = replace(driver.program.fleet, scout="outside", worker="outside")
    driver.program = replace(driver.program, fleet=fleet)
    driver.wishes = Wishes(experiments=6)
    night = driver.hold()
    helper.join()
    assert joined == [3]
    assert night.ending == "6 experiments are done"
    with driver.place.ledger.read() as reading:
        makers = set(reading.session.scalars(select(Candidate.made_by)))
    assert makers
    assert all("@" in maker for maker in makers)
