"""`results.tsv`: autoresearch's columns first, one row for each candidate, whatever a stranger writes."""

import csv
import os
from pathlib import Path

import nightwork
import pytest
import staged
from nightwork import Hands

from nightfleet.orchestrator.ledger import Ledger, candidates
from nightfleet.orchestrator.views import results
from nightfleet.orchestrator.views.results import write_results


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_the_columns_are_autoresearchs_and_then_ours(ledger: Ledger, tmp_path: Path) -> None:
    staged.begin(ledger)
    staged.promoted(ledger, 0.1, metric=0.0123456, memory_bytes=3 << 29)
    assert write_results(ledger, 1, tmp_path / "runs/n1")
    head, row = (tmp_path / "runs/n1/results.tsv").read_text(encoding="utf-8").splitlines()
    assert head == (
        "commit\tmetric\tmemory_gb\tstatus\tdescription\t"
        "gain\tlow\thigh\tpairs\tcases\tagent\tminutes\tnumber\trebased_from"
    )
    assert row == "c1\t0.012346\t1.500\tkeep\thoist\t0.100000\t0.080000\t0.120000\t12\t20000\tw1\t0.0\t1\t"


def test_every_state_and_the_lineage(ledger: Ledger, tmp_path: Path, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    with ledger.write() as writing:
        (old,) = candidates.with_state(writing, 1, "stale")
        nightwork.submit(writing, rebased_from=old.id, commit="0123456789abcdef")
    write_results(ledger, 1, tmp_path)
    rows = table(tmp_path)
    assert [row["status"] for row in rows] == [
        *("reject", "keep", "incorrect", "incremental", "stale", "broken", "keep", "undecided"),
        *("building", "submitted"),
    ]
    assert (rows[-1]["commit"], rows[-1]["number"], rows[-1]["rebased_from"]) == ("012345678", "10", "5")
    assert (rows[2]["metric"], rows[2]["memory_gb"], rows[2]["gain"]) == ("0.000000", "0.000", "")


def test_a_stranger_makes_neither_rows_nor_columns(ledger: Ledger, tmp_path: Path) -> None:
    staged.begin(ledger)
    staged.judged(ledger, "broken", None, staged.HOSTILE)
    with ledger.write() as writing:
        nightwork.submit(writing, made_by=staged.HOSTILE, description="a\rb\x85c\u2028d")
    write_results(ledger, 1, tmp_path)
    text = (tmp_path / "results.tsv").read_text(encoding="utf-8")
    assert [row["description"] for row in table(tmp_path)] == [staged.HARMLESS, "a b c d"]
    assert [len(line.split("\t")) for line in text.splitlines()] == [len(results.COLUMNS)] * 3
    assert not any(poison in text.replace("\t", "") for poison in staged.POISON)


def test_it_is_written_when_it_changed_and_whole(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged.begin(ledger)
    assert write_results(ledger, 1, tmp_path)
    assert not write_results(ledger, 1, tmp_path)
    before = (tmp_path / "results.tsv").read_bytes()
    staged.judged(ledger, "broken")

    def full(_descriptor: int, _mode: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fchmod", full)
        with pytest.raises(OSError, match="No space"):
            write_results(ledger, 1, tmp_path)
    assert (tmp_path / "results.tsv").read_bytes() == before
    assert write_results(ledger, 1, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*results*")) == ["results.tsv"]
    assert (tmp_path / "results.tsv").stat().st_mode & 0o777 == 0o644


def test_a_long_night_is_one_question(ledger: Ledger, tmp_path: Path) -> None:
    staged.begin(ledger)
    staged.many(ledger, 10_000)
    with staged.counted(ledger) as statements:
        write_results(ledger, 1, tmp_path)
    assert len([one for one in statements if one.startswith("SELECT")]) == 1
    assert len(table(tmp_path)) == 10_000
