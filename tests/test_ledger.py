"""The ledger: what it keeps, what it refuses, and that it notices when somebody else wrote in it. On both databases."""

import itertools
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import nightwork
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from nightwork import ALPHA, PLANNED, ROOT, Hands
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator import stale
from nightfleet.orchestrator.ledger import (
    Ledger,
    candidates,
    errorbudget,
    nights,
    promotions,
    queries,
    spending,
    tasks,
    verifications,
    version,
)
from nightfleet.orchestrator.ledger.database import connect
from nightfleet.orchestrator.ledger.spending import Amounts, OverBudgetError
from nightfleet.orchestrator.ledger.tables import Candidate, Night, Reservation, Table

DOCUMENT = Path(__file__).parents[1] / "docs/ledger.md"


@pytest.fixture
def ledger(ledger_place: Path | str) -> Iterator[Ledger]:
    with nightwork.opened(ledger_place) as ledger:
        yield ledger


def a_night(ledger: Ledger) -> None:
    """One promotion, one rejection, one that never was timed."""
    with ledger.write() as writing:
        night = nightwork.begin(writing)
        nights.read_program(writing, night, "# faster\n")
        strategy = candidates.propose(writing, night, title="hoist", made_by="s1", detail={"files": ["a.rs"]})
        found = nightwork.timed(writing, nightwork.waiting(writing, strategy=strategy.id), extraordinary=True)
        promotion = promotions.mean(writing, found.id, "champion-1")
    with ledger.write() as writing:
        promotions.settle(writing, promotion.id, "swapped")
        nightwork.timed(writing, nightwork.waiting(writing), "reject", gain=0.0)
        broken = nightwork.bring_to(writing, nightwork.submit(writing), "building")
        verdict = nightwork.finding(broken, "broken", "champion-1", None, pairs=0, gain=None)
        verifications.judge(writing, broken.id, verdict)
        spending.settle(writing, spending.reserve(writing, night, Amounts(tokens=9), Amounts(tokens=10)).id)


