"""One verification: is the behaviour the same, and is it faster? The first gate that says no ends it.

The gates stand in the order of their cost; `gates` holds each of them. Whatever they find, what was seen is
written as a report, so that nobody has to believe a verdict.
"""

from pathlib import Path

from nightfleet.harness.hearing import CutShortError, Hearing, Interrupted
from nightfleet.harness.report import Verification
from nightfleet.harness.request import Request, Watch

__all__ = ["CutShortError", "Interrupted", "verify"]


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
    hearing = Hearing(request, watch)
    if hearing.prepare():
        hearing.time(request.alpha)
    found, report, _ = hearing.report()
    return found, report
