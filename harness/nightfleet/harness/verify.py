"""One verification: is the behaviour the same, and is it faster? The first gate that says no ends it.

The gates stand in the order of their cost; `gates` holds each of them. Whatever they find, what was seen is
written as a report, so that nobody has to believe a verdict.
"""

from pathlib import Path
from typing import Any

from nightfleet.harness.difference import patch
from nightfleet.harness.gates import Gates
from nightfleet.harness.passing import Ended
from nightfleet.harness.report import Verification, write_report
from nightfleet.harness.request import Request, Watch
from nightfleet.native import MachineError, UserError, __version__

__all__ = ["CutShortError", "Interrupted", "verify"]


class CutShortError(MachineError):
    """The machine gave up while the speed was measured. What was found until then is kept.

    Attributes:
        found: with the verdict "undecided".
        report: the directory of its report.
    """

    def __init__(self, why: str, found: Verification, report: Path) -> None:
        super().__init__(f"{why}; what was found until then is kept in {report}")
        self.found, self.report = found, report


class Interrupted(KeyboardInterrupt):
    """Somebody ended it (Ctrl-C) while the speed was measured or later. What was found until then is kept.

    Attributes:
        found: with the verdict "undecided".
        report: the directory of its report.
    """

    def __init__(self, found: Verification, report: Path) -> None:
        super().__init__(found.reason)
        self.found, self.report = found, report


def verify(request: Request, watch: Watch) -> tuple[Verification, Path]:
    """Take one candidate through the gates.

    Returns:
        What was found, and the directory of its report.

    Raises:
        CutShortError: the machine is too loaded to time, or failed while it timed; a report is there.
        Interrupted: somebody pressed Ctrl-C once the timing had begun; a report is there.
        nightfleet.native.UserError: the baseline, or the program, cannot be judged.
        nightfleet.native.MachineError: the machine could not do its part.
    """
    gates = Gates(request, watch)
    try:
        gates.scope()
        gates.build()
        gates.smoke()
        gates.behaviour()
        gates.tests()
        gates.limits()
        gates.speed()
        gates.extraordinary()
    except Ended as ended:
        gates.ended = ended
    except MachineError as error:
        if not gates.timed:
            raise
        gates.ended = Ended("undecided", str(error))
        found, report = _reported(gates)
        raise CutShortError(str(error), found, report) from error
    except KeyboardInterrupt:
        if not gates.timed:
            raise
        gates.ended = Ended("undecided", f"interrupted after {gates.pairs} pairs")
        raise Interrupted(*_reported(gates)) from None
    return _reported(gates)


def _reported(gates: Gates) -> tuple[Verification, Path]:
    state, subject = gates.request.state, {**gates.subject(), **_for_audits(gates)}
    found = gates.verification()
    directory = state / "reports" / found.id
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_report(
        directory,
        found,
        subject=subject,
        arrays=gates.arrays,
        speed=gates.evidence,
        divergences=gates.divergences,
        patch=_patch(gates),
    )
    return found, directory


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
