"""What came of a night, in words: at its end, and whenever somebody asks for its status."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger import Ledger, Reading, ablations, driver, nights, queries
from nightfleet.orchestrator.ledger.queries import Result, Status
from nightfleet.orchestrator.ledger.tables import Night
from nightfleet.orchestrator.program import Budget, load_program
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import interval, percent, short
from nightfleet.orchestrator.views.standing import LONGEST_TITLE

NEAR = ("incremental", "undecided")
KEPT = ("promote", "simplify")


@dataclass(frozen=True)
class Morning:
    """The champion against the root, measured anew. `gain` is None where it was not, and `why` says why.

    Attributes:
        gain: fraction of the root's, with `low` and `high`.
        clock: what was compared: cpu, wall, memory.
        identical: of `cases`, how many records were the same.
        report: the id of its report.
    """

    gain: float | None = None
    low: float | None = None
    high: float | None = None
    clock: str = ""
    pairs: int = 0
    cases: int = 0
    identical: int = 0
    report: str = ""
    why: str = ""


class Step(NamedTuple):
    """One promotion that stands in the champion.

    Attributes:
        now: what it is worth by the morning, a fraction: the champion against the champion without it, with `now_low`
            and `now_high`; None where that was not measured, and `now_says` says why if there is a reason.
        redundant: it is shown to be worth less by now than the smallest gain that counts.
    """

    number: int
    title: str
    gain: float | None
    low: float | None
    high: float | None
    pairs: int
    cases: int
    commit: str
    report: str
    awaits_sign_off: bool
    now: float | None = None
    now_low: float | None = None
    now_high: float | None = None
    now_says: str = ""
    redundant: bool = False


@dataclass(frozen=True)
class Summary:
    """What the ledger says of a night.

    Attributes:
        now_us: when it was asked.
        budget: of the program as it was read last; None where that cannot be read any more.
        driven: whether a process drives it; None if nobody here can tell.
        driver: that process, in words.
    """

    status: Status
    steps: tuple[Step, ...]
    results: tuple[Result, ...]
    gate_seconds: Mapping[str, float]
    budget: Budget | None
    morning: Morning | None
    now_us: int
    driven: bool | None
    driver: str

    @classmethod
    def of(cls, ledger: Ledger, night: int) -> "Summary":
        """Read one moment of the ledger. MachineError where it cannot be read."""
        with ledger.read() as reading:
            status = queries.status(reading, night)
            drive = driver.last(reading)
            return cls(
                status=status,
                steps=tuple(_steps(reading, night, status.awaiting_sign_off)),
                results=tuple(queries.results(reading, night)),
                gate_seconds=queries.gate_seconds(reading, night),
                budget=budget_of(reading, night),
                morning=_morning(reading, night),
                now_us=reading.now_us,
                driven=False if drive is None else driver.drives_still(drive),
                driver="" if drive is None else f"process {drive.pid} on {drive.host}",
            )

    @property
    def night(self) -> Night:
        """The night."""
        return self.status.night

    @property
    def last_line(self) -> str:
        """What came of it in one line that other programs may read."""
        morning = self.morning
        head = f"PROMOTED {len(self.steps)} of {len(self.results)} candidates, total gain"
        if morning is None or morning.gain is None:
            return f"{head} not measured: {self._why_not_measured()}"
        figure = f"{percent(morning.gain, sign=False)} {interval(morning.low, morning.high)}".rstrip()
        return f"{head} {figure}, {morning.identical}/{morning.cases} cases identical"

    @property
    def near(self) -> list[Result]:
        """Who came close, the closest first: small gains, and those of which nobody knows yet."""
        found = [row for row in self.results if row.state == "judged" and row.verdict in NEAR]
        return sorted(found, key=lambda row: -(row.gain or 0.0))

    @property
    def failed(self) -> dict[str, list[int]]:
        """The numbers of the others that are through, by what they came to; the most frequent first."""
        found = defaultdict[str, list[int]](list)
        again = {row.rebased_from for row in self.results}
        for row in self.results:
            if row.id in again:
                continue  # what came of it stands under its later number
            if row.state == "stale" and not row.promoted:
                found["stale"].append(row.number)
            elif row.state == "judged" and not row.promoted and row.verdict not in NEAR:
                # A promotion that lost its swap, and was not run again yet.
                found["not swapped" if row.verdict in KEPT else str(row.verdict)].append(row.number)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    @property
    def lineages(self) -> list[list[int]]:
        """The numbers of what was run again on a later champion: of each the first, and all that followed."""
        later = {row.rebased_from: row for row in self.results if row.rebased_from is not None}
        found = []
        for row in self.results:
            if row.rebased_from is None and row.id in later:
                line = [row]
                while line[-1].id in later:
                    line.append(later[line[-1].id])
                found.append([one.number for one in line])
        return found

    @property
    def awaiting(self) -> list[Step]:
        """Steps that claim too much to be believed unseen."""
        return [step for step in self.steps if step.awaits_sign_off]

    @property
    def elapsed_s(self) -> float:
        """From its beginning to its end, or to now."""
        return ((self.night.ended_us or self.now_us) - self.night.began_us) / 1e6

    def to_json(self) -> dict[str, Any]:
        """All of it in plain values."""
        status, night = self.status, self.night
        names = ("number", "name", "root", "base_branch", "champion_branch", "champion", "planned", "alpha", "epoch")
        return {
            "night": {name: getattr(night, name) for name in names}
            | {"began_us": night.began_us, "ended_us": night.ended_us, "ending": night.ending},
            "driven": self.driven,
            "driver": self.driver,
            "elapsed_s": self.elapsed_s,
            "candidates": len(self.results),
            "states": status.states,
            "verdicts": status.verdicts,
            "steps": [step._asdict() for step in self.steps],
            "awaiting_sign_off": [step.number for step in self.awaiting],
            "near": [{"number": row.number, "verdict": row.verdict, "gain": row.gain} for row in self.near],
            "failed": self.failed,
            "lineages": self.lineages,
            "spent": asdict(status.spent),
            "budget": None if self.budget is None else asdict(self.budget),
            "error_budget": {
                purpose: {"indices": indices, "alpha": alpha} for purpose, (indices, alpha) in status.reserved.items()
            },
            "gate_seconds": dict(self.gate_seconds),
            "morning": None if self.morning is None else asdict(self.morning),
            "last_line": self.last_line,
        }

    def _why_not_measured(self) -> str:
        if self.morning is not None and self.morning.why:
            return one_line(self.morning.why)
        if not self.steps:
            return "nothing was promoted"
        return "the night goes on" if self.night.ended_us is None else "the champion was not held against the root"


def _steps(reading: Reading, night: int, awaiting: tuple[int, ...]) -> Iterator[Step]:
    known = ablations.of_champion(reading, night)
    for promotion, candidate, found in queries.steps(reading, night):
        now = known.get(promotion.id)
        yield Step(
            number=candidate.number,
            title=one_line(candidate.description, LONGEST_TITLE),
            gain=found.gain,
            low=found.low,
            high=found.high,
            pairs=found.pairs,
            cases=found.cases,
            commit=short(promotion.to_commit),
            report=found.report,
            awaits_sign_off=promotion.id in awaiting,
            now=None if now is None else now.gain,
            now_low=None if now is None else now.low,
            now_high=None if now is None else now.high,
            now_says="" if now is None or now.gain is not None else one_line(now.reason, LONGEST_TITLE),
            redundant=now is not None and now.redundant,
        )


def _morning(reading: Reading, night: int) -> Morning | None:
    """The last measurement, if it was of the champion that there is now."""
    found = nights.morning(reading, night)
    if found is None or found.champion != reading.get(Night, night).champion:
        return None
    return Morning(
        gain=found.gain,
        low=found.low,
        high=found.high,
        clock=found.clock or "",
        pairs=found.pairs,
        cases=found.cases,
        identical=found.cases - found.diverged,
        report=found.report,
        why=found.reason,
    )


def budget_of(reading: Reading, night: int) -> Budget | None:
    """A night's budget, by the program as it was read last; None where that cannot be read any more."""
    text = nights.program_text(reading, night)
    try:
        return None if text is None else load_program(text).budget
    except UserError:
        # Written for another version, which knew keys that this one does not.
        return None
