"""How one verification times: the rules, the calibration that is kept or made, and a bench of pairs."""

import os
from dataclasses import replace
from pathlib import Path

from nightfleet.harness import calibrations
from nightfleet.harness.arena import Arena
from nightfleet.harness.calibrate import PAIRS_FOR_VERIFY, Calibrated, Plan, run_calibration
from nightfleet.harness.calibrations import Key, Machine
from nightfleet.harness.epoch import epoch_digest
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.pools import CasePools
from nightfleet.harness.request import Request, Watch
from nightfleet.harness.rules import Guard, Purpose, Quantity, Rules
from nightfleet.harness.sides import Side
from nightfleet.native import UserError

# A calibration for one verification goes on for at most so many pairs where the noise is not steady.
MOST_CALIBRATION_PAIRS = 120


def rules_of(arena: Arena, purpose: Purpose, alpha: float) -> Rules:
    """What a verdict in this arena goes by; its clock is not chosen yet.

    Raises:
        UserError: a threshold or guard with which nothing could ever be promoted, or too much.
    """
    thresholds, guards = arena.thresholds, arena.guards
    quantity: Quantity = "memory" if arena.metric.kind == "memory" else "wall"
    limits: dict[Quantity, float] = {
        "wall": guards.wall_ratio,
        "cpu": guards.cpu_ratio,
        "memory": guards.memory_ratio,
    }
    try:
        return Rules(
            quantity,
            workloads=tuple(one.name for one in arena.workloads),
            over=arena.metric.over,
            purpose=purpose,
            promote=thresholds.promote_ratio,
            incremental=thresholds.incremental_ratio,
            extraordinary=thresholds.extraordinary_ratio,
            alpha=alpha,
            guards=tuple(Guard(name, limit) for name, limit in limits.items()),
        )
    except ValueError as impossible:
        raise UserError(f"program.md: {impossible}") from None


def kept_at(state: Path, arena: Arena, artefact: str) -> tuple[Path, Key]:
    """Where the calibration of a build is kept, and under which key: `verify` finds what `check` left."""
    return state / "calibrations", Key(epoch_digest(arena), artefact, Machine.here())


class Timing:
    """The timing of one verification.

    Args:
        request: what is asked.
        pools: its cases.
        seed: of the record hashes.
        watch: told what is waited for.

    Raises:
        UserError: as `rules_of`, and for more cores than there are.
    """

    def __init__(self, request: Request, pools: CasePools, seed: int, watch: Watch) -> None:
        self._request, self._pools, self._seed, self._watch = request, pools, seed, watch
        self._rules = rules_of(request.arena, request.purpose, request.alpha)
        here = len(os.sched_getaffinity(0))
        if request.arena.cores > here:
            raise UserError(f"cores: {request.arena.cores} is impossible: this process may use {here}; type less")

    def calibrated(self, baseline: Side, artefact: str) -> tuple[Calibrated, list[str]]:
        """The calibration kept for this program on this machine, or a new one, with the rules of today.

        Args:
            baseline: the build that is timed against itself.
            artefact: its digest.

        Returns:
            It, and what the report has to say about it.
        """
        folder, key = kept_at(self._request.state, self._request.arena, artefact)
        found = calibrations.load(folder, key).calibrated
        if found is None:
            found = self._calibrate(baseline)
            calibrations.store(folder, key, found)
        rules, notes = measurable(self._rules, found)
        return replace(found, rules=replace(rules, quantity=found.rules.quantity)), notes

    def bench(self, baseline: Side, candidate: Side) -> PairBench:
        """A bench for pairs of these two, with its journal."""
        arena = self._request.arena
        return PairBench(
            baseline,
            candidate,
            {name: span.native for name, span in self._pools.empty().items()},
            self._seed,
            self._journal(),
            cores=arena.cores,
            timeout_s=arena.limits.trial_s,
            output_bytes=arena.limits.output_bytes,
            on_wait=self._on_wait,
        )

    def _calibrate(self, baseline: Side) -> Calibrated:
        arena = self._request.arena
        plan = Plan(self._rules, arena.clock, arena.cores, at_least=PAIRS_FOR_VERIFY, cap=MOST_CALIBRATION_PAIRS)
        with self.bench(baseline, baseline) as bench:
            return run_calibration(bench, plan, self._pools.calibration, on_round=self._on_calibration)

    def _journal(self) -> Path:
        journals = self._request.state / "journals"
        journals.mkdir(mode=0o700, parents=True, exist_ok=True)
        return journals / f"{self._request.id}.jsonl"

    def _on_wait(self, why: str, waited_s: float) -> None:
        self._watch.progress("speed", f"waiting {waited_s:.0f} s: {why}", 0, None, None)

    def _on_calibration(self, _round: object, counted: int) -> None:
        self._watch.progress("speed", "calibrating: the baseline against itself", counted, PAIRS_FOR_VERIFY, None)


def measurable(rules: Rules, found: Calibrated) -> tuple[Rules, list[str]]:
    """The rules without the guards that this machine cannot measure, and what there is to say about those."""
    known = {quantity for by_quantity in found.calibration.noise.values() for quantity in by_quantity}
    notes = [
        f"guards.{guard.quantity} is not held here: this machine cannot measure it"
        for guard in rules.guards
        if guard.quantity not in known
    ]
    return replace(rules, guards=tuple(guard for guard in rules.guards if guard.quantity in known)), notes
