"""What a night came to, in words: the last line to the letter, and what must come first."""

import io
import json
from pathlib import Path
from typing import Any

import staged
from nightwork import Hands
from rich.console import Console

from nightfleet.orchestrator.ledger import Ledger, nights, promotions, queries
from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.views.summary import Summary
from nightfleet.orchestrator.views.telling import tell

FOUND = {"gain": 0.312, "low": 0.301, "high": 0.324, "clock": "cpu", "pairs": 40, "cases": 20000}


def lines(ledger: Ledger) -> list[str]:
    paper = io.StringIO()
    tell(Summary.of(ledger, 1), Console(file=paper, width=80))
    return paper.getvalue().splitlines()


def measure(ledger: Ledger, **changes: Any) -> None:
    with ledger.write() as writing:
        found = {**FOUND, "verdict": "promote", "reason": "", "diverged": 0, "report": "v9", "root_digest": "d" * 64}
        champion = writing.get(Night, 1).champion
        nights.measured(writing, 1, **{**found, "champion": champion, **changes})


def end(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nights.end(writing, 1, "budget.experiments are spent")


def test_the_last_line_with_a_morning(ledger: Ledger, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    measure(ledger)
    assert lines(ledger)[-1] == (
        "PROMOTED 2 of 9 candidates, total gain 31.2% (30.1% to 32.4%), 20000/20000 cases identical"
    )


def test_the_last_line_says_why_nothing_was_measured(ledger: Ledger) -> None:
    staged.begin(ledger)
    assert lines(ledger)[-1] == "PROMOTED 0 of 0 candidates, total gain not measured: nothing was promoted"
    staged.promoted(ledger, 0.1)
    assert lines(ledger)[-1] == "PROMOTED 1 of 1 candidates, total gain not measured: the night goes on"
    end(ledger)
    found = "PROMOTED 1 of 1 candidates, total gain not measured: "
    assert lines(ledger)[-1] == f"{found}the champion was not held against the root"
    measure(ledger, gain=None, low=None, high=None, reason="a\nb")
    assert lines(ledger)[-1] == f"{found}a b"


def test_what_has_to_be_signed_off_comes_first(ledger: Ledger, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    loud = [place for place, line in enumerate(lines(ledger)) if line.startswith("AWAITING SIGN-OFF: #7 ")]
    assert loud == [2]
    assert "  nightfleet signoff 7" in lines(ledger)
    with ledger.write() as writing:
        (awaits,) = promotions.awaiting_sign_off(writing, 1)
        promotions.sign_off(writing, awaits.id, accepted=True, said_by="me")
    assert not any("SIGN-OFF" in line or "signoff" in line for line in lines(ledger))


def test_steps_near_misses_and_failures(ledger: Ledger, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    said = lines(ledger)
    step = "2  +10.0%   (8.0% to 12.0%)     12  20,000  champion0  hoist the bounds check out of the inner loop"
    assert step in said
    assert any(line.endswith("#4 incremental +3.0% (1.0% to 5.0%), 12 pairs: reserve the queue once") for line in said)
    for failure in ("1 reject: #1", "1 incorrect: #3", "1 broken: #6", "1 stale: #5"):
        assert any(line.endswith(failure) for line in said), failure
    assert any("7 of 200 experiments" in line for line in said)
    assert any("speed: 5 timings, 0.00125 of 0.1" in line for line in said)
    assert "  git log rrrrrrrrr..nightfleet/champion" in said


def test_a_title_of_a_stranger_is_harmless(ledger: Ledger, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    said = "\n".join(lines(ledger))
    assert staged.HARMLESS in said
    assert not any(poison in said for poison in staged.POISON)
    assert sum(line.startswith("PROMOTED") for line in said.split("\n")) == 1


def test_who_drives_it(ledger: Ledger) -> None:
    staged.begin(ledger)
    nobody = "nobody drives it; type `nightfleet launch` to go on"
    assert nobody in lines(ledger)
    with ledger.drive():
        assert Summary.of(ledger, 1).driven
        assert not any("nobody" in line for line in lines(ledger))
    assert nobody in lines(ledger)
    end(ledger)
    assert "ended: budget.experiments are spent" in lines(ledger)
    assert nobody not in lines(ledger)


def test_budgets_come_from_the_program(ledger: Ledger) -> None:
    staged.begin(ledger)
    text = (Path(__file__).parents[1] / "program.md").read_text(encoding="utf-8")
    with ledger.write() as writing:
        nights.read_program(writing, 1, text)
    assert Summary.of(ledger, 1).budget is not None
    with ledger.write() as writing:
        nights.read_program(writing, 1, "---\nof another: version\n---\n")
    assert Summary.of(ledger, 1).budget is None
    assert lines(ledger)


def test_json_is_plain_and_has_all_of_it(ledger: Ledger, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    measure(ledger)
    found = json.loads(json.dumps(Summary.of(ledger, 1).to_json()))
    assert found["awaiting_sign_off"] == [7]
    assert [step["number"] for step in found["steps"]] == [2, 7]
    assert found["failed"] == {"reject": [1], "incorrect": [3], "stale": [5], "broken": [6]}
    assert found["morning"]["gain"] == 0.312
    assert found["night"]["ending"] is None


def test_as_many_questions_for_a_long_night_as_for_a_short_one(ledger: Ledger) -> None:
    staged.begin(ledger)
    few = queries_of(ledger)
    staged.many(ledger, 10_000)
    with ledger.read() as reading:
        assert len(queries.results(reading, 1)) == 10_000
    assert queries_of(ledger) == few


def queries_of(ledger: Ledger) -> int:
    with staged.counted(ledger) as statements:
        Summary.of(ledger, 1)
    assert statements
    return len(statements)
