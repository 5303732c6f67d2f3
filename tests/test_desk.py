"""The desk: every task in one agent's hands at a time, every report counted once. On both databases."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nightwork
import pytest
from nightwork import Hands

from nightfleet.native import UserError
from nightfleet.orchestrator.desk import Desk
from nightfleet.orchestrator.ledger import Ledger, nights, queries, tasks
from nightfleet.orchestrator.ledger.spending import Amounts, OverBudgetError, total
from nightfleet.orchestrator.ledger.tasks import Claim, RefusedError

LEASE_S = 60.0
CLAIMANTS, PROCESSES, TASKS = 1000, 4, 30
CLAIM_ALL = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from nightfleet.orchestrator.desk import Desk
from nightfleet.orchestrator.ledger import Ledger

place, name = sys.argv[1:]
desk = Desk(Ledger.open(place if "://" in place else Path(place)), 1)
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor({CLAIMANTS // PROCESSES}) as pool:
    for claim in pool.map(lambda who: desk.claim("worker", f"{{name}}-{{who}}"), range({CLAIMANTS // PROCESSES})):
        if claim:
            print(claim.task, claim.token, flush=True)
"""


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def desk(ledger_place: Path | str, hands: Hands) -> Iterator[Desk]:
    with nightwork.opened(ledger_place, hands) as ledger:
        with ledger.write() as writing:
            nightwork.begin(writing)
        yield Desk(ledger, 1, LEASE_S)


def claimed(desk: Desk, holder: str = "w1") -> Claim:
    claim = desk.claim("worker", holder)
    assert claim is not None
    return claim


def test_from_brief_to_report(desk: Desk) -> None:
    first, _ = desk.post("worker", {"goal": "fast\0er \ud800"}), desk.post("scout", {})
    claim = claimed(desk)
    assert (claim.task, claim.token, json.loads(claim.brief)) == (first, 1, {"goal": "fast\0er \ud800"})
    assert desk.claim("worker", "w2") is None
    receipt = desk.submit(claim.task, claim.token, "k", {"tree": "t"})
    assert desk.submit(claim.task, claim.token, "k", {"tree": "t"}) == receipt
    with pytest.raises(RefusedError, match="another report under the key 'k'"):
        desk.submit(claim.task, claim.token, "k", {"tree": "u"})
    with pytest.raises(RefusedError, match="it is done"):
        desk.submit(claim.task, claim.token, "k2", {"tree": "t"})
    with desk.ledger.read() as reading:
        assert tasks.report_of(reading, first) == '{"tree":"t"}'
        assert queries.status(reading, 1).tasks == {
            ("worker", "done"): 1,
            ("scout", "waiting"): 1,
            ("scout", "free"): 1,
        }
    assert desk.ledger.check().sound


def test_a_lease_ends_unless_a_heart_beats(desk: Desk, hands: Hands) -> None:
    desk.post("worker", {})
    slow = claimed(desk, "slow")
    hands.pass_s(LEASE_S - 1)
    assert desk.heartbeat(slow.task, slow.token) == slow.expires_us + int((LEASE_S - 1) * 1e6)
    hands.pass_s(LEASE_S - 1)
    assert desk.claim("worker", "quick") is None
    hands.pass_s(1)
    with desk.ledger.read() as reading:
        assert queries.status(reading, 1).tasks == {("worker", "claimed"): 1, ("worker", "free"): 1}
    quick = claimed(desk, "quick")
    assert (quick.task, quick.token) == (slow.task, slow.token + 1)
    for late in (desk.heartbeat, desk.release, lambda task, token: desk.submit(task, token, "late", {})):
        with pytest.raises(RefusedError, match="token 1 is old: it was claimed again with token 2, and quick has it"):
            late(slow.task, slow.token)
    assert desk.submit(quick.task, quick.token, "k", {}).token == 2


def test_late_work_that_nobody_else_began_is_taken(desk: Desk, hands: Hands) -> None:
    desk.post("worker", {})
    claim = claimed(desk)
    hands.pass_s(10 * LEASE_S)
    assert desk.submit(claim.task, claim.token, "k", {}).task == claim.task


