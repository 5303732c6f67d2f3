"""What a check of a report found, line by line."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from nightfleet.harness.audit.papers import ContradictionError, UnknownFormatError

# What no report can show about itself.
NOT_HERE = "that digests and times come from runs of these two programs, and not from somebody's pen"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `holds` is None where nobody looked, because something before it does not hold."""

    name: str
    holds: bool | None
    words: str


@dataclass
class Account:
    """All checks of one report, in their order; `verdict` and `reason` are what it says, believed or not."""

    id: str
    verdict: str = ""
    reason: str = ""
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def refused(cls, name: str, why: str) -> "Account":
        """Of what has not even the form of a report."""
        return cls(name, checks=[Check("form", holds=False, words=why)])

    @property
    def holds(self) -> bool:
        """Whether everything follows from the evidence."""
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """What does not."""
        return [check for check in self.checks if check.holds is False]

    def look(self, name: str, check: Callable[[], str]) -> bool:
        """Make one check, which returns what it found or raises; whatever is malformed does not hold."""
        try:
            found = Check(name, holds=True, words=check())
        except UnknownFormatError:
            raise
        except ContradictionError as contradiction:
            found = Check(name, holds=False, words=str(contradiction))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            found = Check(name, holds=False, words=f"is malformed: {type(error).__name__}: {error}")
        self.checks.append(found)
        return bool(found.holds)

    def pass_over(self, name: str, why: str) -> None:
        """Say that nobody looked."""
        self.checks.append(Check(name, None, why))

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "id": self.id,
            "holds": self.holds,
            "verdict": self.verdict,
            "reason": self.reason,
            "checks": [asdict(check) for check in self.checks],
            "not_checked": NOT_HERE,
        }
