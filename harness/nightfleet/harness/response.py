"""Whether a workload's time answers to its work: a slowdown is planted, and must be seen.

Where a block can be cut, half of it is timed against all of it: a program that fills a fixed time, or reads its answers
from somewhere, takes as long for either. A block that cannot be cut runs beside a copy of itself on the same core: the
elapsed time of fixed work doubles then, and that of a fixed time stays as it is. What mostly starts looks like what
fills a fixed time, so whatever hardly answers is asked again with a block many times as long. All of it runs on the
leased cores, where nobody else is timed meanwhile.
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

from nightfleet.harness.behaviour import Span, Work
from nightfleet.harness.cases import Cases
from nightfleet.harness.sides import Side, fresh_copy
from nightfleet.harness.tree import printable
from nightfleet.native import Lease, Sandbox, Trials, UserError, run_trials

# Fixed: how often each size is timed, in turn, after one warm-up.
ROUNDS = 7
# A trial of which less than this share answers to its work cannot be judged: nobody would see a gain in it.
LEAST_SHARE = 0.20
# How many blocks in one tell a program that mostly starts from one that fills a fixed time.
WIDER = 16
# Two at once have to be at work together: trials shorter than this (ns) run in a row on either side, so many at most.
BESIDE_NS = 100_000_000
MOST_BESIDE = 16
# Blocks to take turns with: the answer to a question just asked may be lying about.
BLOCKS = 2 * MOST_BESIDE + 1
# Below this share most of a trial is the program starting; what is found in the rest is diluted.
GOOD_SHARE = 0.50

Plant: TypeAlias = Literal["half a block", "two at once"]


@dataclass(frozen=True)
class Response:
    """What a planted slowdown did to one workload.

    Attributes:
        planted: how it was planted.
        short_ns: least elapsed time without: what else runs on the machine only adds.
        long_ns: and with it; 2 x `short_ns` where the time is all work.
        tasks: most threads and child processes that one trial made beyond the program itself.
        wider: the share at a block `WIDER` times as long, where that was asked.
    """

    workload: str
    planted: Plant
    short_ns: int
    long_ns: int
    tasks: int
    wider: float | None = None

    @property
    def responds(self) -> bool:
        """Whether gains can be seen in it at all, be it with a longer block."""
        return max(self.share, self.wider or 0.0) >= LEAST_SHARE

    @property
    def share(self) -> float:
        """The share of a trial's time that answers to its work, within [0, 1]."""
        grown = self.long_ns / self.short_ns - 1
        # From half a block to all: with fixed costs f and work w, short = f + w/2, and what a whole trial has is w.
        share = 2 * grown / (1 + grown) if self.planted == "half a block" else grown
        return min(1.0, max(0.0, share))

    @property
    def trial_ns(self) -> int:
        """Elapsed time of one trial over a whole block."""
        return self.long_ns if self.planted == "half a block" else self.short_ns


def respond(
    baseline: Side,
    span: Span,
    work: Work,
    *,
    cores: int = 1,
    on_round: Callable[[int, int], None] | None = None,
    on_wait: Callable[[str, float], None] | None = None,
) -> Response:
    """Plant a slowdown in one workload.

    Args:
        baseline: the build.
        span: `BLOCKS` blocks of the workload, or as many as it has.
        work: seed and limits of a trial.
        cores: those of a trial.
        on_round: told how many rounds of how many are through.
        on_wait: told who holds the timing lease, and for how long that was waited for (s).

    Raises:
        nightfleet.native.UserError: the baseline does not end well.
        nightfleet.native.MachineError: the kernel withholds what a sandbox needs.
    """
    cut = _is_cut(span)
    with ExitStack() as stack:
        copy = fresh_copy(baseline.tree, Path(stack.enter_context(TemporaryDirectory(prefix="nightfleet-"))))
        lease = stack.enter_context(Lease.acquire(cores=cores, purpose="a planted slowdown", on_wait=on_wait))
        # Two at once share a single core, or they would not be in each other's way.
        given = lease.cores if cut else lease.cores[:1]
        slots = [
            stack.enter_context(Sandbox(copy, cores=given, **baseline.options))  # type: ignore[arg-type]
            for _ in range(1 if cut else 2)
        ]
        sieves = [
            stack.enter_context(Sandbox(copy, **baseline.options))  # type: ignore[arg-type]
            for _ in (slots if span.form.filter else [])
        ]
        return _measured(span, work, slots, sieves, on_round)


def _is_cut(span: Span) -> bool:
    return span.workload.feed == "stdin" and span.workload.record in {"line", "length"} and len(span.blocks[0]) > 1


def _measured(
    span: Span,
    work: Work,
    slots: Sequence[Sandbox],
    sieves: Sequence[Sandbox],
    on_round: Callable[[int, int], None] | None,
) -> Response:
    alone: list[int] = []
    slowed: list[int] = []
    tasks = 0
    cut = len(slots) == 1

    def timed(blocks: Sequence[Cases], count: int) -> list[int]:
        nonlocal tasks
        trials = run_trials(
            [list(slots[:count])],
            span.native,
            blocks,
            seed=work.seed,
            timeout_s=work.timeout_s,
            output_bytes=work.output_bytes,
            filters=list(sieves[:count]),
        )
        _check(span, trials)
        tasks = max(tasks, int(trials.tasks.max()))
        return [int(ns) for ns in trials.wall_ns[0]]

    row = 1
    for number in range(1 + ROUNDS):
        # Never the same cases twice in a row.
        blocks = [span.blocks[(number + place) % len(span.blocks)] for place in range(2 * row)]
        short = [blocks[0][len(blocks[0]) // 2 :]] if cut else blocks[:row]
        long = blocks[1:2] if cut else blocks
        # Of two at once the last to end was in the other's way all along; of many in a row, most were.
        quick, slow = statistics.median_high(timed(short, 1)), statistics.median_high(timed(long, len(slots)))
        if number:
            alone.append(quick)
            slowed.append(slow)
        elif not cut:
            row = max(1, min(MOST_BESIDE, BESIDE_NS // quick))
        if on_round is not None:
            on_round(number + 1, 1 + ROUNDS)
    plant: Plant = "half a block" if cut else "two at once"
    return Response(span.workload.name, plant, min(alone), min(slowed), tasks)


def _check(span: Span, trials: Trials) -> None:
    for place, outcome in enumerate(trials.outcome[0]):
        if outcome != "ok":
            text = trials.stderr[0][place].decode("utf-8", "backslashreplace")
            said = [printable(line) for line in text.strip().splitlines()[-3:]]
            raise UserError(
                f"the baseline ends with {outcome} {int(trials.status[0, place])} on a block of workload "
                f"{span.workload.name}" + (f": {' / '.join(said)}" if said else "")
            )
