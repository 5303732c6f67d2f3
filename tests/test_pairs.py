"""Timed pairs: the coin, what is recorded before it is run, what voids a pair, what a hostile trial cannot change."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from nightfleet.harness.journal import read_journal
from nightfleet.harness.pairs import COPIES, PairBench, valid_pairs
from nightfleet.native import (
    Draw,
    Lease,
    MachineError,
    Pair,
    PairRunner,
    Sandbox,
    UserError,
    Workload,
    give_tree,
    hash_records,
)

ECHO = "while read case; do echo $case; done"
SEED = 11


def program(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "p.sh").write_text(text)
    give_tree(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return program(tmp_path / "tree", ECHO)


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    # A lease of the test's own: the machine's may be held by someone's night.
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    with Lease.acquire(runtime_dir=directory) as held:
        yield held


@pytest.fixture
def sides(tree: Path, lease: Lease) -> Iterator[list[list[Sandbox]]]:
    both = [[Sandbox(tree, cores=lease.cores) for _ in range(COPIES)] for _ in range(2)]
    yield both
    for sandbox in both[0] + both[1]:
        sandbox.close()


WORKLOAD = Workload(["/bin/sh", "p.sh"])


def runner(sides: list[list[Sandbox]], lease: Lease) -> PairRunner:
    return PairRunner(sides[0], sides[1], WORKLOAD, lease, seed=SEED)


def drawn(index: int, *, first: bool = False, copy: int = 0, block: list[int] | None = None) -> Draw:
    return Draw(index=index, block=block or [1], candidate_first=first, baseline_copy=copy, candidate_copy=copy)


def draws(sides: list[list[Sandbox]], lease: Lease, count: int) -> list[Draw]:
    """Coins without waiting for a calm machine: a warm-up pair's draw comes from the same toss."""
    return [runner(sides, lease).warm_up([1]).draw for _ in range(count)]


def test_coin_and_copies_are_drawn_fairly(sides: list[list[Sandbox]], lease: Lease) -> None:
    tossed = draws(sides, lease, 120)
    heads = sum(draw.candidate_first for draw in tossed)
    # Under a fair coin and even copies each of these fails once in a million.
    assert binomtest(heads, len(tossed)).pvalue > 1e-6
    for side in ("baseline_copy", "candidate_copy"):
        counts = np.bincount([getattr(draw, side) for draw in tossed], minlength=COPIES)
        assert all(binomtest(int(n), len(tossed), 1 / COPIES).pvalue > 2.5e-7 for n in counts)


@pytest.mark.parametrize("first", [False, True])
def test_both_orders_hash_the_same_records(sides: list[list[Sandbox]], lease: Lease, first: bool) -> None:
    bench = runner(sides, lease)
    index = 2**64 - 1  # a warm-up pair: no draw needs to have been made
    pair = bench.run(drawn(index, first=first, block=[5, 6, 7]))
    assert pair.identical
    assert pair.diverged == []
    assert pair.baseline.outcome == pair.candidate.outcome == "ok"
    np.testing.assert_array_equal(pair.baseline_digests, pair.candidate_digests)
    assert pair.baseline_digests.shape == (3, 2)


def test_a_difference_is_found_in_the_timed_process_itself(tmp_path: Path, lease: Lease) -> None:
    right = program(tmp_path / "right", ECHO)
    wrong = program(tmp_path / "wrong", "while read case; do test $case = 6 && echo six || echo $case; done")
    a = [Sandbox(right, cores=lease.cores) for _ in range(COPIES)]
    b = [Sandbox(wrong, cores=lease.cores) for _ in range(COPIES)]
    pair = PairRunner(a, b, WORKLOAD, lease, seed=SEED).warm_up([5, 6, 7])
    assert not pair.identical
    assert pair.diverged == [6]
    for sandbox in a + b:
        sandbox.close()


def test_a_draw_is_kept_and_run_again_as_it_was(sides: list[list[Sandbox]], lease: Lease) -> None:
    bench = runner(sides, lease)
    first = bench.warm_up([3]).draw
    again = Draw(
        index=first.index,
        block=first.block,
        candidate_first=first.candidate_first,
        baseline_copy=first.baseline_copy,
        candidate_copy=first.candidate_copy,
    )
    assert again == first
    assert bench.run(again).draw == first


