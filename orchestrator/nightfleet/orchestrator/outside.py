"""Agents from outside: people, coding agents, scripts. They claim by command, and nothing but their tree is believed.

A claim is a lease on a task, a token and a tree of the champion for that task alone. Whoever stops saying that it is
alive loses the task to the next claimant, and its late report is refused. A report is taken once; sent again it is
answered again, because an answer may get lost on its way.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightfleet.agents.contract import (
    REPORT_BYTES,
    Brief,
    Changed,
    Practice,
    Proposed,
    Report,
    Role,
    read_report,
    write_brief,
)
from nightfleet.harness.copies import disk
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator import stopping
from nightfleet.orchestrator.briefs import brief_for
from nightfleet.orchestrator.desk import Desk
from nightfleet.orchestrator.ledger import tasks
from nightfleet.orchestrator.ledger.tables import Night, Strategy, Task
from nightfleet.orchestrator.ledger.tasks import Claim, RefusedError
from nightfleet.orchestrator.loans import Loan, Loans
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.practice import practice
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.program_file import read_back
from nightfleet.orchestrator.reception import Received, Work, receive, received_before
from nightfleet.orchestrator.repo.message import one_line

# Fixed: a person who reads code is silent for minutes; `budget.task` makes it less, and a heartbeat more.
LEASE_S = 900.0
# Fixed: how often a claim that waits looks for work.
LOOK_S = 0.5
LONGEST_NAME = 80
LONGEST_WORDS = 500
# What a brief is called, beside the tree.
BRIEF = "brief.json"


@dataclass(frozen=True)
class Lent:
    """A task in the hands of somebody outside, until `lease_s` after the last heartbeat."""

    claim: Claim
    who: str
    brief: Brief
    brief_file: Path
    lease_s: float


@dataclass(frozen=True)
class Standing:
    """A task as one who speaks of it finds it."""

    task: Task
    night: Night
    program: Program
    strategy: Strategy | None


class Outside:
    """The desk of one place, for whoever comes to it by command."""

    def __init__(self, place: Place) -> None:
        self._place, self._loans = place, Loans(place)

    def claim(self, role: Role, who: str, wait_s: float = 0.0) -> Lent | None:
        """Take the oldest free task of the night under way, with a tree for it; None if there is none in time.

        Raises:
            UserError: no night is under way any more or it is about to end, or the name is none.
            MachineError: disk, git or database failed; the task is free again.
        """
        who = one_line(who, LONGEST_NAME)
        if not who:
            raise UserError("--name: needs at least one letter that can be shown")
        night = self._place.night()
        self._loans.tidy()
        desk, until = self._desk(night.number, read_back(self._place, night.number)), time.monotonic() + wait_s
        while (claim := self._claimed(desk, role, who)) is None:
            if time.monotonic() >= until:
                return None
            time.sleep(LOOK_S)
        try:
            return self._lend(claim, who, desk.lease_s)
        except BaseException:
            with contextlib.suppress(RefusedError):
                desk.release(claim.task, claim.token, "its tree could not be made")
            raise

    def _claimed(self, desk: Desk, role: Role, who: str) -> Claim | None:
        # At every look: the night may have ended while somebody waited.
        night = self._place.night()
        if stopping.asked(self._place.state, night.name) is not None:
            raise UserError(f"the night {night.name} is ending and gives out no more work; see `nightfleet status`")
        return desk.claim(role, who)

    def heartbeat(self, task: int, token: int) -> float:
        """Keep a task; for how many seconds. RefusedError when it is not the caller's any more."""
        desk = self._desk_of(task)
        desk.heartbeat(task, token)
        return desk.lease_s

    def release(self, task: int, token: int, reason: str = "") -> None:
        """Give a task back, and its tree. RefusedError when it is not the caller's any more."""
        self._desk_of(task).release(task, token, one_line(reason, LONGEST_WORDS))
        loan = self._loans.find(task, token)
        if loan is not None:
            self._loans.end(loan)

    def practise(self, task: int, token: int) -> Practice:
        """Build the task's tree and run practice cases; the task is kept for as long as that takes.

        Raises:
            RefusedError: the task is not the caller's any more.
            UserError: the baseline does not build or run.
            MachineError: the machine could not do its part.
        """
        standing = self._standing(task)
        desk = self._desk(standing.night.number, standing.program)
        with _kept(desk, task, token), self._place.quiet.noise():
            loan = self._loan(task, token)
            return practice(self._place, standing.program, self._place.trees.folder(loan.tree), loan.parent)

    def submit(self, task: int, token: int, said: bytes | None, summary: str = "") -> Received:
        """Hand in a report; for a worker, what its tree is now. The same again is answered the same.

        Args:
            task: the task.
            token: of its claim.
            said: a report as JSON; None for a worker who changed its tree.
            summary: what it did, instead of a report.

        Raises:
            RefusedError: the task is not the caller's any more.
            UserError: the report is none, or none for that role.
            MachineError: git, disk or database failed; nothing was recorded.
        """
        standing = self._standing(task)
        loan = self._loans.find(task, token)
        who = "" if loan is None else loan.who
        report = _report(standing, said, summary, who or (standing.task.holder or "outside"))
        # The key follows from the claim: one claim, one report, however often it is sent.
        key = f"outside {task} {token}"
        work = Work(task, token, who, self._place.state, "")
        received = received_before(self._place, work, report, key)
        if received is None and standing.night.ended_us is not None:
            raise RefusedError(f"task {task} is nobody's any more: the night {standing.night.name} is over")
        if received is None:
            loan = self._loan(task, token)
            work = Work(task, token, loan.who, self._place.trees.folder(loan.tree), loan.parent)
            received = receive(self._place, standing.program, work, report, key)
        if loan is not None:
            self._loans.end(loan)
        return received

    def _lend(self, claim: Claim, who: str, lease_s: float) -> Lent:
        place = self._place
        standing = self._standing(claim.task)
        tree = place.trees.make(standing.night.name, place.door.tree(standing.night.champion))
        loan = Loan(claim.task, claim.token, who, standing.night.champion, tree.name)
        try:
            with place.ledger.read() as reading:
                brief = brief_for(reading, claim, standing.program, tree.folder)
            file = tree.folder.with_name(BRIEF)
            with disk():
                handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "w", encoding="utf-8") as writing:
                    writing.write(write_brief(brief))
            self._loans.keep(loan)
            tree.lend()
        except BaseException:
            tree.remove()
            self._loans.end(loan)
            raise
        return Lent(claim, who, brief, file, lease_s)

    def _standing(self, task: int) -> Standing:
        with self._place.ledger.read() as reading:
            row = reading.get(Task, task)
            night = reading.get(Night, row.night)
            strategy = None if row.strategy is None else reading.get(Strategy, row.strategy)
        return Standing(row, night, read_back(self._place, night.number), strategy)

    def _desk(self, night: int, program: Program) -> Desk:
        return Desk(self._place.ledger, night, min(LEASE_S, program.budget.task_s))

    def _desk_of(self, task: int) -> Desk:
        standing = self._standing(task)
        return self._desk(standing.night.number, standing.program)

    def _loan(self, task: int, token: int) -> Loan:
        """What was lent for a claim that stands."""
        with self._place.ledger.read() as reading:
            tasks.held(reading, task, token)
        loan = self._loans.find(task, token)
        if loan is None:
            raise UserError(
                f"no tree was lent for task {task} in {self._place.here}; it was not claimed by command here"
            )
        return loan


