"""What became of each test, on both sides: whatever passed on the baseline has to run and pass on the candidate.

An exit status says that no test failed, not that any ran. A candidate that may edit the files in which tests stand can
mark them ignored, filter them out or delete them (CHEATS 42), so names are compared, not only statuses. Names are
counted: two binaries may each have a test `works`.

What this does not cover. Code under test usually runs in the process that prints the outcomes, and writes to the same
stream. It can print an outcome that nothing came to; what it prints never replaces one that did: more skips or failures
of a name than on the baseline count against the candidate, however often it also "passed". A test that stands in an
editable file and is hollowed out keeps its name. Behaviour is what the behaviour gate compares.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nightfleet.harness.tree import printable

Outcome: TypeAlias = Literal["passed", "failed", "skipped", "other"]

# So many are named; the others are counted.
NAMED = 3
NAME_LETTERS = 120

_SAID: Mapping[Outcome, str] = {"failed": "failed", "skipped": "is skipped", "other": "did not pass"}


@dataclass(frozen=True)
class Outcomes:
    """What one command printed about its tests.

    Attributes:
        tests: by name, how often it came to which outcome.
        counts: what summaries say, added up; None where there was no summary.
    """

    tests: Mapping[str, Counter[Outcome]] = field(default_factory=dict)
    counts: Counter[Outcome] | None = None

    @property
    def recognised(self) -> bool:
        """Whether anything but the exit status is known."""
        return bool(self.tests) or self.counts is not None

    @property
    def passed(self) -> int:
        """How many tests passed, as the runner itself counts them where it does."""
        if self.counts is not None:
            return self.counts["passed"]
        return sum(outcomes["passed"] for outcomes in self.tests.values())

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON: of outcomes, and of different names."""
        total = self.counts if self.counts is not None else sum(self.tests.values(), Counter[Outcome]())
        return {"names": len(self.tests), **{outcome: total[outcome] for outcome in sorted(total)}}


@dataclass(frozen=True)
class Held:
    """Both sides of all test commands.

    Attributes:
        against: why the candidate is incorrect, None if nothing is lost.
        reason: what was found where nothing is lost.
        facts: figures of each command.
    """

    against: str | None
    reason: str
    facts: Sequence[Mapping[str, Any]]


def hold(commands: Sequence[str], baseline: Sequence[Outcomes], candidate: Sequence[Outcomes]) -> Held:
    """Hold the candidate's outcomes against the baseline's, command by command.

    Args:
        commands: as people typed them.
        baseline: outcomes of each of them.
        candidate: the same, or of fewer where one failed.
    """
    sides = list(zip(commands, baseline, candidate, strict=False))
    facts = [{"command": name, "baseline": one.to_dict(), "candidate": two.to_dict()} for name, one, two in sides]
    against = next((f"'{name}': {said}" for name, one, two in sides if (said := lost(one, two))), None)
    return Held(against, _reason(sides), facts)


def lost(baseline: Outcomes, candidate: Outcomes) -> str | None:
    """What passed on the baseline and did not on the candidate, in one sentence; None if nothing."""
    due = sorted(name for name, outcomes in baseline.tests.items() if outcomes["passed"])
    gone = [(name, said) for name in due if (said := _lost(baseline.tests[name], candidate.tests.get(name)))]
    if gone:
        named = ", ".join(f"{printable(name[:NAME_LETTERS])} {said}" for name, said in gone[:NAMED])
        more = f", and {len(gone) - NAMED} more" if gone[NAMED:] else ""
        return f"{len(gone)} of {_many(len(due), 'test')} that passed on the baseline did not here: {named}{more}"
    return _fewer(baseline, candidate) if baseline.counts is not None else None


def _lost(before: Counter[Outcome], after: Counter[Outcome] | None) -> str | None:
    """What became of one name's tests, if not all of them passed that did."""
    if after is None:
        return "is missing"
    worse = next((outcome for outcome in _SAID if after[outcome] > before[outcome]), None)
    if worse is not None:
        return _SAID[worse]
    short = before["passed"] - after["passed"]
    return f"passed {after['passed']} times instead of {before['passed']}" if short > 0 else None


def _fewer(baseline: Outcomes, candidate: Outcomes) -> str | None:
    before = baseline.counts or Counter[Outcome]()
    after = candidate.counts
    if after is None:
        return f"{_many(before['passed'], 'test')} passed on the baseline; no number of them is to be found here"
    if after["passed"] < before["passed"]:
        return f"{_many(after['passed'], 'test')} passed; on the baseline {before['passed']}"
    # Without names a test that is skipped could be made up for by a new one.
    if not baseline.tests and after["skipped"] > before["skipped"]:
        return f"{_many(after['skipped'], 'test')} skipped; on the baseline {before['skipped']}"
    return None


def _reason(sides: Sequence[tuple[str, Outcomes, Outcomes]]) -> str:
    known = [(one.passed, two.passed) for _, one, two in sides if one.recognised]
    blind = [f"'{name}'" for name, one, _ in sides if not one.recognised]
    parts = []
    if known:
        before, after = (sum(side) for side in zip(*known, strict=True))
        counted = all(one.tests for _, one, _ in sides if one.recognised)
        parts.append(
            f"{_many(before, 'test')} passed on both sides"
            + (f", and {after - before} more on the candidate" if after > before else "")
            + ("" if counted else "; where no names are printed, only their number is known")
        )
    if blind:
        parts.append(f"exit status only: no test names recognised in the output of {', '.join(blind)}")
    return "; ".join(parts)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
