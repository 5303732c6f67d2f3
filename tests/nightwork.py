"""A ledger's night in a few words, for tests."""

import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nightfleet.orchestrator.ledger import Ledger, Writing, candidates, errorbudget, nights, verifications
from nightfleet.orchestrator.ledger.tables import Candidate, Verification
from nightfleet.orchestrator.ledger.verifications import Finding

ROOT = "r" * 40
ALPHA, PLANNED = 0.1, 4


class Hands:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 22, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def begin(writing: Writing, **changes: Any) -> int:
    asked = {"name": "n1", "root": ROOT, "base_branch": "main", "champion_branch": "nightfleet/champion"}
    begun = nights.begin_or_continue(writing, **{**asked, "planned": PLANNED, "alpha": ALPHA, **changes})
    return begun.night.number


def submit(writing: Writing, night: int = 1, **changes: Any) -> Candidate:
    number = candidates.next_number(writing, night)
    asked = {"parent": ROOT, "tree": f"t{number}", "commit": f"c{number}", "made_by": "w1", "description": "hoist"}
    return candidates.submit(writing, night, **{**asked, **changes})


def bring_to(writing: Writing, candidate: Candidate, *states: candidates.State) -> Candidate:
    for state in states:
        candidates.move(writing, candidate.id, state)
    return candidate


def timed(writing: Writing, candidate: Candidate, verdict: Any = "promote", **changes: Any) -> Verification:
    """A candidate that waits is timed against the champion and judged."""
    champion = nights.running(writing)
    assert champion is not None
    bring_to(writing, candidate, "timing")
    spent = errorbudget.reserve(
        writing, candidate.id, baseline=champion.champion, binary="b", timing=secrets.token_hex(4), why="first"
    )
    return verifications.judge(
        writing, candidate.id, finding(candidate, verdict, champion.champion, spent.id, **changes)
    )


def finding(candidate: Candidate, verdict: Any, baseline: str, reservation: int | None, **changes: Any) -> Finding:
    asked: dict[str, Any] = {
        "baseline": baseline,
        "verdict": verdict,
        "reason": "because",
        "report": f"v{candidate.id}-{reservation}",
        "root_digest": "d" * 64,
        "gain": 0.07,
        "low": 0.05,
        "high": 0.09,
        "clock": "cpu",
        "pairs": 12,
        "cases": 20000,
        "seconds": {"build": 2.5, "speed": 4.0},
        "reservation": reservation,
    }
    return Finding(**{**asked, **changes})


def waiting(writing: Writing, **changes: Any) -> Candidate:
    return bring_to(writing, submit(writing, **changes), "building", "behaving", "waiting")


def opened(place: Path | str, clock: Any = None) -> Ledger:
    return Ledger.open(place, clock or Hands())


def eventually(condition: Any, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
