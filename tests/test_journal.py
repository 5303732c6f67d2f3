"""The journal of a timing: what a killed harness leaves in it, what the next one makes of that, and what it refuses."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed
import pytest
from calm import calm_machine
from planted import planted

from nightfleet.harness.journal import Entry, Journal, Recorded, read_journal
from nightfleet.harness.pairs import BrokenError, PairBench
from nightfleet.harness.speed import SpeedResult
from nightfleet.native import MachineError, UserError, Workload

HEADING = {"sides": ["1", "2"], "workloads": ["a", "b"], "seed": 5}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    planted(tmp_path, "good", loops=2000)
    return tmp_path


def kill(place: Path, moment: str, at: int) -> Recorded:
    """Time until the planted moment; what was recorded by then."""
    plan = json.dumps({"folder": str(place), "moment": moment, "at": at})
    done = subprocess.run([sys.executable, killed.__file__, plan], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return read_journal(place / "journal.jsonl")


def go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SpeedResult, Recorded, dict[str, list[Any]]]:
    """The same timing in this process: what came of it, the journal then, and the draws that were run, by workload."""
    if not (place / "here").exists():
        (place / "here").mkdir()
        calm_machine(place / "here", monkeypatch)
    with killed.bench(place) as bench:
        ran: dict[str, list[Any]] = {name: runner.ran for name, runner in bench._runners.items()}  # type: ignore[attr-defined]
        result = killed.timed(bench)
    return result, read_journal(place / "journal.jsonl"), ran


def blocks_of(entries: list[Entry]) -> list[int]:
    return [int(draw.block[0]) for entry in entries for draw in entry.draws.values()]


# Trial pairs of round 3: of workload a the fifth, of b the sixth. (Round 0 is the warm-up, which `run` does not run.)
@pytest.mark.parametrize(
    ("moment", "at", "has"), [("before", 5, []), ("after", 5, []), ("before", 6, ["a"]), ("after", 6, ["a"])]
)
def test_a_timing_killed_between_draw_and_result_goes_on_with_the_same_draw(
    place: Path, monkeypatch: pytest.MonkeyPatch, moment: str, at: int, has: list[str]
) -> None:
    planted(place, "other", loops=300_000)
    before = kill(place, moment, at)
    assert [len(entry.draws) for entry in before.entries] == [0, 2, 2, 2]
    assert list(before.entries[-1].results) == has
    left = before.unfinished
    assert left is before.entries[-1]
    text = (place / "journal.jsonl").read_text()

    result, after, ran = go_on(place, monkeypatch)

    # The same coin, copies and block, once more, before anything else; what had its result is not run again.
    redone = "b" if has else "a"
    assert ran[redone][0] == left.draws[redone]
    assert (left.draws["a"] in ran["a"]) is not bool(has)
    assert after.entries[3].draws == left.draws
    # Nothing lost: what was recorded is what is counted, in its order.
    assert (place / "journal.jsonl").read_text().startswith(text)
    assert result.pairs[:4] == before.pairs
    assert result.pairs[4 + len(has)].candidate_first is left.draws[redone].candidate_first
    assert (*result.pairs, *result.confirmation) == after.pairs
    # Nothing counted twice: each draw has one result, and no block was drawn twice.
    assert len(after.pairs) == 2 * sum(bool(entry.draws) for entry in after.entries)
    assert len(set(blocks_of(after.entries))) == len(blocks_of(after.entries))
    assert after.next_block == result.next_block


def test_killed_after_its_result_a_pair_is_not_run_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(place, "other", loops=300_000)
    # Results of the warm-up are the first two.
    before = kill(place, "recorded", 6)
    assert before.unfinished is None
    result, _, ran = go_on(place, monkeypatch)
    assert result.pairs[:4] == before.pairs
    assert all(entry.draws["a"] not in ran["a"] for entry in before.entries[1:])
    assert len(result.pairs) > 4


def test_a_harness_that_is_ended_twice_in_one_pair_gives_up_without_a_verdict(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(place, "other", loops=300_000)
    first = kill(place, "after", 3).unfinished
    assert first is not None
    (place / "run").rename(place / "before")
    # The second time the unfinished pair is the first that runs.
    again = kill(place, "after", 1).unfinished
    assert again is not None
    assert again.draws == first.draws
    with pytest.raises(MachineError, match="ended 2 times in one pair"):
        go_on(place, monkeypatch)
    # That stays so, and nothing was run for it.
    with pytest.raises(MachineError, match="ended 2 times in one pair"):
        go_on(place, monkeypatch)


def test_whoever_stops_the_harness_by_hand_may_do_so_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(place, "other", loops=300_000)
    calm_machine(place, monkeypatch)
    with killed.bench(place) as bench:
        real = bench._run

        def stop(*_: Any) -> Any:
            raise KeyboardInterrupt

        drawn: list[Entry] = []
        for _ in range(4):
            monkeypatch.setattr(bench, "_run", stop)
            with pytest.raises(KeyboardInterrupt):
                bench.round(killed.blocks(len(drawn)))
            drawn.append(bench.recorded.entries[-1])
        monkeypatch.setattr(bench, "_run", real)
        round_ = bench.round(killed.blocks(9))
    assert len(bench.recorded.entries) == 1
    assert dict(round_.draws) == dict(drawn[0].draws)
    assert bench.recorded.next_block == 5


def test_bad_ends_count_across_a_restart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(place, "other", crashes_from=100)
    # Round 1 has cases from 100 on: the candidate ends badly, is run again, and the harness is killed then.
    before = kill(place, "after", 2)
    assert [bad.side for bad in before.bad_ends] == ["candidate"]
    result, after, ran = go_on(place, monkeypatch)
    assert result.broken is not None
    assert "the candidate ended with signal 6" in str(result.broken)
    assert len(after.bad_ends) == 2
    # In the warm-up that came first: one more is one too many.
    assert not ran["a"]
    # Whoever asks again hears the same, and nothing runs.
    once_more, later, ran = go_on(place, monkeypatch)
    assert str(once_more.broken) == str(result.broken)
    assert later == after
    assert not ran["a"]


def test_a_record_that_differed_still_does_after_a_restart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(place, "other", lies_from=251)
    before = kill(place, "recorded", 6)
    assert before.diverged is not None
    assert before.diverged.diverged == {"b": tuple(range(251, 270))}
    result, _, ran = go_on(place, monkeypatch)
    assert result.diverged == {"b": tuple(range(251, 270))}
    assert not ran["a"]


def test_another_timings_journal_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(place, "other", loops=3000)
    kill(place, "recorded", 4)
    (place / "here").mkdir()
    calm_machine(place / "here", monkeypatch)
    good, other, journal, one = place / "good", place / "other", place / "journal.jsonl", Workload(["./p"])
    two = {"a": one, "b": one}
    (place / "good" / "more").write_text("a file that was not there")
    for wrong in (
        PairBench(good, other, two, killed.SEED, journal),
        PairBench(other, other, two, killed.SEED, journal),
        PairBench(other, other, {"a": one}, killed.SEED, journal),
        PairBench(other, other, two, killed.SEED + 1, journal),
    ):
        with pytest.raises(UserError, match="the journal of another timing"), wrong:
            pass


def written(path: Path) -> bytes:
    with Journal(path, HEADING) as journal:
        journal.warm_up({"a": killed.blocks(0)["a"]})
    return path.read_bytes()


@pytest.mark.parametrize(
    "torn", [b'{"what": "dra', b'{"what": "stopped", "round": 0, "workload": "a"}', b"\0\0\0\n", b"\0"]
)
def test_a_torn_last_line_is_not_there_and_the_next_one_is_whole(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "j"
    whole = written(path)
    path.write_bytes(whole + torn)
    assert len(read_journal(path).entries) == 1
    assert path.read_bytes() == whole + torn
    with Journal(path, HEADING) as journal:
        journal.warm_up({})
    assert path.read_bytes().startswith(whole)
    assert len(read_journal(path).entries) == 2


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_torn_heading_is_a_new_journal(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    path.write_bytes(written(tmp_path / "other")[:cut])
    assert written(path) == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"what": "stopped"}',
        b'{"what": "idle", "workload": "a"}',
        b'{"what": "draw", "pairs": 1}',
        b'{"what": "timing", "format": 1}',
        b'{"what": "result", "pair": null}',
    ],
)
def test_damage_anywhere_else_is_told_with_its_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j"
    whole = written(path)
    path.write_bytes(whole + line + b"\n" + whole.splitlines(keepends=True)[1])
    with pytest.raises(MachineError, match="line 3, is damaged"):
        read_journal(path)
    with pytest.raises(MachineError, match="line 3, is damaged"):
        Journal(path, HEADING)
    assert path.read_bytes().startswith(whole + line)


def test_a_journal_of_a_later_format_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(written(tmp_path / "other").replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(MachineError, match="format 2"):
        read_journal(path)


def test_a_broken_candidate_is_broken_in_the_same_process_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(place, "other", crashes_from=0)
    calm_machine(place, monkeypatch)
    with killed.bench(place) as bench:
        for _ in range(2):
            with pytest.raises(BrokenError, match="cannot do 0"):
                bench.round(killed.blocks(0))
        assert len(bench.recorded.entries) == 1
        assert len(bench.recorded.bad_ends) == 2
