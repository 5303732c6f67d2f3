"""Some of an extraordinary claim's further cases as people read them: what was fed, and both sides' records."""

import random
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from nightfleet.harness.arena import Behaviour
from nightfleet.harness.behaviour import Span, Work
from nightfleet.harness.divergence import EQUAL_AGAIN, Divergence, Look
from nightfleet.harness.sides import Side, fresh_copy
from nightfleet.native import Sandbox

# Fixed: how many are written out. At 16 KiB a record a report stays readable.
CASES = 20


def written_out(baseline: Side, candidate: Side, spans: Sequence[Span], work: Work) -> tuple[Divergence, ...]:
    """Random cases of all workloads together, run once more on both sides in their blocks; fewer if there are fewer.

    Args:
        baseline: a built tree. It is copied, never run in place.
        candidate: another.
        spans: cases whose records are equal.
        work: how to run them.

    Raises:
        nightfleet.native.MachineError: where the kernel withholds what a sandbox needs.
    """
    every = [(span, place) for span in spans for place in range(len(span.cases))]
    # Of the system's entropy: what a candidate is shown by cannot be foreseen.
    drawn = random.SystemRandom().sample(every, min(CASES, len(every)))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightfleet-")))
        copies = [(fresh_copy(side.tree, scratch), side.options) for side in (baseline, candidate, baseline)]
        boxes = [
            stack.enter_context(Sandbox(copy, cores=list(work.cores or ()), **options))  # type: ignore[arg-type]
            for copy, options in copies
        ]
        return tuple(_shown(span, place, (boxes[0], boxes[1]), boxes[2], work) for span, place in drawn)


def unlike(shown: Sequence[Divergence], form: Behaviour) -> Divergence | None:
    """The first whose records differ after all. Where canonical form or `ignore` decide, raw records tell nothing."""
    if form.form != "exact" or form.ignore is not None:
        return None
    return next((one for one in shown if one.first is not None or _one_sided(one)), None)


def _one_sided(shown: Divergence) -> bool:
    return (shown.baseline is None) != (shown.candidate is None)


def _shown(span: Span, place: int, sides: tuple[Sandbox, Sandbox], sieve: Sandbox, work: Work) -> Divergence:
    block = span.blocks[place // span.workload.block].tolist()
    look = Look(span.workload, span.form, span.manifest, work.timeout_s, work.output_bytes)
    found = look.at(int(span.cases[place]), block, sides, sieve if span.form.filter else None)
    # That they are equal is what is expected here.
    return replace(found, note="; ".join(part for part in found.note.split("; ") if part != EQUAL_AGAIN))
