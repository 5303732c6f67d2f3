"""The agents that live in this process: threads that claim, work and report, and trust nothing but the desk.

Each task gets a tree of its own and a brief of its own; both are gone when the report is received. An agent that fails
says so, and one that raises is made to say so: no agent ends a night.
"""

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from nightfleet.agents.contract import Backend, Brief, Failed, Practice, Profile, Report, Role, Spend
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator.briefs import brief_for
from nightfleet.orchestrator.desk import Desk
from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.ledger.tasks import Claim, RefusedError
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.reception import Work, receive
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.telling import Telling

# Fixed: a lease of an agent in this process, how often it is kept, and how often an idle agent looks for work.
LEASE_S = 30.0
BEAT_S = 5.0
IDLE_S = 0.5

log = structlog.get_logger()


@dataclass(frozen=True)
class Seat:
    """One agent's place in the fleet."""

    name: str
    role: Role
    backend: Backend


@dataclass
class Fleet:
    """The agents of one night in this process. A context manager: at its end all have stopped.

    Args:
        place: where the night is.
        night: its number.
        seats: who is in it.
        program: what it goes by now.
        practice: builds a tree and runs practice cases in it.
        profile: of a commit that agents start from.
        telling: hears what agents do.
        news: set whenever a report was received.
    """

    place: Place
    night: int
    seats: list[Seat]
    program: Callable[[], Program]
    practice: Callable[[Brief], Practice]
    profile: Callable[[str], Profile | None]
    telling: Telling
    news: threading.Event
    failure: BaseException | None = field(default=None, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _work: threading.Event = field(default_factory=threading.Event, init=False)
    _held: dict[str, Claim] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._desk = Desk(self.place.ledger, self.night, LEASE_S)

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=self._sit, args=(seat,), name=f"nightfleet {seat.name}", daemon=True)
            for seat in self.seats
        ]
        if self.seats:
            self._threads.append(threading.Thread(target=self._beat, name="nightfleet heartbeats", daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop every agent, and wait for those that are at work to notice."""
        self._stopping.set()
        self._work.set()
        for thread in self._threads:
            thread.join()

    def wake(self) -> None:
        """There is work at the desk."""
        self._work.set()

    def _sit(self, seat: Seat) -> None:
        try:
            while not self._stopping.is_set():
                claim = self._desk.claim(seat.role, seat.name)
                if claim is None:
                    self._work.wait(IDLE_S)
                    self._work.clear()
                else:
                    self._carry_out(seat, claim)
        except (MachineError, OSError) as error:
            # The disk or the database: the night itself will meet it, and says so.
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a thread's defect must reach the one who can tell it
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.news.set()

    def _carry_out(self, seat: Seat, claim: Claim) -> None:
        with self._lock:
            self._held[seat.name] = claim
        try:
            self._work_on(seat, claim)
        except RefusedError as refused:
            log.info("task was overtaken", agent=seat.name, task=claim.task, why=str(refused))
        finally:
            with self._lock:
                del self._held[seat.name]
            self.telling.agent(seat.name, "")
            self.news.set()

    def _work_on(self, seat: Seat, claim: Claim) -> None:
        noise = self.place.quiet.noise
        with self.place.ledger.read() as reading:
            night = reading.get(Night, self.night)
        program = self.program()
        with noise():
            tree = self.place.trees.make(night.name, self.place.door.tree(night.champion))
        try:
            with noise():
                brief = self._brief(claim, program, tree.folder, night)
            title = one_line(brief.strategy.title if brief.strategy is not None else "looks for strategies", 80)
            self.telling.agent(seat.name, title)
            # One that waits for answers is not waited for: what is timed would wait as long as a model thinks.
            with noise() if seat.backend.busy else nullcontext():
                report = self._asked(seat, brief)
            if self._stopping.is_set():
                self._desk.release(claim.task, claim.token, "the night was stopped")
                return
            work = Work(claim.task, claim.token, seat.name, tree.folder, night.champion)
            with noise():
                self._hand_in(program, work, report)
        finally:
            tree.remove()

    def _brief(self, claim: Claim, program: Program, tree: Path, night: Night) -> Brief:
        before = self.profile(night.root) if night.champion != night.root else None
        profiles = self.profile(night.champion), before
        with self.place.ledger.read() as reading:
            return brief_for(reading, claim, program, tree, profiles)

    def _hand_in(self, program: Program, work: Work, report: Report) -> None:
        try:
            receive(self.place, program, work, report, secrets.token_hex(8))
        except RefusedError:
            raise
        except UserError as error:
            # Text that the ledger does not hold, more than a report may have: the agent's fault and nobody else's.
            cause = f"its report could not be taken: {error}"[:8_000]
            said = Report(outcome=Failed(cause=cause), spend=report.spend)
            receive(self.place, program, work, said, secrets.token_hex(8))

    def _asked(self, seat: Seat, brief: Brief) -> Report:
        """What an agent says. A backend that raises has failed."""
        began = time.monotonic()
        desk = _AgentsDesk(self, seat.name, brief, began + brief.limits.seconds)
        try:
            report = (seat.backend.scout if seat.role == "scout" else seat.backend.worker)(brief, desk)
        except (UserError, MachineError):
            raise
        except Exception as error:
            log.warning("an agent failed", agent=seat.name, exc_info=error)
            report = Report(outcome=Failed(cause=f"{type(error).__name__}: {error}"[:8_000]))
        return report.model_copy(update={"spend": _spent(report.spend, desk.spent, time.monotonic() - began)})

    def _beat(self) -> None:
        """Keep every task that is at work."""
        while not self._stopping.wait(BEAT_S):
            with self._lock:
                held = list(self._held.values())
            for claim in held:
                try:
                    self._desk.heartbeat(claim.task, claim.token)
                except RefusedError:
                    continue  # it is done, or was overtaken; who works on it will hear
                except MachineError as error:
                    self._fail(error)


def _spent(reported: Spend, told: list[Spend], seconds: float) -> Spend:
    """What a task cost: the tokens and the money that the desk or the report was told, whichever is more; our time."""
    tokens, money = sum(one.tokens for one in told), sum(one.micro_dollars or 0 for one in told)
    if any(one.micro_dollars is None for one in (reported, *told)):
        return Spend(tokens=max(tokens, reported.tokens), micro_dollars=None, seconds=seconds)
    return Spend(
        tokens=max(tokens, reported.tokens), micro_dollars=max(money, reported.micro_dollars or 0), seconds=seconds
    )


@dataclass
class _AgentsDesk:
    """The desk as one agent sees it; see `agents.contract.Desk`."""

    fleet: Fleet
    name: str
    brief: Brief
    deadline: float
    spent: list[Spend] = field(default_factory=list)

    def heartbeat(self, doing: str) -> None:
        self.fleet.telling.agent(self.name, one_line(doing, 80))

    def practice(self) -> Practice:
        with self.fleet.place.quiet.noise():
            return self.fleet.practice(self.brief)

    def spend(self, spent: Spend) -> None:
        self.spent.append(spent)
        tokens = sum(one.tokens for one in self.spent)
        if tokens > self.brief.limits.tokens:
            raise UserError(f"this task may spend {self.brief.limits.tokens} tokens; it has spent {tokens}")

    def cancelled(self) -> bool:
        return self.fleet._stopping.is_set() or time.monotonic() > self.deadline  # noqa: SLF001 - one thing in two parts