def _report(standing: Standing, said: bytes | None, summary: str, who: str) -> Report:
    """What somebody says, held against what its role may say."""
    role = standing.task.role
    if said is not None:
        report = _filled_in(said, who)
    elif role == "worker":
        title = "" if standing.strategy is None else standing.strategy.title
        report = Report(outcome=Changed(summary=one_line(summary or title, LONGEST_WORDS)))
    else:
        raise UserError(f"a {role} hands in a report: --report FILE, or --report - for standard input")
    if isinstance(report.outcome, Changed if role == "scout" else Proposed):
        fitting = "proposed" if role == "scout" else "changed"
        raise UserError(
            f"a {role}'s outcome is {fitting!r}, 'nothing' or 'failed'; this one is {report.outcome.kind!r}"
        )
    return report


def _filled_in(said: bytes, who: str) -> Report:
    """A report, with what a person who writes one by hand would leave out."""
    try:
        document = json.loads(said) if len(said) <= REPORT_BYTES else None
    except (ValueError, RecursionError):
        document = None
    outcome = document.get("outcome") if isinstance(document, dict) else None
    proposed = outcome.get("strategies") if isinstance(outcome, dict) else None
    if not isinstance(proposed, list):
        return read_report(said)
    for strategy in proposed:
        if isinstance(strategy, dict):
            strategy.setdefault("who", who)
            strategy.setdefault("fingerprint", fingerprint(strategy))
            # Recipes are exact edits that a worker of the same backend carries out unread; a stranger's are not.
            strategy.pop("recipe", None)
    return read_report(json.dumps(document))


def fingerprint(strategy: dict[str, Any]) -> str:
    """Of a strategy whose scout gave none: equal for the same words about the same files, 32 hexadecimal digits."""
    files = strategy.get("files")
    paths = sorted(map(str, files)) if isinstance(files, list) else []
    words = [re.sub(r"\W+", " ", _plain(strategy.get(key))).strip() for key in ("title", "hypothesis")]
    text = json.dumps(["nightfleet idea 1", *words, paths])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: object) -> str:
    return unicodedata.normalize("NFKC", str(value)).casefold()


@contextlib.contextmanager
def _kept(desk: Desk, task: int, token: int) -> Iterator[None]:
    """Hold a task for as long as something takes. RefusedError if it is not the caller's in the first place."""
    desk.heartbeat(task, token)
    done = threading.Event()

    def beat() -> None:
        while not done.wait(desk.lease_s / 3):
            try:
                desk.heartbeat(task, token)
            except RefusedError:
                return  # overtaken; whoever hands in the tree will hear
            except MachineError:
                continue  # the next one may get through

    thread = threading.Thread(target=beat, name="nightfleet heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
