"""Work for agents: strategies wanted, strategies to carry out, and never more of it than the judge can take in."""

import itertools
import json

from sqlalchemy import func, select

from nightfleet.orchestrator import budget
from nightfleet.orchestrator.briefs import fits, judged_since, last_scouting, open_strategies
from nightfleet.orchestrator.budget import Limits
from nightfleet.orchestrator.ledger import Reading, candidates, tasks
from nightfleet.orchestrator.ledger.tables import Night, Strategy, Submission, Task
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Fleet

# Fixed: how often in a row scouts may fail.
MOST_FAILURES = 3
# Candidates that nobody has judged yet: each of them is work that the next promotion makes stale.
AHEAD: tuple[candidates.State, ...] = ("submitted", "building", "behaving", "waiting")


def post(place: Place, night: int, fleet: Fleet, limits: Limits) -> int:
    """Post what is wanted; how many tasks that was."""
    with place.ledger.read() as reading:
        wanted = _wanted(reading, night, fleet, limits)
        found = open_strategies(reading, night, wanted) if wanted else []
        scouts = fleet.scouts - _open(reading, night, "scout") if wanted > len(found) and not dry(reading, night) else 0
        champion = reading.get(Night, night).champion
    if not found and scouts <= 0:
        return 0
    with place.ledger.write() as writing:
        for row in found:
            tasks.post(writing, night, "worker", {}, strategy=row.id)
        for number in range(scouts):
            tasks.post(writing, night, "scout", {"area": "", "champion": champion, "number": number})
    return len(found) + max(0, scouts)


def take_back(place: Place, night: int) -> None:
    """Take the exact recipes for an earlier baseline back from the desk, where nobody has begun with them."""
    with place.ledger.read() as reading:
        champion = reading.get(Night, night).champion
        waiting = select(Task, Strategy).join(Strategy, Strategy.id == Task.strategy)
        waiting = waiting.where(Task.night == night, Task.state == "waiting")
        old = [task.id for task, strategy in reading.session.execute(waiting) if not fits(strategy, champion)]
    if old:
        with place.ledger.write() as writing:
            for task in old:
                tasks.cancel(writing, task, "its recipe is for an earlier baseline")


def dry(reading: Reading, night: int) -> bool:
    """Whether the last scout found nothing, or nothing new, on the champion of now, and no verdict came since.

    A scout that failed says nothing about what there is to find; one that fails again and again is not asked again.
    """
    last = last_scouting(reading, night)
    if last is None or last.state != "done" or _open(reading, night, "worker") or _open(reading, night, "scout"):
        return False
    if open_strategies(reading, night, 1):
        return False
    if json.loads(tasks.brief_of(reading, last)).get("champion") != reading.get(Night, night).champion:
        return False
    if _failed(last) and _failed_in_a_row(reading, night) < MOST_FAILURES:
        return False
    answered = reading.get(Submission, last.id)
    return not judged_since(reading, night, answered.at_us)


def why_dry(reading: Reading, night: int) -> str | None:
    """How the scout failed that was asked last, in words; None if it did not."""
    last = last_scouting(reading, night)
    return f"the scouts {last.reason}" if last is not None and _failed(last) else None


def _failed_in_a_row(reading: Reading, night: int) -> int:
    """How many of the last scouts failed, at most `MOST_FAILURES`."""
    found = select(Task).where(Task.night == night, Task.role == "scout").order_by(Task.id.desc())
    last = reading.session.scalars(found.limit(MOST_FAILURES))
    return sum(1 for _ in itertools.takewhile(_failed, last))


def _failed(task: Task) -> bool:
    return task.state == "done" and task.reason.startswith("failed:")


def _wanted(reading: Reading, night: int, fleet: Fleet, limits: Limits) -> int:
    """How many more strategies should be in workers' hands."""
    if budget.used_up(reading, night, limits) is not None:
        return 0
    ahead = len(candidates.with_state(reading, night, *AHEAD)) + _open(reading, night, "worker")
    left = budget.experiments_left(reading, night, limits)
    return max(0, min(fleet.workers, left) - ahead)


def _open(reading: Reading, night: int, role: str) -> int:
    count = select(func.count()).where(Task.night == night, Task.role == role, Task.state.in_(("waiting", "claimed")))
    return reading.session.scalar(count) or 0
