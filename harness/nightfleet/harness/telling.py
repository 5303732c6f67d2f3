"""What is being done within a gate, as a watch hears it, with how long the rest will take."""

import time
from dataclasses import dataclass, field

from nightfleet.harness.request import Watch


@dataclass
class Telling:
    """Tells a watch; knows what was said last, since when, and how much was done then."""

    watch: Watch
    _last: tuple[str, float, int] = field(default=("", 0.0, 0), init=False)

    def tell(self, gate: str, words: str, done: int = 0, of: int | None = None, more: str = "") -> None:
        """Say what is being done; how long the rest takes, from what was done since the words were first said."""
        now = time.monotonic()
        if words != self._last[0]:
            self._last = (words, now, done)
        _, since, before = self._last
        left = None if of is None or done <= before else (now - since) / (done - before) * (of - done)
        self.watch.progress(gate, f"{words}, {more}" if more else words, done, of, left)
