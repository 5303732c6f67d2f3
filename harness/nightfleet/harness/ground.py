"""What everything that is run of one arena stands on: builds, cases, rules, sandboxes, benches, kept calibrations.

`check` and `verify` time on the same ground, so that what one calibrates the other can go by.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightfleet.harness import calibrations
from nightfleet.harness.arena import Arena
from nightfleet.harness.behaviour import Work
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import Calibrated, Measured, Plan, conclude, measure
from nightfleet.harness.calibrations import Key, Machine
from nightfleet.harness.cases import hash_seed
from nightfleet.harness.epoch import epoch_digest
from nightfleet.harness.layout import FEWEST, RELINKS, RELINKS_S, Relinked, take
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.pools import CasePools
from nightfleet.harness.reading import Pair
from nightfleet.harness.relink import NotRelinkedError
from nightfleet.harness.rounds import Bench, BrokenError, Round
from nightfleet.harness.rules import VERIFY_ALPHA, Guard, Purpose, Quantity, Rules
from nightfleet.harness.sides import Side
from nightfleet.harness.tree import Tree
from nightfleet.harness.workspace import Workspace
from nightfleet.native import UserError

Benches = Callable[[Built, Built], AbstractContextManager[Bench]]


class Ground:
    """One arena over one baseline, under the salt of one index.

    Args:
        arena: the contract.
        baseline: what is calibrated; it names the cases of workloads that have a manifest.
        source: the user's folder, never written to.
        state: the `.nightfleet` directory; it is made.
        salts: the master secret, 32 bytes, and the index of the verification.
        times: how many times the arena's cases the behaviour gate compares.
        purpose: what the timing is for.
        alpha: its error rate, unless `stake` says otherwise.

    Attributes:
        cases: of every workload.
        rules: the arena's thresholds and guards; by the wall clock until a calibration has chosen.
        workspace: where trees are built.

    Raises:
        nightfleet.native.UserError: thresholds or guards with which nothing could ever be promoted, or too much; more
            cores than there are; see `CasePools` and `Workspace`.
    """

    def __init__(
        self,
        arena: Arena,
        baseline: Tree,
        source: Path,
        state: Path,
        *,
        salts: tuple[bytes, int],
        times: int = 1,
        purpose: Purpose = "speed",
        alpha: float = VERIFY_ALPHA,
    ) -> None:
        self.arena, self.baseline, self.state = arena, baseline, state
        # Whatever can be refused is refused before the state is made: only the workspace writes.
        self.cases = CasePools(arena, baseline, *salts, times=times)
        self.rules = _rules(arena, purpose, alpha)
        # The main thread's mask: the calling one may be kept to few cores, and leave the timing to another.
        here = len(os.sched_getaffinity(os.getpid()))
        if arena.cores > here:
            raise UserError(f"cores: {arena.cores} is impossible: this process may use {here}; type less")
        self.workspace = Workspace(state, arena, source)

    def side(self, built: Built) -> Side:
        """A build, and what a trial's sandbox needs beyond it."""
        return Side(built.path, dict(self.workspace.sandbox_options("trial", built)))

    @property
    def work(self) -> Work:
        """How behaviour is compared: on all cores, unless a trial has several."""
        limits = self.arena.limits
        cores = sorted(os.sched_getaffinity(0))[:1] if self.arena.cores > 1 else None
        return Work(hash_seed(self.cases.salt), limits.trial_s, limits.output_bytes, cores)

    def bench(
        self,
        baseline: Built,
        candidate: Built,
        name: str,
        *,
        terms: Mapping[str, Any] | None = None,
        on_wait: Callable[[str, float], None] | None = None,
        trim: float = 0.0,
    ) -> PairBench:
        """A bench for two builds; its draws are kept in the journal of that name.

        Args:
            baseline: what is to be beaten.
            candidate: what is on trial.
            name: of the journal; where there is one, its timing is gone on with.
            terms: see `PairBench`.
            on_wait: told what we wait for, and for how long so far (s).
            trim: for tests of the judge.
        """
        self.journal(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return PairBench(
            self.side(baseline),
            self.side(candidate),
            {workload: span.native for workload, span in self.cases.empty().items()},
            hash_seed(self.cases.salt),
            self.journal(name),
            cores=self.arena.cores,
            timeout_s=self.arena.limits.trial_s,
            output_bytes=self.arena.limits.output_bytes,
            terms=terms or {},
            on_wait=on_wait,
            trim=trim,
        )

    def journal(self, name: str) -> Path:
        """Where the journal of that name lies, if there is one."""
        return self.state / "journals" / f"{name}.jsonl"

    def stake(self, alpha: float) -> None:
        """Judge what is timed from now on under this error rate. ValueError for one that cannot be."""
        self.rules = replace(self.rules, alpha=alpha)

    def plan(self, at_least: int, cap: int) -> Plan:
        """What a calibration in this arena is made for, by so many pairs."""
        return Plan(self.rules, self.arena.clock, self.arena.cores, at_least=at_least, cap=cap)

    def calibrate(
        self,
        plan: Plan,
        bench: Benches,
        *,
        on_round: Callable[[Round, int], None] | None = None,
        on_relink: Callable[[int, int], None] | None = None,
    ) -> Calibrated:
        """Calibrate the baseline, on cases of its own, and keep what came out.

        Args:
            plan: what for.
            bench: makes one for two builds.
            on_round: told each round, and how many count so far.
            on_relink: told how many pairs of relinks there are so far, and will be.

        Raises:
            nightfleet.harness.rounds.TooLoadedError, nightfleet.native.UserError: see `measure`.
        """
        plain = self.workspace.build(self.baseline)
        with bench(plain, plain) as itself:
            measured = measure(itself, plan, self.cases.calibration, on_round=on_round)
        count = plan.relink_pairs
        relinked = None if plan.layout else self._relinked(plain, measured, count, bench, on_relink)
        fresh = conclude(measured, plan, relinked)
        calibrations.store(self._kept, self._key(plain), fresh)
        return fresh

    def _relinked(
        self,
        plain: Built,
        measured: Measured,
        count: int,
        bench: Benches,
        on_relink: Callable[[int, int], None] | None,
    ) -> Relinked:
        """The baseline against its relinks, on the blocks that follow. Their records are compared too."""
        number, found, linking_s = measured.next_block, list[tuple[Pair, ...]](), 0.0

        def tell(_round: Round, counted: int) -> None:
            if on_relink is not None:
                on_relink(len(found) * count + counted, RELINKS * count)

        try:
            for relink in range(1, 1 + RELINKS):
                if relink > FEWEST and linking_s > RELINKS_S:
                    break
                started = time.monotonic()
                other = self.workspace.build(self.baseline, relink=relink)
                linking_s += time.monotonic() - started
                with bench(plain, other) as pairs:
                    rounds, number = take(
                        pairs, self.cases.calibration, number, count, reference=measured.per_block, on_round=tell
                    )
                if rounds[-1].diverged:
                    name, cases = next(iter(rounds[-1].diverged.items()))
                    return Relinked(why=f"relinked, the baseline gives another record of case {cases[0]} of {name}")
                found.append(tuple(pair for round_ in rounds for pair in round_.pairs))
        except (NotRelinkedError, BrokenError) as error:
            return Relinked(why=str(error).replace("the candidate", "relinked, the baseline"))
        return Relinked(tuple(found), "")

    def kept(self, built: Built) -> Calibrated | None:
        """The calibration that was kept for a build on this machine."""
        return calibrations.load(self._kept, self._key(built)).calibrated

    def measurable(self, found: Calibrated) -> tuple[Calibrated, list[str]]:
        """A calibration with the rules of today, by its clock, without the guards that this machine cannot measure.

        Returns:
            It, and what there is to say about those guards.
        """
        known = {quantity for by_quantity in found.calibration.noise.values() for quantity in by_quantity}
        notes = [
            f"guards.{guard.quantity} is not held here: this machine cannot measure it"
            for guard in self.rules.guards
            if guard.quantity not in known
        ]
        guards = tuple(guard for guard in self.rules.guards if guard.quantity in known)
        return replace(found, rules=replace(self.rules, quantity=found.rules.quantity, guards=guards)), notes

    @property
    def _kept(self) -> Path:
        return self.state / "calibrations"

    def _key(self, built: Built) -> Key:
        return Key(epoch_digest(self.arena), built.whole_digest, Machine.here())


def _rules(arena: Arena, purpose: Purpose, alpha: float) -> Rules:
    """What a verdict in this arena goes by; its clock is not chosen yet."""
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
