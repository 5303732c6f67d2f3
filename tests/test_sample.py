"""Some further cases of an extraordinary claim, written out for whoever reads the change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocked import Bench, on_clock
from heard import hearing
from paperwork import account_of, content_of, report_of
from tiny import HALF, Tiny, doing

from nightfleet.harness.hearing import Hearing
from nightfleet.harness.report import read_report
from nightfleet.harness.request import Nobody
from nightfleet.harness.sample import CASES
from nightfleet.orchestrator.commands import edge


@pytest.fixture
def tiny(open_ground: Path) -> Tiny:
    return Tiny(open_ground / "tiny")


def test_twenty_further_cases_are_written_out_with_both_records(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = report_of(tiny, monkeypatch, "half", HALF, lambda: Bench(gain=0.5))
    content = content_of(folder)
    sample = content["sample"]
    assert content["verification"]["verdict"] == "promote"
    assert account_of(folder).failed == []
    assert len({one["case"] for one in sample}) == len(sample) == CASES == 20
    compared = set(np.load(folder / "digests-0.npy")["case"].tolist())
    for one in sample:
        assert one["case"] not in compared
        assert one["fed"] == str(one["case"])
        assert one["baseline"] == one["candidate"]
        assert one["baseline"]["text"].split()[0] == one["fed"]
        assert (one["first"], one["note"]) == (None, "")
    with pytest.raises(SystemExit):
        edge.main(["audit", "show", str(folder)])
    shown = capsys.readouterr().out
    assert all(f"case {one['case']} of sums" in shown for one in sample)


def test_an_ordinary_gain_has_no_further_cases(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = report_of(tiny, monkeypatch, "half", HALF, lambda: Bench(gain=0.12))
    assert content_of(folder)["sample"] == []


class Swapping(Nobody):
    """Puts one program in the place of another when the sample is about to be run."""

    def __init__(self, program: Path, by: bytes) -> None:
        self.program, self.by = program, by

    def progress(self, *news: Any) -> None:
        if str(news[1]).startswith("writing some"):
            self.program.write_bytes(self.by)


def test_a_record_that_is_another_when_it_is_written_out_is_incorrect(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.5))
    tiny.branch("half", {"tiny.c": HALF})
    assert not hearing(tiny, tiny.branch("wrong", {"tiny.c": doing("number++;")}), "v1").prepare()
    assert hearing(tiny, "half", "v2").prepare()
    programs = {path.read_text(): path.with_name("tiny") for path in tiny.state.glob("builds/*/tree/tiny.c")}
    wrong = programs[doing("number++;")].read_bytes()
    swapped = Hearing(replace(tiny.request("half"), id="v3"), Swapping(programs[HALF], wrong))
    assert swapped.prepare()
    swapped.time(0.01)
    found, directory, _ = swapped.report()
    assert found.verdict == "incorrect"
    assert "run once more" in found.reason
    assert account_of(directory).failed == []
    assert read_report(directory)["sample"][0]["first"] is not None
