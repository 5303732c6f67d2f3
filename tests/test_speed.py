"""The timing of a candidate: what ends it, what is kept of it; on a simulated clock and with real programs."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from calm import calm_machine
from planted import planted
from simulated import Simulated, calibrated

from nightfleet.harness.cases import Cases
from nightfleet.harness.evidence import recompute
from nightfleet.harness.journal import read_journal
from nightfleet.harness.noise import calibrate
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.rounds import Blocks
from nightfleet.harness.rules import CONFIRMATION_PAIRS, PRECISE_PAIRS, SPEED_CAP, Rules
from nightfleet.harness.speed import Progress, Speed, SpeedResult
from nightfleet.harness.verdict import Step
from nightfleet.native import Workload

WALL = Rules("wall")
TWO = Rules("wall", workloads=("a", "bb"))


def blocks(number: int) -> Blocks:
    return {"": np.array([number], dtype=np.int64)}


def both(number: int) -> Blocks:
    return {name: np.array([number], dtype=np.int64) for name in TWO.workloads}


def timed(bench: Simulated, **more: object) -> SpeedResult:
    return Speed(bench, WALL, calibrated(WALL, bench.sd), blocks, **more).run()  # type: ignore[arg-type]


def test_a_gain_is_found_confirmed_and_decided_again_from_what_is_kept() -> None:
    bench = Simulated(gain=0.12)
    calibration = calibrated(WALL)
    result = Speed(bench, WALL, calibration, blocks).run()
    assert result.decision.step is Step.PROMOTE
    assert result.decision.gain == pytest.approx(0.12, abs=0.01)
    assert len(result.confirmation) == CONFIRMATION_PAIRS
    assert len(result.rounds) == len(result.pairs) + CONFIRMATION_PAIRS
    assert bench.warmed == 2
    kept = json.loads(json.dumps(result.evidence(WALL, calibration).to_dict()))
    assert recompute(kept).decision == result.decision
    assert [draw.candidate_first for round_ in result.rounds for draw in round_.draws.values()] == [
        pair.candidate_first for pair in (*result.pairs, *result.confirmation)
    ]


def test_candidates_that_change_nothing_are_rejected_soon_and_never_promoted() -> None:
    results = [timed(Simulated(seed=seed)) for seed in range(40)]
    steps = Counter(result.decision.step for result in results)
    assert steps[Step.PROMOTE] == 0
    assert steps[Step.REJECT] >= 38
    assert np.mean([len(result.pairs) for result in results]) < 15
    assert not any(result.confirmation for result in results)


def test_a_gain_of_ten_percent_is_nearly_always_promoted_at_its_size() -> None:
    results = [timed(Simulated(gain=0.10, seed=seed)) for seed in range(40)]
    promoted = [result.decision.gain for result in results if result.decision.step is Step.PROMOTE]
    assert len(promoted) >= 36
    assert np.mean([gain for gain in promoted if gain is not None]) == pytest.approx(0.10, abs=0.003)


def test_no_block_is_used_twice_neither_by_warm_ups_nor_by_void_rounds() -> None:
    asked: list[int] = []

    def once(number: int) -> Blocks:
        asked.append(number)
        return blocks(number)

    bench = Simulated(gain=0.12, void=lambda k: k in {1, 4, 17})
    result = Speed(bench, WALL, calibrated(WALL), once, first_block=100).run()
    assert asked == list(range(100, result.next_block))
    assert result.void == 3
    assert len(result.rounds) == len(result.pairs) + len(result.confirmation) + 3
    assert result.decision.step is Step.PROMOTE


def test_void_rounds_do_not_count() -> None:
    # All that speaks for the candidate is void.
    bench = Simulated(sd=0.001, void=lambda k: k % 2 == 0)
    real = bench._round

    def biased(given: Blocks, number: int, *, reference: bool) -> object:
        bench.gain = 0.3 if number % 2 == 0 else 0.0
        return real(given, number, reference=reference)

    bench._round = biased  # type: ignore[method-assign, assignment]
    result = timed(bench)
    assert result.decision.step is Step.REJECT
    assert result.void > 0


@pytest.mark.parametrize("at", [0, 3, 25, -1, -2])
def test_one_timed_record_that_differs_ends_it_at_once(at: int) -> None:
    # In the timing, in the confirmation, in either warm-up; nobody is interested in its speed any more.
    bench = Simulated(gain=0.12, lies=lambda k: k == at)
    result = timed(bench)
    assert list(result.diverged) == [""]
    assert result.decision.step is not Step.PROMOTE
    assert len(result.rounds) == (at + 1 if at >= 0 else len(result.pairs))
    counted = len(result.pairs) + len(result.confirmation)
    assert counted == (at if at >= 0 else len(result.pairs))
    if result.confirmation:
        with pytest.raises(ValueError, match="cut short"):
            result.evidence(WALL, calibrated(WALL))


def test_a_record_that_differs_in_a_void_round_counts_all_the_same() -> None:
    assert timed(Simulated(lies=lambda k: k == 2, void=lambda k: k == 2)).diverged


def test_a_candidate_that_breaks_ends_it_and_keeps_what_was_timed() -> None:
    result = timed(Simulated(gain=0.12, breaks=lambda k: k == 4))
    assert result.broken is not None
    assert "signal 11" in str(result.broken)
    assert len(result.pairs) == 4


def test_everyone_is_told_after_each_round() -> None:
    told: list[Progress] = []
    result = timed(Simulated(gain=0.12, void=lambda k: k == 2), on_round=told.append)
    assert [news.round for news in told] == list(result.rounds)
    assert told[2].void == 1
    assert told[2].decision.pairs == 2
    first = [news for news in told if news.confirmed is None]
    assert first[-1].decision.step is Step.CONFIRM
    assert first[-1].decision.log_e > 4.6
    assert [news.confirmed for news in told[len(first) :]] == list(range(1, CONFIRMATION_PAIRS + 1))
    assert told[-1].decision == result.decision


def test_the_confirmation_runs_in_quiet_and_nothing_else_does() -> None:
    bench = Simulated(gain=0.12)
    inside: list[int] = []

    @contextmanager
    def quiet() -> Iterator[None]:
        inside.append(len(bench.asked))
        yield
        inside.append(len(bench.asked))

    result = timed(bench, quiet=quiet)
    assert inside == [len(result.pairs), len(result.rounds)]
    inside.clear()
    timed(Simulated(), quiet=quiet)
    assert not inside


def test_a_timing_goes_on_where_it_was_left() -> None:
    calibration = calibrated(WALL, 0.01)
    whole = Speed(Simulated(gain=0.12), WALL, calibration, blocks).run()
    bench = Simulated(gain=0.12, breaks=lambda k: k == 4)
    part = Speed(bench, WALL, calibration, blocks).run()
    rest = Speed(
        Simulated(gain=0.12, seed=5), WALL, calibration, blocks, previous=part.pairs, first_block=part.next_block
    )
    result = rest.run()
    assert result.pairs[:4] == part.pairs == whole.pairs[:4]
    assert result.decision.step is Step.PROMOTE
    assert min(int(draw.block[0]) for round_ in result.rounds for draw in round_.draws.values()) >= part.next_block


def test_a_timing_that_waits_for_its_confirmation_goes_straight_to_it() -> None:
    first = timed(Simulated(gain=0.12))
    again = timed(Simulated(gain=0.12, seed=3), previous=first.pairs, first_block=first.next_block)
    assert again.pairs == first.pairs
    assert len(again.rounds) == CONFIRMATION_PAIRS
    assert again.decision.step is Step.PROMOTE


@pytest.mark.parametrize("rules", [WALL, TWO])
@pytest.mark.parametrize("left", [1, 7, CONFIRMATION_PAIRS])
def test_a_confirmation_goes_on_where_it_was_left(rules: Rules, left: int) -> None:
    given, calibration = (both if rules is TWO else blocks), calibrated(rules)
    gain = dict.fromkeys(rules.workloads, 0.12)
    first = Speed(Simulated(gain=gain), rules, calibration, given).run()
    recorded = (*first.pairs, *first.confirmation[: left * len(rules.workloads)])
    again = Speed(
        Simulated(gain=gain, seed=3), rules, calibration, given, previous=recorded, first_block=first.next_block
    ).run()
    assert again.pairs == first.pairs
    assert (*again.pairs, *again.confirmation)[: len(recorded)] == recorded
    assert len(again.rounds) == CONFIRMATION_PAIRS - left
    assert len(again.confirmation) == len(first.confirmation)
    assert again.decision.step is Step.PROMOTE
    if left == CONFIRMATION_PAIRS:
        assert again.decision == first.decision


def test_more_than_a_confirmation_is_refused() -> None:
    first = timed(Simulated(gain=0.12))
    with pytest.raises(ValueError, match="a confirmation is 20 pairs"):
        timed(Simulated(), previous=(*first.pairs, *first.confirmation, first.pairs[0]))


def test_an_undecided_one_is_continued_beyond_the_cap_only_when_asked() -> None:
    noisy = Simulated(gain=0.035, sd=0.10, seed=4)
    at_cap = timed(noisy)
    assert at_cap.decision.step is Step.UNDECIDED
    assert len(at_cap.pairs) == SPEED_CAP
    again = timed(Simulated(sd=0.10, seed=8), previous=at_cap.pairs)
    assert again.pairs == at_cap.pairs
    more = timed(Simulated(gain=0.035, sd=0.10, seed=8), previous=at_cap.pairs, beyond=7)
    assert len(more.pairs) == SPEED_CAP + 7 or more.decision.step is not Step.UNDECIDED


def test_what_will_hardly_be_decided_makes_way_only_where_others_wait() -> None:
    alone = timed(Simulated(gain=0.01, sd=0.10, seed=4))
    assert (alone.decision.step, len(alone.pairs)) == (Step.UNDECIDED, SPEED_CAP)
    in_a_night = timed(Simulated(gain=0.01, sd=0.10, seed=4), patient=False)
    pairs = len(in_a_night.pairs)
    assert in_a_night.decision.step is Step.UNDECIDED
    assert PRECISE_PAIRS <= pairs < SPEED_CAP
    assert in_a_night.pairs == alone.pairs[:pairs]
    # Idle time goes on with it: so many rounds more, or without end until the cap.
    more = timed(Simulated(gain=0.01, sd=0.10, seed=8), previous=in_a_night.pairs, patient=False, beyond=3)
    assert len(more.pairs) == pairs + 3
    whole = timed(Simulated(gain=0.01, sd=0.10, seed=8), previous=in_a_night.pairs, beyond=2)
    assert len(whole.pairs) == SPEED_CAP + 2 or whole.decision.step is not Step.UNDECIDED


def test_several_workloads_count_by_the_round() -> None:
    bench = Simulated(gain={"a": 0.12, "bb": 0.12})
    result = Speed(bench, TWO, calibrated(TWO), both).run()
    assert result.decision.step is Step.PROMOTE
    assert result.decision.pairs == CONFIRMATION_PAIRS
    assert len(result.confirmation) == 2 * CONFIRMATION_PAIRS
    assert len(result.pairs) == 2 * (len(result.rounds) - CONFIRMATION_PAIRS)


def test_references_are_run_exactly_where_the_calibration_needs_them() -> None:
    bench = Simulated(work=lambda case: 1.0 + case % 3)
    rounds = [bench.round(blocks(k), reference=True) for k in range(100)]
    per_block = calibrate([pair for round_ in rounds for pair in round_.pairs], WALL, per_block=True)
    relative = Simulated(gain=0.12, work=lambda case: 1.0 + case % 3)
    assert Speed(relative, WALL, per_block, blocks).run().decision.step is Step.PROMOTE
    assert all(relative.referred)
    plain = Simulated(gain=0.12)
    timed(plain)
    assert not any(plain.referred)


# Real programs. A verdict needs a quiet machine; these only rely on differences that no load can hide.


def number_blocks(size: int, start: int = 0) -> object:
    def of(number: int) -> Blocks:
        first: Cases = np.arange(start + number * size, start + (number + 1) * size, dtype=np.int64)
        return {"": first}

    return of


@pytest.fixture
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm_machine(tmp_path, monkeypatch)


def real(tmp_path: Path, candidate: Path, baseline: Path, size: int = 10) -> SpeedResult:
    with PairBench(baseline, candidate, Workload(["./p"]), 1, tmp_path / "draws.jsonl") as bench:
        calibration = calibrated(WALL, 0.02)
        return Speed(bench, WALL, calibration, number_blocks(size)).run()  # type: ignore[arg-type]


@pytest.mark.usefixtures("quiet_machine")
def test_a_candidate_that_works_half_as_much_is_measured_as_such(tmp_path: Path) -> None:
    slow, quick = (planted(tmp_path, name, loops=loops) for name, loops in (("a", 1_000_000), ("b", 500_000)))
    result = real(tmp_path, quick, slow)
    assert result.broken is None
    assert not result.diverged
    assert result.pairs
    gains = [1 - pair.candidate.wall_ns / pair.baseline.wall_ns for pair in (*result.pairs, *result.confirmation)]
    assert 0.25 < float(np.median(gains)) < 0.6
    assert result.decision.step in {Step.PROMOTE, Step.UNDECIDED, Step.SUSPICIOUS}
    recorded = read_journal(tmp_path / "draws.jsonl")
    assert recorded.pairs == (*result.pairs, *result.confirmation)
    assert recorded.next_block == result.next_block


@pytest.mark.usefixtures("quiet_machine")
def test_the_same_program_is_not_promoted(tmp_path: Path) -> None:
    tree = planted(tmp_path, "a", loops=200_000)
    result = real(tmp_path, tree, tree)
    assert result.decision.step in {Step.REJECT, Step.UNDECIDED}
    assert not result.diverged


@pytest.mark.usefixtures("quiet_machine")
def test_a_program_that_lies_only_where_it_is_timed_is_caught_there(tmp_path: Path) -> None:
    tree, liar = planted(tmp_path, "a"), planted(tmp_path, "b", lies_from=45)
    result = real(tmp_path, liar, tree)
    # Block 0 is the warm-up; blocks 1 to 3 hold the cases below 40.
    assert result.diverged == {"": (45, 46, 47, 48, 49)}
    assert len(result.pairs) == 3
    assert len(result.rounds) == 4


@pytest.mark.usefixtures("quiet_machine")
def test_a_crash_in_a_timed_pair_breaks_the_candidate(tmp_path: Path) -> None:
    tree, bad = planted(tmp_path, "a"), planted(tmp_path, "b", crashes_from=35)
    result = real(tmp_path, bad, tree)
    assert result.broken is not None
    assert result.broken.trial is not None
    assert result.broken.trial.outcome == "signal"
    assert "cannot do 35" in str(result.broken)
    assert len(result.pairs) == 2
