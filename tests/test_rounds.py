"""Rounds on a real bench: one coin for several workloads, new pages, what a bad end is and whose it is."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from calm import calm_machine
from planted import planted

from nightfleet.harness import sides
from nightfleet.harness.copies import refresh
from nightfleet.harness.journal import read_journal
from nightfleet.harness.pairs import BrokenError, PairBench
from nightfleet.harness.sides import Extent, Side, extent, fresh_copy
from nightfleet.native import Draw, Sandbox, UserError, Workload

WORKLOAD = Workload(["./p"])
BLOCK = np.arange(5, dtype=np.int64)
TWO = {"small": np.arange(3, dtype=np.int64), "large": np.arange(20, 29, dtype=np.int64)}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm_machine(tmp_path, monkeypatch)


def runners_of(bench: PairBench) -> dict[str, Any]:
    return cast("dict[str, Any]", bench._runners)


def test_the_workloads_of_a_round_share_coin_and_copies(tmp_path: Path) -> None:
    tree, journal = planted(tmp_path, "tree"), tmp_path / "draws.jsonl"
    with PairBench(tree, tree, {"small": WORKLOAD, "large": WORKLOAD}, 1, journal) as bench:
        runners = runners_of(bench)
        rounds = [bench.round(TWO) for _ in range(12)]
    for round_ in rounds:
        small, large = round_.draws["small"], round_.draws["large"]
        assert small.candidate_first is large.candidate_first
        assert (small.baseline_copy, small.candidate_copy) == (large.baseline_copy, large.candidate_copy)
        assert [pair.workload for pair in round_.pairs] == ["small", "large"]
        assert len(large.block) == 9
        assert not round_.diverged
    # Without sharing, 12 rounds of two coins and four copies agree once in 2**60.
    assert {round_.draws["small"].candidate_first for round_ in rounds} == {True, False}
    assert [entry.draws for entry in read_journal(journal).entries] == [round_.draws for round_ in rounds]
    assert runners["large"].ran == [round_.draws["large"] for round_ in rounds]


def test_the_coin_is_the_last_tossed(tmp_path: Path) -> None:
    # After every look at the load: what was seen of the machine cannot depend on it.
    tree = planted(tmp_path, "tree")
    with PairBench(tree, tree, {"small": WORKLOAD, "large": WORKLOAD}, 1, tmp_path / "j") as bench:
        runners = runners_of(bench)
        tossed: list[Draw] = []
        for runner in runners.values():
            real = runner.draw

            def draw(block: Any, *, wait_s: float, real: Any = real) -> Draw:
                tossed.append(real(block, wait_s=wait_s))
                return tossed[-1]

            runner.draw = draw
        for _ in range(8):
            used = bench.round(TWO).draws
            assert used["small"].candidate_first is used["large"].candidate_first is tossed[-1].candidate_first
            assert used["small"].baseline_copy == tossed[-1].baseline_copy


def test_the_drawn_copies_get_new_files_before_each_pair(tmp_path: Path) -> None:
    tree = planted(tmp_path, "tree")
    with PairBench(tree, Side(tree), WORKLOAD, 1, tmp_path / "draws.jsonl") as bench:
        runners = runners_of(bench)
        made = bench._sides[1].copies
        before = [(copy / "p").stat() for copy in made]
        bench.round({"": BLOCK})
        drawn = runners[""].ran[0].candidate_copy
        after = [(copy / "p").stat() for copy in made]
        changed = [i for i in range(len(made)) if before[i].st_ino != after[i].st_ino]
        assert bench.facts["fresh pages"].startswith("new")
    assert changed == [drawn]
    assert after[drawn].st_mtime_ns == before[drawn].st_mtime_ns
    assert (after[drawn].st_mode, after[drawn].st_uid) == (before[drawn].st_mode, before[drawn].st_uid)


@pytest.mark.parametrize("limit", ["FRESH_BYTES", "FRESH_FILES"])
def test_a_large_tree_stays_as_it_is_and_facts_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(sides, limit, 0)
    tree = planted(tmp_path, "tree")
    with PairBench(tree, tree, WORKLOAD, 1, tmp_path / "draws.jsonl") as bench:
        runners = runners_of(bench)
        before = [(copy / "p").stat().st_ino for copy in bench._sides[0].copies]
        bench.round({"": BLOCK})
        assert [(copy / "p").stat().st_ino for copy in bench._sides[0].copies] == before
        assert bench.facts["fresh pages"].startswith("lost: a tree has")
        assert runners[""].ran


def test_a_refreshed_copy_is_seen_by_its_sandbox_and_is_the_trees_own(tmp_path: Path) -> None:
    tree = planted(tmp_path, "tree")
    (tree / "below").mkdir()
    (tree / "below" / "data").write_text("right")
    (tree / "link").symlink_to("p")
    copy = fresh_copy(tree, tmp_path)
    (copy / "below" / "data").write_text("wrong")
    below = (copy / "below").stat().st_mtime_ns
    with Sandbox(copy) as sandbox:
        assert sandbox.run(["cat", "below/data"]).stdout == b"wrong"
        refresh(copy, tree)
        assert sandbox.run(["cat", "below/data"]).stdout == b"right"
        assert sandbox.run(["./link"], stdin=b"1\n").outcome == "ok"
    assert (copy / "link").is_symlink()
    assert (copy / "below").stat().st_mtime_ns == below
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["tree", "run", copy.name])
    assert extent(tree) == Extent((tree / "p").stat().st_size + 5, 2)


def test_a_candidate_that_ends_badly_twice_is_broken_with_the_same_draw(tmp_path: Path) -> None:
    good, bad = planted(tmp_path, "good"), planted(tmp_path, "bad", crashes_from=3)
    with PairBench(good, bad, WORKLOAD, 1, tmp_path / "draws.jsonl") as bench:
        runners = runners_of(bench)
        with pytest.raises(BrokenError, match=r"the candidate ended with signal 6 .*cannot do 3") as caught:
            bench.round({"": BLOCK})
    assert caught.value.trial is not None
    assert caught.value.trial.outcome == "signal"
    first, again = runners[""].ran
    assert first == again
    recorded = read_journal(tmp_path / "draws.jsonl")
    assert len(recorded.entries) == 1
    assert [bad.side for bad in recorded.bad_ends] == ["candidate"] * 2


def test_a_baseline_that_ends_badly_is_the_users_affair(tmp_path: Path) -> None:
    good, bad = planted(tmp_path, "good"), planted(tmp_path, "bad", crashes_from=3)
    with PairBench(bad, good, WORKLOAD, 1, tmp_path / "draws.jsonl") as bench:
        with pytest.raises(UserError, match="the baseline ended with signal"):
            bench.round({"": BLOCK})
        with pytest.raises(UserError, match="the baseline ended with signal"):
            bench.reference({"": BLOCK})


def test_one_record_too_many_is_another_behaviour_and_no_bad_end(tmp_path: Path) -> None:
    good, bad = planted(tmp_path, "good"), planted(tmp_path, "bad", chatters_from=4)
    with PairBench(good, bad, WORKLOAD, 1, tmp_path / "draws.jsonl") as bench:
        assert bench.round({"": BLOCK}).diverged
    with (
        PairBench(bad, good, WORKLOAD, 1, tmp_path / "turned.jsonl") as bench,
        pytest.raises(UserError, match="the baseline ended with records"),
    ):
        bench.round({"": BLOCK})


def test_a_side_that_ends_badly_has_one_more_try_in_a_timing_and_not_one_a_pair(tmp_path: Path) -> None:
    good, bad = planted(tmp_path, "good"), planted(tmp_path, "bad", crashes_from=3)
    with PairBench(good, bad, WORKLOAD, 1, tmp_path / "draws.jsonl") as bench:
        runner = runners_of(bench)[""]
        crash, fine = np.array([3], dtype=np.int64), np.array([1], dtype=np.int64)
        real = runner.run

        def once(draw: Draw) -> Any:
            # The crash goes away when it is looked for.
            runner.run = real
            return real(_with(draw, crash))

        runner.run = once
        assert not bench.round({"": fine}).diverged
        assert bench.counts.repeated == 1
        with pytest.raises(BrokenError):
            bench.round({"": crash})
        assert len(runner.ran) == 3


def _with(draw: Draw, block: Any) -> Draw:
    return Draw(
        index=2**64 - 1,  # a warm-up's: under its own index a draw is run with its own block only
        block=block,
        candidate_first=draw.candidate_first,
        baseline_copy=draw.baseline_copy,
        candidate_copy=draw.candidate_copy,
    )


def test_a_reference_is_a_baseline_trial_beside_the_pair(tmp_path: Path) -> None:
    tree = planted(tmp_path, "tree", loops=200_000)
    with PairBench(tree, tree, WORKLOAD, 1, tmp_path / "draws.jsonl") as bench:
        (pair,) = bench.round({"": BLOCK}, reference=True).pairs
        (without,) = bench.round({"": BLOCK}).pairs
    assert pair.reference is not None
    assert pair.reference.wall_ns > 100_000
    assert without.reference is None


def test_a_filter_has_sandboxes_of_its_own_in_pairs_and_references(tmp_path: Path) -> None:
    tree, liar = planted(tmp_path, "tree"), planted(tmp_path, "liar", lies_from=3)
    workloads = {"deaf": Workload(["./p"], filter=["cut", "-d ", "-f1,2"]), "whole": WORKLOAD}
    with PairBench(tree, liar, workloads, 1, tmp_path / "draws.jsonl") as bench:
        round_ = bench.round({"deaf": BLOCK, "whole": BLOCK}, reference=True)
        assert len(bench._sieves) == 2
    # The filter removes what the other workload shows.
    assert round_.diverged == {"whole": (3, 4)}
    assert all(pair.reference is not None for pair in round_.pairs)
    with PairBench(tree, liar, WORKLOAD, 1, tmp_path / "plain.jsonl") as bench:
        assert not bench._sieves


def test_a_filter_that_the_candidate_breaks_is_another_behaviour(tmp_path: Path) -> None:
    tree, liar = planted(tmp_path, "tree"), planted(tmp_path, "liar", lies_from=3)
    strict = Workload(["./p"], filter=["awk", "/lie/ { exit 1 } { print }"])
    with PairBench(tree, liar, strict, 1, tmp_path / "draws.jsonl") as bench:
        assert bench.round({"": BLOCK}).diverged == {"": (3, 4)}
    with (
        PairBench(liar, tree, strict, 1, tmp_path / "turned.jsonl") as bench,
        pytest.raises(UserError, match=r"the baseline ended with records .*the filter ended with \"exit\""),
    ):
        bench.round({"": BLOCK})


def test_a_known_truth_is_measured_and_stands_in_facts_and_journal(tmp_path: Path) -> None:
    tree, journal = planted(tmp_path, "tree", loops=2_000_000), tmp_path / "draws.jsonl"
    with PairBench(tree, tree, WORKLOAD, 1, journal, trim=0.5) as bench:
        assert bench.facts["trim"].startswith("0.5")
        rounds = [bench.round({"": np.arange(number, number + 10, dtype=np.int64)}) for number in range(0, 70, 10)]
    assert not any(round_.diverged for round_ in rounds)
    gains = sorted(1 - pair.candidate.wall_ns / pair.baseline.wall_ns for round_ in rounds for pair in round_.pairs)
    assert 0.25 < gains[3] < 0.75
    recorded = read_journal(journal)
    assert recorded.heading is not None
    assert recorded.heading["trim"] == 0.5
    assert {entry.draws[""].candidate_cases for entry in recorded.entries} == {5}
    # Nobody goes on with it as if it were a verdict's.
    with pytest.raises(UserError, match="another timing"), PairBench(tree, tree, WORKLOAD, 1, journal):
        pass


def test_nothing_is_trimmed_unless_it_is_asked_for(tmp_path: Path) -> None:
    tree, journal = planted(tmp_path, "tree"), tmp_path / "draws.jsonl"
    with PairBench(tree, tree, WORKLOAD, 1, journal) as bench:
        (draw,) = bench.round({"": BLOCK}).draws.values()
        assert "trim" not in bench.facts
    assert draw.candidate_cases == draw.baseline_cases == 5
    assert "trim" not in journal.read_text()
    assert "candidate_cases" not in journal.read_text()
