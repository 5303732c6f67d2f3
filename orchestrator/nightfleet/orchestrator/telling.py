"""Who hears what a night does: a live display, lines in a log, or nobody."""

from typing import Protocol

from nightfleet.harness.request import Watch


class Telling(Protocol):
    """Told by several threads at once; whatever it does with it, it never raises."""

    def agent(self, name: str, doing: str) -> None:
        """What an agent does now, in a few words; nothing once it rests."""

    def watch(self, number: int, title: str) -> Watch:
        """For the gates of one candidate; 0 for the baseline itself and for the morning."""

    def say(self, words: str) -> None:
        """One line that is worth keeping."""

    def refresh(self) -> None:
        """The ledger has changed."""