def test_a_draw_of_another_runner_is_refused(sides: list[list[Sandbox]], lease: Lease) -> None:
    with pytest.raises(UserError, match="was not drawn here"):
        runner(sides, lease).run(drawn(0))
    with pytest.raises(UserError, match="does not have"):
        runner(sides, lease).run(drawn(2**64 - 1, copy=COPIES))


def test_a_recorded_draw_is_taken_up_and_indices_go_on_behind_it(sides: list[list[Sandbox]], lease: Lease) -> None:
    bench = runner(sides, lease)
    left = drawn(6, first=True, copy=2, block=[3, 4])
    bench.resume([drawn(4), left])
    pair = bench.run(left)
    assert pair.draw == left
    assert pair.identical
    with pytest.raises(UserError, match=r"6 was not drawn here for this block \(next is 7\)"):
        bench.run(drawn(6, block=[3]))
    with pytest.raises(UserError, match="5 was not drawn here"):
        bench.run(drawn(5))


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        (drawn(4, block=[9]), "4 was drawn for another block"),
        (drawn(2**64 - 1), "no timing has an index"),
        (drawn(5, copy=COPIES), "does not have"),
        (drawn(5, block=[-1]), "outside"),
    ],
)
def test_a_draw_that_cannot_be_is_not_taken_up_nor_are_those_beside_it(
    sides: list[list[Sandbox]], lease: Lease, forged: Draw, why: str
) -> None:
    bench = runner(sides, lease)
    bench.resume([drawn(4)])
    with pytest.raises(UserError, match=why):
        bench.resume([drawn(7), forged])
    with pytest.raises(UserError, match=r"7 was not drawn here for this block \(next is 5\)"):
        bench.run(drawn(7))


def test_fewer_copies_or_other_cores_are_refused(sides: list[list[Sandbox]], lease: Lease, tree: Path) -> None:
    with pytest.raises(UserError, match="3 copies; the least is 4"):
        PairRunner(sides[0][:3], sides[1], WORKLOAD, lease, seed=SEED)
    with Sandbox(tree) as free, pytest.raises(UserError, match="the lease holds"):
        PairRunner([*sides[0][:3], free], sides[1], WORKLOAD, lease, seed=SEED)


FILTERED = Workload(["/bin/sh", "p.sh"], filter=["/bin/sh", "filter.sh"])
# What the filter keeps is the second word.
NOISY = "while read case; do echo {word} $case{more}; done"


@pytest.fixture
def sieves(tmp_path: Path, lease: Lease) -> Iterator[list[Sandbox]]:
    frozen = program(tmp_path / "frozen", ECHO)
    (frozen / "filter.sh").write_text("cut -d ' ' -f 2")
    with Sandbox(frozen, cores=lease.harness_cores) as one, Sandbox(frozen, cores=lease.harness_cores) as other:
        yield [one, other]


def filtered(tmp_path: Path, lease: Lease, sieves: list[Sandbox], candidate: str) -> Pair:
    """A pair of the noisy program and another through the frozen filter."""
    trees = [
        program(tmp_path / name, text) for name, text in (("a", NOISY.format(word="a", more="")), ("b", candidate))
    ]
    with ExitStack() as stack:
        both = [[stack.enter_context(Sandbox(tree, cores=lease.cores)) for _ in range(COPIES)] for tree in trees]
        return PairRunner(both[0], both[1], FILTERED, lease, seed=SEED, filters=sieves).warm_up([5, 6, 7])


def test_what_the_filter_leaves_is_compared(tmp_path: Path, lease: Lease, sieves: list[Sandbox]) -> None:
    pair = filtered(tmp_path, lease, sieves, NOISY.format(word="b", more=" more"))
    assert pair.identical
    assert pair.baseline.outcome == pair.candidate.outcome == "ok"
    np.testing.assert_array_equal(pair.baseline_digests, hash_records(b"5\n6\n7\n", seed=SEED))


def test_what_the_filter_shows_to_differ_differs(tmp_path: Path, lease: Lease, sieves: list[Sandbox]) -> None:
    assert filtered(tmp_path, lease, sieves, NOISY.format(word="b", more="0")).diverged == [5, 6, 7]


