"""Tasks: who holds which, until when, and what came back. The desk is these, each in a transaction of its own.

Every claim counts the task's token up. Whoever holds an older token was overtaken: its lease had ended and another
holds the task now (Kleppmann 2016, "How to do distributed locking": the store itself refuses old tokens). A lease that
has ended and that nobody else has claimed since costs its holder nothing.
"""

import hashlib
import json
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, delete, or_, select
from sqlalchemy.orm import Session

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Entry, Lease, Night, Submission, Task

# Fixed: what an agent is told or tells is text for people and models; trees travel by git.
LARGEST_BRIEF = LARGEST_REPORT = 1 << 20
LONGEST_KEY = 200
LONGEST_LEASE_S = 24 * 3600.0


class RefusedError(UserError):
    """A task is not, or no longer, the one's who speaks of it; the message says why."""


class Claim(NamedTuple):
    """A task in somebody's hands until `expires_us`. `brief` is the JSON that was posted."""

    task: int
    role: str
    token: int
    expires_us: int
    brief: str


class Receipt(NamedTuple):
    """A report was accepted, as this entry of the ledger."""

    task: int
    token: int
    sequence: int
    at_us: int


@folds("task posted")
def _posted(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    named = {name: values[name] for name in ("id", "night", "role", "strategy")}
    session.add(Task(**named, posted=entry.sequence))


@folds("task claimed")
def _claimed(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    task = session.get_one(Task, values["task"])
    task.state, task.token, task.holder = "claimed", values["token"], values["holder"]


@folds("task released")
def _released(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    task = session.get_one(Task, values["task"])
    task.state, task.holder, task.reason = "waiting", None, values["reason"]


@folds("task cancelled")
def _cancelled(session: Session, _entry: Entry, values: dict[str, Any]) -> None:
    task = session.get_one(Task, values["task"])
    task.state, task.reason = "cancelled", values["reason"]


@folds("report submitted")
def _submitted(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    task = session.get_one(Task, values["task"])
    task.state, task.reason = "done", values.pop("said")
    digest = _digest(values.pop("report"))
    session.add(Submission(**values, digest=digest, sequence=entry.sequence, at_us=entry.at_us))


def post(writing: Writing, night: int, role: str, brief: Any, *, strategy: int | None = None) -> Task:
    """Put a task into the pool.

    Args:
        writing: the transaction.
        night: whose.
        role: scout, worker, ...
        brief: any JSON of at most `LARGEST_BRIEF` bytes, kept as it is.
        strategy: that it is to carry out.
    """
    number = writing.next_number(Task.id)
    values = {
        "id": number,
        "night": writing.get(Night, night).number,
        "role": role,
        "strategy": strategy,
        "brief": _opaque(brief, "brief", LARGEST_BRIEF),
    }
    writing.append("task posted", values)
    return writing.get(Task, number)


def claim(writing: Writing, night: int, role: str, holder: str, lease_s: float) -> Claim | None:
    """The oldest task that nobody holds, now the holder's; None if there is none, or the night has ended."""
    task = next_free(writing, night, role)
    if task is None:
        return None
    writing.append("task claimed", {"task": task.id, "token": task.token + 1, "holder": holder})
    return Claim(task.id, role, task.token, _lease(writing, task.id, lease_s), brief_of(writing, task))


def next_free(reading: Reading, night: int, role: str) -> Task | None:
    """The task that the next claim gets; None if there is none, or the night has ended."""
    if reading.get(Night, night).ended_us is not None:
        return None
    free = free_tasks(reading.now_us).where(Task.night == night, Task.role == role).order_by(Task.id).limit(1)
    return reading.session.scalars(free).one_or_none()


def heartbeat(writing: Writing, task: int, token: int, lease_s: float) -> int:
    """Hold a task for `lease_s` from now on; return when that ends (us). RefusedError for who does not hold it."""
    return _lease(writing, held(writing, task, token).id, lease_s)


def release(writing: Writing, task: int, token: int, reason: str = "") -> None:
    """Give a task back. RefusedError for who does not hold it."""
    held(writing, task, token)
    _put_back(writing, task, reason)


def cancel(writing: Writing, task: int, reason: str) -> None:
    """Take a task out of the pool, or out of its holder's hands. May be said twice; a task that is done stays done."""
    if writing.get(Task, task).state in {"waiting", "claimed"}:
        writing.append("task cancelled", {"task": task, "reason": reason})
        _drop_lease(writing, task)


def submit(writing: Writing, task: int, token: int, key: str, report: Any, *, said: str = "") -> Receipt:
    """Accept a task's report, once; `said` is what to say of it in one line.

    The same report under the same key is answered with the same receipt, whatever has become of the token: an answer
    that got lost can be asked for again.

    Raises:
        RefusedError: the task is another's, cancelled, or has another report.
        UserError: a report that is no JSON, is larger than `LARGEST_REPORT`, or has no proper key.
    """
    if not 0 < len(key) <= LONGEST_KEY:
        raise UserError(f"an idempotency key has 1 to {LONGEST_KEY} letters; got {len(key)}")
    text = _opaque(report, "report", LARGEST_REPORT)
    accepted = writing.session.get(Submission, task)
    if accepted is not None and accepted.key == key:
        if accepted.digest != _digest(text):
            raise RefusedError(f"task {task} has another report under the key {key!r}; a new report needs a new key")
        return _receipt(accepted)
    held(writing, task, token)
    writing.append("report submitted", {"task": task, "token": token, "key": key, "said": said, "report": text})
    _drop_lease(writing, task)
    return _receipt(writing.session.get_one(Submission, task))


def abandoned(reading: Reading, night: int) -> bool:
    """Whether a task's lease has ended in somebody's hands."""
    found = free_tasks(reading.now_us).where(Task.night == night, Task.state == "claimed").limit(1)
    return reading.session.scalars(found).one_or_none() is not None


def put_back_abandoned(writing: Writing, night: int) -> list[int]:
    """Put every task whose lease has ended back into the pool; who held it is refused from now on."""
    found = free_tasks(writing.now_us).where(Task.night == night, Task.state == "claimed").order_by(Task.id)
    gone = [task.id for task in writing.session.scalars(found)]
    for task in gone:
        _put_back(writing, task, "its lease ended")
    return gone


def free_tasks(now_us: int) -> Select[Task]:
    """A query for the tasks that may be claimed: in the pool, or held by nobody any more."""
    ended = or_(Lease.task.is_(None), Lease.expires_us <= now_us)
    free = or_(Task.state == "waiting", and_(Task.state == "claimed", ended))
    return select(Task).outerjoin(Lease, Lease.task == Task.id).where(free)


def held(reading: Reading, number: int, token: int) -> Task:
    """A task in the hands of whoever has this token. RefusedError says why it is not."""
    task = reading.get(Task, number)
    if task.state == "claimed" and task.token == token:
        return task
    if token > task.token:
        why = f"token {token} was not given out; the last one was {task.token}"
    elif token < task.token:
        holds = f"{task.holder} has it" if task.state == "claimed" else f"it is {task.state}"
        why = f"token {token} is old: it was claimed again with token {task.token}, and {holds}"
    else:
        why = f"it is {task.state}{task.reason and f' ({task.reason})'}"
    raise RefusedError(f"task {number} is not yours any more: {why}")


def is_given(reading: Reading, strategy: int) -> bool:
    """Whether anybody was given this strategy, or is about to be."""
    found = select(Task.id).where(Task.strategy == strategy, Task.state != "cancelled")
    return reading.session.scalar(found.limit(1)) is not None


def brief_of(reading: Reading, task: Task) -> str:
    """A task's brief, JSON."""
    return str(json.loads(reading.get(Entry, task.posted).payload)["brief"])


def report_of(reading: Reading, task: int) -> str | None:
    """The report that a task accepted, JSON; None as long as there is none."""
    accepted = reading.session.get(Submission, task)
    return None if accepted is None else str(json.loads(reading.get(Entry, accepted.sequence).payload)["report"])


def _put_back(writing: Writing, task: int, reason: str) -> None:
    writing.append("task released", {"task": task, "reason": reason})
    _drop_lease(writing, task)


def _lease(writing: Writing, task: int, lease_s: float) -> int:
    if not 0 < lease_s <= LONGEST_LEASE_S:
        raise UserError(f"a lease takes more than 0 and at most {LONGEST_LEASE_S:g} s; got {lease_s:g} s")
    expires_us = writing.now_us + round(lease_s * 1e6)
    writing.session.merge(Lease(task=task, expires_us=expires_us))
    writing.session.flush()
    return expires_us


def _drop_lease(writing: Writing, task: int) -> None:
    writing.session.execute(delete(Lease).where(Lease.task == task))


def _receipt(row: Submission) -> Receipt:
    return Receipt(row.task, row.token, row.sequence, row.at_us)


def _opaque(value: Any, name: str, largest: int) -> str:
    """JSON of what the ledger does not look into, as text: even what no database's text can hold is escaped there."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"a {name} is JSON: {error}") from error
    if len(text) > largest:
        raise UserError(f"a {name} has at most {largest} bytes of JSON; got {len(text)}")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
