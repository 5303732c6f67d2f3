"""What an agent is told: put together when it claims a task, so that what was tried is what was tried by then."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select

from nightfleet.agents.contract import (
    LEAST_RATIO,
    MOST_TRIED,
    ArenaSummary,
    Brief,
    Profile,
    Strategy,
    TaskLimits,
    Tried,
)
from nightfleet.orchestrator.ledger import Reading, candidates
from nightfleet.orchestrator.ledger.tables import Candidate, Night, Task, Verification
from nightfleet.orchestrator.ledger.tables import Strategy as StrategyRow
from nightfleet.orchestrator.ledger.tasks import Claim
from nightfleet.orchestrator.program import Program

# Fixed: of a reason that an agent is told.
LONGEST_REASON = 500


def brief_for(
    reading: Reading,
    claim: Claim,
    program: Program,
    tree: Path,
    profiles: tuple[Profile | None, Profile | None] = (None, None),
) -> Brief:
    """The brief of a claimed task.

    Args:
        reading: the ledger.
        claim: whose `brief` holds what was posted: an area for a scout, a conflict for a worker.
        program: the goal and the arena.
        tree: that the agent works in.
        profiles: of the baseline, and of the one that the night began with where that is another.
    """
    task = reading.get(Task, claim.task)
    posted = json.loads(claim.brief)
    strategy = None if task.strategy is None else strategy_of(reading.get(StrategyRow, task.strategy))
    return Brief(
        task=str(claim.task),
        role="scout" if claim.role == "scout" else "worker",
        goal=program.prose,
        arena=ArenaSummary.of(program.arena),
        area=str(posted.get("area", "")) or _conflict(posted.get("conflict")),
        strategy=strategy,
        tried=tuple(tried(reading, task.night))[-MOST_TRIED:],
        profile=profiles[0],
        profile_before=profiles[1],
        tree=tree,
        limits=TaskLimits(seconds=program.budget.task_s, tokens=program.budget.tokens),
        seed=claim.task,
    )


def strategy_of(row: StrategyRow) -> Strategy:
    """A strategy as its scout proposed it."""
    return Strategy.model_validate_json(json.dumps(json.loads(row.detail)["strategy"]))


def tried(reading: Reading, night: int) -> Iterator[Tried]:
    """Every strategy that a worker was given, with what came of it, in the order in which they were given out."""
    latest = {
        row.strategy: row
        for row in reading.session.scalars(
            select(Candidate).where(Candidate.night == night, Candidate.strategy.is_not(None)).order_by(Candidate.id)
        )
    }
    gains = dict(
        reading.session.execute(
            select(Verification.id, Verification.gain)
            .join(Candidate, Candidate.verification == Verification.id)
            .where(Candidate.night == night)
        ).all()
    )
    given = (
        select(Task, StrategyRow)
        .join(StrategyRow, StrategyRow.id == Task.strategy)
        .where(Task.night == night)
        .order_by(Task.id)
    )
    for task, row in reading.session.execute(given):
        strategy = strategy_of(row)
        candidate = latest.get(row.id)
        gain = None if candidate is None else gains.get(candidate.verification or 0)
        yield Tried(
            fingerprint=strategy.fingerprint,
            title=strategy.title,
            verdict=_verdict(task, candidate),
            # Whoever is slower than a contract can say is slow enough.
            gain=None if gain is None else max(LEAST_RATIO, gain),
            files=strategy.files,
            knob=strategy.knob,
            reason=(task.reason if candidate is None else candidate.reason)[:LONGEST_REASON],
        )


def _verdict(task: Task, candidate: Candidate | None) -> str:
    if candidate is None:
        return {"done": "failed", "cancelled": "stale"}.get(task.state, "running")
    if candidate.state == "judged":
        return candidate.verdict or "running"
    return "stale" if candidate.state == "stale" else "running"


def _conflict(found: Any) -> str:
    """Words for a worker about two changes that do not go together."""
    if not found:
        return ""
    files = "\n".join(
        f"--- {one['path']}: what the baseline became\n{one['theirs']}\n--- and what was tried\n{one['ours']}"
        for one in found["files"]
    )
    head = f"The strategy was tried as candidate {found['candidate']}; then the baseline changed, and they conflict."
    return f"{head} Carry it over to the tree that you have.\n{files}"[:8_000]


def open_strategies(reading: Reading, night: int, most: int) -> list[StrategyRow]:
    """The strategies that nobody was given yet: those of the latest scouting first, the best of it before the others.

    Of one idea that was proposed several times the latest proposal counts: it was made on the latest baseline.
    """
    handed_out = (Task.night == night, Task.state != "cancelled")
    given = (
        select(StrategyRow.fingerprint)
        .join(Task, Task.strategy == StrategyRow.id)
        .where(*handed_out, StrategyRow.id.not_in(candidates.dropped(night)))
    )
    # One that was given out and lost its place waits for a scout who says how it goes on the baseline of now.
    own = select(Task.strategy).where(*handed_out, Task.strategy.is_not(None))
    champion = reading.get(Night, night).champion
    found = (
        select(StrategyRow)
        .where(StrategyRow.night == night, StrategyRow.fingerprint.not_in(given), StrategyRow.id.not_in(own))
        .order_by(StrategyRow.scouting.desc(), StrategyRow.id)
        .limit(10 * most)
    )
    fresh: dict[str | None, StrategyRow] = {}
    for row in reading.session.scalars(found):
        if fits(row, champion):
            fresh.setdefault(row.fingerprint, row)
    return list(fresh.values())[:most]


def fits(row: StrategyRow, baseline: str) -> bool:
    """Whether a strategy can be carried out on a baseline: an exact recipe on the one that it was made for alone."""
    detail = json.loads(row.detail)
    return not detail["strategy"]["recipe"] or detail.get("baseline") == baseline


def last_scouting(reading: Reading, night: int) -> Task | None:
    """The scout's task that was posted last."""
    found = select(Task).where(Task.night == night, Task.role == "scout").order_by(Task.id.desc()).limit(1)
    return reading.session.scalars(found).one_or_none()


def judged_since(reading: Reading, night: int, at_us: int) -> bool:
    """Whether a verdict was given since."""
    found = (
        select(Verification.id)
        .join(Candidate, Candidate.id == Verification.candidate)
        .where(Candidate.night == night, Verification.at_us > at_us)
    )
    return reading.session.scalar(found.limit(1)) is not None
