"""The behaviour gate on real programs: what it tells apart, how soon it stops, and what it shows to people."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import planted

from nightfleet.harness import arena
from nightfleet.harness.behaviour import MOST_BAD_BLOCKS, Behaviour, Progress, Span, Work, compare
from nightfleet.harness.divergence import RECORD_BYTES, Record, split
from nightfleet.harness.sides import Side
from nightfleet.native import UserError, give_tree, hash_records

EXACT = arena.Behaviour("exact", None, None)
SEED = 7
ONE = sorted(os.sched_getaffinity(0))[:1]


def span(count: int = 200, *, name: str = "w", run: str = "./p", form: arena.Behaviour = EXACT, **more: object) -> Span:
    settings = {"block": 10, "unit": "cases", "feed": "stdin", "record": "line", "files": None, **more}
    workload = arena.Workload(name, tuple(run.split()), count, **settings)  # type: ignore[arg-type]
    cases = np.random.default_rng(1).permutation(count).astype(np.int64)
    return Span(workload, form, cases)


def gate(baseline: Path, candidate: Path, *spans: Span, **more: object) -> Behaviour:
    return compare(Side(baseline), Side(candidate), spans or (span(),), Work(SEED, **more))  # type: ignore[arg-type]


def test_equal_programs_are_identical_in_every_case_and_leave_their_times(tmp_path: Path) -> None:
    a, b = planted(tmp_path, "a", loops=3000), planted(tmp_path, "b", loops=1000)
    seen = gate(a, b)
    assert (seen.ending, seen.identical, seen.complete) == ("identical", True, True)
    assert seen.cases == 200
    assert not seen.diverged
    assert not seen.shown
    digests = seen.digests["w"]
    np.testing.assert_array_equal(digests.baseline, digests.candidate)
    np.testing.assert_array_equal(digests.cases, span().cases)
    first = int(digests.cases[0])
    expected = hash_records(f"{first} {first * 2654435761}\n".encode(), seed=SEED)
    np.testing.assert_array_equal(digests.baseline[:1], expected)
    assert len(seen.blocks) == 20
    assert all(block.baseline.wall_ns > 0 and block.workload == "w" for block in seen.blocks)


def test_a_divergence_ends_it_soon_and_is_shown_with_both_records(tmp_path: Path) -> None:
    good, liar = planted(tmp_path, "good"), planted(tmp_path, "liar", lies_from=100)
    seen = gate(good, liar, span(2000))
    assert seen.ending == "incorrect"
    assert not seen.complete
    assert seen.cases < 2000 / 4
    assert seen.divergences > len(seen.shown) > 0
    assert all(case >= 100 for case in seen.diverged["w"])
    assert not seen.unsteady
    assert not seen.candidate_unsteady
    shown = seen.shown[0]
    assert shown.case == seen.diverged["w"][0]
    assert shown.baseline is not None
    assert shown.candidate is not None
    right = f"{shown.case} {shown.case * 2654435761}"
    assert (shown.baseline.data, shown.candidate.data) == (f"{right}\n".encode(), f"{right} lie\n".encode())
    assert shown.first == len(right)
    assert shown.note == ""


def test_one_wrong_case_in_thousands_is_found(tmp_path: Path) -> None:
    good, liar = planted(tmp_path, "good"), planted(tmp_path, "liar", lies_from=2999)
    seen = gate(good, liar, span(3000, block=100))
    assert seen.diverged == {"w": (2999,)}
    assert seen.complete
    assert [shown.case for shown in seen.shown] == [2999]
    assert len(seen.blocks) == 30


def test_a_baseline_that_disagrees_with_itself_is_told_from_a_candidate_that_lies(tmp_path: Path) -> None:
    unsteady, same = planted(tmp_path, "unsteady", unsteady=7), planted(tmp_path, "same", unsteady=7, loops=900)
    steady = planted(tmp_path, "steady")
    for candidate in (same, steady):
        seen = gate(unsteady, candidate)
        assert seen.ending == "nondeterministic baseline"
        assert {case % 10 for case in seen.unsteady["w"]} == {7}
        shown = seen.shown[0]
        # Both records are the baseline's: it is what has to be mended.
        assert shown.baseline is not None
        assert b" at " in shown.baseline.data
        assert shown.candidate is not None
        assert b" at " in shown.candidate.data
    seen = gate(steady, same)
    assert seen.ending == "incorrect"
    assert not seen.unsteady
    assert {case % 10 for case in seen.candidate_unsteady["w"]} == {7}


def test_a_crash_is_the_candidates_with_what_it_said(tmp_path: Path) -> None:
    good, bad = planted(tmp_path, "good"), planted(tmp_path, "bad", crashes_from=199)
    seen = gate(good, bad)
    assert seen.ending == "broken"
    (block,) = seen.failed
    assert (block.side, block.outcome, block.status) == ("candidate", "signal", 6)
    assert block.stderr.startswith("cannot do 199")
    assert 199 in block.cases
    assert block.again == 2
    assert not seen.diverged
    assert len(seen.blocks) == 19
    assert gate(bad, good).ending == "baseline failed"


def test_a_record_too_many_is_another_behaviour(tmp_path: Path) -> None:
    good, bad = planted(tmp_path, "good"), planted(tmp_path, "bad", chatters_from=199)
    seen = gate(good, bad)
    assert seen.ending == "incorrect"
    assert [block.outcome for block in seen.failed] == ["records"]


def test_a_candidate_of_bad_blocks_is_left_after_the_first_and_other_workloads_not_begun(tmp_path: Path) -> None:
    good, bad = planted(tmp_path, "good"), planted(tmp_path, "bad", crashes_from=0)
    seen = gate(good, bad, span(1000), span(name="later"), cores=ONE)
    assert len(seen.failed) == MOST_BAD_BLOCKS
    assert list(seen.digests) == ["w"]
    assert not seen.complete
    patient = gate(good, bad, span(100), cores=ONE, most_bad_blocks=1000)
    assert len(patient.failed) == 10
    assert patient.complete


def test_every_workload_is_compared(tmp_path: Path) -> None:
    good, liar = planted(tmp_path, "good"), planted(tmp_path, "liar", lies_from=100)
    seen = gate(good, liar, span(100, name="fine"), span(101, name="not", block=101))
    assert seen.diverged == {"not": (100,)}
    assert list(seen.digests) == ["fine", "not"]
    assert {block.workload for block in seen.blocks} == {"fine", "not"}


def scripts(tmp_path: Path, *texts: str) -> list[Path]:
    trees = []
    for number, text in enumerate(texts):
        tree = tmp_path / f"script-{number}"
        tree.mkdir()
        (tree / "p.sh").write_text(text)
        give_tree(tree)
        trees.append(tree)
    return trees


def test_programs_see_one_core_as_they_do_when_they_are_timed(tmp_path: Path) -> None:
    count, one = scripts(tmp_path, "while read n; do nproc; done", "while read n; do echo 1; done")
    assert gate(count, one, span(20, run="/bin/sh p.sh")).identical


def test_what_the_sandbox_refused_is_counted(tmp_path: Path) -> None:
    (tree,) = scripts(tmp_path, "while read n; do unshare -U true 2> /dev/null; echo done; done")
    seen = gate(tree, tree, span(20, run="/bin/sh p.sh"))
    assert seen.identical
    assert any("unshare" in name and count == 40 for name, count in seen.denied.items())


def test_an_unfinished_comparison_is_never_called_identical(tmp_path: Path) -> None:
    tree = planted(tmp_path, "tree")
    assert not replace(gate(tree, tree), complete=False).identical


@pytest.mark.parametrize("spans", [(), (span(0),), (span(1), span(1))])
def test_nothing_compared_is_refused_and_not_called_identical(tmp_path: Path, spans: tuple[Span, ...]) -> None:
    side = Side(planted(tmp_path, "tree"))
    with pytest.raises(UserError, match="at least 1 case"):
        compare(side, side, spans, Work(SEED))


def test_progress_says_how_long_it_takes(tmp_path: Path) -> None:
    tree = planted(tmp_path, "tree", loops=300_000)
    told: list[Progress] = []
    compare(Side(tree), Side(tree), [span(name="a"), span(name="b")], Work(SEED), on_progress=told.append)
    assert told[-1].done == told[-1].blocks == 40
    assert told[-1].left_s == 0
    assert {news.workload for news in told} == {"a", "b"}
    assert [news.done for news in told] == sorted(news.done for news in told)
    assert all(news.left_s is not None and news.left_s > 0 for news in told if 0 < news.done < 40)


def test_what_a_filter_leaves_is_compared_and_shown(tmp_path: Path) -> None:
    good, liar = planted(tmp_path, "good"), planted(tmp_path, "liar", lies_from=100)
    deaf = arena.Behaviour("exact", None, ("cut", "-d ", "-f1,2"))
    assert gate(good, liar, span(form=deaf)).identical
    numbers = arena.Behaviour("exact", None, ("cut", "-d ", "-f1,3"))
    shown = gate(good, liar, span(form=numbers)).shown[0]
    assert shown.candidate is not None
    assert shown.candidate.data == f"{shown.case} lie\n".encode()


def test_ignored_differences_are_none_and_manifests_are_fed(tmp_path: Path) -> None:
    good, liar = planted(tmp_path, "good"), planted(tmp_path, "liar", lies_from=100)
    assert gate(good, liar, span(form=arena.Behaviour("exact", " lie", None))).identical
    whole = span(20)
    lines = [str(5000 + case) for case in range(20)]
    seen = gate(good, liar, Span(whole.workload, whole.form, whole.cases, lines))
    assert seen.shown[0].fed == str(5000 + seen.shown[0].case)
    assert seen.shown[0].baseline is not None
    assert seen.shown[0].baseline.text.startswith(seen.shown[0].fed)


def test_a_process_a_case_and_files_are_shown_as_far_as_they_can_be(tmp_path: Path) -> None:
    trees = scripts(tmp_path, *(f"echo $1; echo {word}\necho {word} > /out/file" for word in ("right", "wrong")))
    one = span(4, run="/bin/sh p.sh {case}", block=1, feed="argument", record="stdout")
    shown = gate(trees[0], trees[1], one).shown[0]
    assert shown.candidate is not None
    assert shown.candidate.data == f"{shown.case}\nwrong\n".encode()
    files = span(4, run="/bin/sh p.sh {case}", block=1, feed="argument", record="files", files="*")
    seen = gate(trees[0], trees[1], files)
    assert seen.ending == "incorrect"
    assert seen.shown[0].candidate is None
    assert "files" in seen.shown[0].note


def test_a_long_record_is_cut_around_its_difference(tmp_path: Path) -> None:
    text = "head -c 100000 /dev/zero | tr '\\0' a; printf {}; head -c 99999 /dev/zero"
    trees = scripts(tmp_path, text.format("x"), text.format("y"))
    seen = gate(trees[0], trees[1], span(1, run="/bin/sh p.sh", block=1, record="stdout"))
    record = seen.shown[0].candidate
    assert record is not None
    assert seen.shown[0].first == 100_000
    assert (len(record.data), record.size) == (RECORD_BYTES, 200_000)
    assert record.data[100_000 - record.start] == ord("y")


def test_records_are_shown_without_anything_a_terminal_would_obey() -> None:
    assert Record(b"a\x1b[31m\xff\r\x00\n", 0, 9).text == "a\\x1b[31m\\xff\\r\\x00\n"
    assert Record("\u202eabc".encode(), 0, 6).text == "\\u202eabc"


@pytest.mark.parametrize(
    ("output", "record", "records"),
    [
        (b"a\rb\nc", "line", [b"a\rb\n", b"c"]),
        (b"", "line", []),
        (b"a\n\n", "line", [b"a\n", b"\n"]),
        (b"", "stdout", [b""]),
        (b"\x01\0\0\0a\x00\0\0\0\x09\0\0\0b", "length", [b"a", b""]),
    ],
)
def test_outputs_are_split_as_native_splits_them(output: bytes, record: str, records: list[bytes]) -> None:
    assert split(output, record) == records
    if record != "length":
        native = hash_records(output, seed=1, record="output" if record == "stdout" else "line")
        assert len(native) == len(records)
