"""What everything that is run of one arena stands on: builds, cases, sandboxes, a bench, and the kept calibrations."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightfleet.harness import calibrations
from nightfleet.harness.arena import Arena
from nightfleet.harness.behaviour import Span, Work
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import Calibrated, Plan, run_calibration
from nightfleet.harness.calibrations import Found, Key, Machine
from nightfleet.harness.cases import hash_seed, practice_salt, verification_salt
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.pools import Pool, TimingBlocks
from nightfleet.harness.rounds import Bench, Round
from nightfleet.harness.rules import VERIFY_ALPHA, Guard, Purpose, Quantity, Rules
from nightfleet.harness.sides import Side
from nightfleet.harness.tree import Tree
from nightfleet.harness.workspace import Workspace


class Ground:
    """One arena over one baseline, under the salt of one index.

    Args:
        arena: the contract.
        baseline: names the cases of workloads that have a manifest.
        source: the user's folder, never written to.
        state: the `.nightfleet` directory; it is made.
        salts: the master secret, 32 bytes, and the index of the verification.

    Raises:
        nightfleet.native.UserError: see `Workspace`.
    """

    def __init__(self, arena: Arena, baseline: Tree, source: Path, state: Path, *, salts: tuple[bytes, int]) -> None:
        self.arena, self.state = arena, state
        self.salt = verification_salt(*salts)
        practice = practice_salt(salts[0])
        # The cases of every workload, by its name. Before the state is made: a manifest may be impossible.
        self.pools: Mapping[str, Pool] = {
            one.name: Pool.of(one, self.salt, practice, baseline) for one in arena.workloads
        }
        self.workspace = Workspace(state, arena, source)

    def span(self, name: str, cases: Any) -> Span:
        """These cases of a workload, as the behaviour gate takes them."""
        pool = self.pools[name]
        return Span(pool.workload, self.arena.behaviour, cases, pool.lines)

    def blocks(self, *, aside: bool = False) -> TimingBlocks:
        """The blocks of rounds; `aside`: others, which no verification under this salt is timed on."""
        return TimingBlocks(self.pools, aside)

    def side(self, built: Built) -> Side:
        """A build, and what a trial's sandbox needs beyond it."""
        return Side(built.path, dict(self.workspace.sandbox_options("trial", built)))

    @property
    def work(self) -> Work:
        """How behaviour is compared: on all cores, unless a trial has several."""
        limits = self.arena.limits
        cores = sorted(os.sched_getaffinity(0))[:1] if self.arena.cores > 1 else None
        return Work(hash_seed(self.salt), limits.trial_s, limits.output_bytes, cores)

    def rules(self, purpose: Purpose = "speed", alpha: float = VERIFY_ALPHA) -> Rules:
        """The arena's thresholds and guards; by the wall clock until a calibration has chosen."""
        thresholds, guards = self.arena.thresholds, self.arena.guards
        quantity: Quantity = "memory" if self.arena.metric.kind == "memory" else "wall"
        limits: dict[Quantity, float] = {
            "wall": guards.wall_ratio,
            "cpu": guards.cpu_ratio,
            "memory": guards.memory_ratio,
        }
        return Rules(
            quantity,
            workloads=tuple(one.name for one in self.arena.workloads),
            over=self.arena.metric.over,
            purpose=purpose,
            promote=thresholds.promote_ratio,
            incremental=thresholds.incremental_ratio,
            extraordinary=thresholds.extraordinary_ratio,
            alpha=alpha,
            guards=tuple(Guard(name, limit) for name, limit in limits.items()),
        )

    def bench(
        self, baseline: Built, candidate: Built, name: str, *, on_wait: Callable[[str, float], None] | None = None
    ) -> PairBench:
        """A bench for two builds; its draws are kept in the journal of that name."""
        journals = self.state / "journals"
        journals.mkdir(mode=0o700, parents=True, exist_ok=True)
        return PairBench(
            self.side(baseline),
            self.side(candidate),
            {name: self.span(name, pool.behaviour[:0]).native for name, pool in self.pools.items()},
            hash_seed(self.salt),
            journals / f"{name}.jsonl",
            cores=self.arena.cores,
            timeout_s=self.arena.limits.trial_s,
            output_bytes=self.arena.limits.output_bytes,
            on_wait=on_wait,
        )

    def kept(self, built: Built) -> Found:
        """The calibration that is kept for this build on this machine, or why there is none."""
        return calibrations.load(self._calibrations, self._key(built))

    def calibrate(
        self, bench: Bench, built: Built, plan: Plan, *, on_round: Callable[[Round, int], None] | None = None
    ) -> Calibrated:
        """Calibrate a build, on cases of its own, and keep what came out. Raises as `run_calibration`."""
        fresh = run_calibration(bench, plan, self.blocks(aside=True), on_round=on_round)
        calibrations.store(self._calibrations, self._key(built), fresh)
        return fresh

    @property
    def _calibrations(self) -> Path:
        return self.state / "calibrations"

    def _key(self, built: Built) -> Key:
        return Key(epoch_digest(self.arena), built.whole_digest, Machine.here())


def measurable(rules: Rules, found: Calibrated) -> tuple[Rules, list[Quantity]]:
    """The rules without the guards that this machine cannot measure, and what those are."""
    known = {quantity for by_quantity in found.calibration.noise.values() for quantity in by_quantity}
    lost = [guard.quantity for guard in rules.guards if guard.quantity not in known]
    return replace(rules, guards=tuple(guard for guard in rules.guards if guard.quantity in known)), lost


def epoch_digest(arena: Arena) -> str:
    """SHA-256 over what makes measured figures comparable: all of the arena but thresholds, guards and scope."""
    parts = (arena.build, arena.setup, arena.behaviour, arena.metric, arena.clock, arena.cores, arena.read, arena.data)
    content = json.dumps([*map(repr, parts), [repr(one) for one in arena.workloads], arena.limits.memory_bytes])
    return hashlib.sha256(b"nightfleet epoch 1\n" + content.encode()).hexdigest()
