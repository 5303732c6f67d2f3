"""Gates as a person watches them: a line for each, and a bar with the time left while one is at work."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from nightfleet.harness.report import Gate

# How often a log, where nothing can move, hears of long work.
LOG_EVERY_S = 30.0
MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "dim")}


class Watching:
    """A `harness.request.Watch` on a terminal. A context manager: the bar is gone at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.monotonic()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
        # In a log there is nothing to move, and no width to keep to.
        self._progress = Progress(
            *columns,
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def begins(self, gate: str) -> None:
        """A gate is entered."""
        self._said = time.monotonic()
        self._progress.reset(self._task, total=None, description=gate, left="")

    def progress(self, gate: str, words: str, done: int, of: int | None, left_s: float | None) -> None:
        """Within a gate."""
        left = "" if left_s is None else f"{left_s:.0f} s left"
        count = f" {done}" + (f" of {of}" if of else "") if done else ""
        self._progress.update(self._task, description=f"{gate}: {words}{count}", completed=done, total=of, left=left)
        if not self._console.is_terminal and time.monotonic() - self._said >= LOG_EVERY_S:
            self._said = time.monotonic()
            self._console.print(Text(f"  {gate}: {words}{count}" + (f", {left}" if left else "")), soft_wrap=True)

    def ends(self, gate: Gate) -> None:
        """What a gate found."""
        mark, style = MARKS[gate.passed]
        line = Text.assemble((f"{mark} ", style), (f"{gate.name:14}", "bold" if gate.passed is not None else "dim"))
        line.append(gate.reason or "", style="" if gate.passed is not None else "dim")
        if gate.seconds >= 0.1:
            line.append(f"  {gate.seconds:.1f} s", style="dim")
        self._console.print(line, soft_wrap=not self._console.is_terminal)
