"""The morning's figure: the root against the champion, measured on fresh cases, never the product of claims.

The same gates as for a candidate, on several times the cases, so that its report is audited like any other. Nothing is
at stake any more: limits are facts, and a large gain is no claim that would have to be held against another layout.
"""

from functools import partial
from pathlib import Path

from nightfleet.harness.gates import Gates
from nightfleet.harness.hearing import Hearing
from nightfleet.harness.report import Verification
from nightfleet.harness.request import Request, Watch

__all__ = ["measure"]

# Fixed: as many more cases as for an extraordinary claim.
TIMES = 4


def measure(request: Request, watch: Watch, *, times: int = TIMES) -> tuple[Verification, Path, str]:
    """Measure what a night gained: `request.baseline` is its root, `request.candidate` its champion.

    The gain is that of the confirmation's fresh pairs where the verdict is "promote", else that of all pairs.

    Args:
        request: with an index of its own, and so with cases that nothing was chosen by.
        watch: told what happens.
        times: how many times the program's cases are compared; manifests have no further ones, and a note says so.

    Returns:
        What was found, the directory of its report, and the report's root digest.

    Raises:
        nightfleet.harness.hearing.CutShortError: see `Hearing.time`, and so for the others.
        nightfleet.harness.hearing.Interrupted: somebody pressed Ctrl-C.
        nightfleet.native.UserError: the root, or the program, cannot be judged.
        nightfleet.native.MachineError: the machine could not do its part.
    """
    hearing = Hearing(request, watch, gates=partial(_Measured, times=times))
    if hearing.prepare():
        hearing.time(request.alpha)
    return hearing.report()


class _Measured(Gates):
    """Gates that refuse only what is not the same program, and time the rest."""

    def __init__(self, request: Request, watch: Watch, *, times: int) -> None:
        super().__init__(request, watch, times=times)
        self.notes += [
            f"workload {name}: all {len(pool.behaviour)} cases of its manifest were compared, once: there are no others"
            for name, pool in self.pools.by_name.items()
            if pool.finite and times > 1
        ]

    def limits(self) -> None:
        """Changed lines and the time of a build, as facts: of a whole night they are no limits."""
        with self._gate("limits") as gate:
            self._sizes(gate)

    def extraordinary(self) -> None:
        """Nothing: every promotion in it was judged by itself."""
        with self._gate("extraordinary") as gate:
            gate.skip("a night's gain is measured and no claim; each promotion was judged by itself")
