"""The gates of one verification, in order of cost, and what each of them found."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nightfleet.harness import behaviour, repeats, sameness
from nightfleet.harness.baselines import KeptOutcomes
from nightfleet.harness.behaviour import Behaviour, Span
from nightfleet.harness.built import Built, slower_build
from nightfleet.harness.calibrations import Machine
from nightfleet.harness.cases import commitment
from nightfleet.harness.difference import changed_lines
from nightfleet.harness.ground import Ground
from nightfleet.harness.job import Failure, run_job
from nightfleet.harness.outcomes import Outcomes, hold
from nightfleet.harness.overlay import Overlay, overlay
from nightfleet.harness.passing import NAMES, Ended, Passing
from nightfleet.harness.reading import BothSides
from nightfleet.harness.regions import Step
from nightfleet.harness.relink import NotRelinkedError
from nightfleet.harness.report import Array, Gain, Gate, Verdict, Verification
from nightfleet.harness.request import Request, Watch
from nightfleet.harness.runners import read_outcomes
from nightfleet.harness.sample import unlike, written_out
from nightfleet.harness.sides import Side, fresh_copy
from nightfleet.harness.speed import SpeedResult
from nightfleet.harness.telling import Telling
from nightfleet.harness.timing import Quiet, Timing
from nightfleet.harness.tree import Tree
from nightfleet.harness.workspace import BuildFailedError
from nightfleet.native import UserError

# A build of a few milliseconds has no meaningful ratio: only what takes so much longer (ns) can be too slow.
SLOWER_BUILD_NS = 1_000_000_000

_VERDICTS: dict[Step, Verdict] = {
    Step.PROMOTE: "promote",
    Step.INCREMENTAL: "incremental",
    Step.SIMPLIFY: "simplify",
    Step.REJECT: "reject",
    Step.UNDECIDED: "undecided",
    Step.SUSPICIOUS: "suspicious",
}


class Gates:
    """One verification on its way. Call the gates in their order; each raises `Ended` when it says no."""

    def __init__(self, request: Request, watch: Watch, *, times: int = 1) -> None:
        self.request, self.watch = request, watch
        self.arena = request.arena
        self.ground = Ground(
            request.arena,
            request.baseline,
            request.source,
            request.state,
            salts=(request.master, request.index),
            times=times,
            purpose=request.purpose,
            alpha=request.alpha,
        )
        self.pools, self.workspace = self.ground.cases, self.ground.workspace
        self.found: list[Gate] = []
        self.ended: Ended | None = None
        self.notes = [*request.arena.warnings, *request.notes]
        self.arrays: tuple[Array, ...] = ()
        self.divergences: tuple[Mapping[str, Any], ...] = ()
        self.sample: tuple[Mapping[str, Any], ...] = ()
        self._overlay: Overlay
        self._baseline: Built
        self._candidate: Built
        self._behaviour: Behaviour | None = None
        self._timing: Timing | None = None
        self._alpha = request.alpha
        self._repeats = 0
        self._telling = Telling(watch)

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
        """Both build, without network and from nothing: what is judged is what the commits build."""
        with self._gate("build") as gate:
            self._telling.tell("build", "the baseline")
            self._baseline = self.workspace.build(self.request.baseline)
            self._telling.tell("build", "the candidate")
            try:
                self._candidate = self.workspace.build(self._changed_tree, baseline=self._baseline, from_nothing=True)
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
            self._judge(gate, self._compare(self.pools.practice(), "smoke"))
            gate.reason = "one practice block of each workload is the same"

    def behaviour(self) -> None:
        """Every case, in random order, on all cores, both sides: every record is hashed, and they are equal."""
        with self._gate("behaviour") as gate:
            self._unchanged(gate)
            seen = self._compare(self.pools.behaviour(), "behaviour")
            self._behaviour = seen
            self.arrays = tuple(
                Array(side, name, digests.cases, getattr(digests, side))
                for name, digests in seen.digests.items()
                for side in ("baseline", "candidate")
            )
            gate.facts |= {"cases": seen.cases, "diverged": seen.divergences, "denied": dict(seen.denied)}
            self._judge(gate, seen)
            gate.reason = f"{seen.cases} cases, every record identical"

    def tests(self) -> None:
        """The arena's tests: what passes on the baseline must run and pass on the candidate, each test by its name."""
        with self._gate("tests") as gate:
            if not self.arena.tests:
                gate.skip("the arena names none")
                return
            baseline = self._baselines_outcomes()
            candidate, failed = self._tested("candidate", self._candidate)
            held = hold([" ".join(command) for command in self.arena.tests], baseline, candidate)
            gate.facts["commands"] = held.facts
            if failed is not None:
                named = f"; {held.against}" if held.against is not None else ""
                gate.no("incorrect", f"tests: {failed.why}{named}", tail=list(failed.tail))
            if held.against is not None:
                gate.no("incorrect", f"tests: {held.against}")
            gate.reason = held.reason

    def _baselines_outcomes(self) -> list[Outcomes]:
        """What the baseline's tests came to, now or when it was tested first."""
        kept = KeptOutcomes(self.request.state, self._baseline.whole_digest, self.arena.tests)
        found = kept.load()
        if found is None:
            found, failed = self._tested("baseline", self._baseline)
            if failed is not None:
                raise UserError(f"tests: the baseline does not pass its own: {failed.why}")
            kept.keep(found)
        return found

    def limits(self) -> None:
        """Plain limits: changed lines, and the time of one build each, from nothing."""
        with self._gate("limits") as gate:
            guards = self.arena.guards
            lines, ratio, slower_ns = self._sizes(gate)
            if lines > guards.diff_lines:
                gate.no("reject", f"{lines} changed lines; guards.diff_lines is {guards.diff_lines}")
            if slower_ns > SLOWER_BUILD_NS and ratio > guards.build_time_ratio:
                gate.no("reject", f"building takes {ratio:+.0%}; guards.build_time is +{guards.build_time_ratio:.0%}")

    def _sizes(self, gate: Passing) -> tuple[int, float, int]:
        """Changed lines, and how much longer the build takes: as a fraction, and in ns."""
        lines = changed_lines(self.request.baseline, self._changed_tree, self._overlay.changed)
        ratio, slower_ns = slower_build(self._candidate, self._baseline)
        gate.facts |= {"lines": lines, "build_time_ratio": ratio}
        gate.reason = f"{lines} changed lines, building takes {ratio:+.0%}"
        return lines, ratio, slower_ns

    def speed(self, alpha: float, quiet: Quiet = nullcontext, *, patient: bool = True, beyond: int = 0) -> None:
        """Interleaved pairs in an order drawn by coin, each on a fresh block, every timed record compared."""
        with self._gate("speed") as gate:
            self._unchanged(gate)
            self._alpha = alpha
            self.ground.stake(alpha)
            result = self._timed(gate, quiet, patient, beyond)
            self._unchanged(gate)
            if result.diverged:
                name, cases = next(iter(result.diverged.items()))
                gate.no("incorrect", f"a timed record differs: case {cases[0]} of workload {name}", cases=list(cases))
            if result.broken is not None:
                gate.no("broken", f"in timed trials: {result.broken}")
            verdict = _VERDICTS[result.decision.step]
            if verdict not in {"promote", "simplify"}:
                gate.no(verdict, result.decision.reason)
            gate.reason = result.decision.reason

    def extraordinary(self) -> None:
        """A claim too good to take at one look: both sides in another layout, and four times the cases, all unseen."""
        with self._gate("extraordinary") as gate:
            timing = self._timing
            if timing is None or not timing.evidence.decision.extraordinary:
                gate.skip(f"the gain is below {self.arena.thresholds.extraordinary_ratio:.0%}")
                return
            # Before anything is relinked: that begins in what the builds compiled.
            self._unchanged(gate)
            layout = self._another_layout(gate, timing)
            cases = self._further_cases(gate, timing)
            self.notes.append(f"an extraordinary claim: {layout}; {cases}; read the change before you merge it")
            gate.reason = f"{layout}; {cases}; somebody should read the change"

    def _another_layout(self, gate: Passing, timing: Timing) -> str:
        """Time relinked builds of both sides; what there is to say about it."""
        self._telling.tell(gate.name, "linking both sides to another layout")
        try:
            baseline = self.workspace.build(self.request.baseline, relink=1)
        except NotRelinkedError as none:
            return f"not timed in another layout: {none}"
        try:
            candidate = self.workspace.build(self._changed_tree, baseline=self._baseline, relink=1, from_nothing=True)
        except NotRelinkedError as none:
            gate.no(
                "suspicious", f"suspicious: the baseline can be linked to another layout, the candidate not: {none}"
            )
        decision = timing.relink(gate, baseline, candidate)
        gate.facts["layout"] = decision.reason
        if decision.step is not Step.PROMOTE:
            gate.no("suspicious", decision.reason)
        return f"it held: {decision.reason}"

    def _further_cases(self, gate: Passing, timing: Timing) -> str:
        """Compare four times as many cases; what there is to say about it."""
        spans = self.pools.escalation(timing.next_block)
        if not spans:
            return "there are no further cases than those of the manifests"
        self._unchanged(gate)
        seen = self._compare(spans, gate.name)
        gate.facts |= {"cases": seen.cases, "diverged": seen.divergences}
        self._judge(gate, seen)
        self._telling.tell(gate.name, "writing some of the further cases out")
        shown = written_out(*self._both_sides, spans, self.ground.work)
        self.sample = tuple(map(sameness.plain, shown))
        if (one := unlike(shown, self.arena.behaviour)) is not None:
            gate.no("incorrect", f"run once more, case {one.case} of workload {one.workload} gives another record")
        return f"every record of {seen.cases} further cases is identical, and {len(shown)} of them are written out"

    # --- what is left of it ----------------------------------------------------------------------------------------

    def verification(self) -> Verification:
        """What was found, with the gates that were not reached."""
        reached = {gate.name for gate in self.found}
        gates = [*self.found, *(Gate(name, None, "not reached") for name in NAMES if name not in reached)]
        timed = self._timed_so_far
        decision = None if timed is None else timed.evidence.decision
        gain = None
        if timed is not None and decision is not None and decision.gain is not None:
            clock = timed.calibrated.rules.quantity
            gain = Gain(
                decision.gain,
                decision.gain if decision.low is None else decision.low,
                decision.gain if decision.high is None else decision.high,
                clock,
            )
        reused = {} if self._behaviour is None else self.pools.reused(0 if timed is None else timed.next_block)
        verdict: Verdict
        if self.ended is not None:
            verdict, reason = self.ended.verdict, self.ended.reason
        else:
            verdict = "simplify" if self.request.purpose == "simplify" else "promote"
            reason = decision.reason if decision is not None else ""
        return Verification(
            self.request.id,
            verdict,
            reason,
            tuple(gates),
            gain=gain,
            pairs=self.pairs,
            cases=0 if self._behaviour is None else self._behaviour.cases,
            diverged=0 if self._behaviour is None else self._behaviour.divergences,
            extraordinary=decision is not None and decision.extraordinary,
            repeats=self._repeats,
            notes=(*self.notes, *(_finite(name, times) for name, times in reused.items())),
            reused=reused,
        )

    @property
    def timed(self) -> bool:
        """Whether the timing was reached: then there is something to keep, even if nobody can finish it."""
        return any(gate.name == "speed" for gate in self.found)

    @property
    def evidence(self) -> dict[str, Any] | None:
        """All that was timed, for the report."""
        return None if (timed := self._timed_so_far) is None else timed.evidence.to_dict()

    @property
    def pairs(self) -> int:
        """How many were timed and count, those of the confirmation included."""
        timed = self._timing
        return 0 if timed is None or timed.result is None else len(timed.result.pairs) + len(timed.result.confirmation)

    @property
    def binary(self) -> str:
        """Digest of all that would be timed: the candidate's whole build."""
        return self._candidate.whole_digest

    @property
    def measured(self) -> Timing | None:
        """The timing, as far as it came."""
        return self._timing

    @property
    def timing(self) -> str:
        """The timing's name."""
        return self.request.timing or self.request.id

    def subject(self) -> dict[str, Any]:
        """What was compared, and by what."""
        return {
            "arena": {"name": self.arena.name, "digest": self.arena.digest},
            "program": self.request.program_digest,
            "baseline": _identity(self.request.baseline, getattr(self, "_baseline", None)),
            "candidate": _identity(self.request.candidate, getattr(self, "_candidate", None)),
            "machine": asdict(Machine.here()),
            "toolchain": self.workspace.surroundings.identity(),
            "salt": self.pools.salt.hex(),
            "commitment": commitment(self.pools.salt),
            "index": self.request.index,
            "alpha": self._alpha,
            "timing": self.timing,
        }

    # --- what the gates share --------------------------------------------------------------------------------------

    @contextmanager
    def _gate(self, name: str) -> Iterator[Passing]:
        self.watch.begins(name)
        gate, started = Passing(name), time.monotonic()
        try:
            yield gate
        except Ended:
            raise
        except BaseException as error:
            gate.cut_short(error)
            raise
        finally:
            # Whatever ended it, what it found so far is told.
            done = Gate(name, gate.passed, gate.reason, time.monotonic() - started, gate.facts)
            self.found.append(done)
            self.watch.ends(done)

    @property
    def _changed_tree(self) -> Tree:
        if self._overlay.tree is None:
            raise AssertionError("a candidate out of scope has no tree")
        return self._overlay.tree

    def _unchanged(self, gate: Passing) -> None:
        """Hold both builds against what was built. MachineError, naming the file, where something else wrote there."""
        self._telling.tell(gate.name, "reading both builds again")
        gate.facts["artefacts"] = {"baseline": self._baseline.check(), "candidate": self._candidate.check()}

    def _compare(self, spans: list[Span], gate: str) -> Behaviour:
        def tell(news: behaviour.Progress) -> None:
            self.watch.progress(gate, "blocks on both sides", news.done, news.blocks, news.left_s)

        return behaviour.compare(*self._both_sides, spans, self.ground.work, on_progress=tell)

    @property
    def _both_sides(self) -> tuple[Side, Side]:
        return self.ground.side(self._baseline), self.ground.side(self._candidate)

    def _judge(self, gate: Passing, seen: Behaviour) -> None:
        self.divergences = (*self.divergences, *map(sameness.plain, seen.shown))
        sameness.judge(gate, seen)

    def _tested(self, side: str, built: Built) -> tuple[list[Outcomes], Failure | None]:
        """What each test command said about its tests, until one failed."""
        self._telling.tell("tests", f"the {side}'s")
        seen: list[Outcomes] = []
        with tempfile.TemporaryDirectory(prefix="nightfleet-") as scratch:
            copy = fresh_copy(built.path, Path(scratch))
            options = self.workspace.sandbox_options("test", built)
            job = run_job(
                copy,
                self.arena.tests,
                options,
                self.arena.limits.build_s,
                on_output=lambda *streams: seen.append(read_outcomes(*streams)),
            )
        return seen, job.failure

    # --- timing ----------------------------------------------------------------------------------------------------

    def _timed(self, gate: Passing, quiet: Quiet, patient: bool, beyond: int) -> SpeedResult:
        """Time until the verdict knows. What was timed is kept, whatever ends it."""
        timing = Timing(
            self.ground,
            self._baseline,
            self._candidate,
            self.timing,
            self._blocks,
            self._telling,
            quiet,
            patient,
            beyond,
        )
        timing.begin(gate)
        self.notes += timing.notes
        self._remember()
        self._timing = timing
        return timing.run(gate)

    def _remember(self) -> None:
        """Count this timing before its first pair: whoever ends it because of what it shows has had a look as well."""
        state, subject = self.request.state, self.subject()
        before = repeats.earlier(state, subject, self.timing)
        repeats.remember(state, self.timing, subject)
        self._repeats = len(before)
        said = repeats.warning(self._alpha, before)
        self.notes += [said] if said else []

    @property
    def _timed_so_far(self) -> Timing | None:
        """The timing, once it has come to a result, however little."""
        return self._timing if self._timing is not None and self._timing.result is not None else None

    @property
    def _blocks(self) -> tuple[BothSides, ...]:
        """What the behaviour gate's blocks took; with several cores its trials run otherwise than timed ones."""
        return self._behaviour.blocks if self._behaviour is not None and self.arena.cores == 1 else ()


def _finite(name: str, times: int) -> str:
    return f"workload {name}: there are no further cases than its manifest's; the most used was reused {times} times"


def _identity(tree: Tree, built: Built | None) -> dict[str, Any]:
    return {
        "name": tree.name,
        "tree": tree.digest,
        "artefact": None if built is None else built.artefact_digest,
        "whole": None if built is None else built.whole_digest,
    }
