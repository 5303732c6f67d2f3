"""A night as it goes on, for whoever looks: a screen where there is a terminal, lines where there is a log.

What the night's threads say is only noted; one thread of ours reads the ledger and writes to the terminal. A terminal
that was stopped or has gone away costs the night nothing.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import structlog
from rich.console import Console
from rich.live import Live as Moving
from rich.text import Text

from nightfleet.harness.report import Gate
from nightfleet.harness.tree import printable
from nightfleet.native import MachineError
from nightfleet.orchestrator.ledger import Ledger
from nightfleet.orchestrator.ledger.driver import drives_still
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import clock_time
from nightfleet.orchestrator.views.screen import Hearing, Limits, Sight, heartbeat, screen
from nightfleet.orchestrator.views.standing import LONGEST_TITLE, News, Standing

# Fixed, in seconds: how often the ledger is read at most, and without being asked; how often a log hears that the night
# goes on; how long its end waits for a terminal that takes nothing any more.
AT_MOST_EVERY_S = 0.5
SCREEN_EVERY_S = 1.0
LOG_EVERY_S = 2.0
HEARTBEAT_S = 30.0
FAREWELL_S = 2.0

_log = structlog.get_logger()


class Live:
    """A night on a terminal or in a log. A context manager; its methods may be called by any thread, and never wait.

    Args:
        console: where to.
        ledger: of the night.
        night: its number.
        ends_at_us: when its time is spent; None where nobody knows.
        experiments: how many it may make.
        papers: called when something happened, to write down what is shown in files.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        console: Console,
        ledger: Ledger,
        night: int,
        *,
        ends_at_us: int | None,
        experiments: int,
        papers: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._papers = papers
        self._standing, self._limits = Standing(ledger, night), Limits(ends_at_us, experiments)
        self._noted, self._lock = deque[News](), threading.Lock()
        self._agents: dict[str, str] = {}
        self._hearings: dict[int, Hearing] = {}
        self._moves = console.is_terminal and not console.is_dumb_terminal
        self._writer = _Writer(console, moves=self._moves, clock=clock)
        self._wanted, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._wanted.set()
        self._thread.join(FAREWELL_S)

    def agent(self, name: str, doing: str) -> None:
        """What an agent does now; nothing if it is gone."""
        with self._lock:
            if doing:
                self._agents[name] = doing
            else:
                self._agents.pop(name, None)

    def watch(self, number: int, title: str) -> "Attendance":
        """A `harness.request.Watch` for one candidate's hearing."""
        return Attendance(Hearing(number, one_line(title, LONGEST_TITLE)), self._heard)

    def say(self, words: str) -> None:
        """A line that stays."""
        self._noted.append(News(self._standing.now_us, words, loud=True))

    def refresh(self) -> None:
        """Something changed: look sooner than one would anyway."""
        self._wanted.set()

    @property
    def goes_on(self) -> bool:
        """Whether the night has not ended, and is driven as far as anybody here can tell."""
        drive = self._standing.drive
        return self._standing.ending is None and drive is not None and drives_still(drive) is not False

    def _heard(self, hearing: Hearing) -> None:
        with self._lock:
            self._hearings[hearing.number] = hearing

    def _run(self) -> None:
        every_s = SCREEN_EVERY_S if self._moves else LOG_EVERY_S
        with self._writer:
            while True:
                last = self._over.is_set()
                self._wanted.clear()
                self._turn()
                if last:
                    return
                # Not sooner even if asked: the ledger is the night's first of all.
                if not self._over.wait(AT_MOST_EVERY_S):
                    self._wanted.wait(every_s - AT_MOST_EVERY_S)

    def _turn(self) -> None:
        news: list[News] = []
        try:
            news = self._standing.catch_up()
            if news:
                self._papers()
        except OSError as error:
            news.append(News(self._standing.now_us, f"results.tsv and events.jsonl are behind: {error}"))
        except MachineError as error:
            # The night will hear of it itself, and say what to do.
            news = [News(self._standing.now_us, f"the ledger cannot be read just now: {error}")]
        while self._noted:
            news.append(self._noted.popleft())
        self._writer.write(news, self._sight())

    def _sight(self) -> Sight:
        with self._lock:
            here = self._standing.at_work
            # One that is heard of before the ledger's news of it were read comes back with its next word.
            known = self._hearings = {
                number: one for number, one in self._hearings.items() if number in here or not number
            }
            agents = dict(self._agents)
        if not agents:
            agents = {holder.holder: f"{holder.role}, task {holder.task}" for holder in self._standing.holders}
        # What is no candidate's (0), the baseline's rehearsal and the champion's measurement, the ledger does not know.
        others = [one for number, one in known.items() if not number and one.words != "done"]
        heard = (*others, *(known.get(number) or Hearing(number, at[1], at[0]) for number, at in here.items()))
        return Sight(self._standing, self._limits, agents, heard)


