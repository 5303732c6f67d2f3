"""A gate while it is being passed, and the ways in which it ends a verification."""

from dataclasses import dataclass, field
from typing import Any, NoReturn

from nightfleet.harness.report import Verdict
from nightfleet.harness.tree import printable

# The gates, in the order of their cost.
NAMES = ("scope", "build", "smoke", "behaviour", "tests", "limits", "speed", "extraordinary")


class Ended(Exception):  # noqa: N818 - an ending is no error
    """A gate said no."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict, self.reason = verdict, reason


@dataclass
class Passing:
    """One gate. It is passed unless somebody says otherwise."""

    name: str
    reason: str = ""
    passed: bool | None = True
    facts: dict[str, Any] = field(default_factory=dict)

    def no(self, verdict: Verdict, reason: str, **facts: object) -> NoReturn:
        """End the verification here. A reason may quote a candidate, and people read it on terminals."""
        reason = printable(reason)
        self.passed, self.reason = False, reason
        self.facts.update(facts)
        raise Ended(verdict, reason)

    def skip(self, reason: str) -> None:
        """Say that there is nothing to do."""
        self.passed, self.reason = None, reason

    def cut_short(self, error: BaseException) -> None:
        """Say that it found nothing out, for a cause that is not the candidate's."""
        if isinstance(error, KeyboardInterrupt):
            self.passed, self.reason = None, "cut short: interrupted"
            return
        words = str(error).splitlines()
        self.passed, self.reason = None, f"cut short: {printable(words[0]) if words else type(error).__name__}"