@pytest.mark.parametrize(
    ("candidate", "ended"),
    [
        ("while read case; do echo $case; test $case = 6 && exit 3; done", ("exit", b"")),
        (NOISY.format(word="b", more="") + "; echo one more", ("records", b"the filter ended")),
        ("while read case; do echo; done", ("records", b"the filter ended")),
    ],
)
def test_a_bad_end_before_or_in_the_filter_is_its_sides_own(
    tmp_path: Path, lease: Lease, sieves: list[Sandbox], candidate: str, ended: tuple[str, bytes]
) -> None:
    strict = "grep -v '^$' | cut -d ' ' -f 2"
    (tmp_path / "frozen" / "filter.sh").write_text(strict)
    pair = filtered(tmp_path, lease, sieves, candidate)
    assert pair.baseline.outcome == "ok"
    assert len(pair.baseline_digests) == 3
    assert pair.candidate.outcome == ended[0]
    assert ended[1] in pair.candidate.stderr
    assert not pair.identical


def test_a_filter_is_in_no_trials_time(tmp_path: Path, lease: Lease, sieves: list[Sandbox]) -> None:
    # It uses as much CPU time as it takes to count to 300,000, hundreds of times a trial's own.
    work = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done; times >&2; cut -d ' ' -f 2"
    (tmp_path / "frozen" / "filter.sh").write_text(work)
    alone = sieves[0].run(["/bin/sh", "filter.sh"])
    pair = filtered(tmp_path, lease, sieves, NOISY.format(word="b", more=""))
    assert pair.identical
    for trial in (pair.baseline, pair.candidate):
        assert trial.cpu_ns < alone.cpu_ns / 4
        assert trial.tasks == 0


def test_nothing_passes_through_the_filters_sandboxes(tmp_path: Path, lease: Lease, sieves: list[Sandbox]) -> None:
    # A filter that can be talked into keeping something finds nothing of it in its next run, on neither side.
    keeps = "cat /tmp/* /dev/shm/* $HOME/* 2>/dev/null; tee /tmp/kept /dev/shm/kept $HOME/kept | cut -d ' ' -f 2"
    (tmp_path / "frozen" / "filter.sh").write_text(keeps)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        assert filtered(tmp_path / str(number), lease, sieves, NOISY.format(word="b", more="")).identical


def test_filters_are_two_and_off_the_leased_cores(
    sides: list[list[Sandbox]], lease: Lease, sieves: list[Sandbox], tree: Path
) -> None:
    for wrong in ([], sieves[:1]):
        with pytest.raises(UserError, match=f"filters: {len(wrong)} sandboxes; this workload needs 2"):
            PairRunner(sides[0], sides[1], FILTERED, lease, seed=SEED, filters=wrong)
    with pytest.raises(UserError, match="this workload needs 0"):
        PairRunner(sides[0], sides[1], WORKLOAD, lease, seed=SEED, filters=sieves)
    with pytest.raises(UserError, match="two places"):
        PairRunner(sides[0], sides[1], FILTERED, lease, seed=SEED, filters=[sieves[0], sieves[0]])
    with Sandbox(tree) as anywhere, pytest.raises(UserError, match="the lease leaves"):
        PairRunner(sides[0], sides[1], FILTERED, lease, seed=SEED, filters=[sieves[0], anywhere])
    if not lease.shared_with_harness:
        with Sandbox(tree, cores=lease.cores) as leased, pytest.raises(UserError, match="the lease leaves"):
            PairRunner(sides[0], sides[1], FILTERED, lease, seed=SEED, filters=[sieves[0], leased])


def trimmed(sides: list[list[Sandbox]], lease: Lease, trim: float, workload: Workload = WORKLOAD) -> PairRunner:
    return PairRunner(sides[0], sides[1], workload, lease, seed=SEED, trim=trim)


def test_a_trimmed_candidate_gets_the_first_cases_and_their_records_are_compared(
    sides: list[list[Sandbox]], lease: Lease
) -> None:
    block = list(range(100, 125))
    pair = trimmed(sides, lease, 0.08).warm_up(block)
    assert (pair.draw.baseline_cases, pair.draw.candidate_cases) == (25, 23)
    assert (len(pair.baseline_digests), len(pair.candidate_digests)) == (25, 23)
    np.testing.assert_array_equal(pair.baseline_digests[:23], pair.candidate_digests)
    assert pair.identical
    assert pair.draw.block.tolist() == block
    assert "candidate_cases=23" in repr(pair.draw)
    whole = runner(sides, lease).warm_up(block).draw
    assert (whole.baseline_cases, whole.candidate_cases) == (25, 25)
    assert "candidate_cases" not in repr(whole)
    assert trimmed(sides, lease, 0.999).warm_up([7]).draw.candidate_cases == 1


