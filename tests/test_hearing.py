"""A judge in two steps: a timing that ended too early goes on where it was, and nothing is spent or believed twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from clocked import Bench, on_clock
from heard import hearing, paced
from paperwork import account_of
from simulated import calibrated
from tiny import HALF, Tiny, doing

from nightfleet.harness import calibrations, repeats
from nightfleet.harness.audit.reckoning import check_rules
from nightfleet.harness.calibrations import Found
from nightfleet.harness.hearing import Hearing
from nightfleet.harness.journal import OtherTimingError, Recorded, read_journal
from nightfleet.harness.report import Verification, read_report

ALPHA = 0.004
CAP = 60
# Gain and noise, and so low an error rate that sixty such pairs do not get there.
NOISY, LOW = (0.07, 0.05), 1e-12


@pytest.fixture
def tiny(open_ground: Path) -> Tiny:
    tiny = Tiny(open_ground / "tiny")
    tiny.branch("half", {"tiny.c": HALF})
    return tiny


def killed(tiny: Tiny, results: int, **changes: Any) -> Recorded:
    """A hearing of `half` in a process that died after so many results; what it left of its timing."""
    asked = {"candidate": "half", "name": "v1", "alpha": ALPHA, "beyond": 0, "gain": 0.12, "sd": 0.01, "lies": ()}
    plan = {"root": str(tiny.root), "results": results, **asked, **changes}
    script = Path(__file__).with_name("heard.py")
    done = subprocess.run([sys.executable, str(script), json.dumps(plan)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    return journal(tiny)


def journal(tiny: Tiny, what: str = "speed") -> Recorded:
    return read_journal(tiny.state / "journals" / f"v1-{what}.jsonl")


def heard(hearing: Hearing, alpha: float = ALPHA, **how: Any) -> tuple[Verification, dict[str, Any]]:
    """A hearing to its end, and its report, which holds."""
    assert hearing.prepare()
    hearing.time(alpha, **how)
    found, directory, root = hearing.report()
    report = read_report(directory)
    assert report["root"] == root
    account = account_of(directory)
    assert account.holds, account.failed
    return found, report


def looks(tiny: Tiny) -> int:
    return len((tiny.state / repeats.INDEX).read_text().splitlines())


def drawn(*recorded: Recorded) -> list[int]:
    """Every case that was drawn for a pair, of all entries."""
    return [
        int(case) for one in recorded for entry in one.entries for draw in entry.draws.values() for case in draw.block
    ]


# A warm-up's result comes first; the timing asks for its confirmation after a few pairs.
@pytest.mark.parametrize("results", [4, 20], ids=["timing", "confirmation"])
def test_a_killed_timing_goes_on_where_it_was(
    tiny: Tiny, open_ground: Path, monkeypatch: pytest.MonkeyPatch, results: int
) -> None:
    before = killed(tiny, results)
    assert len(before.pairs) >= 3
    paced(open_ground / "here", monkeypatch, 0.12)
    found, report = heard(hearing(tiny, "half", "v1"))
    speed = report["speed"]
    after = journal(tiny)
    assert found.verdict == "promote"
    assert after.pairs[: len(before.pairs)] == before.pairs
    assert found.pairs == len(after.pairs) == len(speed["pairs"]) + len(speed["confirmation"])
    assert len(speed["confirmation"]) == 20
    # No block was used twice, nothing was counted twice, and the totals are those that were frozen before pair 1.
    assert len(set(drawn(after))) == len(drawn(after))
    assert (looks(tiny), found.repeats) == (1, 0)
    assert before.heading is not None
    assert speed["blocks"] == before.heading["terms"]["blocks"] != []


def test_a_report_that_was_cut_short_is_written_anew(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.12))
    left = tiny.state / "reports" / "v1"
    left.mkdir(parents=True)
    for name in (".nightfleet-7-0.tmp", "digests-9.npy", "report.draft"):
        (left / name).touch()
    once = hearing(tiny, "half", "v1")
    heard(once)
    assert {path.name for path in left.iterdir()} == {"report.json", "digests-0.npy", "digests-1.npy"}
    with pytest.raises(ValueError, match="timed once"):
        once.time(ALPHA)


def test_so_does_one_killed_in_another_layout(tiny: Tiny, open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = killed(tiny, 34, gain=0.5)
    before = journal(tiny, "extraordinary")
    assert before.pairs
    paced(open_ground / "here", monkeypatch, 0.5)
    found, report = heard(hearing(tiny, "half", "v1"))
    after = journal(tiny, "extraordinary")
    assert (found.verdict, found.extraordinary) == ("promote", True)
    assert journal(tiny).pairs == speed.pairs
    assert after.pairs[: len(before.pairs)] == before.pairs
    assert len(report["speed"]["relinked"]) == len(after.pairs) == 20
    every = drawn(journal(tiny), after)
    assert len(set(every)) == len(every)


def test_a_record_that_differed_before_the_kill_binds(
    tiny: Tiny, open_ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the very last pair: by the figures nothing is left to be done.
    paced(open_ground / "here", monkeypatch, 0.12)
    honest, _ = heard(hearing(tiny, "half", "v0"))
    before = killed(tiny, honest.pairs + 2, lies=(honest.pairs - 1,))
    assert before.diverged is not None
    found, _ = heard(hearing(tiny, "half", "v1"))
    assert (found.verdict, found.pairs) == ("incorrect", honest.pairs - 1)


def test_so_does_one_beyond_the_cap_for_whoever_asks_no_further(
    tiny: Tiny, open_ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(open_ground / "here", monkeypatch, *NOISY)
    undecided, _ = heard(hearing(tiny, "half", "v1"), LOW)
    gain, sd = NOISY
    killed(tiny, 2, gain=gain, sd=sd, alpha=LOW, beyond=3, lies=(CAP,))
    found, _ = heard(hearing(tiny, "half", "v1"), LOW)
    assert (undecided.verdict, found.verdict, found.pairs) == ("undecided", "incorrect", CAP)


def test_an_undecided_timing_goes_on_beyond_the_cap(
    tiny: Tiny, open_ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(open_ground / "here", monkeypatch, *NOISY)
    found, report = heard(hearing(tiny, "half", "v1"), LOW)
    assert (found.verdict, found.pairs) == ("undecided", CAP)
    again, _ = heard(hearing(tiny, "half", "v2", timing="v1"), LOW)
    assert (again.verdict, again.pairs, again.id) == ("undecided", CAP, "v2")
    further, longer = heard(hearing(tiny, "half", "v3", timing="v1"), LOW, beyond=3)
    assert (further.verdict, further.pairs) == ("undecided", CAP + 3)
    assert longer["speed"]["pairs"][:CAP] == report["speed"]["pairs"]
    assert longer["subject"]["timing"] == "v1"
    assert (looks(tiny), further.repeats) == (1, 0)
    # The same from the reports alone, and another timing of the same trees is another look.
    (tiny.state / repeats.INDEX).unlink()
    other, _ = heard(hearing(tiny, "half", "v4"))
    assert other.repeats == 1


def test_the_error_rate_that_the_timing_began_with_is_the_reports(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.12))
    _, report = heard(hearing(tiny, "half", "v1"))
    assert report["subject"]["alpha"] == report["speed"]["rules"]["alpha"] == ALPHA
    assert f"error rate {ALPHA}" in check_rules(report)
    entry = json.loads((tiny.state / repeats.INDEX).read_text())
    assert (entry["id"], entry["alpha"]) == ("v1", ALPHA)


@pytest.mark.parametrize("what", ["alpha", "calibration", "no calibration"])
def test_a_timing_goes_on_under_its_own_rules_and_calibration_or_not_at_all(
    tiny: Tiny, open_ground: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    before = killed(tiny, 4)
    paced(open_ground / "here", monkeypatch, 0.12)
    if what == "calibration":
        noisier(monkeypatch)
    if what == "no calibration":
        monkeypatch.setattr(calibrations, "load", lambda *_: Found(None, "gone"))
    again = hearing(tiny, "half", "v1")
    assert again.prepare()
    words = {"alpha": "alpha 0.004, and it is 0.002", "calibration": "another calibration"}.get(what, "no longer kept")
    with pytest.raises(OtherTimingError, match=f"{words}.*begin a new timing"):
        again.time(0.002 if what == "alpha" else ALPHA)
    with pytest.raises(ValueError, match="no verdict"):
        again.report()
    assert (journal(tiny).pairs, looks(tiny)) == (before.pairs, 1)


def noisier(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept calibration is one of a noisier hour."""
    kept = calibrations.load(Path(), cast("calibrations.Key", None)).calibrated
    assert kept is not None
    other = replace(kept, calibration=calibrated(kept.rules, 0.02))
    monkeypatch.setattr(calibrations, "load", lambda *_: Found(other))


