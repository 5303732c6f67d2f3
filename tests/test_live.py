"""A night as it is shown while it goes on: to a log, to a terminal, and to a terminal that has gone away."""

import io
import os
import threading
import time
from typing import Any

import nightwork
import pytest
import staged
from nightwork import Hands, eventually
from rich.console import Console

from nightfleet.harness.report import Gate
from nightfleet.native import MachineError
from nightfleet.orchestrator.desk import Desk
from nightfleet.orchestrator.ledger import (
    Ledger,
    Reading,
    candidates,
    errorbudget,
    nights,
    promotions,
    queries,
    spending,
)
from nightfleet.orchestrator.ledger.tables import Candidate
from nightfleet.orchestrator.views import live
from nightfleet.orchestrator.views.lasting import Lasting
from nightfleet.orchestrator.views.live import HEARTBEAT_S, Live
from nightfleet.orchestrator.views.screen import MOST_AGENTS, Hearing, Limits, Sight, heartbeat, screen
from nightfleet.orchestrator.views.standing import Standing

ENDS_AT_US = 1_795_233_600_000_000  # 2026-11-21 04:00 UTC, six hours after a test's night begins


def attended(ledger: Ledger, console: Console, **changes: Any) -> Live:
    return Live(console, ledger, 1, **{"ends_at_us": ENDS_AT_US, "experiments": 200, **changes})


def log(width: int = 80) -> tuple[io.StringIO, Console]:
    paper = io.StringIO()
    return paper, Console(file=paper, width=width)


def words(paper: io.StringIO) -> list[str]:
    """Lines without the time of day, which depends on where one is."""
    return [line[10:] for line in paper.getvalue().splitlines()]


def test_a_log_gets_a_line_for_each_event(ledger: Ledger) -> None:
    staged.begin(ledger)
    paper, console = log()
    with attended(ledger, console) as shown:
        staged.promoted(ledger, 0.1, "hoist")
        staged.judged(ledger, "broken", None, "guess")
        staged.stale(ledger)
        with ledger.write() as writing:
            for _ in range(3):
                candidates.propose(writing, 1, title="inline", made_by="s1")
            nights.end(writing, 1, "the time is spent")
        shown.say("one\ntwo")
    assert words(paper) == [
        "s1 found 3 strategies",
        "#1 promote +10.0% (8.0% to 12.0%): hoist (because)",
        "PROMOTED #1 hoist, +10.0%; 1 step, about +10.0% together",
        "#2 broken: guess (because)",
        "#3 inline is stale (the champion moved)",
        "the night ended: the time is spent",
        "one",
        "",
    ]
    assert paper.getvalue().splitlines()[-1] == "two"


