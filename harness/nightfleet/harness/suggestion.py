"""What would make an arena readier: longer blocks, or thresholds that this machine's noise can tell from luck."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nightfleet.harness import power
from nightfleet.harness.arena import Workload
from nightfleet.harness.calibrate import POWER_RUNS, Calibrated
from nightfleet.harness.frontmatter import KeyPath, Value, dotted
from nightfleet.harness.requirements import Findings
from nightfleet.harness.response import GOOD_SHARE

# Thresholds that are tried, in this order, where no block is long enough.
THRESHOLDS = (0.08, 0.10, 0.15, 0.20)
# A trial may take this share of its limit: a candidate that is slower must still end.
MOST_OF_LIMIT = 0.25


@dataclass(frozen=True)
class Suggestion:
    """A value for a key of program.md, and why."""

    path: KeyPath
    value: Value
    why: str

    @property
    def key(self) -> str:
        """As people write it: `workloads[0].block`."""
        return dotted(self.path)


def suggest(findings: Findings) -> tuple[Suggestion, ...]:
    """Blocks if longer ones do, else a threshold if a higher one does; nothing where all is well or nothing helps."""
    blocks = tuple(_blocks(findings))
    if blocks or findings.calibrated is None or findings.found >= power.ENOUGH_POWER:
        return blocks
    return tuple(_threshold(findings.calibrated))


def _blocks(f: Findings) -> Iterator[Suggestion]:
    longer = 1 if f.calibrated is None else f.calibrated.summary.longer
    share = {one.workload: one for one in f.responses}
    for index, workload in enumerate(f.arena.workloads):
        seen = share.get(workload.name)
        if seen is None or not seen.responds or not seen.share:
            continue
        # k blocks in one have k s / (k s + 1 - s) of their time in the work, for a share s of one.
        dilution = math.ceil(GOOD_SHARE * (1 - seen.share) / (seen.share * (1 - GOOD_SHARE)))
        factor = max(longer or 1, _doubled(dilution) if seen.planted == "half a block" else 1)
        block = min(workload.block * factor, _most(workload, seen.trial_ns, f.arena.limits.trial_s))
        if block > workload.block:
            why = "power" if longer and longer > 1 else "most of a trial is the program starting"
            yield Suggestion(("workloads", index, "block"), block, f"{why}: {factor} times as long")


def _doubled(factor: int) -> int:
    return 1 << max(0, math.ceil(math.log2(max(1, factor))))


def _most(workload: Workload, trial_ns: int, limit_s: float) -> int:
    """The longest block that makes sense: within the cases there are, and within a share of the trial's limit."""
    if workload.record in {"stdout", "files"}:
        return 1
    by_time = int(workload.block * MOST_OF_LIMIT * limit_s * 1e9 / max(1, trial_ns))
    return min(by_time, workload.cases) if isinstance(workload.cases, int) else min(by_time, workload.block)


def _threshold(found: Calibrated) -> Iterator[Suggestion]:
    for promote in THRESHOLDS:
        if not found.rules.promote < promote < found.rules.extraordinary:
            continue
        rules, gain = replace(found.rules, promote=promote), promote + power.ABOVE_THRESHOLD
        if (
            power.power(found.pairs, found.calibration, rules, gain, runs=POWER_RUNS // 2).promoted
            >= power.ENOUGH_POWER
        ):
            why = f"gains of {gain:.0%} are found here, those of {found.rules.promote:.0%} are not"
            yield Suggestion(("thresholds", "promote"), f"{promote:.0%}", why)
            return