def test_all_is_quiet_for_the_confirmation_and_for_another_layout(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    benches: list[Bench] = []
    quiet: list[tuple[int, int, int]] = []

    def bench() -> Bench:
        benches.append(Bench(gain=0.5))
        return benches[-1]

    @contextmanager
    def hush() -> Iterator[None]:
        before = len(benches[-1].asked)
        yield
        quiet.append((len(benches), before, len(benches[-1].asked)))

    on_clock(monkeypatch, bench)
    found, report = heard(hearing(tiny, "half", "v1"), quiet=hush)
    pairs = len(report["speed"]["pairs"])
    assert found.verdict == "promote"
    assert quiet == [(1, pairs, pairs + 20), (2, 0, 20)]


def test_what_a_gate_refuses_is_reported_without_a_timing(tiny: Tiny) -> None:
    refused = hearing(tiny, tiny.branch("wrong", {"tiny.c": doing("number++;")}), "v1")
    assert not refused.prepare()
    found, directory, root = refused.report()
    assert (found.verdict, read_report(directory)["root"]) == ("incorrect", root)
    with pytest.raises(ValueError, match="nothing to time"):
        refused.time(ALPHA)


def test_what_is_ready_has_a_binary_and_no_report_yet(tiny: Tiny) -> None:
    ready = hearing(tiny, "half", "v1")
    assert ready.prepare()
    with pytest.raises(ValueError, match="no verdict"):
        ready.report()
    again = hearing(tiny, "half", "v2")
    assert again.prepare()
    other = hearing(tiny, "main", "v3")
    assert other.prepare()
    assert again.binary == ready.binary != other.binary
