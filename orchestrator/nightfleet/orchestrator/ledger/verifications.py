"""What the judge found about a candidate; the evidence is the report that each row names and whose digest it keeps."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightfleet.harness.report import Verdict
from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Candidate, Entry, GateTime, Reservation, Verification

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One verification in the ledger's terms.

    Attributes:
        baseline: the commit that was to be beaten.
        gain: fraction of the baseline's, with `low` and `high`; None where it was not timed.
        clock: what was compared: cpu, wall, memory.
        pairs: timed pairs, those of an earlier part of the same timing included.
        cases: cases whose records were compared.
        metric: the candidate's own figure, in the metric's unit.
        memory_bytes: its peak.
        seconds: of each gate that was reached.
        report: the report's id; its evidence lies under it.
        root_digest: over all of that.
        reservation: the index that the timing spent; None if it was not timed.
    """

    baseline: str
    verdict: Verdict
    reason: str
    report: str
    root_digest: str
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    clock: str | None = None
    pairs: int = 0
    cases: int = 0
    diverged: int = 0
    extraordinary: bool = False
    metric: float | None = None
    memory_bytes: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    reservation: int | None = None


@folds("candidate judged")
def _judged(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    seconds = values.pop("seconds")
    row = Verification(**values, at_us=entry.at_us)
    session.add(row)
    session.flush()
    session.add_all(GateTime(verification=row.id, gate=gate, seconds=took) for gate, took in seconds.items())
    candidate = session.get_one(Candidate, row.candidate)
    candidate.state, candidate.reason, candidate.moved_us = "judged", row.reason, entry.at_us
    candidate.verdict, candidate.verification = row.verdict, row.id


def judge(writing: Writing, candidate: int, finding: Finding) -> Verification:
    """Record a verification; its candidate is judged by it.

    Raises:
        UserError: the candidate is judged or stale; the verdict is unknown; the report is in the ledger already (the
            same verification told twice counts once); a timed one without the index that it spent, or with another's.
    """
    row = writing.get(Candidate, candidate)
    if row.state in {"judged", "stale"}:
        raise UserError(f"candidate {row.number} is {row.state} and cannot be judged")
    if finding.verdict not in VERDICTS:
        raise UserError(f"a verdict is one of {', '.join(VERDICTS)}; got {finding.verdict!r}")
    if writing.session.scalar(select(Verification.id).where(Verification.report == finding.report)) is not None:
        raise UserError(f"the report {finding.report} is in the ledger already")
    _paid_for(writing, row, finding)
    number = writing.next_number(Verification.id)
    values = {**asdict(finding), "seconds": dict(finding.seconds), "id": number, "candidate": candidate}
    writing.append("candidate judged", values)
    return writing.get(Verification, number)


def latest(reading: Reading, candidate: Candidate) -> Verification:
    """A candidate's last verification. UserError where it has none."""
    return reading.get(Verification, candidate.verification or 0)


def _paid_for(writing: Writing, candidate: Candidate, finding: Finding) -> None:
    if finding.reservation is None:
        if finding.pairs or finding.verdict in {"promote", "incremental", "simplify"}:
            raise UserError(f"candidate {candidate.number} was timed without an index of the error budget")
        return
    reserved = writing.get(Reservation, finding.reservation)
    if (reserved.candidate, reserved.baseline) != (candidate.id, finding.baseline):
        raise UserError(
            f"reservation {reserved.id} was made for another timing than that of candidate {candidate.number}"
        )
