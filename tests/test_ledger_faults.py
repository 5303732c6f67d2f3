"""Disks that fill, databases that go away, processes that are killed: nothing is lost or counted twice."""

import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import nightwork
import pytest
from databases import new_schema
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from nightwork import ALPHA, ROOT
from sqlalchemy import event, text

from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator.ledger import DrivenError, Ledger, candidates, errorbudget, nights, promotions, queries
from nightfleet.orchestrator.ledger.database import connect, url_of
from nightfleet.orchestrator.ledger.tables import Candidate, Drive, Night, Reservation

TESTS = Path(__file__).parent
# Submits, times and judges for ever; says what it did once that is committed.
WORK = """
import sys
sys.path.insert(0, {tests!r})
import nightwork
from pathlib import Path
from nightfleet.orchestrator.ledger import Ledger, promotions

place = sys.argv[1]
ledger = Ledger.open(place if "://" in place else Path(place))
with ledger.drive() as drive:
    with ledger.write() as writing:
        nightwork.begin(writing, planned=5)
    print("driving", drive.number, flush=True)
    while True:
        with ledger.write() as writing:
            row = nightwork.waiting(writing)
        print("submitted", row.number, flush=True)
        with ledger.write() as writing:
            found = nightwork.timed(writing, row, "undecided")
        print("judged", found.id, flush=True)
"""


def work(place: Path | str, *before: str, **options: Any) -> "subprocess.Popen[str]":
    code = WORK.format(tests=str(TESTS))
    command = [*before, sys.executable, "-c", code, str(place)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def fill(ledger: Ledger) -> None:
    for _ in range(10_000):
        with ledger.write() as writing:
            nightwork.submit(writing, description="x" * 4000)


def test_a_full_database_keeps_what_it_has_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with nightwork.opened(tmp_path / "ledger.sqlite") as ledger:
        with ledger.write() as writing:
            nightwork.begin(writing)
        pages = {"most": 120}

        @event.listens_for(ledger._engine, "begin")
        def limit(connection: Any) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages['most']}")

        with pytest.raises(MachineError, match=r"disk is full; free some space .*SQLITE_FULL.*same command again"):
            fill(ledger)
        with ledger.read() as reading:
            kept = len(queries.results(reading, 1))
        assert kept > 5
        assert ledger.check().sound
        pages["most"] = 100_000
        with ledger.write() as writing:
            assert nightwork.submit(writing).number == kept + 1
        assert ledger.check().sound


def test_a_full_disk_ends_the_process_with_everything_recorded(tmp_path: Path) -> None:
    """A real one: a file system of 1 MiB in a mount namespace, copied out as the process left it."""
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}/disk"
    (tmp_path / "disk").mkdir()
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*unshare, mount], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace may mount a tmpfs here")
    script = f'{mount}; "$@"; cp {tmp_path}/disk/* {tmp_path}'
    with work(tmp_path / "disk/ledger.sqlite", *unshare, script, "sh") as process:
        said, error = process.communicate()
    assert "MachineError" in error
    assert "disk is full" in error
    with nightwork.opened(tmp_path / "ledger.sqlite") as ledger:
        assert_all_there(ledger, whole_lines(said))