@contextmanager
def directly(ledger: Ledger) -> Iterator[Connection]:
    """Past the ledger, into its database."""
    engine = connect(ledger.url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def tamper(ledger: Ledger, *statements: str) -> None:
    with directly(ledger) as connection:
        if ledger.url.get_backend_name() == "sqlite":
            for change in ("UPDATE", "DELETE"):
                connection.execute(text(f"DROP TRIGGER entries_{change}"))
        else:
            connection.execute(text("DROP TRIGGER entries_guard ON entries"))
        for statement in statements:
            connection.execute(text(statement))


def test_a_night_and_what_the_views_read(ledger: Ledger) -> None:
    a_night(ledger)
    with ledger.read() as reading:
        status = queries.status(reading, 1)
        rows = queries.results(reading, 1)
        (step,) = queries.steps(reading, 1)
        seconds = queries.gate_seconds(reading, 1)
        assert [row.number for row in queries.results(reading, 1, after=2)] == [3]
        assert [row.id for row in promotions.awaiting_sign_off(reading, 1)] == [1]
        assert queries.entries_after(reading, 2, limit=1)[0].kind == "strategy proposed"
    assert (status.night.champion, status.night.root) == ("champion-1", ROOT)
    assert status.states == {"judged": 3}
    assert status.verdicts == {"promote": 1, "reject": 1, "broken": 1}
    assert status.reserved["speed"][0] == 2
    assert (status.promotions, status.awaiting_sign_off, status.spent.tokens) == (1, (1,), 9)
    assert [(row.number, row.promoted, row.gain) for row in rows] == [
        (1, True, 0.07),
        (2, False, 0.0),
        (3, False, None),
    ]
    assert (step[0].from_commit, step[0].to_commit, step[1].number) == (ROOT, "champion-1", 1)
    assert seconds == {"build": 7.5, "speed": 12.0}
    assert ledger.check().sound
    with ledger.write() as writing:
        promotions.sign_off(writing, 1, accepted=True, said_by="a person")
        assert promotions.awaiting_sign_off(writing, 1) == []


def submit_and_fail(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.submit(writing)
        tasks.cancel(writing, 99, "there is no such task")


def test_a_transaction_that_raises_leaves_nothing(ledger: Ledger) -> None:
    a_night(ledger)
    before = ledger.check()
    with pytest.raises(UserError, match="no task 99"):
        submit_and_fail(ledger)
    assert ledger.check() == before
    with ledger.write(), pytest.raises(RuntimeError, match="under way"):
        ledger.write().__enter__()


TAMPERED = {
    "edited": (
        ["UPDATE entries SET payload = replace(payload, '0.07', '0.70') WHERE kind = 'candidate judged'"],
        "edited",
    ),
    "removed": (["DELETE FROM entries WHERE sequence = 5"], "entry 5 is missing: after 4 comes 6"),
    "removed and counted anew": (
        ["DELETE FROM entries WHERE sequence = 5", "UPDATE entries SET sequence = sequence - 1 WHERE sequence = 6"],
        "entry 5 was edited",
    ),
    "inserted": (
        ["INSERT INTO entries SELECT 1000, 0, kind, payload, hash, hash FROM entries WHERE sequence = 1"],
        "is missing: after .* comes 1000",
    ),
    "reordered": (
        [
            "UPDATE entries SET sequence = 1000 WHERE sequence = 4",
            "UPDATE entries SET sequence = 4 WHERE sequence = 5",
            "UPDATE entries SET sequence = 5 WHERE sequence = 1000",
        ],
        "entry 4 was edited",
    ),
    "state edited": (["UPDATE verifications SET gain = 0.5 WHERE id = 1"], "verifications 1: gain is 0.5, .* 0.07"),
    "state removed": (["DELETE FROM gate_times"], "gate_times 1, build is in the entries and not in the table"),
    "state invented": (
        ["INSERT INTO snapshots SELECT 1, night, epoch, digest, at_us FROM snapshots"],
        "snapshots 1 is not in the entries",
    ),
}


@pytest.mark.parametrize("way", TAMPERED)
def test_whatever_is_changed_is_noticed(ledger: Ledger, way: str) -> None:
    statements, words = TAMPERED[way]
    a_night(ledger)
    assert ledger.check().sound
    tamper(ledger, *statements)
    assert re.search(words, ledger.check().trouble)


def test_a_chain_that_was_cut_or_written_anew_needs_a_hash_noted_elsewhere(ledger: Ledger) -> None:
    a_night(ledger)
    with ledger.read() as reading:
        noted = dict([reading.last_entry()])
    assert ledger.check(noted).sound
    tamper(ledger, "DELETE FROM spends", "DELETE FROM entries WHERE kind LIKE 'spend%'")
    assert ledger.check().sound
    assert "the end is cut off" in ledger.check(noted).trouble
    assert "not the one that was noted elsewhere" in ledger.check({3: "0" * 64}).trouble


def test_entries_are_only_ever_added(ledger: Ledger) -> None:
    a_night(ledger)
    for statement in ("UPDATE entries SET kind = 'x'", "DELETE FROM entries"):
        with pytest.raises(DBAPIError, match="only ever added"), directly(ledger) as connection:
            connection.execute(text(statement))


def test_the_document_checks_a_ledger_with_python_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    place = tmp_path / "ledger.sqlite"
    with nightwork.opened(place) as ledger:
        a_night(ledger)
        health = ledger.check()
        code = code.replace(".nightfleet/ledger.sqlite", str(place))
        exec(code, {})  # noqa: S102 - what the page tells people to run
        assert capsys.readouterr().out.split() == [str(health.entries), health.last_hash]
        tamper(ledger, *TAMPERED["edited"][0])
    with pytest.raises(AssertionError):
        exec(code, {})  # noqa: S102
    (statement,) = re.findall(r"sqlite3 -readonly \S+ \"(.*)\"$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    with closing(sqlite3.connect(place)) as connection:
        assert len(connection.execute(statement.replace('\\"', '"')).fetchall()) == 3


def test_the_document_names_every_table() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## The tables")[2]
    named = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    assert named == set(Table.metadata.tables)


def test_a_night_goes_on_as_it_was_begun(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
        branches = {"base_branch": "main", "champion_branch": "nightfleet/champion"}
        night, continued = nights.begin_or_continue(writing, name="n2", root="x", planned=9, alpha=0.05, **branches)
        assert continued
        assert (night.name, night.root, night.planned, night.alpha) == ("n1", ROOT, PLANNED, ALPHA)
        with pytest.raises(UserError, match="has not ended"):
            nightwork.begin(writing, base_branch="other")
        nights.end(writing, 1, "stopped")
        with pytest.raises(UserError, match="named n1"):
            nightwork.begin(writing)
        assert nightwork.begin(writing, name="n2") == 2
        with pytest.raises(ValueError, match="false promotions"):
            nightwork.begin(writing, alpha=0.2)


def test_a_program_is_kept_once_until_it_changes(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
        first = nights.read_program(writing, 1, "a")
        assert nights.read_program(writing, 1, "a", new_epoch=True).sequence == first.sequence
        assert nights.read_program(writing, 1, "b").epoch == 0
        assert nights.read_program(writing, 1, "a", new_epoch=True).epoch == 1
        assert nightwork.submit(writing).epoch == 1


def test_candidates_make_no_impossible_move(ledger: Ledger) -> None:
    ways: dict[candidates.State, tuple[candidates.State, ...]] = {
        "submitted": (),
        "building": ("building",),
        "behaving": ("building", "behaving"),
        "waiting": ("building", "behaving", "waiting"),
        "timing": ("building", "behaving", "waiting", "timing"),
        "stale": ("stale",),
    }
    with ledger.write() as writing:
        nightwork.begin(writing)
        for state, to in itertools.product(ways, candidates.STATES):
            row = nightwork.bring_to(writing, nightwork.submit(writing), *ways[state])
            if to in candidates.MOVES[state]:
                assert candidates.move(writing, row.id, to).state == to
            else:
                with pytest.raises(UserError, match=f"is {state} and cannot become {to}"):
                    candidates.move(writing, row.id, to)


@pytest.mark.parametrize("verdict", verifications.VERDICTS)
def test_only_what_got_no_due_leaves_judgement(ledger: Ledger, verdict: Any) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
        for to, allowed in (("stale", candidates.RERUN_VERDICTS), ("waiting", {"undecided"})):
            row = nightwork.waiting(writing)
            nightwork.timed(writing, row, verdict)
            if verdict in allowed:
                candidates.move(writing, row.id, to)  # type: ignore[arg-type]
            else:
                with pytest.raises(UserError, match=rf"judged \({verdict}\)"):
                    candidates.move(writing, row.id, to)  # type: ignore[arg-type]
            assert row.verdict == verdict


def test_a_lineage_is_run_again_three_times(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
        row = nightwork.submit(writing)
        with pytest.raises(UserError, match="only a stale one"):
            nightwork.submit(writing, rebased_from=row.id)
        for depth in (1, 2, 3):
            candidates.move(writing, row.id, "stale")
            again = nightwork.submit(writing, rebased_from=row.id)
            with pytest.raises(UserError, match="was run again already"):
                nightwork.submit(writing, rebased_from=row.id)
            assert (again.depth, again.lineage) == (depth, 1)
            row = again
        candidates.move(writing, row.id, "stale")
        with pytest.raises(UserError, match="3 are the most"):
            nightwork.submit(writing, rebased_from=row.id)
        assert [one.depth for one in candidates.lineage(writing, row)] == [0, 1, 2, 3]


def test_of_the_undecided_only_what_was_near_is_run_again(ledger: Ledger) -> None:
    gains = (("undecided", 0.019), ("undecided", 0.02), ("undecided", None), ("incremental", 0.019), ("reject", 0.04))
    with ledger.write() as writing:
        nightwork.begin(writing)
        for verdict, gain in gains:
            nightwork.timed(writing, nightwork.waiting(writing, parent="older"), verdict, gain=gain)
        assert [one.number for one in stale.due(writing, 1, 0.02)] == [2, 3, 4]


def test_the_error_budget_is_spent_before_the_first_pair_and_survives(ledger_place: Path | str) -> None:
    same = {"baseline": ROOT, "binary": "b"}
    with nightwork.opened(ledger_place) as ledger, ledger.write() as writing:
        nightwork.begin(writing)
        row = nightwork.waiting(writing)
        first = errorbudget.reserve(writing, row.id, baseline=ROOT, binary="b", timing="v1", why="first")
        assert (first.index, first.alpha) == (0, nights.budget_of(writing.get(Night, 1)).of(0))
    with nightwork.opened(ledger_place) as ledger, ledger.write() as writing:
        # The process was killed and its journal is there: the same timing goes on.
        assert errorbudget.continued(writing, row.id, **same, timing="v1").id == first.id
        with pytest.raises(UserError, match="v1 has an index already"):
            errorbudget.reserve(writing, row.id, baseline=ROOT, binary="b", timing="v1", why="restart")
        for index in range(1, 3 * PLANNED + 1):
            again = errorbudget.reserve(
                writing, row.id, baseline=ROOT, binary="b", timing=f"again {index}", why="restart"
            )
            assert again.index == index
        other = errorbudget.reserve(
            writing, row.id, baseline=ROOT, binary="b", timing="other", why="first", purpose="simplify"
        )
        assert (other.index, other.alpha) == (0, first.alpha)
        assert 0 < errorbudget.used(writing, 1)["speed"][1] <= ALPHA


def test_only_the_same_timing_goes_on_for_nothing(ledger: Ledger) -> None:
    same = {"baseline": ROOT, "binary": "b"}
    with ledger.write() as writing:
        nightwork.begin(writing)
        row = nightwork.waiting(writing)
        with pytest.raises(UserError, match="is None; it cannot continue v1"):
            errorbudget.continued(writing, row.id, **same, timing="v1")
        found = nightwork.timed(writing, row, "undecided")
        timing = writing.get(Reservation, found.reservation or 0).timing
        assert errorbudget.continued(writing, row.id, **same, timing=timing).id == found.reservation
        for other in ({"baseline": "x", "binary": "b"}, {"baseline": ROOT, "binary": "c"}):
            with pytest.raises(UserError, match="another binary or baseline"):
                errorbudget.continued(writing, row.id, **other, timing=timing)
        errorbudget.reserve(writing, row.id, baseline=ROOT, binary="b", timing="anew", why="restart")
        with pytest.raises(UserError, match=f"is anew; it cannot continue {timing}"):
            errorbudget.continued(writing, row.id, **same, timing=timing)
        ended = nightwork.waiting(writing)
        found = nightwork.timed(writing, ended, "reject")
        timing = writing.get(Reservation, found.reservation or 0).timing
        with pytest.raises(UserError, match="ended with reject"):
            errorbudget.continued(writing, ended.id, **same, timing=timing)


def test_a_verification_is_paid_for_and_counts_once(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
        row, other = nightwork.waiting(writing), nightwork.waiting(writing)
        with pytest.raises(UserError, match="without an index"):
            verifications.judge(writing, row.id, nightwork.finding(row, "promote", ROOT, None))
        spent = errorbudget.reserve(writing, other.id, baseline=ROOT, binary="b", timing="v", why="first")
        with pytest.raises(UserError, match="made for another timing"):
            verifications.judge(writing, row.id, nightwork.finding(row, "promote", ROOT, spent.id))
        verifications.judge(writing, other.id, nightwork.finding(other, "undecided", ROOT, spent.id))
        candidates.move(writing, other.id, "waiting")
        with pytest.raises(UserError, match="in the ledger already"):
            verifications.judge(writing, other.id, nightwork.finding(other, "undecided", ROOT, spent.id))


def test_the_champion_moves_by_swaps_that_are_settled(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
        first, second = (nightwork.timed(writing, nightwork.waiting(writing)) for _ in range(2))
        meant = promotions.mean(writing, first.id, "one")
        assert writing.get(Night, 1).champion == ROOT
        with pytest.raises(UserError, match="not settled"):
            promotions.mean(writing, second.id, "two")
        promotions.settle(writing, meant.id, "swapped")
        promotions.settle(writing, meant.id, "swapped")
        with pytest.raises(UserError, match="cannot become lost"):
            promotions.settle(writing, meant.id, "lost")
        with pytest.raises(UserError, match="the champion is one"):
            promotions.mean(writing, second.id, "two")
        lost = promotions.mean(writing, nightwork.timed(writing, nightwork.waiting(writing)).id, "three")
        promotions.settle(writing, lost.id, "lost")
        assert writing.get(Night, 1).champion == "one"
        with pytest.raises(UserError, match="came out reject"):
            promotions.mean(writing, nightwork.timed(writing, nightwork.waiting(writing), "reject").id, "four")
        with pytest.raises(UserError, match="nothing to sign off"):
            promotions.sign_off(writing, lost.id, accepted=True, said_by="me")
        assert promotions.unsettled(writing, 1) is None


def test_what_is_spent_is_reserved_first(ledger: Ledger) -> None:
    limits = Amounts(tokens=100, micro_dollars=5)
    with ledger.write() as writing:
        nightwork.begin(writing)
        one = spending.reserve(writing, 1, Amounts(tokens=60), limits)
        with pytest.raises(OverBudgetError, match=r"tokens: 60 of 100 .*; 60 more do not fit"):
            spending.reserve(writing, 1, Amounts(tokens=60), limits)
        spending.settle(writing, one.id, Amounts(tokens=20, micro_dollars=7))
        spending.settle(writing, one.id, Amounts(tokens=20, micro_dollars=7))
        with pytest.raises(UserError, match="is settled"):
            spending.settle(writing, one.id, Amounts(tokens=21))
        two = spending.reserve(writing, 1, Amounts(tokens=80), limits)
        # Over in money, and that was paid: what needs no money still goes on.
        assert spending.total(writing, 1) == Amounts(tokens=100, micro_dollars=7)
        assert [row.id for row in spending.open_spends(writing, 1)] == [two.id]
        assert spending.settle(writing, two.id).tokens == 80
        with pytest.raises(UserError, match="less than nothing"):
            Amounts(tokens=-1)


@pytest.mark.parametrize("words", ["a\0b", "half \ud800"])
def test_text_that_one_database_could_not_hold_is_refused_by_both(ledger: Ledger, words: str) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
    with pytest.raises(UserError, match="has no NUL"), ledger.write() as writing:
        nightwork.submit(writing, description=words)
    with pytest.raises(UserError, match="JSON"), ledger.write() as writing:
        nightwork.timed(writing, nightwork.waiting(writing), gain=float("nan"))
    assert ledger.check().sound


def test_agents_are_known_by_name(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.begin(writing)
        agent = nights.agent_joins(writing, 1, name="w1", role="worker", backend="search")
        assert nights.agent_joins(writing, 1, name="w1", role="worker", backend="search").id == agent.id
        with pytest.raises(UserError, match="choose another name"):
            nights.agent_joins(writing, 1, name="w1", role="scout", backend="search")
        nights.agent_leaves(writing, agent.id)
        nights.agent_leaves(writing, agent.id)
        assert agent.left_us is not None


def test_times_are_utc_and_the_clocks(ledger_place: Path | str) -> None:
    hands = Hands()
    with nightwork.opened(ledger_place, hands) as ledger:
        with ledger.write() as writing:
            nightwork.begin(writing)
        hands.pass_s(2.5)
        with ledger.write() as writing:
            row = nightwork.submit(writing)
            assert row.created_us - writing.get(Night, 1).began_us == 2_500_000
        hands.now = hands.now.replace(tzinfo=None)
        with pytest.raises(ValueError, match="has a zone"), ledger.write():
            pass


def test_the_migrations_make_the_tables(ledger: Ledger) -> None:
    with directly(ledger) as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_a_newer_ledger_is_refused_by_both_versions(ledger: Ledger, ledger_place: Path | str) -> None:
    with directly(ledger) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '7'"))
    with pytest.raises(
        UserError, match=r"has version 7, and nightfleet \S+ knows versions up to " + f"{version.NEWEST}"
    ):
        Ledger.open(ledger_place)


def test_an_older_ledger_is_brought_up_and_a_copy_kept(
    ledger_place: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nightwork.opened(ledger_place) as ledger:
        a_night(ledger)
    newer = tmp_path / "migrations"
    (newer / "versions").mkdir(parents=True)
    for script in [*version.MIGRATIONS.glob("*.py"), *version.MIGRATIONS.glob("versions/*.py")]:
        shutil.copy(script, newer / script.relative_to(version.MIGRATIONS))
    newest = version.NEWEST
    later = f"revision, down_revision = '{newest + 1}', '{newest}'\nfrom alembic import op\nimport sqlalchemy as sa\n"
    later += "def upgrade():\n    op.create_table('dreams', sa.Column('id', sa.Integer(), primary_key=True))\n"
    (newer / f"versions/version_{newest + 1}.py").write_text(later, encoding="utf-8")
    monkeypatch.setattr(version, "MIGRATIONS", newer)
    monkeypatch.setattr(version, "NEWEST", newest + 1)
    with nightwork.opened(ledger_place) as ledger:
        with directly(ledger) as connection:
            assert version.version_of(connection, ledger.url) == newest + 1
            connection.execute(text("INSERT INTO dreams VALUES (1)"))
        assert ledger.check().sound
    monkeypatch.undo()
    if isinstance(ledger_place, Path):
        assert not ledger_place.with_name(f"ledger.sqlite.version-{newest}.half").exists()
        with nightwork.opened(ledger_place.with_name(f"ledger.sqlite.version-{newest}")) as kept:
            assert kept.check() == ledger.check()


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("CREATE TABLE songs (name)")
    with pytest.raises(UserError, match="a database of something else"):
        Ledger.open(place)
    (tmp_path / "text").write_text("x" * 5000, encoding="utf-8")
    with pytest.raises(MachineError, match="it is not a database"):
        Ledger.open(tmp_path / "text")
    with pytest.raises(MachineError, match="cannot be opened"):
        Ledger.open(tmp_path / "nowhere" / "ledger.sqlite")
    for address in ("mysql://host/name", "sqlite://", "nonsense"):
        with pytest.raises(UserError, match="a ledger is a file"):
            Ledger.open(address)
    with pytest.raises(MachineError, match="see that it runs") as refused:
        Ledger.open(f"postgresql://me:secret@/name?host={tmp_path}")
    assert "secret" not in str(refused.value).split("(")[0]


def test_rows_stay_readable_after_their_transaction(ledger: Ledger) -> None:
    a_night(ledger)
    with ledger.read() as reading:
        row = reading.get(Candidate, 1)
    assert row.verdict == "promote"
    with ledger.read() as reading, pytest.raises(UserError, match="no candidate 99"):
        reading.get(Candidate, 99)
