"""The night: look at what is recorded, do what is due, record it, until nothing is due or no more may be spent.

Whatever ends the process, the next one reads the same ledger and goes on; no more than the step under way is lost.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from nightfleet.native import MachineError
from nightfleet.orchestrator import budget, promotion, stale, supply
from nightfleet.orchestrator.budget import Limits
from nightfleet.orchestrator.fleet import Fleet
from nightfleet.orchestrator.judging import Judging
from nightfleet.orchestrator.ledger import Reading, candidates, promotions, tables, tasks
from nightfleet.orchestrator.ledger.tables import Candidate, Verification
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.program_file import ProgramFile
from nightfleet.orchestrator.telling import Telling

# Why a night ends by itself.
EXHAUSTED, STOPPED = "nothing is left to try", "stopped"
# Fixed: how long to wait for news before looking again (s), and how often in a row the machine may fail.
REST_S = 0.5
MOST_FAILURES = 3


@dataclass
class Night:
    """One night under way.

    Args:
        number: in the ledger.
        fleet: agents of this process; those from outside come to the desk by themselves.
        cores: where candidates are prepared while others are timed; empty where one has to wait for the other.
        waits: for work from outside, even if nobody here has any.
        stopping: whether somebody asked for the end.
    """

    place: Place
    number: int
    program: ProgramFile
    limits: Limits
    judging: Judging
    fleet: Fleet
    telling: Telling
    news: threading.Event
    cores: frozenset[int] = frozenset()
    waits: bool = False
    stopping: Callable[[], bool] = lambda: False
    _preparing: Future[Verification | None] | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)
    _failed: Counter[int] = field(default_factory=Counter, init=False)
    _rehearsed: tuple[str, int] = field(default=("", 0), init=False)

    def run(self) -> str:
        """Go on until the end; why it ended.

        Raises:
            nightfleet.native.UserError: the baseline cannot be judged, or somebody else moved the champion.
            nightfleet.native.MachineError: the machine failed again and again.
            KeyboardInterrupt: somebody interrupted it; `launch` goes on with it.
        """
        self._rehearse()
        with ThreadPoolExecutor(1, "nightfleet builder", initializer=self._confine) as builder, self.fleet:
            while True:
                # First of all: what the last step found faster is promoted even if it was the last.
                self._put_in_order()
                if (ending := self._ending()) is not None:
                    break
                self._supply()
                self._judge(builder) or self.news.wait(REST_S)
                self.news.clear()
            if self._preparing is not None:
                self._collect()
        return ending

    def _put_in_order(self) -> None:
        """Everything that takes no time: promotions, re-runs, abandoned tasks, the human's edits."""
        self.program.look()
        with self.place.ledger.read() as reading:
            unwanted = promotions.to_withdraw(reading, self.number)
            faster = None if unwanted is not None else promotion.due(reading, self.number)
        if unwanted is not None:
            gone = promotion.withdraw(self.place, unwanted)
            self.telling.say(f"{len(gone)} promotions are withdrawn; those after the first are judged without it")
        if faster is not None:
            promotion.promote(self.place, faster)
            supply.take_back(self.place, self.number)
            self.telling.refresh()
        with self.place.ledger.read() as reading:
            old = stale.due(reading, self.number, self._least)
            abandoned = tasks.abandoned(reading, self.number)
        for candidate in old:
            stale.run_again(self.place, candidate, self.program.now.arena.scope)
            self.judging.forget(candidate)
        if abandoned:
            with self.place.ledger.write() as writing:
                tasks.put_back_abandoned(writing, self.number)

    def _supply(self) -> None:
        if supply.post(self.place, self.number, self.program.now.fleet, self.limits):
            self.fleet.wake()

    def _judge(self, builder: ThreadPoolExecutor) -> bool:
        """One step: timing first, so that the lease never waits while a candidate is ready. Whether there was one."""
        if self._preparing is not None and self._preparing.done():
            self._collect()
        with self.place.ledger.read() as reading:
            ready = self._next(candidates.with_state(reading, self.number, "waiting"))
            fresh = self._next(candidates.with_state(reading, self.number, "submitted"))
            left = budget.experiments_left(reading, self.number, self.limits)
        if ((fresh is not None and left) or ready is not None) and not self._put_up_with(
            "the champion", self._rehearse
        ):
            return False
        if fresh is not None and left and self._preparing is None:
            if self.cores:
                self._preparing = builder.submit(self._step, self.judging.prepare, fresh)
                self._preparing.add_done_callback(lambda _: self.news.set())
            elif ready is None:
                self._step(self.judging.prepare, fresh)
                return True
        if ready is not None:
            self._step(self.judging.time, ready)
        return ready is not None

    def _rehearse(self) -> None:
        """Every new champion once, before anything is held against it."""
        with self.place.ledger.read() as reading:
            night = reading.get(tables.Night, self.number)
        if (night.champion, night.epoch) != self._rehearsed:
            self.judging.rehearse(self.number, self.program.now)
            # Before anybody waits for the lease: a profile takes as long as a candidate, and is made of noise.
            for commit in (night.root, night.champion):
                self.fleet.profile(commit)
            self._rehearsed = (night.champion, night.epoch)

    def _step(self, what: Callable[[Candidate, Program], Verification | None], candidate: Candidate) -> None:
        """One step of one candidate's."""
        program = self.program.now
        if self._put_up_with(f"candidate {candidate.number}", lambda: what(candidate, program)):
            self._failures = 0
        else:
            self._failed[candidate.id] += 1

    def _put_up_with(self, who: str, what: Callable[[], object]) -> bool:
        """Do it; a machine that fails now and then is put up with. Whether it was done."""
        try:
            what()
        except MachineError as error:
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                raise
            self.telling.say(f"{who} could not be judged now: {error}")
            return False
        return True

    def _collect(self) -> None:
        """The end of a preparation, and whatever went wrong in it."""
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            preparing.result()

    def _ending(self) -> str | None:
        if self.fleet.failure is not None:
            raise self.fleet.failure
        if self.stopping():
            return STOPPED
        with self.place.ledger.read() as reading:
            why = budget.used_up(reading, self.number, self.limits)
            if why is not None or self._preparing is not None or self._under_way(reading):
                return why
            if not budget.experiments_left(reading, self.number, self.limits):
                return f"{self.limits.experiments} experiments are done"
            if self.waits or candidates.with_state(reading, self.number, "submitted"):
                return None
            if self.fleet.seats and not supply.dry(reading, self.number):
                return None
            return supply.why_dry(reading, self.number) or EXHAUSTED

    def _under_way(self, reading: Reading) -> bool:
        """Whether anything was begun that a night does not end in the middle of."""
        begun = candidates.with_state(reading, self.number, "building", "behaving", "waiting", "timing")
        unwanted = promotions.to_withdraw(reading, self.number)
        moves = promotion.due(reading, self.number) or stale.due(reading, self.number, self._least)
        return bool(begun or unwanted or moves)

    @property
    def _least(self) -> float:
        """The gain from which on an undecided candidate was near."""
        return self.program.now.arena.thresholds.incremental_ratio

    def _next(self, found: list[Candidate]) -> Candidate | None:
        """The first; those on which the machine failed after the others, so that one stands in nobody's way."""
        return min(found, key=lambda one: (self._failed[one.id], one.number), default=None)

    def _confine(self) -> None:
        """Keep the builder, and all that it starts, off the cores that are timed on."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