def test_what_was_there_before_is_no_news(ledger: Ledger, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    paper, console = log()
    with attended(ledger, console):
        staged.promoted(ledger, 0.1, "hoist")
    assert words(paper) == [
        "#10 promote +10.0% (8.0% to 12.0%): hoist (because)",
        "PROMOTED #10 hoist, +10.0%; 3 steps, about +51.4% together",
    ]


def test_a_stranger_writes_neither_lines_nor_colours(ledger: Ledger) -> None:
    staged.begin(ledger)
    for terminal in (False, True):
        paper = io.StringIO()
        console = Console(file=paper, width=200, force_terminal=terminal, color_system=None)
        with attended(ledger, console) as shown:
            staged.promoted(ledger, 0.1, staged.HOSTILE, reason=staged.HOSTILE)
            shown.agent(staged.HOSTILE, staged.HOSTILE)
            shown.say(staged.HOSTILE)
            started(ledger, 2 + 2 * terminal)
            shown.watch(2 + 2 * terminal, staged.HOSTILE).progress("speed", staged.HOSTILE, 1, 2, 3.0)
        assert "[link=file:///x]" in paper.getvalue()
        assert not any(poison in paper.getvalue() for poison in staged.POISON)


def started(ledger: Ledger, number: int, title: str = "hoist") -> Candidate:
    with ledger.write() as writing:
        candidate = nightwork.bring_to(writing, nightwork.submit(writing, description=title), "building")
        assert candidate.number == number
        return candidate


def test_a_log_hears_now_and_then_that_the_night_goes_on(ledger: Ledger, hands: Hands) -> None:
    staged.begin(ledger)
    started(ledger, 1)
    hands.pass_s(3600)
    paper, console = log()
    now_s = 0.0
    with attended(ledger, console, clock=lambda: now_s) as shown:
        shown.agent("w1", "implements")
        shown.agent("w2", "reads")
        shown.agent("w2", "")
        watch = shown.watch(1, "hoist")
        watch.begins("speed")
        watch.progress("speed", "pairs, at most, gain +3.1%", 23, 60, 40.0)
        now_s = HEARTBEAT_S
    expected = "1 h 00 min, 5 h 00 min left; 0 of 200 experiments; 0 timings, 0 of 0.1 error budget; "
    expected += "0 promoted of 1 candidate; #1 hoist: speed: pairs, at most, gain +3.1% 23 of 60, 40 s left; "
    assert words(paper) == [f"{expected}1 agent at work"]


def test_a_terminal_shows_who_does_what(ledger: Ledger, hands: Hands) -> None:
    staged.a_night(ledger, hands)
    paper = io.StringIO()
    with attended(ledger, Console(file=paper, width=120, force_terminal=True, color_system=None)) as shown:
        watch = shown.watch(9, "still at it")
        watch.begins("speed")
        watch.progress("speed", "pairs, at most, gain +3.1%", 23, 60, 40.0)
        shown.agent("w1", "implements")
        shown.refresh()
        eventually(lambda: "implements" in paper.getvalue())
    said = paper.getvalue()
    for part in ("#9  still at it  speed: pairs, at most, gain +3.1% 23 of 60", "40 s left", "w1  implements"):
        assert part in said
    for part in ("#8  undecided", "2 promoted of 9 candidates, about +46.0% together", "7 of 200 experiments"):
        assert part in said
    # The cursor is given back, and the screen is gone.
    assert said.rstrip().endswith("\x1b[2K")
    assert "\x1b[?25h" in said


def test_a_verdict_ends_a_hearing(ledger: Ledger) -> None:
    staged.begin(ledger)
    candidate = started(ledger, 1)
    paper, console = log()
    with attended(ledger, console, clock=iter(range(0, 10**6, 40)).__next__) as shown:
        shown.watch(1, "hoist").ends(Gate("build", passed=True, reason="", seconds=1.0))
        with ledger.write() as writing:
            candidates.move(writing, candidate.id, "submitted", "cut short")
    assert "#1 hoist" not in words(paper)[-1]
    # Nor is it remembered: a night may have thousands.
    assert shown._hearings == {}


def test_a_terminal_that_goes_away_costs_the_night_nothing(ledger: Ledger) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(5, "Input/output error")

    staged.begin(ledger)
    for terminal in (False, True):
        with attended(ledger, Console(file=Gone(), force_terminal=terminal)) as shown:
            staged.promoted(ledger, 0.1)
            shown.say("one")
            shown.refresh()


def test_a_terminal_that_was_stopped_keeps_nobody_waiting(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    held, reached = threading.Event(), threading.Event()

    class Stopped(io.StringIO):
        def write(self, text: str) -> int:
            reached.set()
            held.wait()
            return super().write(text)

    monkeypatch.setattr(live, "FAREWELL_S", 0.01)
    staged.begin(ledger)
    with attended(ledger, Console(file=Stopped())) as shown:
        shown.say("one")
        shown.refresh()
        assert reached.wait(60)
        for number in range(100):
            shown.say(f"{number}")
            shown.agent("w1", f"{number}")
            shown.watch(number, "hoist").begins("build")
    assert threading.active_count() > 1
    held.set()


def test_an_ascii_log_gets_question_marks(ledger: Ledger) -> None:
    raw = io.BytesIO()
    paper = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    staged.begin(ledger)
    with attended(ledger, Console(file=paper)):
        staged.judged(ledger, "reject", 0.0, "größer")
    assert b"gr??er" in raw.getvalue()


def test_a_ledger_that_fails_is_said_and_tried_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    staged.begin(ledger)
    paper, console = log()
    read = Reading.last_entry
    failures = [MachineError("the disk is gone"), None]

    def fails_once(reading: Reading) -> tuple[int, str]:
        error = failures.pop(0) if failures else None
        if error is not None:
            raise error
        return read(reading)

    shown = attended(ledger, console)
    with monkeypatch.context() as patch:
        patch.setattr(Reading, "last_entry", fails_once)
        with shown:
            eventually(lambda: "the disk is gone" in paper.getvalue())
            staged.promoted(ledger, 0.1, "hoist")
    assert words(paper)[-1].startswith("PROMOTED #1 hoist")


def test_the_standing_after_each_entry_is_that_of_a_new_reading(ledger: Ledger, hands: Hands) -> None:
    night = staged.begin(ledger)
    followed = Standing(ledger, night)
    staged.a_night_goes_on(ledger, hands, night)
    followed.catch_up()
    anew = Standing(ledger, night)
    for name in ("states", "verdicts", "latest", "gains", "strategies", "spent", "reserved", "holders", "at_work"):
        assert getattr(followed, name) == getattr(anew, name), name
    assert followed.candidates == anew.candidates == 9
    assert anew.total_gain == pytest.approx(0.46)


def test_what_left_the_champion_is_no_gain_any_more(ledger: Ledger) -> None:
    night = staged.begin(ledger)
    first, second, _ = (staged.promoted(ledger, gain) for gain in (0.1, 0.2, 0.3))
    followed = Standing(ledger, night)
    with ledger.write() as writing:
        gone = promotions.of(writing, second.id)
        assert gone is not None
        promotions.sign_off(writing, gone.id, accepted=False, said_by="me")
        promotions.withdraw(writing, gone.id)
    words = [news.words for news in followed.catch_up()]
    assert "2 promotions left the champion" in words[-1]
    assert followed.gains == Standing(ledger, night).gains == [0.1]
    assert first.number == 1


def test_papers_that_cannot_be_written_are_said_and_end_nothing(ledger: Ledger) -> None:
    paper, console = log()
    staged.begin(ledger)

    def full() -> None:
        raise OSError(28, "No space left on device")

    with attended(ledger, console, papers=full):
        staged.promoted(ledger, 0.1, "hoist")
        eventually(lambda: "No space left" in paper.getvalue())
        staged.promoted(ledger, 0.1, "inline")
        eventually(lambda: "inline" in paper.getvalue())


def test_a_log_that_nobody_reads_any_more_costs_the_night_nothing(ledger: Ledger) -> None:
    """`nightfleet launch | head -1`: also the papers are still written, and whoever prints at the end may."""
    reading, writing = os.pipe()
    os.close(reading)
    staged.begin(ledger)
    written: list[int] = []
    with os.fdopen(writing, "w") as pipe:
        console = Lasting(file=pipe, width=80)
        with attended(ledger, console, papers=lambda: written.append(1)):
            for number in range(3):
                staged.promoted(ledger, 0.1)
                eventually(lambda expected=number: len(written) > expected)
        console.print("PROMOTED")


def test_another_nights_entries_are_not_ours(ledger: Ledger) -> None:
    first = staged.begin(ledger)
    staged.promoted(ledger, 0.1)
    with ledger.write() as writing:
        nights.end(writing, first, "enough")
    followed = Standing(ledger, first)
    second = staged.begin(ledger, name="n2")
    with ledger.write() as writing:
        mine = nightwork.submit(writing, second, description="another's")
        errorbudget.reserve(writing, mine.id, baseline="b", binary="b", timing="t", why="first")
        spending.reserve(writing, second, spending.Amounts(tokens=1), staged.LIMITS)
        candidates.propose(writing, second, title="another's", made_by="s1")
        nights.end(writing, second, "enough")
    assert followed.catch_up() == []
    assert (followed.candidates, followed.strategies, followed.spent.tokens) == (1, 0, 0)
    assert followed.reserved == {"speed": (1, pytest.approx(0.1 / 400)), "simplify": (0, 0.0), "score": (0, 0.0)}


def test_a_look_at_a_long_night_asks_little(ledger: Ledger) -> None:
    night = staged.begin(ledger)
    staged.many(ledger, 10_000)
    followed = Standing(ledger, night)
    with staged.counted(ledger) as idle:
        assert followed.catch_up() == []
    assert len([one for one in idle if one.startswith("SELECT")]) == 1
    staged.judged(ledger, "broken")
    with staged.counted(ledger) as busy:
        assert len(followed.catch_up()) == 1
    assert len(busy) < 10
    # Nothing that grows with the night: entries, proposals, tasks, drives.
    assert not any("candidates" in one for one in busy)


def test_a_screen_has_few_lines_whatever_the_fleet(ledger: Ledger) -> None:
    night = staged.begin(ledger)
    agents = {f"w{place}": "works" for place in range(100)}
    hearings = tuple(Hearing(place, "hoist") for place in range(100))
    console = Console(width=100, file=io.StringIO())
    sight = Sight(Standing(ledger, night), Limits(None, 200), agents, hearings)
    console.print(screen(sight))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert len(said.splitlines()) < 24
    assert f"and {100 - MOST_AGENTS} more" in said
    assert heartbeat(sight).endswith("100 agents at work")


def test_reads_are_rare_however_often_one_is_asked(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    staged.begin(ledger)
    waited: list[float | None] = []
    wait = threading.Event.wait

    def note(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "live":
            waited.append(timeout)
            timeout = 0.001
        return wait(event, timeout)

    monkeypatch.setattr(threading.Event, "wait", note)
    reads = 0
    catch_up = Standing.catch_up

    def count(standing: Standing) -> Any:
        nonlocal reads
        reads += 1
        return catch_up(standing)

    monkeypatch.setattr(Standing, "catch_up", count)
    _, console = log()
    with attended(ledger, console) as shown:
        for _ in range(100):
            shown.refresh()
            time.sleep(0.001)
    # After each look but the last one it rests for half a second, whoever asks.
    assert sum(one == live.AT_MOST_EVERY_S for one in waited) == reads - 1


def test_agents_of_another_process_are_known_by_their_tasks(ledger: Ledger) -> None:
    night = staged.begin(ledger)
    desk = Desk(ledger, night)
    desk.post("scout", {"area": "all"})
    assert desk.claim("scout", "s1") is not None
    with ledger.read() as reading:
        assert [one.holder for one in queries.holders(reading, night)] == ["s1"]
    paper = io.StringIO()
    with attended(ledger, Console(file=paper, width=120, force_terminal=True, color_system=None)):
        pass
    assert "s1  scout, task 1" in paper.getvalue()
