"""What agents bring back becomes rows of the ledger: strategies, or a candidate. The same for agents of every kind.

An agent's words are kept as its words; its tree alone counts, and only what `edit` permits of it is committed.
"""

from dataclasses import dataclass
from pathlib import Path

from nightfleet.agents.contract import Changed, Failed, Nothing, Proposed, Report, Spend, Strategy
from nightfleet.orchestrator.ledger import Writing, candidates, spending, tasks
from nightfleet.orchestrator.ledger.spending import Amounts
from nightfleet.orchestrator.ledger.tables import Night, Submission, Task
from nightfleet.orchestrator.ledger.tables import Strategy as StrategyRow
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.repo.message import one_line, with_trailers
from nightfleet.orchestrator.repo.snapshot import snapshot


@dataclass(frozen=True)
class Work:
    """A claimed task on its way back.

    Attributes:
        task: its number.
        token: of the claim.
        who: the agent.
        tree: the folder that it worked in; whoever could write there has ended.
        parent: the commit that the folder was made from.
    """

    task: int
    token: int
    who: str
    tree: Path
    parent: str


@dataclass(frozen=True)
class Received:
    """What came of a report. `candidate` is the number of the one that was made, `strategies` how many are kept."""

    said: str
    candidate: int | None = None
    strategies: int = 0


def receive(place: Place, program: Program, work: Work, report: Report, key: str) -> Received:
    """Take in a report. Sent again under the same key it changes nothing, and the answer is the same.

    Raises:
        nightfleet.orchestrator.ledger.tasks.RefusedError: the task is not the sender's any more.
        nightfleet.native.MachineError: git, disk or database failed; nothing was recorded.
    """
    with place.ledger.read() as reading:
        task = reading.get(Task, work.task)
        night = reading.get(Night, task.night)
        strategy = None if task.strategy is None else reading.get(StrategyRow, task.strategy)
    return _Reception(place, program, work, report, night, strategy).take_in(key)


def received_before(place: Place, work: Work, report: Report, key: str) -> Received | None:
    """What was answered to the same report under the same key; None if the task has none yet.

    Raises:
        nightfleet.orchestrator.ledger.tasks.RefusedError: the task has another report.
    """
    with place.ledger.write() as writing:
        return _answered(writing, work, report, key)


def _answered(writing: Writing, work: Work, report: Report, key: str) -> Received | None:
    accepted = writing.session.get(Submission, work.task)
    if accepted is None:
        return None
    tasks.submit(writing, work.task, work.token, key, report.model_dump(mode="json"))
    made = candidates.of_report(writing, accepted.sequence)
    kept = len(candidates.proposed_in(writing, work.task))
    return Received(writing.get(Task, work.task).reason, None if made is None else made.number, kept)


def _amounts(spent: Spend) -> Amounts:
    """In the ledger's units. What has no known price is counted in tokens and time alone."""
    return Amounts(spent.tokens, spent.micro_dollars or 0, wall_us=round(spent.seconds * 1e6))


@dataclass(frozen=True)
class _Made:
    commit: str
    tree: str


@dataclass(frozen=True)
class _Reception:
    """One report on its way into the ledger."""

    place: Place
    program: Program
    work: Work
    report: Report
    night: Night
    strategy: StrategyRow | None

    def take_in(self, key: str) -> Received:
        made, said = self._made()
        work = self.work
        with self.place.ledger.write() as writing:
            before = _answered(writing, work, self.report, key)
            if before is not None:
                return before
            same = [] if made is None else candidates.with_tree(writing, self.night.number, made.tree)
            running = next((one for one in same if one.state != "stale"), None)
            if running is not None:
                said, made = f"the same tree as candidate {running.number}", None
            # Before the report: the candidate that comes of a report is the entry after it.
            spending.record(writing, self.night.number, _amounts(self.report.spend), work.task)
            tasks.submit(writing, work.task, work.token, key, self.report.model_dump(mode="json"), said=said)
            new = self._propose(writing)
            candidate = None if made is None else self._submit(writing, made)
        if candidate is not None and made is not None:
            # After the row: a reference without one would stand in the way of the next candidate of that number.
            self.place.references.keep_candidate(self.night.name, candidate, made.commit)
        return Received(said, candidate, new)

    def _made(self) -> tuple[_Made | None, str]:
        """The commit of what a worker changed, and what to say of the report."""
        outcome, door = self.report.outcome, self.place.door
        if isinstance(outcome, Proposed):
            return None, f"proposed {len(outcome.strategies)}"
        if isinstance(outcome, Nothing | Failed):
            why = outcome.reason if isinstance(outcome, Nothing) else outcome.cause
            return None, one_line(f"{outcome.kind}: {why}")
        message = with_trailers(self._title(outcome), {"Night": self.night.name, "Agent": self.work.who})
        scope, who = self.program.arena.scope, self.place.checkout.identity()
        taken = snapshot(door, self.work.tree, self.work.parent, scope, message=message, who=who)
        if taken.objections:
            return None, one_line(f"out of scope: {taken.objections[0].text}")
        if taken.commit is None:
            return None, "nothing: no file that `edit` names was changed"
        return _Made(taken.commit, door.tree_id(taken.commit)), one_line(f"changed: {outcome.summary}")

    def _title(self, outcome: Changed) -> str:
        return one_line(outcome.summary if self.strategy is None else self.strategy.title)

    def _propose(self, writing: Writing) -> int:
        """Record the strategies that nobody was given yet; how many."""
        if not isinstance(self.report.outcome, Proposed):
            return 0
        fresh = [one for one in self.report.outcome.strategies if not self._was_given(writing, one)]
        for one in fresh:
            candidates.propose(
                writing,
                self.night.number,
                title=one_line(one.title),
                made_by=self.work.who,
                detail={"strategy": one.model_dump(mode="json"), "baseline": self.work.parent},
                fingerprint=one.fingerprint,
                scouting=self.work.task,
            )
        return len(fresh)

    def _was_given(self, writing: Writing, strategy: Strategy) -> bool:
        """Whether somebody was given the same idea, and it was not lost under a promotion."""
        like = candidates.strategies_like(writing, self.night.number, strategy.fingerprint)
        dropped = set(writing.session.scalars(candidates.dropped(self.night.number)))
        return any(tasks.is_given(writing, row.id) for row in like if row.id not in dropped)

    def _submit(self, writing: Writing, made: _Made) -> int:
        outcome, strategy = self.report.outcome, self.strategy
        row = candidates.submit(
            writing,
            self.night.number,
            parent=self.work.parent,
            tree=made.tree,
            commit=made.commit,
            made_by=self.work.who,
            description=self._title(outcome) if isinstance(outcome, Changed) else "",
            strategy=None if strategy is None else strategy.id,
            fingerprint=None if strategy is None else strategy.fingerprint,
        )
        return row.number
