"""Is this arena ready for a night? The baseline is built, run against itself, slowed down on purpose, and calibrated.

The stages stand in the order of their cost, and each needs the one before: a workload that does not answer to its work,
or a baseline that disagrees with itself, cannot be calibrated. What was seen until then is kept.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nightfleet.harness import behaviour, power
from nightfleet.harness.arena import Arena
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import MOST_PAIRS, PAIRS_FOR_A_NIGHT, POWER_RUNS, RELINK_PAIRS_FOR_A_NIGHT
from nightfleet.harness.cases import new_master
from nightfleet.harness.determinism import compare_with_itself
from nightfleet.harness.frontmatter import Value
from nightfleet.harness.ground import Ground
from nightfleet.harness.report import new_id
from nightfleet.harness.request import Watch
from nightfleet.harness.requirements import Findings, Row, rows
from nightfleet.harness.response import BLOCKS, ROUNDS, WIDER, Response, respond
from nightfleet.harness.rounds import Bench, Round, TooLoadedError
from nightfleet.harness.sides import Side, fresh_copy
from nightfleet.harness.suggestion import Suggestion, suggest
from nightfleet.harness.tree import Tree
from nightfleet.native import Sandbox, UserError

__all__ = ["Examination", "Readiness", "examine"]

# Fixed: running all cases twice may take this long; beyond it as many are run as fit, and the row says how many.
DETERMINISM_S = 60.0
FEWEST_CASES = 100

Benches = Callable[[Ground, Built, Built], AbstractContextManager[Bench]]


@dataclass(frozen=True)
class Examination:
    """What is examined.

    Attributes:
        baseline: the tree that a night would begin from.
        commit: that the tree is of; None for a folder.
        source: the user's folder, for `data` and the toolchain; never written to.
        state: the `.nightfleet` directory.
        pairs: that the calibration takes at least.
        cases: how many of each workload are run twice; None for all of them, or as many as fit into a minute.
        bench: what times the pairs; None for this machine.
        power_runs: timings that are simulated for each figure of power.
    """

    arena: Arena
    baseline: Tree
    commit: str | None
    source: Path
    state: Path
    pairs: int = PAIRS_FOR_A_NIGHT
    cases: int | None = None
    bench: Benches | None = None
    power_runs: int = POWER_RUNS
    master: bytes = field(default_factory=new_master, repr=False)


@dataclass(frozen=True)
class Readiness:
    """The answer. `could_not`: why there is none that holds: the workload or the machine cannot be timed."""

    rows: tuple[Row, ...]
    suggestions: tuple[Suggestion, ...]
    could_not: str
    seconds: float

    @property
    def ready(self) -> bool:
        """Whether a night may begin."""
        return not self.could_not and all(row.answer != "no" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints. Shares and gains are fractions."""
        suggested: list[dict[str, Value]] = [
            {"key": one.key, "value": one.value, "why": one.why} for one in self.suggestions
        ]
        return {
            "ready": self.ready,
            "could_not": self.could_not or None,
            "rows": [asdict(row) for row in self.rows],
            "suggestions": suggested,
            "seconds": self.seconds,
        }


def examine(asked: Examination, watch: Watch) -> Readiness:
    """Look at one arena over one baseline.

    Raises:
        nightfleet.native.UserError: the baseline does not build or run, or the arena cannot be.
        nightfleet.native.MachineError: the machine withholds what a sandbox needs.
    """
    started = time.monotonic()
    course = _Course(asked, watch)
    course.build()
    could_not = course.respond()
    if not could_not:
        course.agree()
        could_not = course.calibrate()
    return Readiness(rows(course.findings), suggest(course.findings), could_not, seconds=time.monotonic() - started)


