"""What each promotion is worth by the morning: the champion against the champion without it.

A promotion that was faster when it was made may be useless by now, because a later one does its work. Leaving it out is
what carrying a candidate over is (`repo.rebase`), the other way round; where later promotions were built on it there is
nothing to measure, and they are named. Nothing is at stake: no error budget is spent, and the champion stays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator.court import Court, Without, finding
from nightfleet.orchestrator.ledger import ablations, promotions
from nightfleet.orchestrator.ledger.tables import Candidate, Night, Promotion, Verification
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.repo.rebase import Rebased, rebase
from nightfleet.orchestrator.telling import Telling

# What a verification says that is kept.
MEASURED = ("verdict", "reason", "gain", "low", "high", "clock", "pairs", "cases", "diverged", "report", "root_digest")
NOT_MEASURED: Mapping[str, Any] = dict.fromkeys(MEASURED) | {"pairs": 0, "cases": 0, "diverged": 0}
# In the ledger, and of a conflict's files.
LONGEST, MOST_FILES = 2_000, 3


@dataclass(frozen=True)
class _Step:
    promotion: Promotion
    candidate: Candidate
    found: Verification


@dataclass(frozen=True)
class Ablation:
    """The morning's last work.

    Args:
        place: where the night is.
        court: who measures.
        program: the arena.
        told: hears of each.
        hurried: whether somebody does not want to wait any longer.
    """

    place: Place
    court: Court
    program: Program
    told: Telling
    hurried: Callable[[], bool]

    def leave_out_each(self) -> None:
        """Measure what each promotion in the champion is worth, where that is not known yet.

        One alone is not left out: that is what the champion is against the root. A simplification was not made to be
        faster. Each is recorded before the next begins: whoever goes on after a crash begins where it was.

        Raises:
            MachineError: git or the database failed. What the machine cannot measure now is told, and left.
            KeyboardInterrupt: somebody interrupted it.
        """
        night = self.place.night()
        with self.place.ledger.read() as reading:
            known = ablations.of_champion(reading, night.number)
            steps = [
                _Step(row, reading.get(Candidate, row.candidate), reading.get(Verification, row.verification))
                for row in promotions.in_champion(reading, night.number)
            ]
        wanted = [one for one in steps if one.found.verdict == "promote" and one.promotion.id not in known]
        for step in wanted if len(steps) > 1 else []:
            if self.hurried():
                return
            self._leave_out(night, steps, step)

    def _leave_out(self, night: Night, steps: list[_Step], step: _Step) -> None:
        without = self._without(step.promotion, night.champion)
        if without.commit is None:
            self._record(step, {"verdict": ablations.CONFLICT, "reason": self._why_not(without, steps, step)})
            return
        number = step.candidate.number
        self.place.references.keep_without(night.name, number, night.champion, without.commit)
        # Not the candidate's own number: it is no candidate that is heard any more.
        watch = self.told.watch(0, f"the champion without #{number}")
        try:
            with self.place.quiet.silence():
                found, _, root = self.court.without(night, self.program, Without(without.commit, step.candidate), watch)
        except UserError as error:
            self._record(step, {"verdict": "broken", "reason": f"without it: {error}", "without": without.commit})
        except MachineError as error:
            self.told.say(f"#{number} could not be left out now: {one_line(str(error))}")
        else:
            judged = finding(found, root, baseline=without.commit, reservation=None, figures=(None, None))
            values = {name: getattr(judged, name) for name in MEASURED}
            least = self.program.arena.thresholds.incremental_ratio
            redundant = judged.high is not None and judged.high < least
            self._record(step, {**values, "without": without.commit, "redundant": redundant})

    def _without(self, promotion: Promotion, onto: str) -> Rebased:
        """A later commit with what the promotion changed put back."""
        return rebase(
            self.place.door,
            promotion.from_commit,
            promotion.to_commit,
            onto,
            scope=self.program.arena.scope,
            message=f"{onto[:12]} without {promotion.to_commit[:12]}",
            who=self.place.checkout.identity(),
        )

    def _why_not(self, without: Rebased, steps: list[_Step], step: _Step) -> str:
        if without.objections:
            return f"without it the champion would be out of scope: {without.objections[0].text}"
        if not without.conflicts:
            return "nothing of it is left in the champion"
        later = steps[steps.index(step) + 1 :]
        first = next(one for one in later if self._without(step.promotion, one.promotion.to_commit).conflicts)
        files = ", ".join(one.path for one in without.conflicts[:MOST_FILES])
        return f"conflicts with #{first.candidate.number} in {files}: cannot be left out alone"

    def _record(self, step: _Step, found: Mapping[str, Any]) -> None:
        values = {**NOT_MEASURED, "without": None, "redundant": False, **found}
        values["reason"] = one_line(values["reason"], LONGEST)
        with self.place.ledger.write() as writing:
            ablations.record(writing, writing.get(Promotion, step.promotion.id), **values)
