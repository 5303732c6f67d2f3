"""A night of known shape in a ledger, for the tests of what is shown of one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nightwork
from nightwork import Hands
from sqlalchemy import event, insert

from nightfleet.orchestrator.ledger import Ledger, candidates, nights, promotions, spending, verifications
from nightfleet.orchestrator.ledger.spending import Amounts
from nightfleet.orchestrator.ledger.tables import Candidate

# Escapes, a bidi override, a bell, a tab, a line end that would begin a trailer or a row, markup, half a link.
HOSTILE = "\x1b[31mred\x1b[0m\u202egnp.exe\x07\tof\nPROMOTED 99 of 1 candidates [bold]hi[/bold] [link=file:///x]"
HARMLESS = "red gnp.exe of PROMOTED 99 of 1 candidates [bold]hi[/bold] [link=file:///x]"
# What may never reach a terminal, a page or a row from a title.
POISON = ("\x1b[31m", "\u202e", "\x07")
LIMITS = Amounts(tokens=10**6, micro_dollars=10**8, experiments=10**6, wall_us=10**15)


def begin(ledger: Ledger, name: str = "n1", planned: int = 200) -> int:
    with ledger.write() as writing:
        night = nightwork.begin(writing, name=name, planned=planned)
        nights.agent_joins(writing, night, name="s1", role="scout", backend="search")
        return night


def judged(ledger: Ledger, verdict: Any, gain: float | None = None, title: str = "hoist", **changes: Any) -> Candidate:
    """One more candidate and its verdict: timed if it has a gain."""
    with ledger.write() as writing:
        running = nights.running(writing)
        assert running is not None
        if gain is not None:
            ends = {"gain": gain, "low": gain - 0.02, "high": gain + 0.02}
            candidate = nightwork.waiting(writing, night=running.number, description=title)
            nightwork.timed(writing, candidate, verdict, **{**ends, **changes})
        else:
            candidate = nightwork.submit(writing, running.number, description=title)
            nightwork.bring_to(writing, candidate, "building")
            nothing = {"gain": None, "low": None, "high": None, "pairs": 0, "cases": 0, **changes}
            found = nightwork.finding(candidate, verdict, running.champion, None, **nothing)
            verifications.judge(writing, candidate.id, found)
        return candidate


def promoted(ledger: Ledger, gain: float, title: str = "hoist", **changes: Any) -> Candidate:
    candidate = judged(ledger, "promote", gain, title, **changes)
    with ledger.write() as writing:
        verification = writing.get(Candidate, candidate.id).verification
        assert verification is not None
        meant = promotions.mean(writing, verification, f"champion{candidate.number:02}" + "c" * 30)
        promotions.settle(writing, meant.id, "swapped")
    return candidate


def stale(ledger: Ledger, title: str = "inline") -> Candidate:
    with ledger.write() as writing:
        candidate = nightwork.waiting(writing, description=title)
        candidates.move(writing, candidate.id, "stale", "the champion moved")
        return candidate


def spent(ledger: Ledger, night: int, **amounts: int) -> None:
    with ledger.write() as writing:
        spending.settle(writing, spending.reserve(writing, night, Amounts(**amounts), LIMITS).id)


def a_night(ledger: Ledger, hands: Hands) -> int:
    """Two promotions, one of them hard to believe; something near, something of every failure, something under way."""
    return a_night_goes_on(ledger, hands, begin(ledger))


def a_night_goes_on(ledger: Ledger, hands: Hands, night: int) -> int:
    """The same for a night that was begun."""
    with ledger.write() as writing:
        for title in ("hoist", HOSTILE, "inline"):
            candidates.propose(writing, night, title=title, made_by="s1")
    steps: tuple[Callable[[], object], ...] = (
        lambda: judged(ledger, "reject", -0.01, "unroll the loop by hand"),
        lambda: promoted(ledger, 0.1, "hoist the bounds check out of the inner loop"),
        lambda: judged(ledger, "incorrect", None, HOSTILE, diverged=3),
        lambda: judged(ledger, "incremental", 0.03, "reserve the queue once"),
        lambda: stale(ledger),
        lambda: judged(ledger, "broken", None, "use a crate that is not there"),
        lambda: promoted(ledger, 0.4, HOSTILE, extraordinary=True),
        lambda: judged(ledger, "undecided", 0.021, "pack the grid into bits"),
    )
    for step in steps:
        hands.pass_s(600)
        step()
        spent(ledger, night, experiments=1, wall_us=60_000_000, tokens=1000)
    with ledger.write() as writing:
        nightwork.bring_to(writing, nightwork.submit(writing, description="still at it"), "building")
    return night


def many(ledger: Ledger, number: int) -> None:
    """So many rejected candidates more, as rows: entry by entry would take minutes."""
    with ledger.write() as writing:
        first = candidates.next_number(writing, 1)
        rows = [
            {
                "id": place,
                "night": 1,
                "number": place,
                "parent": nightwork.ROOT,
                "tree": f"t{place}",
                "commit": f"{place:040}",
                "epoch": 0,
                "description": f"attempt {place}",
                "made_by": "w1",
                "lineage": place,
                "depth": 0,
                "created_us": place,
                "moved_us": place,
                "state": "judged",
                "verdict": "broken",
            }
            for place in range(first, first + number)
        ]
        writing.session.execute(insert(Candidate), rows)


@contextmanager
def counted(ledger: Ledger) -> Iterator[list[str]]:
    """The statements that a ledger's database is given."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(ledger._engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(ledger._engine, "before_cursor_execute", note)
