"""The judge judged, on this machine and this arena: candidates whose truth is known go through the real thing.

Nulls are the baseline itself, relinked, with more lines above its code, or with its functions in another order: each
is built and goes through the behaviour gate once, and is timed many times over. Planted gains are the baseline on
blocks of which the candidate gets only a part; what that truly gains is measured beside it, by pairs that no verdict
stops.

Attempts take turns in proportion, so that a test that is stopped early has some of each, and each is kept as soon as it
is there: the same test asked again goes on where it was.
"""

import hashlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nightfleet.harness import behaviour
from nightfleet.harness.arena import Arena
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import Calibrated
from nightfleet.harness.calibrations import Machine
from nightfleet.harness.cases import new_master
from nightfleet.harness.disguise import Disguise, reformatted, reordered
from nightfleet.harness.evidence import plain, read_block, read_pair
from nightfleet.harness.folder import find_tree
from nightfleet.harness.ground import Ground
from nightfleet.harness.pools import CasePools
from nightfleet.harness.reading import BothSides, Pair
from nightfleet.harness.report import Gate, new_id
from nightfleet.harness.request import Watch
from nightfleet.harness.rounds import Bench, Blocks
from nightfleet.harness.rules import VERIFY_ALPHA
from nightfleet.harness.speed import Progress, Speed
from nightfleet.harness.store import Hold
from nightfleet.harness.tree import Tree, export
from nightfleet.harness.workspace import BuildFailedError, NotRelinkedError
from nightfleet.native import UserError, __version__

__all__ = ["Asked", "Attempt", "Null", "SelfTest", "Truth"]

# Fixed: distinct programs among the nulls, and pairs that measure the truth of one planted size.
NULLS = 10
TRUTH_PAIRS = 200
TRUTH_CHUNK = 25
# How many of each kind of null are tried; where one kind cannot be had, others fill up.
MOST_TRIED = 30
# As a night asks for.
CALIBRATION_PAIRS = 200
CALIBRATION_CAP = 300

Benches = Callable[[Built, Built, str, float], AbstractContextManager[Bench]]


@dataclass(frozen=True)
class Asked:
    """What is tested.

    Attributes:
        baseline: the tree that is dressed up and trimmed.
        source: the user's folder; never written to.
        state: the `.nightfleet` directory.
        nulls: attempts to promote what changes nothing.
        planted: shares of a block that a candidate is spared.
        each: attempts of each planted share.
        minutes: when to stop, though not everything was tried; None for never.
        alpha: error rate of one timing.
        bench: what times pairs of two builds, under a name, with a share trimmed; None for this machine.
        calibrated: to go by; None for the one that is kept, or a new one.
    """

    arena: Arena
    baseline: Tree
    source: Path
    state: Path
    nulls: int = 200
    planted: tuple[float, ...] = (0.03, 0.06, 0.08)
    each: int = 100
    minutes: float | None = None
    alpha: float = VERIFY_ALPHA
    bench: Benches | None = None
    calibrated: Calibrated | None = None


