"""One candidate before the judge, in two steps: what any core can do, then what needs the machine's lease.

Between the two a caller learns which binary would be timed, and says under which error rate. A timing that was ended
(killed, interrupted, cut short, undecided at the cap) goes on in another hearing that has its name.
"""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from nightfleet.harness.difference import patch
from nightfleet.harness.gates import Gates
from nightfleet.harness.passing import Ended
from nightfleet.harness.report import Verification, write_report
from nightfleet.harness.request import Request, Watch
from nightfleet.native import MachineError, UserError, __version__

__all__ = ["CutShortError", "Hearing", "Interrupted", "journal_of"]


class CutShortError(MachineError):
    """The machine gave up while the speed was measured. What was found until then is kept.

    Attributes:
        found: with the verdict "undecided".
        report: the directory of its report.
        root: the report's root digest.
    """

    def __init__(self, why: str, found: Verification, report: Path, root: str) -> None:
        super().__init__(f"{why}; what was found until then is kept in {report}")
        self.found, self.report, self.root = found, report, root


class Interrupted(KeyboardInterrupt):
    """Somebody ended it (Ctrl-C) while the speed was measured or later. What was found until then is kept.

    Attributes:
        found: with the verdict "undecided".
        report: the directory of its report.
        root: the report's root digest.
    """

    def __init__(self, found: Verification, report: Path, root: str) -> None:
        super().__init__(found.reason)
        self.found, self.report, self.root = found, report, root


class Hearing:
    """One candidate before the judge. `prepare` it, `time` it if that is called for, and ask for the `report`.

    Args:
        request: who against whom.
        watch: told what happens.
        gates: makes the gates; for what is measured and not judged, they are others.

    Raises:
        nightfleet.native.UserError: see `Ground`.
    """

    def __init__(self, request: Request, watch: Watch, *, gates: Callable[[Request, Watch], Gates] = Gates) -> None:
        self._gates = gates(request, watch)
        self._ready = self._begun = self._heard = False

    def prepare(self) -> bool:
        """Scope, build, smoke, behaviour, tests, limits: on the cores of the calling thread, without the lease.

        Returns:
            Whether it is to be timed; if not, a gate said no, and the report says which.

        Raises:
            nightfleet.native.UserError: the baseline, or the program, cannot be judged.
            nightfleet.native.MachineError: the machine could not do its part.
        """
        gates = self._gates
        try:
            for gate in (gates.scope, gates.build, gates.smoke, gates.behaviour, gates.tests, gates.limits):
                gate()
        except Ended as ended:
            gates.ended = ended
            return False
        self._ready = True
        return True

    @property
    def binary(self) -> str:
        """SHA-256 over all of the candidate's build: what would be timed. Only once `prepare` said yes."""
        self._check_ready()
        return self._gates.binary

    @property
    def figures(self) -> tuple[float | None, int | None]:
        """The candidate's own figures over all timed pairs: its median in the metric's unit (s, or bytes), its peak."""
        timing = self._gates.measured
        if timing is None or timing.result is None or not timing.result.pairs:
            return None, None
        trials = [pair.candidate for pair in (*timing.result.pairs, *timing.result.confirmation)]
        quantity = timing.calibrated.rules.quantity
        median = statistics.median(trial.of(quantity) for trial in trials)
        peaks = [trial.peak_bytes for trial in trials if trial.peak_bytes is not None]
        return median if quantity == "memory" else median / 1e9, max(peaks, default=None)

    def time(
        self,
        alpha: float,
        *,
        quiet: Callable[[], AbstractContextManager[object]] = nullcontext,
        patient: bool = True,
        beyond: int = 0,
    ) -> None:
        """Speed, and what is extraordinary about it. Where the timing's journal is, it is gone on with.

        Args:
            alpha: the error rate, in (0, 0.1]; of a timing that is gone on with, the one it began with.
            quiet: entered for the confirmation and for pairs in another layout: while it is, nothing else may run.
            patient: go on to the cap where that will hardly decide it; without, it makes way for others.
            beyond: how many rounds to add to a timing that is undecided then.

        Raises:
            CutShortError: the machine is too loaded to time, or failed while it timed; a report is there.
            Interrupted: somebody pressed Ctrl-C once the timing had begun; a report is there.
            nightfleet.harness.journal.OtherTimingError: what is to be timed is not what the timing was begun with:
                other builds, rules or calibration. Begin a new one.
            nightfleet.native.UserError: the baseline cannot be judged.
        """
        self._check_ready()
        if self._begun:
            raise ValueError("a hearing is timed once; another one with the timing's name goes on from there")
        self._begun = True
        gates = self._gates
        try:
            gates.speed(alpha, quiet, patient=patient, beyond=beyond)
            gates.extraordinary()
            self._heard = True
        except Ended as ended:
            gates.ended = ended
        except MachineError as error:
            gates.ended = Ended("undecided", str(error))
            raise CutShortError(str(error), *self.report()) from error
        except KeyboardInterrupt:
            if not gates.timed:
                raise
            gates.ended = Ended("undecided", f"interrupted after {gates.pairs} pairs")
            raise Interrupted(*self.report()) from None

    def report(self) -> tuple[Verification, Path, str]:
        """Write the report.

        Returns:
            What was found, the directory of its report, and the report's root digest.
        """
        gates = self._gates
        if gates.ended is None and not self._heard:
            raise ValueError("no gate said no, and not all of them were passed: there is no verdict to report")
        subject, found = {**gates.subject(), **_for_audits(gates)}, gates.verification()
        directory = gates.request.state / "reports" / found.id
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = write_report(
            directory,
            found,
            subject=subject,
            arrays=gates.arrays,
            speed=gates.evidence,
            divergences=gates.divergences,
            sample=gates.sample,
            patch=_patch(gates),
        )
        return found, directory, root

    def _check_ready(self) -> None:
        if not self._ready:
            raise ValueError("prepare() has not said yes: there is nothing to time")


def journal_of(state: Path, timing: str) -> Path:
    """Where the journal of a timing lies, once it has begun."""
    return state / "journals" / f"{timing}-speed.jsonl"


def _for_audits(gates: Gates) -> dict[str, Any]:
    """What someone needs who has nothing but the report: the contract, and what all cases are drawn from."""
    request = gates.request
    return {
        "version": __version__,
        "program_text": request.program_text,
        "contract": request.arena.content,
        "purpose": request.purpose,
        "practice_salt": gates.pools.practice_salt.hex(),
        "cases": {name: len(pool.behaviour) for name, pool in gates.pools.by_name.items()},
        "times": gates.pools.times,
    }


def _patch(gates: Gates) -> str | None:
    """What the candidate changes; None if it is out of scope, and its contents were never looked at."""
    scope = next(gate for gate in gates.found if gate.name == "scope")
    if not scope.passed:
        return None
    try:
        return patch(gates.request.baseline, gates.request.candidate, scope.facts["changed"])
    except UserError:
        # A folder that changed since: what was judged is known by its digest, and can no longer be shown.
        return None
