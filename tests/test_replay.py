"""Replay: what commits claim, and how they are carried over to another baseline."""

from pathlib import Path

import pytest
from deskless import ALONE, brief_for

from nightfleet.agents.contract import Changed, Failed, Nothing, Proposed, Report, Strategy, Tried
from nightfleet.agents.replay import Commit, ReplayBackend, Versions, claim_of

BEFORE = b"one\ntwo\nthree\nfour\nfive\nsix\n"
AFTER = b"one\nTWO\nthree\nfour\nfive\nsix\n"


@pytest.mark.parametrize(
    ("message", "gain"),
    [
        ("Reuse the buffer: 8% faster", 0.08),
        ("8 % faster", 0.08),
        ("about 12.5% less time in decode", 0.125),
        ("12,5% quicker", 0.125),
        ("Hash once (-12% time)", 0.12),
        ("Hash once, \u221212% runtime", 0.12),
        ("time: -3.5%", 0.035),
        ("cpu +4%", -0.04),
        ("+3% time, but simpler", -0.03),
        ("3% slower but shorter", -0.03),
        ("Slower by 2%", -0.02),
        ("Improves the inner loop by 5%", 0.05),
        ("Improved parsing speed by ~7%", 0.07),
        ("Reduce allocations; saves 4% of the run", 0.04),
        ("cut latency by 30%", 0.30),
        ("5% improvement", 0.05),
        ("speedup: 20%", 0.20),
        ("gain: +5.2%", 0.052),
        ("Speeds up the parser: 9%", 0.09),
        ("1.3x", 1 - 1 / 1.3),
        ("1.25\u00d7 faster on the large case", 0.2),
        ("a 2x speedup", 0.5),
        ("speedup of 1.5x", 1 / 3),
        ("twice as fast", 0.5),
        ("0.8x the time", 0.2),
        ("2x slower in debug", -1.0),
        ("100% faster", 0.5),
        ("val 0.993→0.981", 1 - 0.981 / 0.993),
        ("val 0.993 -> 0.981", 1 - 0.981 / 0.993),
        ("120ms → 90ms", 0.25),
        ("from 120 ms to 90 ms", 0.25),
        ("Down from 2.0s down to 1.0s", 0.5),
        ("throughput 100 -> 125 MB/s", 0.2),
        ("25% more throughput, improved by 25%", 0.2),
        ("Subject\n\nBody says 6% faster\nand later 9% faster", 0.06),
    ],
)
def test_a_claim_is_read(message: str, gain: float) -> None:
    assert claim_of(message) == pytest.approx(gain, abs=1e-9)


@pytest.mark.parametrize(
    "message",
    [
        "Refactor the parser",
        "Fix #13: off by one in 4x4 matrices",
        "Support 1920x1080",
        "100% of the records are the same",
        "Raise coverage to 95%",
        "Bump to 2.0.1",
        "Use u32 instead of u64",
        "",
    ],
)
def test_no_claim_is_made_up(message: str) -> None:
    assert claim_of(message) is None


def test_commits_are_proposed_oldest_first_and_once(tmp_path: Path) -> None:
    commits = [commit(f"{number}" * 40, f"Change {number}: {number}% faster") for number in (1, 2, 3)]
    replay = ReplayBackend(commits)
    report = replay.scout(brief_for(tmp_path, "scout"), ALONE)
    assert isinstance(report.outcome, Proposed)
    assert [one.title for one in report.outcome.strategies] == [one.message for one in commits]
    assert [one.expected_gain for one in report.outcome.strategies] == [0.01, 0.02, 0.03]
    done = [Tried(fingerprint=one.fingerprint, title="x", verdict="reject") for one in commits]
    rest = replay.scout(brief_for(tmp_path, "scout", tried=done[:1]), ALONE).outcome
    assert isinstance(rest, Proposed)
    assert [one.recipe for one in rest.strategies] == [one.id for one in commits[1:]]
    assert isinstance(replay.scout(brief_for(tmp_path, "scout", tried=done), ALONE).outcome, Nothing)


def test_a_path_that_is_no_text_or_very_long_is_no_reason_to_propose_nothing(tmp_path: Path) -> None:
    odd = Commit("1" * 40, "Odd", {"caf\udce9.txt": Versions(None, b"x"), "d/" * 900 + "f": Versions(None, b"x")})
    outcome = ReplayBackend([odd]).scout(brief_for(tmp_path, "scout"), ALONE).outcome
    assert isinstance(outcome, Proposed)
    assert [one.recipe for one in outcome.strategies] == [odd.id]


