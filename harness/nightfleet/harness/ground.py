"""What everything that is run of one arena stands on: builds, cases, sandboxes, a bench, and the kept calibrations."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from nightfleet.harness import calibrations
from nightfleet.harness.arena import Arena
from nightfleet.harness.behaviour import Span, Work
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import Calibrated, Plan, run_calibration
from nightfleet.harness.cases import Cases, hash_seed
from nightfleet.harness.pairs import PairBench
from nightfleet.harness.pools import CasePools, Pool
from nightfleet.harness.rounds import Bench, Round
from nightfleet.harness.rules import VERIFY_ALPHA, Purpose, Rules
from nightfleet.harness.sides import Side
from nightfleet.harness.timing import kept_at, rules_of
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
        # The cases of every workload. Before the state is made: a manifest may be impossible.
        self.cases = CasePools(arena, baseline, *salts)
        self.workspace = Workspace(state, arena, source)

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The cases of each workload, by its name."""
        return self.cases.by_name

    def span(self, name: str, cases: Cases) -> Span:
        """These cases of a workload, as the behaviour gate takes them."""
        return self.cases.span(name, cases)

    def side(self, built: Built) -> Side:
        """A build, and what a trial's sandbox needs beyond it."""
        return Side(built.path, dict(self.workspace.sandbox_options("trial", built)))

    @property
    def work(self) -> Work:
        """How behaviour is compared: on all cores, unless a trial has several."""
        limits = self.arena.limits
        cores = sorted(os.sched_getaffinity(0))[:1] if self.arena.cores > 1 else None
        return Work(hash_seed(self.cases.salt), limits.trial_s, limits.output_bytes, cores)

    def rules(self, purpose: Purpose = "speed", alpha: float = VERIFY_ALPHA) -> Rules:
        """The arena's thresholds and guards; by the wall clock until a calibration has chosen."""
        return rules_of(self.arena, purpose, alpha)

    def bench(
        self, baseline: Built, candidate: Built, name: str, *, on_wait: Callable[[str, float], None] | None = None
    ) -> PairBench:
        """A bench for two builds; its draws are kept in the journal of that name."""
        journals = self.state / "journals"
        journals.mkdir(mode=0o700, parents=True, exist_ok=True)
        return PairBench(
            self.side(baseline),
            self.side(candidate),
            {workload: span.native for workload, span in self.cases.empty().items()},
            hash_seed(self.cases.salt),
            journals / f"{name}.jsonl",
            cores=self.arena.cores,
            timeout_s=self.arena.limits.trial_s,
            output_bytes=self.arena.limits.output_bytes,
            on_wait=on_wait,
        )

    def calibrate(
        self, bench: Bench, built: Built, plan: Plan, *, on_round: Callable[[Round, int], None] | None = None
    ) -> Calibrated:
        """Calibrate a build, on cases of its own, and keep what came out. Raises as `run_calibration`."""
        fresh = run_calibration(bench, plan, self.cases.calibration, on_round=on_round)
        calibrations.store(*kept_at(self.state, self.arena, built.whole_digest), fresh)
        return fresh