def test_a_task_goes_back(desk: Desk, hands: Hands) -> None:
    desk.post("worker", {})
    claim = claimed(desk)
    desk.release(claim.task, claim.token, "no idea")
    with pytest.raises(RefusedError, match=r"it is waiting \(no idea\)"):
        desk.submit(claim.task, claim.token, "k", {})
    again = claimed(desk)
    hands.pass_s(LEASE_S)
    with desk.ledger.write() as writing:
        assert tasks.put_back_abandoned(writing, 1) == [again.task]
        assert tasks.put_back_abandoned(writing, 1) == []
    third = claimed(desk)
    assert third.token == 3
    with desk.ledger.write() as writing:
        tasks.cancel(writing, third.task, "the night ends")
        tasks.cancel(writing, third.task, "the night ends")
    with pytest.raises(RefusedError, match=r"it is cancelled \(the night ends\)"):
        desk.heartbeat(third.task, third.token)
    assert desk.claim("worker", "w1") is None
    assert desk.ledger.check().sound


def test_a_night_that_ended_gives_out_no_more_work(desk: Desk) -> None:
    for _ in range(2):
        desk.post("worker", {})
    claim = claimed(desk)
    with desk.ledger.write() as writing:
        nights.end(writing, 1, "stopped")
    assert desk.claim("worker", "w2") is None
    # What was paid for is still taken.
    assert desk.submit(claim.task, claim.token, "k", {}).task == claim.task


def test_a_claim_is_paid_for_or_not_made(desk: Desk) -> None:
    limits = Amounts(experiments=1)
    for _ in range(2):
        desk.post("worker", {})
    assert desk.claim("worker", "w1", costs=Amounts(experiments=1), limits=limits)
    with pytest.raises(OverBudgetError, match="experiments: 1 of 1"):
        desk.claim("worker", "w2", costs=Amounts(experiments=1), limits=limits)
    with desk.ledger.read() as reading:
        assert total(reading, 1).experiments == 1
        assert queries.status(reading, 1).tasks["worker", "free"] == 1


def test_what_is_too_large_or_no_json_is_refused(desk: Desk) -> None:
    desk.post("worker", {})
    claim = claimed(desk)
    with pytest.raises(UserError, match="a brief has at most 1048576 bytes"):
        desk.post("worker", "x" * tasks.LARGEST_BRIEF)
    with pytest.raises(UserError, match="a report has at most"):
        desk.submit(claim.task, claim.token, "k", "x" * tasks.LARGEST_REPORT)
    with pytest.raises(UserError, match="a report is JSON"):
        desk.submit(claim.task, claim.token, "k", {1, 2})
    for key in ("", "k" * 201):
        with pytest.raises(UserError, match="1 to 200 letters"):
            desk.submit(claim.task, claim.token, key, {})
    for lease_s in (0.0, float("nan"), 1e9):
        with pytest.raises(UserError, match="a lease takes"):
            Desk(desk.ledger, 1, lease_s).heartbeat(claim.task, claim.token)


def test_a_thousand_claimants_get_every_task_once(desk: Desk, ledger_place: Path | str) -> None:
    for _ in range(TASKS):
        desk.post("worker", {})
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_ALL, str(ledger_place), f"p{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(PROCESSES) as pool:
        said = "".join(pool.map(lambda process: process.communicate("go\n")[0], started))
    assert [process.returncode for process in started] == [0] * PROCESSES
    given = sorted(tuple(map(int, line.split())) for line in said.splitlines())
    assert given == [(task, 1) for task in range(1, TASKS + 1)]
    assert desk.ledger.check().sound


def test_the_desk_stands_while_another_process_drives(desk: Desk, ledger_place: Path | str) -> None:
    with desk.ledger.drive():
        desk.post("worker", {})
        with nightwork.opened(ledger_place) as outside:
            assert Desk(outside, 1).claim("worker", "outside")
        assert isinstance(desk.ledger, Ledger)
