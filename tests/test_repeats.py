"""Verifying the same two trees again until the answer is yes: it is counted, and said."""

import json
from pathlib import Path
from typing import Any

import pytest
from clocked import Bench, on_clock
from tiny import HALF, SOURCE, Tiny, doing

from nightfleet.harness import repeats
from nightfleet.harness.report import Verification, read_report
from nightfleet.harness.request import Nobody
from nightfleet.harness.verify import verify

SUBJECT = {"arena": {"digest": "a"}, "baseline": {"tree": "b"}, "candidate": {"tree": "c"}, "alpha": 0.01}


UNTIMED = json.dumps({"verification": {"pairs": 0}, "subject": SUBJECT})


def changed(which: str) -> dict[str, Any]:
    key = {"arena": "digest"}.get(which, "tree")
    return {**SUBJECT, which: {key: "other"}}


@pytest.fixture
def tiny(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    on_clock(monkeypatch, Bench)
    return Tiny(open_ground / "tiny")


def judged(tiny: Tiny, candidate: str) -> Verification:
    found, directory = verify(tiny.request(candidate), Nobody())
    assert read_report(directory)["verification"] == found.to_json(directory)
    assert found.to_json(directory)["repeats"] == found.repeats
    return found


def test_each_further_timing_of_the_same_trees_is_told_what_it_costs(tiny: Tiny) -> None:
    same, other = tiny.branch("same", {"tiny.c": doing("/* no */")}), tiny.branch("half", {"tiny.c": HALF})
    first, second = judged(tiny, same), judged(tiny, same)
    assert (first.repeats, second.repeats, judged(tiny, other).repeats) == (0, 1, 0)
    assert not any("verification" in note for note in first.notes)
    # A tree counts, whatever it is called; and the index comes back from the reports.
    (tiny.state / repeats.INDEX).unlink()
    third = judged(tiny, tiny.branch("again", {"tiny.c": SOURCE.replace("/* here */", "/* no */")}))
    assert third.repeats == 2
    assert third.notes[-1] == (
        "this is verification 3 of these two trees; with alpha = 0.01 each, "
        "a false promotion among 3 has probability up to 3%"
    )


def test_what_never_came_to_timing_costs_nothing(tiny: Tiny) -> None:
    wrong = tiny.branch("wrong", {"tiny.c": doing("number++;")})
    assert [judged(tiny, wrong).repeats for _ in range(2)] == [0, 0]
    assert not (tiny.state / repeats.INDEX).exists()


@pytest.mark.parametrize("which", ["arena", "baseline", "candidate"])
def test_other_trees_or_another_arena_are_another_question(tmp_path: Path, which: str) -> None:
    for name in ("v1", "v2"):
        repeats.remember(tmp_path, name, SUBJECT)
    assert repeats.earlier(tmp_path, SUBJECT) == [0.01, 0.01]
    assert repeats.earlier(tmp_path, changed(which)) == []


def test_rates_that_differ_are_added_and_never_exceed_one() -> None:
    assert repeats.warning(0.01, []) is None
    assert "alpha of each added up, a false promotion among 2 has probability up to 6%" in str(
        repeats.warning(0.01, [0.05])
    )
    assert str(repeats.warning(0.5, [0.5, 0.5])).endswith("up to 100%")


def test_a_damaged_line_or_report_costs_only_itself(tmp_path: Path) -> None:
    for name, text in {
        "v1": "{",
        "v2": "[]",
        "v3": json.dumps({"verification": {"pairs": 3}}),
        "v4": "\udcff",
        "v6": UNTIMED,
    }.items():
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / "report.json").write_text(text, errors="surrogateescape")
    assert repeats.earlier(tmp_path, SUBJECT) == []
    with (tmp_path / repeats.INDEX).open("ab") as file:
        file.write(b'{"candidate": "c", "alp\n\xff\n"c"\n{"candidate": "c", "alpha": "c"}\n')
    repeats.remember(tmp_path, "v5", SUBJECT)
    assert repeats.earlier(tmp_path, SUBJECT) == [0.01]
