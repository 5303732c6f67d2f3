"""The gates of one verification, in order of cost, and what each of them found."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from nightfleet.harness import behaviour
from nightfleet.harness.behaviour import Behaviour, Span
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import Calibrated, Plan
from nightfleet.harness.calibrations import Machine
from nightfleet.harness.cases import commitment
from nightfleet.harness.ground import Ground, measurable
from nightfleet.harness.job import run_job
from nightfleet.harness.overlay import Overlay, changed_lines, overlay
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.regions import Step
from nightfleet.harness.report import Array, Gain, Gate, Verdict, Verification
from nightfleet.harness.request import Request, Watch
from nightfleet.harness.rules import Rules
from nightfleet.harness.speed import Progress, Speed, SpeedResult
from nightfleet.harness.tree import Tree
from nightfleet.harness.workspace import BuildFailedError
from nightfleet.native import UserError

# How much further an extraordinary claim is looked into (design: four times the cases).
ESCALATION = 4
# Calibration pairs that come before the candidate's when none are kept (design: 60 for a verification by itself).
PAIRS_FOR_VERIFY = 60

NAMES = ("scope", "build", "smoke", "behaviour", "tests", "limits", "speed", "extraordinary")
_VERDICTS: dict[Step, Verdict] = {
    Step.PROMOTE: "promote",
    Step.INCREMENTAL: "incremental",
    Step.SIMPLIFY: "simplify",
    Step.REJECT: "reject",
    Step.UNDECIDED: "undecided",
    Step.SUSPICIOUS: "suspicious",
}


class Ended(Exception):  # noqa: N818 - an ending is no error
    """A gate said no."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict, self.reason = verdict, reason


@dataclass
class _Open:
    """A gate while it is being passed."""

    name: str
    reason: str = ""
    passed: bool | None = True
    facts: dict[str, Any] = field(default_factory=dict)

    def no(self, verdict: Verdict, reason: str, **facts: object) -> NoReturn:
        """End the verification here."""
        self.passed, self.reason = False, reason
        self.facts.update(facts)
        raise Ended(verdict, reason)

    def skip(self, reason: str) -> None:
        """Say that there is nothing to do."""
        self.passed, self.reason = None, reason