def test_a_trimmed_candidate_that_differs_in_the_common_part_is_seen(tmp_path: Path, lease: Lease) -> None:
    right = program(tmp_path / "right", ECHO)
    wrong = program(tmp_path / "wrong", "while read case; do test $case -gt 5 && echo six || echo $case; done")
    with ExitStack() as stack:
        both = [
            [stack.enter_context(Sandbox(tree, cores=lease.cores)) for _ in range(COPIES)] for tree in (right, wrong)
        ]
        assert trimmed(both, lease, 0.25).warm_up([4, 5, 6, 7]).diverged == [6]
        assert trimmed(both, lease, 0.5).warm_up([4, 5, 6, 7]).identical


def test_what_cannot_be_trimmed_is_refused(sides: list[list[Sandbox]], lease: Lease) -> None:
    for trim in (-0.1, 1.0, 7.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"trim: must be in \[0, 1\)"):
            trimmed(sides, lease, trim)
    argument = Workload(["/bin/echo", "{case}"], feed="argument")
    for uncut in (argument, Workload(["x"], record="output"), Workload(["x"], record="files")):
        with pytest.raises(UserError, match="trim: needs blocks that can be cut"):
            trimmed(sides, lease, 0.1, uncut)
        trimmed(sides, lease, 0.0, uncut)
    trimmed(sides, lease, 0.1, Workload(["x"], record="length"))


def test_a_runner_runs_no_draw_that_is_trimmed_otherwise(sides: list[list[Sandbox]], lease: Lease) -> None:
    block = [1, 2, 3, 4]
    cut = Draw(index=0, block=block, candidate_first=True, baseline_copy=0, candidate_copy=0, candidate_cases=3)
    whole, cutting = runner(sides, lease), trimmed(sides, lease, 0.25)
    with pytest.raises(UserError, match="gives the candidate 3 of 4 cases; with a trim of 0 it gets 4"):
        whole.resume([cut])
    with pytest.raises(UserError, match=r"gives the candidate 4 of 4 cases; with a trim of 0.25 it gets 3"):
        cutting.run(drawn(2**64 - 1, block=block))
    cutting.resume([cut])
    assert len(cutting.run(cut).candidate_digests) == 3


def test_no_pair_without_the_lease(sides: list[list[Sandbox]], tmp_path: Path) -> None:
    directory = tmp_path / "another"
    directory.mkdir(mode=0o700)
    held = Lease.acquire(runtime_dir=directory)
    cores = [list(side) for side in sides]
    bench = PairRunner(cores[0], cores[1], WORKLOAD, held, seed=SEED)
    held.release()
    held.release()
    with pytest.raises(UserError, match="was released"):
        bench.warm_up([1])


def test_a_second_lease_waits_and_is_told_for_whom(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    told: list[tuple[str, float]] = []
    with Lease.acquire(runtime_dir=directory, purpose="the first"):
        with pytest.raises(MachineError):
            Lease.acquire(runtime_dir=directory, wait_s=0.3, on_wait=lambda *news: told.append(news))
        assert told
        assert "the first" in told[0][0]
    Lease.acquire(runtime_dir=directory, wait_s=30).release()


def test_the_journal_has_every_coin_before_its_pair_runs(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    journal = tmp_path / "draws.jsonl"
    with PairBench(tree, tree, WORKLOAD, SEED, journal) as bench:
        seen: list[int] = []
        real = bench._runners[""]

        class Watching:
            """The real runner, seen from in between: what stands in the journal when a pair begins?"""

            def draw(self, block: list[int], *, wait_s: float) -> Draw:
                del wait_s  # a busy test machine must not make this wait
                return real.warm_up(block).draw

            def run(self, draw: Draw) -> object:
                recorded = read_journal(journal)
                seen.append(len(recorded.entries))
                assert recorded.entries[-1].draws == {"": draw}
                assert not recorded.entries[-1].results
                assert all(entry.results for entry in recorded.entries[:-1])
                return real.run(draw)

        bench._runners[""] = Watching()  # type: ignore[assignment]
        pairs = list(valid_pairs(bench, iter([np.array([case]) for case in range(50)]), 3))
    assert seen[:3] == [1, 2, 3]
    assert [pair.void for pair in pairs] == [None] * 3
    assert all(pair.identical for pair in pairs)
