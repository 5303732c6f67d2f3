"""What a night may spend, and how much of it is left. Each limit is a hard stop that keeps all that was paid for."""

from dataclasses import dataclass

from sqlalchemy import func, select

from nightfleet.orchestrator.ledger import Reading, spending
from nightfleet.orchestrator.ledger.tables import Candidate, Night
from nightfleet.orchestrator.program import Budget

# Candidates that somebody looked at: everything that was judged or is about to be.
TAKEN = ("building", "behaving", "waiting", "timing", "judged")


@dataclass(frozen=True)
class Limits:
    """The limits of one night.

    Attributes:
        experiments: candidates that are judged; re-runs count.
        ends_at_us: no step begins after it, microseconds since 1970 UTC.
        tokens: of all models together.
        micro_dollars: the same in millionths of a US dollar.
    """

    experiments: int
    ends_at_us: int
    tokens: int
    micro_dollars: int

    @classmethod
    def of(
        cls, budget: Budget, night: Night, *, experiments: int | None = None, seconds: float | None = None
    ) -> "Limits":
        """A program's limits, where none were asked for otherwise; time counts from when the night began."""
        length_s = budget.night_s if seconds is None else seconds
        return cls(
            budget.experiments if experiments is None else experiments,
            night.began_us + round(length_s * 1e6),
            budget.tokens,
            budget.cost_cents * 10_000,
        )


def experiments_left(reading: Reading, night: int, limits: Limits) -> int:
    """How many candidates may still be taken up."""
    count = select(func.count()).where(
        Candidate.night == night, (Candidate.state.in_(TAKEN)) | (Candidate.verdict.is_not(None))
    )
    return max(0, limits.experiments - (reading.session.scalar(count) or 0))


def used_up(reading: Reading, night: int, limits: Limits) -> str | None:
    """What no more may be spent of, in words; None while everything may."""
    if reading.now_us >= limits.ends_at_us:
        return "the time is up"
    spent = spending.total(reading, night)
    if spent.tokens >= limits.tokens:
        return f"{spent.tokens} of {limits.tokens} tokens are spent"
    if spent.micro_dollars >= limits.micro_dollars:
        return f"${spent.micro_dollars / 1e6:.2f} of ${limits.micro_dollars / 1e6:.2f} are spent"
    return None