class Attendance:
    """A `harness.request.Watch` that notes where one hearing is."""

    def __init__(self, hearing: Hearing, note: Callable[[Hearing], None]) -> None:
        self._hearing, self._note = hearing, note

    def begins(self, gate: str) -> None:
        """A gate is entered."""
        self._now(gate=gate, words="", done=0, of=None, left_s=None)

    def progress(self, gate: str, words: str, done: int, of: int | None, left_s: float | None) -> None:
        """Within a gate."""
        self._now(gate=gate, words=one_line(words), done=done, of=of, left_s=left_s)

    def ends(self, gate: Gate) -> None:
        """What a gate found; its verdict comes from the ledger."""
        self._now(gate=gate.name, words="done", done=0, of=None, left_s=None)

    def _now(self, **news: Any) -> None:
        self._hearing = replace(self._hearing, **news)
        self._note(self._hearing)


class _Writer:
    """Where the words go. It never raises: a screen that fails becomes lines, and lines that fail become silence."""

    def __init__(self, console: Console, *, moves: bool, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._beat_s = clock()
        self._write: Callable[[list[News], Sight], None] = self._move if moves else self._log
        # Whatever else writes to the terminal goes there directly: it must not wait for ours.
        self._moving = Moving(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(Exception):
            self._moving.stop()

    def write(self, news: list[News], sight: Sight) -> None:
        """Say what is new, and show where the night is."""
        try:
            self._write(news, sight)
        except Exception as error:  # noqa: BLE001 - whatever a terminal does, the night goes on
            _log.info("the night is not shown any more", why=repr(error))
            with contextlib.suppress(Exception):
                self._moving.stop()
            self._write = self._log if self._write == self._move else _nothing

    def _move(self, news: list[News], sight: Sight) -> None:
        if not self._moving.is_started:
            self._moving.start()
        loud = [_line(one) for one in news if one.loud]
        if loud:
            # At once: each print draws the screen again.
            self._console.print(Text("\n").join(loud))
        self._moving.update(screen(sight), refresh=True)

    def _log(self, news: list[News], sight: Sight) -> None:
        for one in news:
            self._print(_line(one))
        if self._clock() - self._beat_s >= HEARTBEAT_S:
            self._beat_s = self._clock()
            self._print(_line(News(sight.standing.now_us, heartbeat(sight))))

    def _print(self, line: Text) -> None:
        # A log in ASCII is better with question marks than not at all.
        plain = line.plain.encode(self._console.encoding, "replace").decode(self._console.encoding)
        self._console.print(Text(plain), soft_wrap=True)


def _line(news: News) -> Text:
    words = "\n".join(map(printable, news.words.split("\n")))
    return Text.assemble((f"{clock_time(news.at_us)}  ", "dim"), (words, "bold" if news.loud else ""))


def _nothing(_news: list[News], _sight: Sight) -> None:
    """Neither screen nor log."""
