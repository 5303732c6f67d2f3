"""Gate 4, behaviour: every case on both sides, every record compared by hash.

Blocks run side by side, one slot a core, each slot pinned to its one core as a timed trial is, both sides of a block
one after the other in random order. The first blocks that differ end it; they are run again on both sides, because a
baseline that disagrees with itself says nothing about a candidate.
"""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from nightfleet.harness.cases import Cases
from nightfleet.harness.comparison import Comparison, Digests, FailedBlock, Span
from nightfleet.harness.divergence import Divergence, Look
from nightfleet.harness.reading import BothSides
from nightfleet.harness.sides import Side, fresh_copy
from nightfleet.native import Sandbox, Trials, UserError, run_trials

__all__ = ["Behaviour", "Digests", "FailedBlock", "Progress", "Span", "Work", "compare"]

# Fixed: bad blocks that end the gate, cases that are listed and shown, and how often bad blocks are run again.
MOST_BAD_BLOCKS = 3
MOST_LISTED = 20
MOST_SHOWN = 3
RUNS_AGAIN = 2

Ending: TypeAlias = Literal["identical", "incorrect", "broken", "baseline failed", "nondeterministic baseline"]


@dataclass(frozen=True)
class Work:
    """How to run: seed of the record hashes in [0, 2**64), limits of a trial, and the cores to use (None: all)."""

    seed: int
    timeout_s: float = 60.0
    output_bytes: int = 64 << 20
    cores: Sequence[int] | None = None
    most_bad_blocks: int = MOST_BAD_BLOCKS


@dataclass(frozen=True)
class Progress:
    """Blocks of all workloads that are through, and how long it takes (s); `left_s` is None before the first."""

    workload: str
    done: int
    blocks: int
    seconds: float
    left_s: float | None


@dataclass(frozen=True)
class Behaviour:
    """What the gate saw.

    Attributes:
        cases: compared on both sides.
        diverged: by workload, the first cases whose records differ.
        divergences: how many there are, in the blocks that were run.
        failed: blocks that did not end well.
        unsteady: by workload, cases on which the baseline disagrees with itself.
        candidate_unsteady: the same of the candidate, with a steady baseline.
        shown: the first divergences with their records, run again; the baseline against itself if that is the trouble.
        digests: by workload, of the blocks that ran on both sides.
        blocks: what each block that ended well took, for the totals gate.
        denied: system calls that were refused, with how often.
        complete: whether every block was run.
    """

    cases: int
    diverged: Mapping[str, tuple[int, ...]]
    divergences: int
    failed: tuple[FailedBlock, ...]
    unsteady: Mapping[str, tuple[int, ...]]
    candidate_unsteady: Mapping[str, tuple[int, ...]]
    shown: tuple[Divergence, ...]
    digests: Mapping[str, Digests]
    blocks: tuple[BothSides, ...]
    denied: Mapping[str, int]
    complete: bool
    seconds: float

    @property
    def ending(self) -> Ending:
        """What it amounts to; "records" as an outcome (wrong number or form) is another behaviour, not a bad end."""
        sides = {(block.side, block.outcome == "records") for block in self.failed}
        if any(side == "baseline" for side, _ in sides):
            return "baseline failed"
        if self.unsteady:
            return "nondeterministic baseline"
        if ("candidate", False) in sides:
            return "broken"
        return "incorrect" if self.failed or self.diverged or not self.complete else "identical"

    @property
    def identical(self) -> bool:
        """Whether every record of every case is the same on both sides."""
        return self.ending == "identical"


