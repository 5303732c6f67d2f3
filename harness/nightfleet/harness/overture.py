"""Before the first candidate: does the baseline build, agree with itself, and can differences be seen by timing it?

`check` finds out more, and says what to do about it; this is what nobody should begin a night without.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from nightfleet.harness.behaviour import Progress
from nightfleet.harness.built import Built
from nightfleet.harness.calibrate import PAIRS_FOR_A_NIGHT, RELINK_PAIRS_FOR_A_NIGHT, Calibrated
from nightfleet.harness.determinism import compare_with_itself
from nightfleet.harness.ground import Ground
from nightfleet.harness.layout import Layout
from nightfleet.harness.report import Gate, new_id
from nightfleet.harness.request import Request, Watch
from nightfleet.harness.rounds import Bench, Round
from nightfleet.native import UserError

# Fixed: cases of each workload that are run twice. `check` runs all of them.
CASES = 1000
# Timings that are simulated for each figure of power: nobody reads them before a night, `check` shows better ones.
POWER_RUNS = 20
# How far beyond the pairs that were asked for a calibration goes on where the noise is not steady.
FURTHER = 1.5


@dataclass(frozen=True)
class Overture:
    """What was found. `cases`: run twice; `seconds`: of each step; `notes`: what weakens the evidence."""

    calibrated: Calibrated
    cases: int
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def rehearse(
    request: Request,
    watch: Watch,
    *,
    pairs: int = PAIRS_FOR_A_NIGHT,
    layout: Layout | None = None,
    quiet: Callable[[], AbstractContextManager[object]],
) -> Overture:
    """Build the request's baseline, run some cases twice, and calibrate unless that was done before.

    Args:
        request: its candidate is not looked at.
        watch: told of each step.
        pairs: of the calibration, at least.
        layout: of another baseline, to go by instead of relinking this one.
        quiet: entered for as long as is timed.

    Raises:
        UserError: the baseline does not build, does not agree with itself, or cannot be timed; with the next command.
        nightfleet.native.MachineError: the machine failed, or is too loaded to time.
    """
    rehearsal = _Rehearsal(request, watch)
    with rehearsal.step("baseline"):
        built = rehearsal.ground.workspace.build(request.baseline)
    with rehearsal.step("determinism"):
        cases = rehearsal.agree(built)
    found = rehearsal.ground.kept(built)
    if found is None:
        with rehearsal.step("calibration"), quiet():
            found = rehearsal.calibrate(pairs, layout)
    found, notes = rehearsal.ground.measurable(found)
    return Overture(found, cases, rehearsal.seconds, tuple(notes))


class _Rehearsal:
    """One rehearsal on its way."""

    def __init__(self, request: Request, watch: Watch) -> None:
        self._request, self._watch = request, watch
        salts = (request.master, request.index)
        self.ground = Ground(request.arena, request.baseline, request.source, request.state, salts=salts)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._watch.begins(name)
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
        self._watch.ends(Gate(name, passed=True, reason="", seconds=self.seconds[name]))

    def agree(self, built: Built) -> int:
        """Run some cases twice; how many."""

        def tell(news: Progress) -> None:
            self._watch.progress("determinism", "blocks, twice", news.done, news.blocks, news.left_s)

        pools = self.ground.cases.by_name
        spans = [self.ground.cases.span(name, pool.behaviour[:CASES]) for name, pool in pools.items()]
        seen = compare_with_itself(self.ground.side(built), spans, self.ground.work, on_progress=tell)
        if seen.failed:
            raise UserError(f"{seen.failed}; type `nightfleet check` for more")
        if not seen.holds:
            name, cases = next(iter(seen.unsteady.items()))
            raise UserError(
                f"the baseline does not agree with itself: {seen.differing} of {seen.cases} records differ when they "
                f"are run again (case {cases[0]} of {name} for one), so no candidate could be held to them; "
                "type `nightfleet check`, which says what differs and what would settle it"
            )
        return seen.cases

    def calibrate(self, pairs: int, layout: Layout | None) -> Calibrated:
        """The baseline against itself, until the noise is known."""

        def waiting(why: str, waited_s: float) -> None:
            self._watch.progress("calibration", f"waiting {waited_s:.0f} s: {why}", 0, None, None)

        def tell(_round: Round, counted: int) -> None:
            self._watch.progress("calibration", "the baseline against itself", counted, pairs, None)

        def tell_relinks(done: int, of: int) -> None:
            self._watch.progress("calibration", "the baseline against relinks of itself", done, of, None)

        def bench(one: Built, other: Built) -> AbstractContextManager[Bench]:
            return self.ground.bench(one, other, new_id(), on_wait=waiting)

        plan = replace(self.ground.plan(pairs, round(FURTHER * pairs)), power_runs=POWER_RUNS, layout=layout)
        if pairs >= PAIRS_FOR_A_NIGHT:
            plan = replace(plan, relink_pairs=RELINK_PAIRS_FOR_A_NIGHT)
        return self.ground.calibrate(plan, bench, on_round=tell, on_relink=tell_relinks)