def test_what_a_promotion_took_the_baseline_from_gets_its_turn_again(tmp_path: Path) -> None:
    commits = [commit(f"{number}" * 40, f"Change {number}") for number in (1, 2, 3)]
    seen = [
        Tried(fingerprint=commits[0].fingerprint, title="x", verdict="stale", gain=0.03),
        Tried(fingerprint=commits[1].fingerprint, title="x", verdict="stale"),
        Tried(fingerprint=commits[2].fingerprint, title="x", verdict="stale"),
        Tried(fingerprint=commits[2].fingerprint, title="x", verdict="failed"),
    ]
    outcome = ReplayBackend(commits).scout(brief_for(tmp_path, "scout", tried=seen), ALONE).outcome
    assert isinstance(outcome, Proposed)
    assert [one.recipe for one in outcome.strategies] == [commits[1].id]


def test_a_commit_is_merged_into_a_baseline_that_moved(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthree\nfour\nfive\nSIX\n")
    report = carry(tmp_path, {"a.txt": Versions(BEFORE, AFTER)})
    assert isinstance(report.outcome, Changed)
    assert "1111" in report.outcome.summary
    assert (tmp_path / "a.txt").read_bytes() == b"one\nTWO\nthree\nfour\nfive\nSIX\n"


def test_a_conflict_fails_with_its_files_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n2\nthree\nfour\nfive\nsix\n")
    (tmp_path / "b.txt").write_bytes(b"old\n")
    report = carry(tmp_path, {"a.txt": Versions(BEFORE, AFTER), "b.txt": Versions(b"old\n", b"new\n")})
    assert isinstance(report.outcome, Failed)
    assert report.outcome.cause == "conflicts with the baseline in a.txt"
    assert (tmp_path / "b.txt").read_bytes() == b"old\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome", "left"),
    [
        (None, Versions(None, b"new\n"), Changed, b"new\n"),
        (b"other\n", Versions(None, b"new\n"), Failed, b"other\n"),
        (b"new\n", Versions(None, b"new\n"), Nothing, b"new\n"),
        (BEFORE, Versions(BEFORE, None), Changed, None),
        (b"moved\n", Versions(BEFORE, None), Failed, b"moved\n"),
        (None, Versions(BEFORE, None), Nothing, None),
        (None, Versions(BEFORE, AFTER), Failed, None),
        (AFTER, Versions(BEFORE, AFTER), Nothing, AFTER),
        (b"a\0c", Versions(b"a\0b", b"x\0b"), Failed, b"a\0c"),
    ],
)
def test_files_that_come_and_go(
    tmp_path: Path, ours: bytes | None, theirs: Versions, outcome: type, left: bytes | None
) -> None:
    (tmp_path / "z.txt").write_bytes(b"another\n")
    if ours is not None:
        (tmp_path / "a.txt").write_bytes(ours)
    report = carry(tmp_path, {"a.txt": theirs})
    assert isinstance(report.outcome, outcome), report
    found = tmp_path / "a.txt"
    assert (found.read_bytes() if found.exists() else None) == left


def test_frozen_files_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(BEFORE)
    report = carry(tmp_path, {"a.txt": Versions(BEFORE, AFTER), "program.md": Versions(None, b"easier\n")})
    assert isinstance(report.outcome, Changed)
    assert not (tmp_path / "program.md").exists()
    assert "program.md" in report.notes[0]


def test_a_commit_that_is_not_of_the_branch_fails(tmp_path: Path) -> None:
    strange = strategy_of(commit("2" * 40, "Another"), tmp_path)
    report = ReplayBackend([commit("1" * 40, "Mine")]).worker(brief_for(tmp_path, "worker", strategy=strange), ALONE)
    assert isinstance(report.outcome, Failed)


def commit(name: str, message: str, files: dict[str, Versions] | None = None) -> Commit:
    return Commit(name, message, files or {"a.txt": Versions(BEFORE, AFTER)})


def strategy_of(one: Commit, tree: Path) -> Strategy:
    outcome = ReplayBackend([one]).scout(brief_for(tree, "scout"), ALONE).outcome
    assert isinstance(outcome, Proposed)
    return outcome.strategies[0]


def carry(tree: Path, files: dict[str, Versions]) -> Report:
    one = commit("1" * 40, "Carry this", files)
    return ReplayBackend([one]).worker(brief_for(tree, "worker", strategy=strategy_of(one, tree)), ALONE)
