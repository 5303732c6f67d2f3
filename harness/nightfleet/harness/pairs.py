"""A bench for timed pairs: the lease, fresh copies of both trees, their sandboxes, and a journal of every coin."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from nightfleet.native import Draw, Lease, MachineError, Pair, PairRunner, Sandbox, Workload, give_tree

# A copy's place on disk and in memory moves its time by fractions of a percent; the pair runner draws one of these.
COPIES = 4
# Void pairs cost time and say that something else runs; beyond this share of them nothing is worth timing.
MAX_VOID_SHARE = 0.10
# How long one look at the load may last before the one who waits is told (s).
_TELL_EVERY_S = 2.0


class TooLoadedError(RuntimeError):
    """More than a tenth of the pairs were void: the machine is too loaded to time anything."""


@dataclass
class Counts:
    """What happened so far."""

    pairs: int = 0
    void: int = 0
    candidate_first: int = 0


@dataclass
class PairBench:
    """Times one tree against another, pair by pair. A context manager; everything it made is gone at its end.

    Args:
        baseline: a built tree. It is copied, never run in place.
        candidate: another; the same one for A/A pairs.
        workload: what to run.
        seed: of the record hashes, in [0, 2**64).
        journal: each draw is appended here, as a line of JSON, before anything runs.
        sandbox: further keyword arguments of `Sandbox` (read, env, memory_bytes, …).
        patience_s: how long to wait for the leased cores to become calm before a pair.
        on_wait: told what we wait for (another's timing lease, a calm machine), and for how long so far (s).
    """

    baseline: Path
    candidate: Path
    workload: Workload
    seed: int
    journal: Path
    cores: int = 1
    timeout_s: float = 60.0
    output_bytes: int = 64 << 20
    sandbox: Mapping[str, object] = field(default_factory=dict)
    patience_s: float = 600.0
    on_wait: Callable[[str, float], None] | None = None
    counts: Counts = field(default_factory=Counts, init=False)
    lease: Lease = field(init=False)
    facts: dict[str, str] = field(init=False)
    _runner: PairRunner = field(init=False)
    _journal: IO[str] = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Self:
        """Take the lease, copy both trees and build their sandboxes.

        Raises:
            nightfleet.native.UserError: for trees or commands that cannot be.
            nightfleet.native.MachineError: where the kernel withholds what a sandbox needs.
        """
        with ExitStack() as stack:
            self.lease = stack.enter_context(
                Lease.acquire(cores=self.cores, purpose="timing pairs", on_wait=self.on_wait)
            )
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightfleet-")))
            sides = [
                [stack.enter_context(self._open(tree, scratch)) for _ in range(COPIES)]
                for tree in (self.baseline, self.candidate)
            ]
            self.facts = sides[0][0].facts
            self._runner = PairRunner(
                sides[0],
                sides[1],
                self.workload,
                self.lease,
                seed=self.seed,
                timeout_s=self.timeout_s,
                output_bytes=self.output_bytes,
            )
            self._journal = stack.enter_context(self.journal.open("a", encoding="utf-8"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every sandbox, remove every copy, give the lease back."""
        self._stack.close()

    def _open(self, tree: Path, scratch: Path) -> Sandbox:
        # A random name a copy: a program that reads its mount table must not learn which side it is.
        copy = Path(tempfile.mkdtemp(dir=scratch, prefix="tree-"))
        shutil.copytree(tree, copy, symlinks=True, dirs_exist_ok=True)
        give_tree(copy)
        return Sandbox(copy, cores=self.lease.cores, **self.sandbox)  # type: ignore[arg-type]

    def warm_up(self, block: Sequence[int] | NDArray[np.int64]) -> Pair:
        """Run the one pair that is never counted."""
        return self._runner.warm_up(block)

    def pair(self, block: Sequence[int] | NDArray[np.int64]) -> Pair:
        """Draw, record and run one pair. A void pair is returned too; see `Pair.void`.

        Raises:
            TooLoadedError: when more than a tenth of at least 20 pairs were void.
            nightfleet.native.MachineError: when the leased cores do not become calm.
        """
        draw = self._draw(block)
        self._record(draw)
        pair = self._runner.run(draw)
        self.counts.pairs += 1
        self.counts.candidate_first += draw.candidate_first
        self.counts.void += pair.void is not None
        if self.counts.pairs >= 20 and self.counts.void > MAX_VOID_SHARE * self.counts.pairs:
            raise TooLoadedError(
                f"machine too loaded to time: {self.counts.void} of {self.counts.pairs} pairs were void "
                f"(the limit is {MAX_VOID_SHARE:.0%}); the last: {pair.void}"
            )
        return pair

    def _draw(self, block: Sequence[int] | NDArray[np.int64]) -> Draw:
        """Draw once the leased cores are calm, telling the one who waits why it takes so long."""
        started = time.monotonic()
        while True:
            left = self.patience_s - (time.monotonic() - started)
            try:
                return self._runner.draw(block, wait_s=max(0.001, min(left, _TELL_EVERY_S)))
            except MachineError as busy:
                waited = time.monotonic() - started
                if waited >= self.patience_s:
                    raise
                if self.on_wait is not None:
                    self.on_wait(str(busy), waited)

    def _record(self, draw: Draw) -> None:
        line = {
            "index": draw.index,
            "candidate_first": draw.candidate_first,
            "baseline_copy": draw.baseline_copy,
            "candidate_copy": draw.candidate_copy,
            "block": draw.block.tolist(),
        }
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())


def valid_pairs(bench: PairBench, blocks: Iterator[NDArray[np.int64]], count: int) -> Iterator[Pair]:
    """`count` pairs that count, each on the next of `blocks`; void ones are passed over."""
    found = 0
    while found < count:
        pair = bench.pair(next(blocks))
        if pair.void is None:
            found += 1
            yield pair