class _Course:
    """One examination on its way."""

    def __init__(self, asked: Examination, watch: Watch) -> None:
        self.asked, self.watch = asked, watch
        files, scope = asked.baseline.files, asked.arena.scope
        editable = sum(scope.frozen_because(path) is None for path in files)
        self.findings = Findings(asked.arena, editable, len(files), asked.baseline.name, asked.commit)
        self.ground = Ground(asked.arena, asked.baseline, asked.source, asked.state, salts=(asked.master, 0))
        self._built: Built

    def build(self) -> None:
        """The baseline, from nothing; and what its sandboxes promise."""
        self._begin("build", "the baseline")
        self._built = self.ground.workspace.build(self.asked.baseline)
        self.findings.build_s = self._built.build_ns / 1e9
        self.findings.facts = _facts(self._side)

    def respond(self) -> str:
        """Plant a slowdown in each workload; why it cannot be timed, if so."""
        found: list[Response] = []
        work, count = self.ground.work, 1 + ROUNDS
        for place, (name, pool) in enumerate(self.ground.cases.by_name.items()):
            self._begin("response", f"a planted slowdown of {name}")
            before, all_ = place * count, len(self.ground.cases.by_name) * count

            def tell(done: int, _of: int, before: int = before, all_: int = all_, name: str = name) -> None:
                self._tell("response", f"a planted slowdown of {name}", before + done, all_)

            cases = np.concatenate([pool.aside.timing(number) for number in range(BLOCKS)])
            span, cores = self.ground.cases.span(name, cases), self.asked.arena.cores
            seen = respond(self._side, span, work, cores=cores, on_round=tell, on_wait=self._on_wait("response"))
            if not seen.responds and seen.planted == "half a block" and not pool.finite:
                wide = respond(self._side, self._wider(name), work, cores=cores, on_wait=self._on_wait("response"))
                seen = replace(seen, wider=wide.share)
            found.append(seen)
        self.findings.responses = found
        idle = [one.workload for one in found if not one.responds]
        if not idle:
            return ""
        self.findings.obstacle = f"workload {idle[0]} does not respond to a planted slowdown"
        return f"{self.findings.obstacle}: no gain in it could be seen; let it do a fixed amount of work"

    def _wider(self, name: str) -> behaviour.Span:
        """Blocks many times as long as a workload's."""
        pool = self.ground.cases.by_name[name]
        cases = np.concatenate([pool.aside.timing(number) for number in range(2 * WIDER)])
        span = self.ground.cases.span(name, cases)
        return replace(span, workload=replace(pool.workload, block=WIDER * pool.workload.block))

    def agree(self) -> None:
        """Run the cases twice."""
        self._begin("determinism", "cases twice")

        def tell(news: behaviour.Progress) -> None:
            self.watch.progress("determinism", "blocks, twice", news.done, news.blocks, news.left_s)

        spans = [
            self.ground.cases.span(name, pool.behaviour[: self._share(name, len(pool.behaviour))])
            for name, pool in self.ground.cases.by_name.items()
        ]
        seen = compare_with_itself(self._side, spans, self.ground.work, on_progress=tell)
        self.findings.determinism = seen
        if not seen.holds:
            self.findings.obstacle = "the baseline " + ("fails" if seen.failed else "disagrees with itself")

    def calibrate(self) -> str:
        """Time the baseline against itself until the noise is known; why it cannot be timed, if so."""
        if self.findings.obstacle:
            return ""
        self._begin("noise", "waiting for the timing lease")
        clock = _RoundClock()
        try:
            least = self.asked.pairs
            plan = replace(
                self.ground.plan(least, _cap(least)),
                relink_pairs=RELINK_PAIRS_FOR_A_NIGHT,
                power_runs=self.asked.power_runs,
            )
            bench = partial(self.asked.bench or self._bench, self.ground)
            found = self.ground.calibrate(plan, bench, on_round=self._on_round(clock), on_relink=self._on_relink)
        except TooLoadedError as loaded:
            self.findings.obstacle = str(loaded)
            return f"{loaded}; what was found so far is kept, type `nightfleet check` again on a calmer machine"
        except UserError as error:
            # A clock that cannot be had, or a baseline that fails or differs in a timed trial.
            self.findings.obstacle = str(error)
            return ""
        found, _ = self.ground.measurable(found)
        rules = found.rules
        self.findings.calibrated, self.findings.pair_s = found, clock.round_s
        self._begin("power", "what can be found")
        # The share itself; that it is enough, and how long a block would have to be, the calibration knows.
        runs, at = self.asked.power_runs // 2, rules.promote + power.ABOVE_THRESHOLD
        self.findings.found = power.power(found.pairs, found.calibration, rules, at, runs=runs).promoted
        self.findings.neutral_pairs = power.power(found.pairs, found.calibration, rules, 0.0, runs=runs).mean_pairs
        return ""

    @property
    def _side(self) -> Side:
        return self.ground.side(self._built)

    def _bench(self, ground: Ground, built: Built, other: Built) -> AbstractContextManager[Bench]:
        return ground.bench(built, other, new_id(), on_wait=self._on_wait("noise"))

    def _on_wait(self, stage: str) -> Callable[[str, float], None]:
        def tell(why: str, waited_s: float) -> None:
            self.watch.progress(stage, f"waiting {waited_s:.0f} s: {why}", 0, None, None)

        return tell

    def _share(self, name: str, count: int) -> int:
        """How many cases of a workload are run twice."""
        if self.asked.cases is not None:
            return min(count, self.asked.cases)
        seen = next(one for one in self.findings.responses if one.workload == name)
        block = self.ground.cases.by_name[name].workload.block
        whole_s = 2 * seen.trial_ns / 1e9 * count / block
        fits = DETERMINISM_S / len(self.findings.responses) / max(whole_s, 1e-9)
        return count if fits >= 1 else max(min(count, FEWEST_CASES), int(count * fits) // block * block)

    def _on_round(self, clock: "_RoundClock") -> Callable[[Round, int], None]:
        def told(_round: Round, counted: int) -> None:
            clock.tick()
            left = max(0, self.asked.pairs - counted) * clock.round_s
            words = "pairs of the baseline and itself" if left else "until stable, then what can be found by them"
            self.watch.progress("noise", words, counted, self.asked.pairs, left or None)

        return told

    def _on_relink(self, done: int, of: int) -> None:
        self._tell("noise", "pairs of the baseline and relinks of itself", done, of)

    def _begin(self, stage: str, words: str) -> None:
        self._started = time.monotonic()
        self.watch.begins(stage)
        self._tell(stage, words, 0, None)

    def _tell(self, stage: str, words: str, done: int, of: int | None) -> None:
        left = None if not (done and of) else (time.monotonic() - self._started) / done * (of - done)
        self.watch.progress(stage, words, done, of, left)


@dataclass
class _RoundClock:
    """How long a round takes, with everything around it."""

    first: float = 0.0
    last: float = 0.0
    rounds: int = 0

    def tick(self) -> None:
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.rounds += 1

    @property
    def round_s(self) -> float:
        return (self.last - self.first) / max(1, self.rounds - 1)


def _cap(least: int) -> int:
    """A calibration that is not stable by then says so: another hundred pairs seldom help."""
    return max(least, min(MOST_PAIRS, least * 3 // 2))


def _facts(side: Side) -> Mapping[str, str]:
    with TemporaryDirectory(prefix="nightfleet-") as scratch:
        copy = fresh_copy(side.tree, Path(scratch))
        with Sandbox(copy, **side.options) as sandbox:  # type: ignore[arg-type]
            return dict(sandbox.facts)
