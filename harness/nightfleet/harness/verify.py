"""One verification: is the behaviour the same, and is it faster? The first gate that says no ends it.

The gates stand in the order of their cost; `gates` holds each of them. Whatever happens, what was seen is written as a
report, so that nobody has to believe a verdict.
"""

from dataclasses import replace
from pathlib import Path

from nightfleet.harness.gates import Ended, Gates
from nightfleet.harness.report import Verification, write_report
from nightfleet.harness.request import Request, Watch

__all__ = ["verify"]


def verify(request: Request, watch: Watch) -> tuple[Verification, Path]:
    """Take one candidate through the gates.

    Returns:
        What was found, and the directory of its report.

    Raises:
        nightfleet.native.UserError: the baseline, or the program, cannot be judged.
        nightfleet.native.MachineError: the machine could not do its part.
        nightfleet.harness.rounds.TooLoadedError: it is too loaded to time.
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
    found = gates.verification()
    directory = request.state / "reports" / found.id
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_report(
        directory,
        found,
        subject=gates.subject(),
        arrays=gates.arrays,
        speed=gates.evidence,
        divergences=gates.divergences,
    )
    return replace(found), directory
