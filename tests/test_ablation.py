"""The morning's last work: each promotion left out of the champion once, and what is said of it."""

import io
import itertools
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scripted import ScriptedCourt, Scripts, git, holding_in, new_repository
from sqlalchemy import func, select

from nightfleet.agents.contract import Brief, Desk, Report
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator import stopping
from nightfleet.orchestrator.holding import Holding, Wishes
from nightfleet.orchestrator.ledger import ablations
from nightfleet.orchestrator.ledger.tables import Ablation, Candidate, Night, Reservation, Verification
from nightfleet.orchestrator.views import telling
from nightfleet.orchestrator.views.summary import Summary


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    return new_repository(tmp_path / "repository")


def left_out(held: Holding, night: Night) -> dict[int, Ablation]:
    """By the number of the candidate."""
    with held.place.ledger.read() as reading:
        rows = reading.session.scalars(select(Ablation).where(Ablation.night == night.number)).all()
        assert len({row.promotion for row in rows}) == len(rows)
        known = ablations.of_champion(reading, night.number)
        assert sorted(row.sequence for row in known.values()) == sorted(row.sequence for row in rows)
        assert held.place.ledger.check().sound
        return {step.number: known[key] for key, step in _by_promotion(held, night) if key in known}


def _by_promotion(held: Holding, night: Night) -> list[tuple[int, Candidate]]:
    from nightfleet.orchestrator.ledger import promotions

    with held.place.ledger.read() as reading:
        rows = promotions.in_champion(reading, night.number)
        return [(row.id, reading.get(Candidate, row.candidate)) for row in rows]


def told(held: Holding, night: Night) -> str:
    words = io.StringIO()
    telling.tell(Summary.of(held.place.ledger, night.number), Console(file=words, width=200))
    return words.getvalue()


def test_each_promotion_is_left_out_once_and_nothing_is_spent(folder: Path) -> None:
    held = holding_in(folder, Wishes(workers=1))
    night = held.hold()
    found = left_out(held, night)
    promoted = [candidate for _, candidate in _by_promotion(held, night)]
    assert len(promoted) > 1
    assert sorted(found) == sorted(candidate.number for candidate in promoted)
    for candidate in promoted:
        (path,) = git(folder, "diff", "--name-only", candidate.parent, candidate.commit).split()
        without = found[candidate.number].without
        assert git(folder, "show", f"{without}:{path}") == "slow\n"
        # And nothing else is other than in the champion.
        assert git(folder, "diff", "--name-only", str(without), night.champion).split() == [path]
    assert git(folder, "rev-parse", night.champion_branch).strip() == night.champion
    with held.place.ledger.read() as reading:
        timed = reading.session.scalar(select(func.count()).select_from(Verification).where(Verification.pairs > 0))
        assert reading.session.scalar(select(func.count()).select_from(Reservation)) == timed
    assert "no more use" not in told(held, night)
    assert "by now" in told(held, night)


def test_what_helps_no_longer_is_named_with_the_command_that_takes_it_out(folder: Path) -> None:
    held = holding_in(folder, Wishes(workers=1))
    assert isinstance(held.court, ScriptedCourt)
    worth: Any = held.court.worth
    worth |= {1: 0.001}
    night = held.hold()
    rows = left_out(held, night)
    assert [number for number, row in rows.items() if row.redundant] == [1]
    words = told(held, night)
    assert "no more use   #1 +0.1% (-0.9% to 1.1%)" in words
    assert "nightfleet signoff --reject 1" in words
    found = Summary.of(held.place.ledger, night.number).to_json()
    assert [step["redundant"] for step in found["steps"]] == [step["number"] == 1 for step in found["steps"]]


def test_what_others_were_built_on_is_not_left_out_alone(folder: Path) -> None:
    class OneFile(Scripts):
        def worker(self, brief: Brief, desk: Desk) -> Report:
            report = super().worker(brief, desk)
            assert brief.strategy is not None
            (path,) = brief.strategy.files
            (brief.tree / path).write_text("slow\n")
            (brief.tree / "src/0.txt").write_text(f"as fast as {path}\n")
            return report

    held = holding_in(folder, Wishes(experiments=3, workers=1), agent=OneFile())
    night = held.hold()
    numbers = [candidate.number for _, candidate in _by_promotion(held, night)]
    assert len(numbers) == 3
    found = left_out(held, night)
    assert [found[number].verdict for number in numbers] == ["conflict", "conflict", "promote"]
    for first, second in itertools.pairwise(numbers):
        why = f"conflicts with #{second} in src/0.txt: cannot be left out alone"
        assert found[first].reason == why
        assert f"#{first} {why}" in told(held, night)


def test_without_one_promotion_the_program_may_not_even_build(folder: Path) -> None:
    def refuse(step: str, number: int) -> None:
        if (step, number) == ("without", 1):
            raise UserError("the baseline does not build")

    held = holding_in(folder, Wishes(workers=1), before=refuse)
    night = held.hold()
    found = left_out(held, night)[1]
    assert (found.verdict, found.reason) == ("broken", "without it: the baseline does not build")
    assert not found.redundant
    assert "#1 without it: the baseline does not build" in told(held, night)


def test_a_machine_that_cannot_measure_now_ends_no_morning(folder: Path) -> None:
    def refuse(step: str, number: int) -> None:
        if (step, number) == ("without", 1):
            raise MachineError("too loaded")

    held = holding_in(folder, Wishes(workers=1), before=refuse)
    night = held.hold()
    found = left_out(held, night)
    assert 1 not in found
    assert found
    assert night.ended_us is not None


def test_a_morning_that_was_interrupted_goes_on_where_it_was(folder: Path) -> None:
    seen: list[int] = []

    def interrupt(step: str, number: int) -> None:
        if step == "without":
            seen.append(number)
            if len(seen) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        holding_in(folder, before=interrupt).hold()
    held = holding_in(folder, before=interrupt)
    night = held.hold()
    assert sorted(left_out(held, night)) == sorted(set(seen))
    # The one that was cut short is measured again, and no other.
    assert len(seen) == len(set(seen)) + 1


def test_who_is_in_a_hurry_gets_no_morning(folder: Path) -> None:
    def hurry(step: str, number: int) -> None:
        if step == "without":
            stopping.ask(held.place.state, held.place.night(), measure=False)
        del number

    held = holding_in(folder, before=hurry)
    night = held.hold()
    assert len(left_out(held, night)) == 1
    assert len(_by_promotion(held, night)) > 1


def test_one_promotion_alone_is_what_the_champion_is(folder: Path) -> None:
    held = holding_in(folder, Wishes(experiments=1, workers=1))
    night = held.hold()
    assert len(_by_promotion(held, night)) == 1
    assert left_out(held, night) == {}
    assert "by now" not in told(held, night)
