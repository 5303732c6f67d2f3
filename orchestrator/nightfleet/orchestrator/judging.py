"""One candidate after the other before the judge, each step recorded before the next relies on it.

A candidate is prepared (built, compared) and then timed. What was prepared lives in this process: after a crash it is
prepared again, from the same cases, before its timing goes on from its journal.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from nightfleet.harness.journal import OtherTimingError
from nightfleet.harness.report import Gate
from nightfleet.harness.request import Watch
from nightfleet.native import MachineError
from nightfleet.orchestrator.court import Court, Matter, Sitting, finding
from nightfleet.orchestrator.ledger import candidates, errorbudget, nights, verifications
from nightfleet.orchestrator.ledger.tables import Candidate, Night, Reservation, Verification
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.telling import Telling

# Fixed: how many verdicts there are between two looks at what builds take up.
TIDY_EVERY = 10
# Where a candidate is in the middle of a step.
BEGUN = frozenset({"building", "behaving", "timing"})


class Judging:
    """The hearings of one night.

    Args:
        place: where the night is.
        court: who judges.
        telling: hears what the gates say.
        alone: nothing else may run while pairs do, not only while they are confirmed: there are no cores for it.
    """

    def __init__(self, place: Place, court: Court, telling: Telling, *, alone: bool) -> None:
        self._place, self._court, self._telling, self._alone = place, court, telling, alone
        self._prepared: dict[int, Sitting] = {}
        self._judged = 0
        self._lock = threading.Lock()

    def rehearse(self, night: int, program: Program) -> None:
        """Build and calibrate the champion of now. Raises as `prepare`."""
        with self._place.ledger.read() as reading:
            row = reading.get(Night, night)
        found = self._court.rehearse(row, program, self._telling.watch(0, "the baseline"))
        with self._place.ledger.write() as writing:
            nights.rehearsed(writing, night, row.champion, cases=found.cases, seconds=found.seconds)

    def prepare(self, candidate: Candidate, program: Program) -> Verification | None:
        """Take a submitted candidate to where it waits for the lease, or to its verdict, which is given back.

        Raises:
            nightfleet.native.UserError: the baseline or the program cannot be judged; the candidate is as before.
            nightfleet.native.MachineError: the machine could not do it; the candidate is as before.
        """
        self._move(candidate, "building")
        with self._put_back_to("submitted", candidate):
            sitting = self._hear(candidate, program, _Moving(self, candidate))
            with self._place.quiet.noise():
                goes_on = sitting.prepare()
            if not goes_on:
                return self._record(candidate, program, sitting, None)
            with self._lock:
                self._prepared[candidate.id] = sitting
            self._step(candidate, "waiting")
        return None

    def time(self, candidate: Candidate, program: Program) -> Verification:
        """Time a candidate that waits.

        Raises:
            nightfleet.native.UserError: as in `prepare`.
            nightfleet.native.MachineError: as in `prepare`, and where the machine is too loaded; the pairs are kept.
        """
        with self._lock:
            sitting = self._prepared.pop(candidate.id, None)
        if sitting is None:
            sitting = self._hear(candidate, program, self._watch(candidate))
            with self._place.quiet.noise():
                if not sitting.prepare():
                    # What passed before a crash and fails after it was not the same twice.
                    return self._record(candidate, program, sitting, None)
        try:
            reserved = self._reserved(candidate, program, sitting)
            self._move(candidate, "timing")
            with self._put_back_to("waiting", candidate):
                with self._silence():
                    sitting.time(reserved.alpha, alone=self._alone)
                return self._record(candidate, program, sitting, reserved)
        except OtherTimingError as other:
            # It spends another index, and is prepared under another salt.
            self._court.abandon(self._matter(candidate, program))
            raise MachineError(str(other)) from other

    def forget(self, candidate: Candidate) -> None:
        """It will not be timed: what was prepared for it is let go."""
        with self._lock:
            self._prepared.pop(candidate.id, None)

    def _silence(self) -> Any:
        return self._place.quiet.silence() if self._alone else nullcontext()

    def _reserved(self, candidate: Candidate, program: Program, sitting: Sitting) -> Reservation:
        """The index under which it is timed: a new one, or that of a timing whose journal is there."""
        matter = self._matter(candidate, program)
        baseline, binary, timing = candidate.parent, sitting.binary, matter.timing
        with self._place.ledger.write() as writing:
            begun = errorbudget.of_timing(writing, matter.timing)
            if begun is not None and begun.binary != binary:
                # After a crash the build was not there any more, and came out otherwise.
                raise OtherTimingError(f"candidate {candidate.number} was timed as another build; it is timed anew")
            if begun is not None:
                return errorbudget.continued(writing, candidate.id, baseline=baseline, binary=binary, timing=timing)
            why = "first" if not matter.attempt else "restart"
            why = "stale" if candidate.depth and not matter.attempt else why
            return errorbudget.reserve(writing, candidate.id, baseline=baseline, binary=binary, timing=timing, why=why)

    def _hear(self, candidate: Candidate, program: Program, watch: Watch) -> Sitting:
        return self._court.hear(self._matter(candidate, program), watch)

    def _matter(self, candidate: Candidate, program: Program) -> Matter:
        """The matter of the first attempt that has no index yet, or one and a journal to go on from."""
        attempt = 0
        with self._place.ledger.read() as reading:
            night = reading.get(Night, candidate.night)
            while True:
                matter = Matter(candidate, night, program, attempt)
                if errorbudget.of_timing(reading, matter.timing) is None or self._court.begun(matter):
                    return matter
                attempt += 1

    def _record(
        self, candidate: Candidate, program: Program, sitting: Sitting, reserved: Reservation | None
    ) -> Verification:
        found, _, root = sitting.report()
        judged = finding(
            found,
            root,
            baseline=candidate.parent,
            reservation=None if reserved is None else reserved.id,
            figures=sitting.figures,
        )
        with self._place.ledger.write() as writing:
            row = verifications.judge(writing, candidate.id, judged)
        self._telling.refresh()
        self._judged += 1
        if self._judged % TIDY_EVERY == 0:
            self._court.tidy(program)
        return row

    def _watch(self, candidate: Candidate) -> Watch:
        return self._telling.watch(candidate.number, candidate.description)

    def _step(self, candidate: Candidate, to: candidates.State) -> None:
        """Move it on, through whatever is between."""
        with self._place.ledger.write() as writing:
            row = writing.get(Candidate, candidate.id)
            if row.state == "building" and to == "waiting":
                candidates.move(writing, candidate.id, "behaving")
            candidates.move(writing, candidate.id, to)
        self._telling.refresh()

    def _move(self, candidate: Candidate, to: candidates.State) -> None:
        with self._place.ledger.write() as writing:
            candidates.move(writing, candidate.id, to)
        self._telling.refresh()

    @contextmanager
    def _put_back_to(self, state: candidates.State, candidate: Candidate) -> Iterator[None]:
        """Whatever ends a step before its verdict is recorded, the candidate is where the step began."""
        try:
            yield
        except BaseException as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)[:500]
            with self._place.ledger.write() as writing:
                if writing.get(Candidate, candidate.id).state in BEGUN:
                    candidates.move(writing, candidate.id, state, why)
            raise


class _Moving:
    """A watch that also says in the ledger when a candidate comes from its build to its behaviour."""

    def __init__(self, judging: Judging, candidate: Candidate) -> None:
        self._judging, self._candidate = judging, candidate
        self._watch = judging._watch(candidate)  # noqa: SLF001 - one thing in two parts

    def begins(self, gate: str) -> None:
        if gate == "smoke":
            self._judging._move(self._candidate, "behaving")  # noqa: SLF001 - one thing in two parts
        self._watch.begins(gate)

    def progress(self, gate: str, words: str, done: int, of: int | None, left_s: float | None) -> None:
        self._watch.progress(gate, words, done, of, left_s)

    def ends(self, gate: Gate) -> None:
        self._watch.ends(gate)