def compare(
    baseline: Side,
    candidate: Side,
    spans: Sequence[Span],
    work: Work,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Behaviour:
    """Run all cases of all workloads on both sides, or as many as it takes to know that they differ.

    Args:
        baseline: a built tree. It is copied, never run in place.
        candidate: another.
        spans: the cases of each workload; names are distinct.
        work: how to run them.
        on_progress: told about every 50 ms.

    Raises:
        nightfleet.native.UserError: for trees or commands that cannot be, and where there is nothing to compare.
        nightfleet.native.MachineError: where the kernel withholds what a sandbox needs.
    """
    names = [span.workload.name for span in spans]
    if not names or len(set(names)) < len(names) or not all(len(span.cases) for span in spans):
        raise UserError(
            f"behaviour needs one or more workloads with distinct names and at least 1 case each; got {names}"
        )
    gate = _Gate(spans, work, on_progress)
    with _benches(baseline, candidate, work.cores, sieved=any(span.form.filter for span in spans)) as benches:
        for span in spans:
            if gate.bad >= work.most_bad_blocks:
                break
            gate.run(span, benches)
    return gate.result()


@dataclass(frozen=True)
class _Benches:
    """A sandbox for each slot: of both sides, and of the filter."""

    baseline: list[Sandbox]
    candidate: list[Sandbox]
    sieves: list[Sandbox]


@contextmanager
def _benches(baseline: Side, candidate: Side, cores: Sequence[int] | None, *, sieved: bool) -> Iterator[_Benches]:
    slots = sorted(os.sched_getaffinity(0)) if cores is None else cores
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightfleet-")))
        copies = [(fresh_copy(side.tree, scratch), side.options) for side in (baseline, candidate)]
        # A filter is frozen, so the baseline's copy has it; it runs in sandboxes of its own all the same.
        copies += [copies[0]] if sieved else []
        sandboxes = [
            [stack.enter_context(Sandbox(copy, cores=[core], **options)) for core in slots]  # type: ignore[arg-type]
            for copy, options in copies
        ]
        yield _Benches(sandboxes[0], sandboxes[1], sandboxes[2] if sieved else [])


@dataclass
class _Gate:
    """What has been seen so far."""

    spans: Sequence[Span]
    work: Work
    on_progress: Callable[[Progress], None] | None
    started: float = field(default_factory=time.monotonic)
    through: int = 0
    bad: int = 0
    cases: int = 0
    divergences: int = 0
    complete: int = 0
    diverged: dict[str, tuple[int, ...]] = field(default_factory=dict)
    failed: list[FailedBlock] = field(default_factory=list)
    unsteady: dict[str, tuple[int, ...]] = field(default_factory=dict)
    candidate_unsteady: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shown: list[Divergence] = field(default_factory=list)
    digests: dict[str, Digests] = field(default_factory=dict)
    blocks: list[BothSides] = field(default_factory=list)
    denied: Counter[str] = field(default_factory=Counter)

    def run(self, span: Span, benches: _Benches) -> None:
        """One workload, and its first bad blocks once more."""
        name = span.workload.name
        trials = self._trials(span, benches, span.blocks, self.work.most_bad_blocks - self.bad)
        seen = Comparison(span, trials)
        self.through += len(span.blocks)
        self.cases += len(seen.digests.cases)
        self.complete += all(trials.done)
        self.digests[name] = seen.digests
        self.blocks += seen.both_sides
        self.denied.update(trials.denied)
        self.divergences += len(seen.diverged)
        if seen.diverged:
            self.diverged[name] = tuple(seen.diverged[:MOST_LISTED])
        self.bad += len(seen.bad)
        if seen.bad:
            self._again(span, benches, seen)

    def _again(self, span: Span, benches: _Benches, seen: "Comparison") -> None:
        """Tell a baseline that disagrees with itself from a candidate that disagrees with it, and show records."""
        name = span.workload.name
        bad = seen.bad[:MOST_BAD_BLOCKS]
        blocks = [span.blocks[index] for index in bad]
        later = [self._trials(span, benches, blocks, None) for _ in range(RUNS_AGAIN)]
        unsteady = [seen.unsteady(side, bad, later) for side in (0, 1)]
        if unsteady[0]:
            self.unsteady[name] = tuple(unsteady[0][:MOST_LISTED])
        elif unsteady[1]:
            self.candidate_unsteady[name] = tuple(unsteady[1][:MOST_LISTED])
        self.failed += seen.failed(bad, later)
        cases = unsteady[0] or [case for case in seen.diverged if any(case in block for block in blocks)]
        look = Look(span.workload, span.form, span.manifest, self.work.timeout_s, self.work.output_bytes)
        sides = benches.baseline[0], (benches.baseline if unsteady[0] else benches.candidate)[0]
        for case in cases[: MOST_SHOWN - len(self.shown)]:
            block = next(block.tolist() for block in blocks if case in block)
            self.shown.append(look.at(case, block, sides, benches.sieves[0] if span.form.filter else None))

    def _trials(self, span: Span, benches: _Benches, blocks: Sequence[Cases], stop_after: int | None) -> Trials:
        return run_trials(
            [benches.baseline, benches.candidate],
            span.native,
            blocks,
            seed=self.work.seed,
            timeout_s=self.work.timeout_s,
            output_bytes=self.work.output_bytes,
            filters=benches.sieves if span.form.filter else [],
            stop_after=stop_after,
            progress=None if stop_after is None else self._progress(span.workload.name),
        )

    def _progress(self, workload: str) -> Callable[[int, int], None] | None:
        tell = self.on_progress
        if tell is None:
            return None
        total = sum(len(span.blocks) for span in self.spans)

        def progress(done: int, _: int) -> None:
            through, seconds = self.through + done, time.monotonic() - self.started
            left = seconds / through * (total - through) if through else None
            tell(Progress(workload, through, total, seconds, left))

        return progress

    def result(self) -> Behaviour:
        return Behaviour(
            self.cases,
            self.diverged,
            self.divergences,
            tuple(self.failed),
            self.unsteady,
            self.candidate_unsteady,
            tuple(self.shown),
            self.digests,
            tuple(self.blocks),
            dict(self.denied),
            self.complete == len(self.spans),
            time.monotonic() - self.started,
        )
