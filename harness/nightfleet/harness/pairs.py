"""A bench for timed pairs: the lease, fresh copies of both trees, their sandboxes, and a journal of every coin."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nightfleet.harness.copies import disk, refresh
from nightfleet.harness.inventory import inventory_digest, take_inventory
from nightfleet.harness.journal import BadEnd, Entry, Journal, Recorded, Result, SideName
from nightfleet.harness.reading import Pair as TimedPair
from nightfleet.harness.reading import Reading
from nightfleet.harness.rounds import Blocks, BrokenError, Round, TooLoadedError
from nightfleet.harness.sides import Side, extent, fresh_copy
from nightfleet.harness.tree import printable
from nightfleet.native import (
    BusyError,
    Completed,
    Draw,
    Lease,
    Pair,
    PairRunner,
    Sandbox,
    UserError,
    Workload,
    run_trials,
)

__all__ = ["COPIES", "BrokenError", "Counts", "PairBench", "TooLoadedError", "valid_pairs"]

# A copy's place on disk and in memory moves its time by fractions of a percent; the pair runner draws one of these.
COPIES = 4
# Void pairs cost time and say that something else runs; beyond this share of them nothing is worth timing.
MAX_VOID_SHARE = 0.10
# How often in one timing a pair is run again because a side ended badly. Not once a pair: a candidate that gives up
# whenever it notices that it is slow would choose which of its trials count.
REPEATS = 1
NEW_PAGES = "new for both copies before each pair"
# How long one look at the load may last before the one who waits is told (s).
_TELL_EVERY_S = 2.0

Block = Sequence[int] | NDArray[np.int64]


@dataclass
class Counts:
    """What happened so far; of rounds, where there are several workloads."""

    pairs: int = 0
    void: int = 0
    candidate_first: int = 0
    repeated: int = 0


@dataclass
class PairBench:
    """Times one tree against another, pair by pair. A context manager; everything it made is gone at its end.

    Args:
        baseline: a built tree. It is copied, never run in place.
        candidate: another; the same one for A/A pairs.
        workload: what to run; several by name make rounds: a pair of each, under one coin.
        seed: of the record hashes, in [0, 2**64).
        journal: every draw is on disk here before anything runs, and every result before the next draw. Where there is
            one of this timing already, it is gone on with: see `recorded`.
        sandbox: further keyword arguments of both sides' `Sandbox` (read, env, memory_bytes, …).
        terms: what was settled before the first pair and binds a timing that is gone on with, as plain JSON values.
        trim: for tests of the judge, never for a verdict: the share of each block, in [0, 1), that the candidate does
            not get, so that its true gain is known. Facts and journal say so where it is not 0.
        patience_s: how long to wait for the leased cores to become calm before a pair.
        on_wait: told what we wait for (another's timing lease, a calm machine), and for how long so far (s).
    """

    baseline: Path | Side
    candidate: Path | Side
    workload: Workload | Mapping[str, Workload]
    seed: int
    journal: Path
    cores: int = 1
    timeout_s: float = 60.0
    output_bytes: int = 64 << 20
    sandbox: Mapping[str, object] = field(default_factory=dict)
    terms: Mapping[str, Any] = field(default_factory=dict)
    trim: float = 0.0
    patience_s: float = 600.0
    on_wait: Callable[[str, float], None] | None = None
    counts: Counts = field(default_factory=Counts, init=False)
    lease: Lease = field(init=False)
    facts: dict[str, str] = field(init=False)
    _runners: dict[str, PairRunner] = field(init=False)
    _sides: tuple["_Copies", "_Copies"] = field(init=False)
    _sieves: list[Sandbox] = field(init=False)
    _fresh: bool = field(init=False)
    _journal: Journal = field(init=False)
    _ended: Round | None = field(default=None, init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Self:
        """Take the lease, copy both trees and build their sandboxes.

        Raises:
            nightfleet.native.UserError: for trees or commands that cannot be, and for another timing's journal.
            nightfleet.native.MachineError: where the kernel withholds what a sandbox needs, and for a damaged journal.
        """
        with ExitStack() as stack:
            self.lease = stack.enter_context(
                Lease.acquire(cores=self.cores, purpose="timing pairs", on_wait=self.on_wait)
            )
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightfleet-")))
            baseline, candidate = (self._open(side, scratch, stack) for side in (self.baseline, self.candidate))
            self._sides = baseline, candidate
            self._sieves = self._open_sieves(scratch, stack)
            # Both or neither: a side that alone had new pages would be another side.
            lost = next(filter(None, (side.too_large for side in self._sides)), None)
            self._fresh = lost is None
            pages = f"lost: {lost}; copies can differ by up to 1.7% for as long as they exist" if lost else NEW_PAGES
            trimmed = {"trim": f"{self.trim}: the candidate lacks this share of each block"} if self.trim else {}
            self.facts = {**baseline.sandboxes[0].facts, "fresh pages": pages, **trimmed}
            self._runners = {name: self._runner(workload) for name, workload in self._workloads.items()}
            self._journal = stack.enter_context(Journal(self.journal, self._heading))
            self._take_up()
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

    @property
    def recorded(self) -> Recorded:
        """What stands in the journal: of earlier runs of this timing, killed ones too, and of this one."""
        return self._journal.recorded

    @property
    def bound(self) -> bool:
        """Whether what stands in the journal ended the timing, whatever its figures say: the next round tells how."""
        return self.recorded.diverged is not None or len(self.recorded.bad_ends) > REPEATS

    @property
    def _heading(self) -> dict[str, Any]:
        """What makes a timing this one. The seed is new for each verification, and so are its cases."""
        trees = [side.tree if isinstance(side, Side) else side for side in (self.baseline, self.candidate)]
        digests = {tree: inventory_digest(take_inventory(tree)) for tree in set(trees)}
        trimmed = {"trim": self.trim} if self.trim else {}
        terms = {"terms": dict(self.terms)} if self.terms else {}
        return {
            "sides": [digests[tree] for tree in trees],
            "workloads": list(self._workloads),
            "seed": self.seed,
            **trimmed,
            **terms,
        }

    def _take_up(self) -> None:
        """What was recorded binds this run: its draws and indices, its bad ends, and a record that differed."""
        for name, runner in self._runners.items():
            runner.resume([entry.draws[name] for entry in self.recorded.entries if name in entry.draws])
        self.counts.repeated = min(REPEATS, len(self.recorded.bad_ends))
        if self.recorded.diverged is not None:
            self._ended = _round(self.recorded.diverged)

    @property
    def _workloads(self) -> Mapping[str, Workload]:
        return self.workload if isinstance(self.workload, Mapping) else {"": self.workload}

    def _open(self, side: Path | Side, scratch: Path, stack: ExitStack) -> "_Copies":
        side = side if isinstance(side, Side) else Side(side)
        options = {**self.sandbox, **side.options}
        copies = [fresh_copy(side.tree, scratch) for _ in range(COPIES)]
        sandboxes = [
            stack.enter_context(Sandbox(copy, cores=self.lease.cores, **options))  # type: ignore[arg-type]
            for copy in copies
        ]
        return _Copies(side.tree, copies, sandboxes, extent(side.tree).too_large)

    def _open_sieves(self, scratch: Path, stack: ExitStack) -> list[Sandbox]:
        """Sandboxes for filters, if there are any: one that the baseline's output goes through, one the candidate's.

        A filter is frozen, so the baseline's tree has it. They have a copy of their own: what a filter reads must not
        warm the copies that are timed.
        """
        if not any(workload.filtered for workload in self._workloads.values()):
            return []
        side = self.baseline if isinstance(self.baseline, Side) else Side(self.baseline)
        copy, options = fresh_copy(side.tree, scratch), {**self.sandbox, **side.options}
        return [
            stack.enter_context(Sandbox(copy, cores=self.lease.harness_cores, **options))  # type: ignore[arg-type]
            for _ in range(2)
        ]

    def _runner(self, workload: Workload) -> PairRunner:
        baseline, candidate = (side.sandboxes for side in self._sides)
        return PairRunner(
            baseline,
            candidate,
            workload,
            self.lease,
            seed=self.seed,
            timeout_s=self.timeout_s,
            output_bytes=self.output_bytes,
            filters=self._sieves if workload.filtered else [],
            trim=self.trim,
        )

    def warm_up(self, block: Block) -> Pair:
        """Run the one pair of the only workload that is never counted."""
        (name,) = self._workloads
        return self._warm_up({name: block})[name]

    def pair(self, block: Block) -> Pair:
        """Draw, record and run one pair of the only workload. A void pair is returned too; see `Pair.void`.

        An unfinished pair comes first, and raises, as in `round`.
        """
        (name,) = self._workloads
        self._check_ends()
        return self._play(self._begin({name: block}, reference=False))[name]

    def warm_up_round(self, blocks: Blocks) -> Round:
        """Run a pair of each workload that is never counted. Raises as `round`."""
        self._check_ends()
        if self._ended is None:
            self._warm_up(blocks)
        return self._ended or _round(self.recorded.entries[-1])

    def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
        """Draw, record and run one pair of each workload, on a block each, under one coin and from the same copies.

        A round that was drawn and left no result, since an earlier run was ended in it, comes first: on its own blocks,
        with its own coin, copies and references; `blocks` are not used then. Where a record differed in an earlier run,
        that round is given back and nothing is run.

        Args:
            blocks: one for each workload.
            reference: run one extra baseline trial of each block first.

        Raises:
            BrokenError: when the candidate ended badly twice.
            TooLoadedError: when more than a tenth of at least 20 rounds were void.
            nightfleet.native.UserError: when the baseline ended badly twice.
            nightfleet.native.MachineError: when the leased cores do not become calm, and when the harness was ended
                twice in one pair.
        """
        self._check_ends()
        if self._ended is not None:
            return self._ended
        entry = self._begin(blocks, reference=reference)
        self._play(entry)
        return _round(entry)

    def reference(self, blocks: Mapping[str, Block]) -> dict[str, Reading]:
        """One baseline trial of each block by itself. UserError when it does not end well."""
        sandbox = self._sides[0].sandboxes[self.counts.pairs % COPIES]
        return {name: self._alone(sandbox, name, block) for name, block in blocks.items()}

    def _alone(self, sandbox: Sandbox, name: str, block: Block) -> Reading:
        workload = self._workloads[name]
        trial = run_trials(
            [[sandbox]],
            workload,
            [block],
            seed=self.seed,
            timeout_s=self.timeout_s,
            output_bytes=self.output_bytes,
            filters=self._sieves[:1] if workload.filtered else [],
        )
        if trial.outcome[0][0] != "ok":
            raise UserError(f"the baseline ended with {trial.outcome[0][0]} in a trial by itself{_of(name)}")
        return Reading(int(trial.wall_ns[0, 0]), _known(int(trial.cpu_ns[0, 0])), _known(int(trial.peak_bytes[0, 0])))

    def _begin(self, blocks: Mapping[str, Block], *, reference: bool) -> Entry:
        """The round to run, recorded: the unfinished one, or a new one."""
        if self.recorded.unfinished is not None:
            return self._journal.again()
        references = self.reference(blocks) if reference else {}
        return self._journal.draw(self._draws(blocks), references)

    def _play(self, entry: Entry) -> dict[str, Pair]:
        """Run what has no result yet of a round, and record it."""
        played: dict[str, Pair] = {}
        while (name := entry.unfinished) is not None:
            with self._stoppable(entry, name):
                played[name] = self._ended_well(name, entry.draws[name])
            self._journal.result(entry, _result(name, played[name], entry.references.get(name)))
        self._count(entry)
        return played

    @contextmanager
    def _stoppable(self, entry: Entry, name: str) -> Iterator[None]:
        """Somebody may stop the harness as often as they like; only what ended it otherwise counts as a failed try."""
        try:
            yield
        except KeyboardInterrupt:
            self._journal.stopped(entry, name)
            raise

    def _count(self, entry: Entry) -> None:
        self.counts.pairs += 1
        self.counts.candidate_first += next(iter(entry.draws.values())).candidate_first
        self.counts.void += entry.void is not None
        if self.counts.pairs >= 20 and self.counts.void > MAX_VOID_SHARE * self.counts.pairs:
            raise TooLoadedError(
                f"machine too loaded to time: {self.counts.void} of {self.counts.pairs} pairs were void "
                f"(the limit is {MAX_VOID_SHARE:.0%}); the last: {entry.void}"
            )

    def _draws(self, blocks: Mapping[str, Block]) -> dict[str, Draw]:
        """A draw for each workload.

        The coin and the copies are those of the last, which is tossed when every look at the load is over: what has
        been seen of the machine cannot depend on the coin.
        """
        own = {name: self._draw(name, block) for name, block in blocks.items()}
        last = list(own.values())[-1]
        return {
            name: Draw(
                index=draw.index,
                block=draw.block,
                candidate_first=last.candidate_first,
                baseline_copy=last.baseline_copy,
                candidate_copy=last.candidate_copy,
                candidate_cases=draw.candidate_cases,
            )
            for name, draw in own.items()
        }

    def _draw(self, name: str, block: Block) -> Draw:
        """Draw once the leased cores are calm, telling the one who waits why it takes so long."""
        started = time.monotonic()
        while True:
            left = self.patience_s - (time.monotonic() - started)
            try:
                return self._runners[name].draw(block, wait_s=max(0.001, min(left, _TELL_EVERY_S)))
            except BusyError as busy:
                waited = time.monotonic() - started
                if waited >= self.patience_s:
                    raise
                if self.on_wait is not None:
                    self.on_wait(str(busy), waited)

    def _warm_up(self, blocks: Mapping[str, Block]) -> dict[str, Pair]:
        entry = self._journal.warm_up({name: np.asarray(block, dtype=np.int64) for name, block in blocks.items()})
        pairs: dict[str, Pair] = {}
        for name, block in blocks.items():
            pair = self._runners[name].warm_up(block)
            if not _well(pair):
                self._bad_end(name, pair)
                pair = self._ended_well(name, pair.draw)
            self._journal.result(entry, _result(name, pair, None))
            pairs[name] = pair
        return pairs

    def _ended_well(self, name: str, draw: Draw) -> Pair:
        """Run a draw; once in a timing run it again as it was drawn, when a side ended badly."""
        pair = self._run(name, draw)
        while not _well(pair):
            self._bad_end(name, pair)
            pair = self._run(name, draw)
        return pair

    def _bad_end(self, name: str, pair: Pair) -> None:
        """Record it. Raises as `_check_ends` when the timing had one before."""
        side: SideName = "baseline" if pair.baseline.outcome != "ok" else "candidate"
        trial: Completed = getattr(pair, side)
        self._journal.bad_end(BadEnd(side, name, _ended(f"the {side}", name, trial)))
        self._check_ends(trial)
        self.counts.repeated += 1

    def _check_ends(self, trial: Completed | None = None) -> None:
        """UserError or BrokenError when more runs of this timing ended badly than are repeated."""
        if len(self.recorded.bad_ends) <= REPEATS:
            return
        last = self.recorded.bad_ends[-1]
        if last.side == "baseline":
            raise UserError(last.why)
        raise BrokenError(last.workload, trial, last.why)

    def _run(self, name: str, draw: Draw) -> Pair:
        if self._fresh:
            # In the order in which they will run: under the coin neither side's pages are the younger ones.
            baseline, candidate = self._sides
            turns = [(baseline, draw.baseline_copy), (candidate, draw.candidate_copy)]
            with disk():
                for side, copy in reversed(turns) if draw.candidate_first else turns:
                    refresh(side.copies[copy], side.tree)
        return self._runners[name].run(draw)


@dataclass(frozen=True)
class _Copies:
    """One side's tree, its copies, a sandbox over each, and why they cannot have new pages, if so."""

    tree: Path
    copies: list[Path]
    sandboxes: list[Sandbox]
    too_large: str | None


def valid_pairs(bench: PairBench, blocks: Iterator[NDArray[np.int64]], count: int) -> Iterator[Pair]:
    """`count` pairs that count, each on the next of `blocks`; void ones are passed over."""
    found = 0
    while found < count:
        pair = bench.pair(next(blocks))
        if pair.void is None:
            found += 1
            yield pair


def _sound(trial: Completed) -> bool:
    # Records of the wrong number or form are another behaviour, not a bad end.
    return trial.outcome in {"ok", "records"}


def _well(pair: Pair) -> bool:
    """Whether both trials ended well, or the machine is to blame if not."""
    return pair.void is not None or (pair.baseline.outcome == "ok" and _sound(pair.candidate))


def _diverged(pair: Pair) -> tuple[int, ...]:
    if not (_sound(pair.baseline) and _sound(pair.candidate)):
        return ()  # only in a void pair: its trials may have been cut short by whatever voided it
    if pair.candidate.outcome == "records" and not pair.diverged:
        # Every case that it got has its record, and there are more.
        return tuple(pair.draw.block.tolist()[: pair.draw.candidate_cases])
    return tuple(pair.diverged)


def _round(entry: Entry) -> Round:
    return Round(
        {name: entry.draws[name] for name in entry.results if name in entry.draws},
        tuple(result.pair for result in entry.results.values()),
        entry.void,
        entry.diverged,
        max(result.tasks for result in entry.results.values()),
    )


def _result(name: str, pair: Pair, reference: Reading | None) -> Result:
    timed = TimedPair(pair.draw.candidate_first, _reading(pair.baseline), _reading(pair.candidate), name, reference)
    return Result(timed, pair.void, _diverged(pair), max(pair.baseline.tasks, pair.candidate.tasks))


def _reading(trial: Completed) -> Reading:
    return Reading(trial.wall_ns, _known(trial.cpu_ns), _known(trial.peak_bytes))


def _known(value: int) -> int | None:
    return None if value < 0 else value


def _ended(who: str, workload: str, trial: Completed) -> str:
    said = trial.stderr.decode("utf-8", "replace").strip().splitlines()
    last = f": {printable(said[-1][:200])}" if said else ""
    return f"{who} ended with {trial.outcome} {trial.status} in a timed trial{_of(workload)}{last}"


def _of(workload: str) -> str:
    return f" of workload {workload}" if workload else ""