def test_a_file_that_may_not_grow_is_the_machines_failure(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    with work(tmp_path / "ledger.sqlite", preexec_fn=limit) as process:
        said, error = process.communicate()
    assert "MachineError" in error
    assert "look at its space, quota" in error
    with nightwork.opened(tmp_path / "ledger.sqlite") as ledger:
        assert_all_there(ledger, whole_lines(said))


def whole_lines(said: str) -> list[str]:
    """A process killed in the middle of saying something, word by word where Python is unbuffered, did not say it."""
    return [line for line in said.splitlines(keepends=True) if line.endswith("\n")]


def assert_all_there(ledger: Ledger, said: list[str]) -> None:
    """What was said to be done is there; what was not may be; the error budget holds; the chain does."""
    assert said
    with ledger.read() as reading:
        numbers = [row.number for row in queries.results(reading, 1)]
        judged = queries.status(reading, 1).verdicts.get("undecided", 0)
        used, alpha = errorbudget.used(reading, 1)["speed"]
    last = {line.split()[0]: int(line.split()[1]) for line in said}
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= last.get("submitted", 0)
    assert judged >= last.get("judged", 0)
    assert used == judged
    assert alpha <= ALPHA
    assert ledger.check().sound


def test_kills_lose_nothing_and_the_next_process_drives(ledger_place: Path | str) -> None:
    said: list[str] = []
    for kill in range(3):
        with work(ledger_place) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == f"driving {kill + 1}\n"
            # Anywhere within a step, not only after one.
            time.sleep(0.013 * kill)
            process.send_signal(signal.SIGKILL)
            said += whole_lines(process.stdout.read())
    with nightwork.opened(ledger_place) as ledger:
        assert_all_there(ledger, said or ["driving 3"])
        with ledger.read() as reading:
            assert reading.get(Night, 1).planned == 5


def test_one_process_drives(ledger_place: Path | str) -> None:
    with nightwork.opened(ledger_place) as ledger:
        with work(ledger_place) as process:
            assert process.stdout is not None
            process.stdout.readline()
            words = rf"process {process.pid} on \S+ \(since .* UTC\) drives .* 'nightfleet launch --join'"
            with pytest.raises(DrivenError, match=words), ledger.drive():
                pass
            process.kill()
        with ledger.drive() as drive:
            assert (drive.number, drive.pid) == (2, os.getpid())
        with ledger.drive() as drive:
            assert drive.number == 3
        with ledger.read() as reading:
            assert reading.get(type(drive), 2).ended_us is not None


def test_a_drive_that_lost_its_connection_is_refused(postgres: str) -> None:
    place = new_schema(postgres)
    with nightwork.opened(place) as old, nightwork.opened(place) as new:
        with pytest.raises(UserError, match=r"drive 1 .* was replaced by drive 2"):
            drive_on_after_a_cut(old, new, place)
        with new.read() as reading:
            ended = [reading.get(Drive, number).ended_us is not None for number in (1, 2)]
        assert ended == [False, True]
        assert new.check().sound


def drive_on_after_a_cut(old: Ledger, new: Ledger, place: str) -> None:
    with old.drive():
        cut_connections(place)
        with new.drive(), new.write() as writing:
            nightwork.begin(writing)
        with old.write() as writing:
            nightwork.submit(writing)


def cut_connections(place: str) -> None:
    """Every one but this one, as a server that restarts does."""
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'tests'"
    )
    engine = connect(url_of(place))
    with engine.begin() as connection:
        connection.execute(text(others))
    engine.dispose()


def test_a_connection_that_breaks_loses_the_transaction_and_not_the_ledger(postgres: str) -> None:
    with nightwork.opened(new_schema(postgres)) as ledger:
        with ledger.write() as writing:
            nightwork.begin(writing)
        with pytest.raises(MachineError, match=r"see that it runs and can be reached.*same command again"):
            lose_connection(ledger)
        with ledger.write() as writing:
            assert nightwork.submit(writing).number == 1
        assert ledger.check().sound


def lose_connection(ledger: Ledger) -> None:
    with ledger.write() as writing:
        nightwork.submit(writing)
        writing.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