class Gates:
    """One verification on its way. Call the gates in their order; each raises `Ended` when it says no."""

    def __init__(self, request: Request, watch: Watch) -> None:
        self.request, self.watch = request, watch
        self.arena = request.arena
        self.ground = Ground(
            request.arena,
            request.baseline,
            request.source,
            request.state,
            salts=(request.master, request.index),
        )
        self.workspace, self.salt = self.ground.workspace, self.ground.salt
        self.found: list[Gate] = []
        self.ended: Ended | None = None
        self.notes = list(request.arena.warnings)
        self.arrays: tuple[Array, ...] = ()
        self.evidence: dict[str, Any] | None = None
        self.divergences: tuple[Mapping[str, Any], ...] = ()
        self._overlay: Overlay
        self._baseline: Built
        self._candidate: Built
        self._behaviour: Behaviour | None = None
        self._speed: SpeedResult | None = None
        self._calibrated: Calibrated | None = None

    # --- the gates -------------------------------------------------------------------------------------------------

    def scope(self) -> None:
        """Only files that may be edited differ; everything else comes from the baseline."""
        with self._gate("scope") as gate:
            self._overlay = overlay(self.request.baseline, self.request.candidate, self.arena.scope)
            if self._overlay.tree is None:
                said = [objection.text for objection in self._overlay.objections]
                gate.no("out_of_scope", "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if said[3:] else ""))
            gate.facts["changed"] = list(self._overlay.changed)
            count = len(self._overlay.changed)
            gate.reason = f"{count} file{'s' * (count != 1)} changed, all of them editable"

    def build(self) -> None:
        """Both build, without network; the candidate from a copy of the baseline's build."""
        with self._gate("build") as gate:
            self._tell("build", "the baseline")
            self._baseline = self.workspace.build(self.request.baseline)
            self._tell("build", "the candidate")
            try:
                self._candidate = self.workspace.build(
                    self._changed_tree, baseline=self._baseline, changed=self._overlay.changed
                )
            except BuildFailedError as failed:
                gate.no("broken", str(failed).splitlines()[0], tail=list(failed.tail), log=str(failed.log))
            same = self._candidate.whole_digest == self._baseline.whole_digest
            gate.facts |= {
                "baseline": self._baseline.artefact_digest,
                "candidate": self._candidate.artefact_digest,
                "identical": same,
                "build_ns": [self._baseline.build_ns, self._candidate.build_ns],
            }
            gate.reason = "both built" + ("; both builds are the same, byte for byte" if same else "")

    def smoke(self) -> None:
        """One block of practice cases: what would fail in a minute fails in a second."""
        with self._gate("smoke") as gate:
            pools = self.ground.pools.values()
            spans = [self.ground.span(pool.workload.name, pool.practice[: pool.workload.block]) for pool in pools]
            self._judge_behaviour(gate, self._compare(spans, "smoke"))
            gate.reason = "one practice block of each workload is the same"

    def behaviour(self) -> None:
        """Every case, in random order, on all cores, both sides: every record is hashed, and they are equal."""
        with self._gate("behaviour") as gate:
            spans = [self.ground.span(name, pool.behaviour) for name, pool in self.ground.pools.items()]
            seen = self._compare(spans, "behaviour")
            self._behaviour = seen
            self.arrays = tuple(
                Array(side, name, digests.cases, getattr(digests, side))
                for name, digests in seen.digests.items()
                for side in ("baseline", "candidate")
            )
            gate.facts |= {"cases": seen.cases, "diverged": seen.divergences, "denied": dict(seen.denied)}
            self._judge_behaviour(gate, seen)
            gate.reason = f"{seen.cases} cases, every record identical"

    def tests(self) -> None:
        """The arena's tests: what passes on the baseline must pass on the candidate."""
        with self._gate("tests") as gate:
            if not self.arena.tests:
                gate.skip("the arena names none")
                return
            for side, built in (("baseline", self._baseline), ("candidate", self._candidate)):
                self._tell("tests", f"the {side}'s")
                with tempfile.TemporaryDirectory(prefix="nightfleet-") as scratch:
                    (copy,) = self.workspace.copies(built, 1, Path(scratch) / "tree")
                    options = self.workspace.sandbox_options("test", built)
                    job = run_job(copy, self.arena.tests, options, self.arena.limits.build_s)
                if job.failure is not None and side == "baseline":
                    raise UserError(f"tests: the baseline does not pass its own: {job.failure.why}")
                if job.failure is not None:
                    gate.no("incorrect", f"tests: {job.failure.why}", tail=list(job.failure.tail))
            gate.reason = (
                f"{len(self.arena.tests)} test command{'s' * (len(self.arena.tests) != 1)} passed on both sides"
            )

    def limits(self) -> None:
        """Plain limits: changed lines, and the time of one build each from the same start."""
        with self._gate("limits") as gate:
            guards = self.arena.guards
            lines = changed_lines(self.request.baseline, self._changed_tree, self._overlay.changed)
            if lines > guards.diff_lines:
                gate.no("reject", f"{lines} changed lines; guards.diff_lines is {guards.diff_lines}")
            self._tell("limits", "building the baseline again, from the same start")
            again = self.workspace.build(self.request.baseline, baseline=self._baseline, changed=self._overlay.changed)
            ratio = self._candidate.build_ns / max(1, again.build_ns) - 1
            gate.facts |= {"lines": lines, "build_time_ratio": ratio}
            # A build of a few milliseconds has no meaningful ratio.
            slow = self._candidate.build_ns - again.build_ns > 1_000_000_000
            if slow and ratio > guards.build_time_ratio:
                gate.no("reject", f"building takes {ratio:+.0%}; guards.build_time is +{guards.build_time_ratio:.0%}")
            gate.reason = f"{lines} changed lines, building takes {ratio:+.0%}"

    def speed(self) -> None:
        """Interleaved pairs in an order drawn by coin, each on a fresh block, every timed record compared."""
        with self._gate("speed") as gate:
            calibrated = self._calibration()
            seen = self._behaviour.blocks if self._behaviour is not None else ()
            with self._bench(self._candidate) as bench:
                result = Speed(
                    bench,
                    calibrated.rules,
                    calibrated.calibration,
                    self.ground.blocks(),
                    behaviour=seen if self.arena.cores == 1 else (),
                    on_round=self._on_round,
                ).run()
                gate.facts |= {"mechanisms": bench.facts, "void": result.void}
            self._speed = result
            gate.facts["clock"] = calibrated.rules.quantity
            gate.facts["pairs"] = len(result.pairs) + len(result.confirmation)
            if result.diverged:
                name, cases = next(iter(result.diverged.items()))
                gate.no("incorrect", f"a timed record differs: case {cases[0]} of workload {name}", cases=list(cases))
            if result.broken is not None:
                gate.no("broken", f"in timed trials: {result.broken}")
            kept = seen if self.arena.cores == 1 else ()
            self.evidence = result.evidence(calibrated.rules, calibrated.calibration, kept).to_dict()
            verdict = _VERDICTS[result.decision.step]
            if verdict not in {"promote", "simplify"}:
                gate.no(verdict, result.decision.reason)
            gate.reason = result.decision.reason

    def extraordinary(self) -> None:
        """A claim too good to take at one look: four times the cases, none of them seen before."""
        with self._gate("extraordinary") as gate:
            if self._speed is None or not self._speed.decision.extraordinary:
                gate.skip(f"the gain is below {self.arena.thresholds.extraordinary_ratio:.0%}")
                return
            pairs = self._speed.next_block
            spans = [
                self.ground.span(name, pool.escalation(ESCALATION * len(pool.behaviour), pairs=pairs))
                for name, pool in self.ground.pools.items()
                if not pool.finite
            ]
            seen = self._compare(spans, "extraordinary")
            gate.facts |= {"cases": seen.cases, "diverged": seen.divergences}
            self._judge_behaviour(gate, seen)
            self.notes.append(
                f"an extraordinary claim: it held over {seen.cases} further cases; read the change before you merge it"
            )
            gate.reason = f"{seen.cases} further cases, every record identical; somebody should read the change"

    # --- what is left of it ----------------------------------------------------------------------------------------

    def verification(self) -> Verification:
        """What was found, with the gates that were not reached."""
        reached = {gate.name for gate in self.found}
        gates = [*self.found, *(Gate(name, None, "not reached") for name in NAMES if name not in reached)]
        decision = None if self._speed is None else self._speed.decision
        gain = None
        if decision is not None and decision.gain is not None and self._calibrated is not None:
            clock = self._calibrated.rules.quantity
            gain = Gain(decision.gain, decision.low or decision.gain, decision.high or decision.gain, clock)
        if self.ended is not None:
            verdict, reason = self.ended.verdict, self.ended.reason
        else:
            verdict = "simplify" if self.request.purpose == "simplify" else "promote"
            reason = decision.reason if decision is not None else ""
        pairs = 0 if self._speed is None else len(self._speed.pairs) + len(self._speed.confirmation)
        return Verification(
            self.request.id,
            verdict,
            reason,
            tuple(gates),
            gain=gain,
            pairs=pairs,
            cases=0 if self._behaviour is None else self._behaviour.cases,
            diverged=0 if self._behaviour is None else self._behaviour.divergences,
            extraordinary=decision is not None and decision.extraordinary,
            notes=tuple(self.notes),
        )

    def subject(self) -> dict[str, Any]:
        """What was compared, and by what."""
        return {
            "arena": {"name": self.arena.name, "digest": self.arena.digest},
            "program": self.request.program_digest,
            "baseline": _identity(self.request.baseline, getattr(self, "_baseline", None)),
            "candidate": _identity(self.request.candidate, getattr(self, "_candidate", None)),
            "machine": asdict(Machine.here()),
            "toolchain": self.workspace.surroundings.identity(),
            "salt": self.salt.hex(),
            "commitment": commitment(self.salt),
            "index": self.request.index,
            "alpha": self.request.alpha,
        }

    # --- what the gates share --------------------------------------------------------------------------------------

    @contextmanager
    def _gate(self, name: str) -> Iterator[_Open]:
        self.watch.begins(name)
        gate, started = _Open(name), time.monotonic()
        try:
            yield gate
        finally:
            # Whatever ended it, what it found so far is told.
            done = Gate(name, gate.passed, gate.reason, time.monotonic() - started, gate.facts)
            self.found.append(done)
            self.watch.ends(done)

    def _tell(self, gate: str, words: str) -> None:
        self.watch.progress(gate, words, 0, None, None)

    @property
    def _changed_tree(self) -> Tree:
        if self._overlay.tree is None:
            raise AssertionError("a candidate out of scope has no tree")
        return self._overlay.tree

    def _compare(self, spans: list[Span], gate: str) -> Behaviour:
        def tell(news: behaviour.Progress) -> None:
            self.watch.progress(gate, "blocks on both sides", news.done, news.blocks, news.left_s)

        sides = self.ground.side(self._baseline), self.ground.side(self._candidate)
        return behaviour.compare(*sides, spans, self.ground.work, on_progress=tell)

    def _judge_behaviour(self, gate: _Open, seen: Behaviour) -> None:
        """Turn what was seen into an ending, with its owner."""
        self.divergences = (*self.divergences, *(one.to_dict() for one in seen.shown))
        if seen.ending == "baseline failed":
            first = next(block for block in seen.failed if block.side == "baseline")
            raise UserError(
                f"the baseline itself ended with {first.outcome} {first.status} on a block of workload "
                f"{first.workload} (cases {first.cases[:3].tolist()} …): {first.stderr[-400:]}"
            )
        if seen.ending == "nondeterministic baseline":
            name, cases = next(iter(seen.unsteady.items()))
            raise UserError(
                f"the baseline disagrees with itself on cases {list(cases[:5])} of workload {name}; `nightfleet check` "
                "shows how they differ and which canonical form would settle it"
            )
        if seen.ending == "broken":
            bad = next(block for block in seen.failed if block.side == "candidate")
            gate.no("broken", f"ended with {bad.outcome} {bad.status} on workload {bad.workload}", stderr=bad.stderr)
        if seen.ending == "incorrect":
            gate.no("incorrect", _difference(seen), diverged={n: list(c) for n, c in seen.diverged.items()})

    # --- timing ----------------------------------------------------------------------------------------------------

    def _calibration(self) -> Calibrated:
        """The calibration kept for this program on this machine, or a new one."""
        found = self.ground.kept(self._baseline).calibrated
        if found is None:
            with self._bench(self._baseline) as bench:
                plan = Plan(self._rules(), self.arena.clock, self.arena.cores, at_least=PAIRS_FOR_VERIFY, cap=120)
                found = self.ground.calibrate(bench, self._baseline, plan, on_round=self._on_calibration)
        rules = replace(self._measurable(self._rules(), found), quantity=found.rules.quantity)
        self._calibrated = replace(found, rules=rules)
        return self._calibrated

    def _rules(self) -> Rules:
        return self.ground.rules(self.request.purpose, self.request.alpha)

    def _measurable(self, rules: Rules, found: Calibrated) -> Rules:
        """Without the guards that this machine cannot measure; they are named in the notes."""
        held, lost = measurable(rules, found)
        self.notes += [f"guards.{quantity} is not held here: this machine cannot measure it" for quantity in lost]
        return held

    def _bench(self, candidate: Built) -> PairBench:
        def tell(why: str, waited_s: float) -> None:
            self.watch.progress("speed", f"waiting {waited_s:.0f} s: {why}", 0, None, None)

        return self.ground.bench(self._baseline, candidate, self.request.id, on_wait=tell)

    def _on_round(self, news: Progress) -> None:
        decision = news.decision
        words = "confirming with fresh pairs" if news.confirmed is not None else "pairs"
        if decision.gain is not None:
            words += f", gain {decision.gain:+.1%}"
        done = news.confirmed if news.confirmed is not None else decision.pairs
        self.watch.progress("speed", words, done, 20 if news.confirmed is not None else None, None)

    def _on_calibration(self, _round: object, counted: int) -> None:
        self.watch.progress("speed", "calibrating: the baseline against itself", counted, PAIRS_FOR_VERIFY, None)


def _identity(tree: Tree, built: Built | None) -> dict[str, Any]:
    return {
        "name": tree.name,
        "tree": tree.digest,
        "artefact": None if built is None else built.artefact_digest,
        "whole": None if built is None else built.whole_digest,
    }


def _difference(seen: Behaviour) -> str:
    if not seen.diverged:
        bad = seen.failed[0]
        said = bad.stderr.strip().splitlines()
        return f"wrong records on workload {bad.workload}: {said[-1] if said else bad.outcome}"
    name, cases = next(iter(seen.diverged.items()))
    more = f" (and {seen.divergences - 1} more found)" if seen.divergences > 1 else ""
    return f"case {cases[0]} of workload {name} gives another record{more}, after {seen.cases} cases"
