"""One night from its launch to its morning, in the process that drives it."""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from nightfleet.agents.contract import Backend, Brief, Practice, Profile
from nightfleet.agents.replay import Commit, ReplayBackend
from nightfleet.agents.search.backend import SearchBackend
from nightfleet.orchestrator import opening, stopping
from nightfleet.orchestrator.ablation import MEASURED, Ablation
from nightfleet.orchestrator.budget import Limits
from nightfleet.orchestrator.court import Court, finding
from nightfleet.orchestrator.fleet import Fleet, Seat
from nightfleet.orchestrator.judging import Judging
from nightfleet.orchestrator.ledger import nights
from nightfleet.orchestrator.ledger.tables import Night as NightRow
from nightfleet.orchestrator.night import Night
from nightfleet.orchestrator.opening import Opened
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.program_file import ProgramFile
from nightfleet.orchestrator.replaying import commits_of, remarks
from nightfleet.orchestrator.telling import Telling

# Fixed: candidates that a rejection may have judged again, beyond the night's experiments.
MOST_AGAIN = 10_000
# Fixed: how often who joined looks whether the night is over (s).
JOINED_S = 1.0
# With no more cores than these, what is timed and what is built take turns.
FEW_CORES = 2


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line; None where program.md decides.

    Attributes:
        seconds: how long the night may take from when it began.
        ends_at_us: when it ends instead, microseconds since 1970 UTC.
        replay: the branch whose commits are judged instead of anybody's ideas.
        branch: of the champion.
        only_again: nobody looks for anything new; what has to be judged again is.
    """

    experiments: int | None = None
    seconds: float | None = None
    ends_at_us: int | None = None
    scouts: int | None = None
    workers: int | None = None
    replay: str | None = None
    branch: str | None = None
    only_again: bool = False

    def on(self, program: Program) -> Program:
        """The program with the fleet that was asked for."""
        fleet = program.fleet
        if self.only_again:
            return replace(program, fleet=replace(fleet, scouts=0, workers=0))
        if self.replay is not None:
            return replace(program, fleet=replace(fleet, scouts=1, workers=1))
        scouts, workers = self.scouts or fleet.scouts, self.workers or fleet.workers
        if fleet.scout == SearchBackend.name:
            # The others would say the same.
            scouts = min(scouts, SearchBackend.most_scouts)
        return replace(program, fleet=replace(fleet, scouts=scouts, workers=workers))


@dataclass
class Holding:
    """One night, in the process that drives it.

    Args:
        place: where.
        program: as it was read.
        file: that it is read from again between experiments; None for one that is only in a commit.
        wishes: of the command line.
        court: who judges.
        telling: makes what hears of it.
        practice: builds an agent's tree and runs practice cases in it.
        cores: what this process may use.

    Attributes:
        replayed: the commits that are judged, the oldest first, once it is known which.
    """

    place: Place
    program: Program
    file: Path | None
    wishes: Wishes
    court: Court
    telling: Callable[[NightRow, Limits], AbstractContextManager[Telling]]
    practice: Callable[[Brief], Practice]
    cores: frozenset[int] = field(default_factory=lambda: frozenset(os.sched_getaffinity(0)))
    replayed: list[Commit] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.program = self.wishes.on(self.program)

    def hold(self) -> NightRow:
        """Hold a night until its end, or go on with one that has not ended; its row as it ended.

        Raises:
            nightfleet.orchestrator.ledger.DrivenError: another process drives it.
            nightfleet.native.UserError, nightfleet.native.MachineError: it could not begin or go on; all is kept.
            KeyboardInterrupt: it was interrupted; all is kept.
        """
        place, program, wishes = self.place, self.program, self.wishes
        with place.ledger.drive():
            # Before the night: a branch that cannot be replayed must leave none behind.
            self._find_replayed()
            planned = wishes.experiments or program.budget.experiments
            opened = opening.open_night(place, program, planned=planned, branch=wishes.branch)
            night = opened.night
            limits = self._limits(night)
            with self.telling(night, limits) as told:
                for words in self._remarks(opened):
                    told.say(words)
                ending = self._run(opened, limits, told)
                self._measure(night, told)
                with place.ledger.write() as writing:
                    nights.end(writing, night.number, ending)
                stopping.answered(place.state)
                told.say(f"the night is over: {ending}")
                told.refresh()
        with place.ledger.read() as reading:
            return reading.get(NightRow, night.number)

    def join(self) -> int:
        """Seat the fleet's agents beside the process that drives the night, until it has ended; how many there were.

        Raises:
            nightfleet.native.UserError: no night is under way.
            KeyboardInterrupt: somebody interrupted it; what was in hand goes back to the desk.
        """
        place = self.place
        night = place.night()
        self._find_replayed()
        limits = Limits.of(self.program.budget, night, experiments=self.wishes.experiments)
        with self.telling(night, limits) as told:
            program = ProgramFile(place, night.number, self.program, self.file, wished=self.wishes.on, telling=told)
            fleet = self._fleet(night, program, told, threading.Event(), f"@{socket.gethostname()}-{os.getpid()}")
            with fleet:
                while not self._over(night) and fleet.failure is None:
                    fleet.news.wait(JOINED_S)
                    fleet.news.clear()
        if fleet.failure is not None:
            raise fleet.failure
        return len(fleet.seats)

    def _find_replayed(self) -> None:
        if self.wishes.replay is None:
            return
        with self.place.ledger.read() as reading:
            running = nights.running(reading)
        root = self.place.checkout.reading.resolve("HEAD") if running is None else running.root
        self.replayed = commits_of(self.place, self.wishes.replay, root)

    def _over(self, night: NightRow) -> bool:
        with self.place.ledger.read() as reading:
            return reading.get(NightRow, night.number).ended_us is not None

    def _limits(self, night: NightRow) -> Limits:
        budget, wishes = self.program.budget, self.wishes
        limits = Limits.of(budget, night, experiments=wishes.experiments, seconds=wishes.seconds)
        if wishes.ends_at_us is not None:
            return replace(limits, ends_at_us=wishes.ends_at_us)
        if not wishes.only_again:
            return limits
        # A night that was over has no time left; what it promised still holds.
        with self.place.ledger.read() as reading:
            ends_at_us = reading.now_us + round(budget.night_s * 1e6)
        return replace(limits, ends_at_us=ends_at_us, experiments=limits.experiments + MOST_AGAIN)

    def _remarks(self, opened: Opened) -> list[str]:
        night = opened.night
        verb = "goes on" if opened.continued else "begins"
        head = f"night {night.name} {verb} from {night.root[:12]}; its champion is the branch {night.champion_branch}"
        replay = self.wishes.replay
        branch = [] if replay is None else remarks(self.place, replay, self.replayed)
        return [head, *opened.remarks, *branch, *self.program.warnings, *opening.recover(self.place, night)]

    def _run(self, opened: Opened, limits: Limits, told: Telling) -> str:
        place, night = self.place, opened.night
        program = ProgramFile(place, night.number, self.program, self.file, wished=self.wishes.on, telling=told)
        # With few cores, what is timed and what is built take turns.
        alone = len(self.cores) < FEW_CORES + self.program.arena.cores
        judging = Judging(place, self.court, told, alone=alone)
        news = threading.Event()
        fleet = self._fleet(night, program, told, news)
        ending = Night(
            place,
            night.number,
            program,
            limits,
            judging,
            fleet,
            told,
            news,
            cores=frozenset() if alone else self._builders(),
            waits=self._waits,
            stopping=lambda: stopping.asked(place.state, night.name) is not None,
        ).run()
        # The morning goes by what the night went by in the end.
        self.program = program.now
        return ending

    def _fleet(
        self, night: NightRow, program: ProgramFile, told: Telling, news: threading.Event, suffix: str = ""
    ) -> Fleet:
        seats = [replace(seat, name=f"{seat.name}{suffix}") for seat in self._seats()]
        # What somebody else did is found without knowing where time goes.
        profile = _Profiles(self.court, program).of if self.wishes.replay is None else _unknown
        return Fleet(self.place, night.number, seats, lambda: program.now, self.practice, profile, told, news)

    def _builders(self) -> frozenset[int]:
        """The cores that candidates are built and compared on while others are timed."""
        return frozenset(sorted(self.cores)[: -1 - self.program.arena.cores])

    @property
    def _waits(self) -> bool:
        """Whether work may come from outside."""
        fleet = self.program.fleet
        asked = self.wishes.replay is None and not self.wishes.only_again
        return asked and "outside" in {fleet.scout, fleet.worker}

    def _seats(self) -> list[Seat]:
        """Who sits in this process: as many of each kind as make sense side by side."""
        fleet = self.program.fleet
        if self.wishes.replay is not None:
            backend: Backend = ReplayBackend(self.replayed)
            return [Seat("scout-1", "scout", backend), Seat("worker-1", "worker", backend)]
        search = SearchBackend()
        scouts = min(fleet.scouts, search.most_scouts) if fleet.scout == "search" else 0
        workers = min(fleet.workers, search.most_workers) if fleet.worker == "search" else 0
        return [
            *(Seat(f"scout-{number}", "scout", search) for number in range(1, 1 + scouts)),
            *(Seat(f"worker-{number}", "worker", search) for number in range(1, 1 + workers)),
        ]

    def _measure(self, night: NightRow, told: Telling) -> None:
        """What the champion is worth, and each step of it, unless it is the root, or somebody is in a hurry."""
        place = self.place
        with place.ledger.read() as reading:
            now = reading.get(NightRow, night.number)
            measured = nights.morning(reading, night.number)
        if now.champion == now.root or self._hurried(night):
            return
        if measured is None or measured.champion != now.champion:
            self._measure_all(now, told)
        Ablation(place, self.court, self.program, told, lambda: self._hurried(night)).leave_out_each()

    def _hurried(self, night: NightRow) -> bool:
        return stopping.asked(self.place.state, night.name) is False

    def _measure_all(self, now: NightRow, told: Telling) -> None:
        place = self.place
        with place.quiet.silence():
            found, _, root = self.court.morning(now, self.program, told.watch(0, "the champion against the root"))
        judged = finding(found, root, baseline=now.root, reservation=None, figures=(None, None))
        with place.ledger.write() as writing:
            nights.measured(
                writing, now.number, champion=now.champion, **{name: getattr(judged, name) for name in MEASURED}
            )


def _unknown(_commit: str) -> None:
    """No profile."""


class _Profiles:
    """Where each baseline spends its work, found out once, by whoever asks first."""

    def __init__(self, court: Court, program: ProgramFile) -> None:
        self._court, self._program = court, program
        self._lock = threading.Lock()
        self._known: dict[str, Profile | None] = {}

    def of(self, commit: str) -> Profile | None:
        """Of a commit."""
        with self._lock:
            if commit not in self._known:
                self._known[commit] = self._court.profile(commit, self._program.now)
            return self._known[commit]