@dataclass(frozen=True)
class Null:
    """One program that is the baseline in another dress; `why` it is none, if so.

    `blocks` are what the behaviour gate's blocks took, which count in the totals.
    """

    name: str
    artefact: str = ""
    cases: int = 0
    why: str = ""
    blocks: tuple[BothSides, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One timing of one candidate.

    Attributes:
        of: the null's name, or the share that was planted ("8%").
        planted: that share; 0 for a null.
        pairs: until the verdict, or until the confirmation was asked for.
        confirming: pairs of the confirmation.
        first: how often the candidate ran first.
        gain: as claimed, a fraction; None where nothing was timed.
        stopping: the gain at which the confirmation was asked for.
        trials_s: of all trials that count, together.
        seconds: of the whole attempt.
    """

    of: str
    planted: float
    verdict: str
    reason: str
    gain: float | None
    stopping: float | None
    pairs: int
    confirming: int
    first: int
    void: int
    trials_s: float
    seconds: float


@dataclass(frozen=True)
class Truth:
    """Pairs that measure what a planted share truly gains."""

    planted: float
    pairs: tuple[Pair, ...]


@dataclass
class SelfTest:
    """One test of the judge. `run` it; what is found stands in the attributes at any moment.

    Raises:
        nightfleet.native.UserError: as `Ground`; no share in (0, 1), or one that leaves no block shorter.
    """

    asked: Asked
    watch: Watch
    on_attempt: Callable[[Attempt], None] | None = None
    nulls: list[Null] = field(default_factory=list, init=False)
    attempts: list[Attempt] = field(default_factory=list, init=False)
    truths: list[Truth] = field(default_factory=list, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    calibrated: Calibrated = field(init=False)
    resumed: int = field(default=0, init=False)
    _builds: dict[str, Built] = field(default_factory=dict, init=False)
    _id: str = field(default_factory=new_id, init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        for share in self.asked.planted:
            if not 0 < share < 1:
                raise UserError(f"a planted gain of {share:.0%} is impossible; choose above 0% and below 100%")
            self._refuse_untrimmed(share)
        asked = self.asked
        salts = new_master(), 0
        self._ground = Ground(asked.arena, asked.baseline, asked.source, asked.state, salts=salts, alpha=asked.alpha)
        self._started = time.monotonic()

    @property
    def kept(self) -> Path:
        """Where everything is kept. What was tried on other grounds is another test."""
        digest = hashlib.sha256(json.dumps(self.grounds, sort_keys=True).encode()).hexdigest()
        return self.asked.state / "selftest" / f"{self._built.whole_digest[:12]}-{digest[:12]}.jsonl"

    @property
    def grounds(self) -> dict[str, object]:
        """What attempts must have in common to be counted together."""
        asked = self.asked
        return {
            "program.md": asked.arena.digest,
            "baseline": self._built.whole_digest,
            "alpha": asked.alpha,
            "nightfleet": __version__,
            **{f"machine's {name}": value for name, value in asdict(Machine.here()).items()},
        }

    @property
    def begun(self) -> bool:
        """Whether this run has tried anything itself: before that there may be no calibration to tell by."""
        return len(self.attempts) > self.resumed

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for was tried."""
        return not any(True for _ in self._due())

    def run(self) -> None:
        """Build, calibrate, and try until all is done or the time is over.

        Raises:
            nightfleet.harness.rounds.TooLoadedError: too many pairs were void; what was tried is kept.
            nightfleet.native.UserError: the baseline cannot be judged, or another process is at the same test.
            nightfleet.native.MachineError: the machine could not do its part.
        """
        self._tell("build", "the baseline", 0, None)
        self._built = self._ground.workspace.build(self.asked.baseline)
        self.kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        hold = Hold.take(self.kept.with_suffix(".lock"), "alone", wait=False)
        if hold is None:
            raise UserError(f"another selftest is writing {self.kept}; wait until it is over, or stop it")
        try:
            self._go_on()
        finally:
            hold.release()

    def _go_on(self) -> None:
        self._resume()
        self._dress_up()
        self._calibrate()
        count = len(self.attempts)
        for step in iter(lambda: next(self._due(), None), None):
            if self.asked.minutes is not None and time.monotonic() - self._started > self.asked.minutes * 60:
                self.notes.append(f"stopped after {self.asked.minutes:g} minutes; the same command goes on from here")
                return
            self._try(step, count)

    def _refuse_untrimmed(self, share: float) -> None:
        for workload in self.asked.arena.workloads:
            if workload.feed == "argument" or workload.record in {"stdout", "files"}:
                raise UserError(f"{workload.name} runs one process a case, so no block can be cut: type --planted ''")
            if round(share * workload.block) < 1:
                raise UserError(
                    f"{percent(share)} less of a block of {workload.block} cases is none less ({workload.name}); plant "
                    f"{percent(1 / workload.block)} or more"
                )

    # --- what is still to do -----------------------------------------------------------------------------------------

    def _due(self) -> Iterator[tuple[str, float]]:
        """What to try next, that of which the smallest share is done first: (name, share)."""
        asked, usable = self.asked, [null.name for null in self.nulls if not null.why]
        todo: list[tuple[float, str, float]] = []
        tried = [attempt.of for attempt in self.attempts]
        nulls = sum(attempt.planted == 0 for attempt in self.attempts)
        if usable and nulls < asked.nulls:
            todo.append(
                (nulls / asked.nulls, min(usable, key=lambda name: (tried.count(name), usable.index(name))), 0.0)
            )
        for share in asked.planted:
            done = sum(attempt.planted == share for attempt in self.attempts)
            if done < asked.each:
                todo.append((done / asked.each, percent(share), share))
            measured = sum(len(truth.pairs) for truth in self.truths if truth.planted == share)
            # The truth is measured along with the first attempts: a test that is stopped has some of it.
            if asked.each and measured < TRUTH_PAIRS:
                todo.append((measured / TRUTH_PAIRS / 2, "truth", share))
        yield from ((name, share) for _, name, share in sorted(todo))

    def _try(self, step: tuple[str, float], before: int) -> None:
        name, share = step
        if name == "truth":
            self._keep(self._measure(share))
            return
        attempt = self._time(name, share)
        self._keep(attempt)
        if self.on_attempt is not None:
            self.on_attempt(attempt)
        done, of = len(self.attempts), self.asked.nulls + self.asked.each * len(self.asked.planted)
        each_s = (time.monotonic() - self._calibrated_at) / (done - before)
        self.watch.progress("selftest", "candidates of known truth", done, of, each_s * (of - done))

    # --- candidates --------------------------------------------------------------------------------------------------

    def _dress_up(self) -> None:
        """Distinct programs that are the baseline, each through build and behaviour once."""
        before = {null.name: null for null in self.nulls}
        self.nulls = []
        seen = {self._built.whole_digest}
        lost: set[str] = set()
        for kind, number in _dresses():
            if sum(not null.why for null in self.nulls) >= min(NULLS, self.asked.nulls):
                return
            if kind in lost:
                continue
            name = f"{kind} {number}"
            self._tell("build", f"the baseline, {name}", sum(not null.why for null in self.nulls), NULLS)
            try:
                built = self._dressed(kind, number)
            except (BuildFailedError, NotRelinkedError) as failed:
                self.nulls.append(Null(name, why=str(failed).splitlines()[0]))
                lost |= {kind} if kind == "relinked" else set()
                continue
            if built is None or built.whole_digest in seen:
                self.nulls.append(Null(name, why="the build gives the same bytes"))
                continue
            seen.add(built.whole_digest)
            known = before.get(name)
            null = known if known and known.artefact == built.whole_digest else self._same(name, built)
            self.nulls.append(null)
            self._builds[name] = built
            if null is not known:
                self._write("null", {**asdict(null), "blocks": [plain(block) for block in null.blocks]})
        found = sum(not null.why for null in self.nulls)
        self.notes.append(f"only {found} distinct programs could be made of the baseline; {NULLS} were wanted")

    def _dressed(self, kind: str, number: int) -> Built | None:
        workspace, tree = self._ground.workspace, self.asked.baseline
        if kind == "relinked":
            return workspace.build(tree, relink=number)
        disguise = reformatted(number) if kind == "reformatted" else reordered(number)
        changed = self._changed(disguise)
        if not changed:
            return None
        with tempfile.TemporaryDirectory(prefix="nightfleet-") as scratch:
            place = Path(scratch) / "tree"
            export(tree, place)
            for path, text in changed.items():
                (place / path).write_bytes(text)
            # As the judge builds a candidate.
            return workspace.build(find_tree(str(place), None), baseline=self._built, from_nothing=True)

    def _changed(self, disguise: Disguise) -> dict[str, bytes]:
        scope = self.asked.arena.scope
        return disguise.of(self.asked.baseline, lambda path: scope.frozen_because(path) is None)

    def _same(self, name: str, built: Built) -> Null:
        """What the behaviour gate says of it."""
        ground = self._ground

        def tell(news: behaviour.Progress) -> None:
            self.watch.progress("behaviour", name, news.done, news.blocks, news.left_s)

        self._tell("behaviour", name, 0, None)
        sides = ground.side(self._built), ground.side(built)
        seen = behaviour.compare(*sides, ground.cases.behaviour(), ground.work, on_progress=tell)
        why = "" if seen.identical else f"it is no null here: the behaviour gate says {seen.ending}"
        # With several cores its trials run otherwise than timed ones.
        blocks = seen.blocks if self.asked.arena.cores == 1 else ()
        return Null(name, built.whole_digest, seen.cases, why, blocks)

    # --- timing ------------------------------------------------------------------------------------------------------

    def _calibrate(self) -> None:
        ground = self._ground
        found = self.asked.calibrated or ground.kept(self._built)
        if found is None:
            plan = ground.plan(CALIBRATION_PAIRS, CALIBRATION_CAP)

            def tell(_round: object, counted: int) -> None:
                self._tell("noise", "pairs of the baseline and itself", counted, CALIBRATION_PAIRS)

            found = ground.calibrate(
                plan, lambda one, other: self._bench(one, other, "calibration", 0.0), on_round=tell
            )
        self.calibrated, notes = ground.measurable(found)
        self.notes += notes
        self._calibrated_at = time.monotonic()

    def _time(self, name: str, share: float) -> Attempt:
        """Through speed and confirmation, as `verify` goes."""
        started = time.monotonic()
        candidate = self._built if share else self._builds[name]
        with self._bench(self._built, candidate, name, share) as bench:
            speed = Speed(
                bench,
                self.calibrated.rules,
                self.calibrated.calibration,
                self._fresh(),
                # A trimmed candidate has no blocks of the behaviour gate that are its own.
                behaviour=() if share else next(null.blocks for null in self.nulls if null.name == name),
                # As in a night: what will hardly be decided makes way for others.
                patient=False,
                on_round=self._told(name),
            )
            result = speed.run()
        pairs = [*result.pairs, *result.confirmation]
        decision = result.decision
        stopping = None if decision.stopping is None else decision.stopping.gain
        verdict = "incorrect" if result.diverged else "broken" if result.broken else str(decision.step)
        return Attempt(
            of=name,
            planted=share,
            verdict=verdict,
            reason=str(result.broken) if result.broken else decision.reason,
            gain=decision.gain,
            stopping=stopping,
            pairs=len(result.pairs),
            confirming=len(result.confirmation),
            first=sum(pair.candidate_first for pair in pairs),
            void=result.void,
            trials_s=sum(pair.baseline.wall_ns + pair.candidate.wall_ns for pair in pairs) / 1e9,
            seconds=time.monotonic() - started,
        )

    def _measure(self, share: float) -> Truth:
        """Some more pairs of a planted share, all of which count."""
        blocks, found = self._fresh(), list[Pair]()
        noises = self.calibrated.calibration.noise.values()
        reference = any(noise.per_block for by_quantity in noises for noise in by_quantity.values())
        self._tell("truth", f"what {percent(share)} less of a block gains", 0, TRUTH_CHUNK)
        with self._bench(self._built, self._built, f"truth {percent(share)}", share) as bench:
            bench.warm_up_round(blocks(0))
            number = 1
            while len(found) < TRUTH_CHUNK * len(self.calibrated.rules.workloads):
                round_ = bench.round(blocks(number), reference=reference)
                number += 1
                if round_.void is None:
                    found += round_.pairs
        return Truth(share, tuple(found))

    def _fresh(self) -> Callable[[int], Blocks]:
        """Blocks that no other attempt sees."""
        return CasePools(self.asked.arena, self.asked.baseline, new_master(), 0).timing

    def _bench(self, baseline: Built, candidate: Built, name: str, share: float) -> AbstractContextManager[Bench]:
        if self.asked.bench is not None:
            return self.asked.bench(baseline, candidate, name, share)

        def tell(why: str, waited_s: float) -> None:
            self.watch.progress("selftest", f"waiting {waited_s:.0f} s: {why}", 0, None, None)

        # Each timing has a journal of its own, and nobody goes on from it: what was tried is kept whole or not at all.
        journal = f"selftest-{self._id}-{next(self._numbers)}"
        return self._ground.bench(baseline, candidate, journal, on_wait=tell, trim=share)

    def _told(self, name: str) -> Callable[[Progress], None]:
        done, of = len(self.attempts), self.asked.nulls + self.asked.each * len(self.asked.planted)

        def tell(news: Progress) -> None:
            words = f"{name}, {'confirming, ' if news.confirmed is not None else ''}pair {news.decision.pairs};"
            self.watch.progress("selftest", words, done, of, None)

        return tell

    def _tell(self, stage: str, words: str, done: int, of: int | None) -> None:
        self.watch.progress(stage, words, done, of, None)

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """What an earlier run of the same test found; a last line that was cut off is not there."""
        if not self.kept.exists():
            self._tell_what_changed()
            self._write("grounds", self.grounds)
            return
        text = self.kept.read_bytes()
        if text and not text.endswith(b"\n"):
            # Or the next line would be one with the torn one, and lost with it.
            with self.kept.open("ab") as file:
                file.write(b"\n")
        for line in text.splitlines():
            try:
                kind, found = next(iter(json.loads(line).items()))
                self._take_up(kind, found)
            except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
                # Cut off by a kill, or damaged: it is tried again.
                continue
        self.resumed = len(self.attempts)

    def _take_up(self, kind: str, found: Any) -> None:
        if kind == "attempt":
            self.attempts.append(Attempt(**found))
        elif kind == "truth":
            self.truths.append(Truth(found["planted"], tuple(map(read_pair, found["pairs"]))))
        elif kind == "null":
            self.nulls.append(Null(**{**found, "blocks": tuple(map(read_block, found["blocks"]))}))

    def _tell_what_changed(self) -> None:
        """Where the same baseline was tested on other grounds: which, and that this begins anew."""
        others = self.kept.parent.glob(f"{self._built.whole_digest[:12]}-*.jsonl")
        newest = max(others, key=lambda path: path.stat().st_mtime_ns, default=None)
        before = None if newest is None else _grounds_of(newest)
        if before is None:
            return
        changed = [
            name if name == "program.md" else f"{name} ({before.get(name)} → {value})"
            for name, value in self.grounds.items()
            if before.get(name) != value
        ]
        words = f"{', '.join(changed)} changed since the last test of this baseline: this one begins anew"
        self.notes.append(f"{words}; what was tried before stays in {newest}")
        self.watch.ends(Gate("selftest", None, words))

    def _keep(self, found: Attempt | Truth) -> None:
        if isinstance(found, Attempt):
            self.attempts.append(found)
            self._write("attempt", asdict(found))
        else:
            self.truths.append(found)
            self._write("truth", {"planted": found.planted, "pairs": [plain(pair) for pair in found.pairs]})

    def _write(self, kind: str, found: object) -> None:
        with self.kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: found}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _grounds_of(kept: Path) -> dict[str, object] | None:
    """The grounds that another test stood on, from its first line; None where it has none."""
    try:
        with kept.open(encoding="utf-8") as file:
            found: dict[str, object] = dict(json.loads(file.readline())["grounds"])
            return found
    except (OSError, ValueError, KeyError, TypeError):
        return None


def percent(share: float) -> str:
    """A share as it is typed: 0.08 is "8%"."""
    return f"{100 * share:g}%"


def _dresses() -> Iterator[tuple[str, int]]:
    """In turn, so that there are some of every kind."""
    for number in range(1, 1 + MOST_TRIED):
        for kind in ("relinked", "reformatted", "reordered"):
            yield kind, number
