"""One candidate's timing from end to end: calibrated, journaled under a name, gone on with where there is a journal.

What was settled before the first pair (calibration, rules with their error rate, what the behaviour gate's blocks took)
stands in the journal's heading and binds whoever goes on with it: pairs that were recorded lead to the same decisions
as when they ran.
"""

import hashlib
import itertools
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import PAIRS_FOR_VERIFY, Calibrated
from nightfleet.harness.evidence import Evidence, plain, read_block
from nightfleet.harness.ground import Ground
from nightfleet.harness.journal import OtherTimingError, read_journal
from nightfleet.harness.layout import take
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.passing import Passing
from nightfleet.harness.reading import BothSides, Pair
from nightfleet.harness.rounds import BrokenError, Round
from nightfleet.harness.rules import CONFIRMATION_PAIRS
from nightfleet.harness.speed import Progress, Speed, SpeedResult
from nightfleet.harness.sums import canonical
from nightfleet.harness.telling import Telling
from nightfleet.harness.verdict import Decision, decide_relinked

__all__ = ["Quiet", "Timing"]

Quiet = Callable[[], AbstractContextManager[object]]
# A calibration for one verification goes on for at most so many pairs where the noise is not steady.
MOST_CALIBRATION_PAIRS = 120


@dataclass
class Timing:
    """A baseline against a candidate. `begin` it, `run` it, and `relink` what it finds extraordinary.

    Args:
        ground: with the error rate of this timing staked.
        baseline: its build.
        candidate: its build.
        name: of the journals.
        blocks: what the behaviour gate's blocks took; of a timing that is gone on with, those recorded count.
        telling: hears what is being done.
        quiet: entered for the confirmation and for relinked pairs; while it is, nothing else may run on the machine.
        patient: go on to the cap where that will hardly decide it.
        beyond: how many rounds to add to a timing that is undecided then.

    Attributes:
        notes: what there is to say about the calibration.
        result: None until something was timed.
        evidence: of the same.
        next_block: the first that was not used yet.
    """

    ground: Ground
    baseline: Built
    candidate: Built
    name: str
    blocks: tuple[BothSides, ...]
    telling: Telling
    quiet: Quiet = nullcontext
    patient: bool = True
    beyond: int = 0
    notes: list[str] = field(default_factory=list, init=False)
    calibrated: Calibrated = field(init=False)
    result: SpeedResult | None = field(default=None, init=False)
    evidence: Evidence = field(init=False)
    next_block: int = field(default=0, init=False)
    _terms: Mapping[str, Any] = field(init=False)

    def begin(self, gate: Passing) -> None:
        """Calibrate, or take the calibration that is kept; then it is known what is timed by what.

        Raises:
            OtherTimingError: the journal of this name was begun with another calibration or other rules.
            nightfleet.native.UserError: see `Ground.calibrate`.
        """
        heading = self._heading()
        kept = self.ground.kept(self.baseline)
        if heading is not None and kept is None:
            raise OtherTimingError(f"{self._begun} a calibration that is no longer kept; begin a new timing")
        self.calibrated, self.notes = self.ground.measurable(kept or self._calibrate())
        self._terms = {
            "calibration": hashlib.sha256(canonical(self.calibrated.calibration.to_dict())).hexdigest(),
            "rules": plain(self.calibrated.rules),
            "blocks": [plain(block) for block in self.blocks],
        }
        if heading is not None:
            self._go_on(heading.get("terms", {}))
        layout = self.calibrated.summary.layout
        gate.facts |= {"clock": self.calibrated.rules.quantity, "layout": layout.to_dict()}
        self.notes.append(layout.words)

    @property
    def _begun(self) -> str:
        return f"timing {self.name} was begun with"

    def _heading(self) -> Mapping[str, Any] | None:
        """Of the journal, if there is one whose first line is whole."""
        path = self.ground.journal(f"{self.name}-speed")
        return read_journal(path).heading if path.exists() else None

    def _go_on(self, begun: Mapping[str, Any]) -> None:
        """Hold what it was begun with against what there is now, and take over the blocks."""
        if begun.get("calibration") != self._terms["calibration"]:
            raise OtherTimingError(
                f"{self._begun} another calibration than the one kept now, and it was frozen before the first pair; "
                "begin a new timing"
            )
        before, now = begun["rules"], self._terms["rules"]
        for rule in now:
            if before.get(rule) != now[rule]:
                raise OtherTimingError(
                    f"{self._begun} {rule} {before.get(rule)}, and it is {now[rule]} now; begin a new timing"
                )
        self.blocks = tuple(read_block(block) for block in begun["blocks"])
        self._terms = begun

    def run(self, gate: Passing) -> SpeedResult:
        """Time until the verdict knows, from the start or from what is recorded. What was timed is kept.

        Raises:
            nightfleet.native.UserError: see `Speed.run`; the journal is of other builds.
            nightfleet.native.MachineError: see `Speed.run`.
        """
        with self._bench(self.baseline, self.candidate, "speed", terms=self._terms) as bench:
            gate.facts["mechanisms"] = bench.facts
            speed = Speed(
                bench,
                self.calibrated.rules,
                self.calibrated.calibration,
                self.ground.cases.timing,
                behaviour=self.blocks,
                previous=bench.recorded.pairs,
                first_block=bench.recorded.next_block,
                bound=bench.bound,
                patient=self.patient,
                beyond=self.beyond,
                quiet=self.quiet,
                on_round=self._on_round,
            )
            void = bench.recorded.void
            try:
                return speed.run()
            finally:
                self._keep(gate, speed.result, void)

    def _keep(self, gate: Passing, result: SpeedResult, void_before: int) -> None:
        self.result, self.next_block = result, result.next_block
        gate.facts |= {"void": void_before + result.void, "pairs": len(result.pairs) + len(result.confirmation)}
        confirmed = result.decision.stopping is not None
        if result.confirmation and not confirmed:
            # A decision is recomputed from whole confirmations only; of one that was cut short the pairs are kept.
            gate.facts["confirmation"] = [plain(pair) for pair in result.confirmation]
        self.evidence = Evidence(
            self.calibrated.rules,
            self.calibrated.calibration,
            self.blocks,
            result.pairs,
            result.confirmation if confirmed else (),
            result.decision,
        )

    def relink(self, gate: Passing, baseline: Built, candidate: Built) -> Decision:
        """Time relinked builds of both sides, and decide on those pairs alone. Ends the gate where records differ."""
        pairs = self._relinked(gate, baseline, candidate)
        decision = decide_relinked(self.evidence.rules, self.evidence.calibration, pairs)
        self.evidence = replace(self.evidence, relinked=pairs, relinked_decision=decision)
        return decision

    def _relinked(self, gate: Passing, baseline: Built, candidate: Built) -> tuple[Pair, ...]:
        """Fresh pairs of relinked builds. Those of a timing that is cut short are among the facts."""
        seen: list[Pair] = []
        workloads = len(self.calibrated.rules.workloads)

        def tell(round_: Round, _counted: int) -> None:
            seen.extend(round_.pairs if round_.void is None else ())
            self.telling.tell(gate.name, "pairs in another layout", len(seen) // workloads, CONFIRMATION_PAIRS)

        try:
            with self._bench(baseline, candidate, "extraordinary") as bench, self.quiet():
                seen += bench.recorded.pairs
                rounds, self.next_block = take(
                    bench,
                    self.ground.cases.timing,
                    self.next_block + bench.recorded.next_block,
                    CONFIRMATION_PAIRS - len(seen) // workloads,
                    reference=self.calibrated.calibration.per_block,
                    on_round=tell,
                )
        except BrokenError as broken:
            gate.no("broken", f"in another layout {broken}")
        finally:
            gate.facts["pairs"] = [plain(pair) for pair in seen]
        if rounds and rounds[-1].diverged:
            name, cases = next(iter(rounds[-1].diverged.items()))
            gate.no("incorrect", f"in another layout the record of case {cases[0]} of workload {name} differs")
        del gate.facts["pairs"]
        return tuple(seen)

    def _bench(
        self, baseline: Built, candidate: Built, what: str, *, gate: str = "", terms: Mapping[str, Any] | None = None
    ) -> PairBench:
        """A bench with a journal of its own."""

        def waiting(why: str, waited_s: float) -> None:
            self.telling.tell(gate or what, f"waiting {waited_s:.0f} s: {why}")

        return self.ground.bench(baseline, candidate, f"{self.name}-{what}", terms=terms, on_wait=waiting)

    def _calibrate(self) -> Calibrated:
        def tell(_round: Round, counted: int) -> None:
            # Where the noise is not steady it goes on.
            of = PAIRS_FOR_VERIFY if counted <= PAIRS_FOR_VERIFY else MOST_CALIBRATION_PAIRS
            self.telling.tell("speed", "calibrating: the baseline against itself", counted, of)

        def tell_relinks(done: int, of: int) -> None:
            self.telling.tell("speed", "calibrating: the baseline against relinks of itself", done, of)

        # A calibration that was cut short is begun anew, never gone on with.
        attempt, numbers = secrets.token_hex(3), itertools.count()

        def bench(baseline: Built, other: Built) -> PairBench:
            return self._bench(baseline, other, f"calibration-{attempt}-{next(numbers)}", gate="speed")

        plan = self.ground.plan(PAIRS_FOR_VERIFY, MOST_CALIBRATION_PAIRS)
        return self.ground.calibrate(plan, bench, on_round=tell, on_relink=tell_relinks)

    def _on_round(self, news: Progress) -> None:
        gain = "" if news.decision.gain is None else f"gain {news.decision.gain:+.1%}"
        if news.confirmed is not None:
            self.telling.tell("speed", "confirming with fresh pairs", news.confirmed, CONFIRMATION_PAIRS, gain)
        else:
            # It stops as soon as it knows: the time left is at most this.
            cap = max(self.ground.rules.cap, news.decision.pairs)
            self.telling.tell("speed", "pairs, at most", news.decision.pairs, cap, gain)