class Nightfall(RuleBasedStateMachine):
    """Any operations in any order, some in transactions that are given up, some followed by opening it all again."""

    place: Path | str

    def __init__(self) -> None:
        super().__init__()
        if isinstance(self.place, Path):
            shutil.rmtree(self.place.parent / "try", ignore_errors=True)
            (self.place.parent / "try").mkdir()
            self.where: Path | str = self.place.parent / "try" / self.place.name
        else:
            self.where = new_schema(self.place.rpartition("&options")[0])
        self.ledger = nightwork.opened(self.where)
        with self.ledger.write() as writing:
            nightwork.begin(writing)
        self.candidates: dict[int, str] = {}
        self.spent = 0

    def teardown(self) -> None:
        assert self.ledger.check().sound
        self.ledger.close()

    @rule(given_up=st.booleans())
    def submit(self, given_up: bool) -> None:
        with GivenUp(self.ledger, given_up) as writing:
            row = nightwork.submit(writing)
        if not given_up:
            assert row.id not in self.candidates
            self.candidates[row.id] = "submitted"

    @precondition(lambda self: self.candidates)
    @rule(data=st.data(), to=st.sampled_from(candidates.STATES), given_up=st.booleans())
    def move(self, data: st.DataObject, to: candidates.State, given_up: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.candidates)))
        possible = to in candidates.MOVES[self.candidates[number]]  # type: ignore[index]
        possible &= self.candidates[number] != "judged" or to in {"stale", "waiting"}
        with GivenUp(self.ledger, given_up) as writing:
            if not possible:
                with pytest.raises(UserError, match="cannot become"):
                    candidates.move(writing, number, to)
                return
            candidates.move(writing, number, to)
        if not given_up:
            self.candidates[number] = to

    @precondition(lambda self: "waiting" in self.candidates.values())
    @rule(given_up=st.booleans(), judged=st.booleans())
    def time(self, given_up: bool, judged: bool) -> None:
        number = next(number for number, state in self.candidates.items() if state == "waiting")
        with GivenUp(self.ledger, given_up) as writing:
            if judged:
                nightwork.timed(writing, writing.get(Candidate, number), "undecided")
            else:
                errorbudget.reserve(
                    writing, number, baseline=ROOT, binary="b", timing=secrets.token_hex(4), why="restart"
                )
        if not given_up:
            self.spent += 1
            self.candidates[number] = "judged" if judged else "waiting"

    @rule()
    def open_again(self) -> None:
        self.ledger.close()
        self.ledger = nightwork.opened(self.where)

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        with self.ledger.read() as reading:
            rows = {row.number: row.state for row in queries.results(reading, 1)}
            used, alpha = errorbudget.used(reading, 1)["speed"]
        assert rows == self.candidates
        assert used == self.spent
        assert alpha <= ALPHA


class GivenUpError(Exception):
    """The transaction is not to be kept."""


class GivenUp:
    """A transaction that is kept or not."""

    def __init__(self, ledger: Ledger, given_up: bool) -> None:
        self.writing, self.given_up = ledger.write(), given_up

    def __enter__(self) -> Any:
        return self.writing.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None and self.given_up:
            error = GivenUpError()
            kind = GivenUpError
        try:
            self.writing.__exit__(kind, error, trace)
        except GivenUpError:
            return True
        return False


def test_any_order_of_operations(ledger_place: Path | str) -> None:
    machine = type("Machine", (Nightfall,), {"place": ledger_place})
    slow = settings.get_profile("slow").max_examples == settings().max_examples
    run_state_machine_as_test(machine, settings=settings(max_examples=200 if slow else 4, stateful_step_count=15))


def test_a_swap_is_found_unsettled_after_a_crash(ledger_place: Path | str) -> None:
    with nightwork.opened(ledger_place) as ledger, ledger.write() as writing:
        nightwork.begin(writing)
        promotions.mean(writing, nightwork.timed(writing, nightwork.waiting(writing)).id, "one")
    with nightwork.opened(ledger_place) as ledger, ledger.write() as writing:
        night = nights.running(writing)
        assert night is not None
        meant = promotions.unsettled(writing, night.number)
        assert meant is not None
        assert (meant.from_commit, meant.to_commit, night.champion) == (ROOT, "one", ROOT)
        promotions.settle(writing, meant.id, "swapped")
        assert night.champion == "one"
        assert writing.get(Reservation, 1).index == 0
