"""Where a night stands, kept up to date from the ledger's new entries: what was read once is not read again."""

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

from nightfleet.orchestrator.ledger import Ledger, Reading, driver, promotions, queries, spending
from nightfleet.orchestrator.ledger.errorbudget import Purpose
from nightfleet.orchestrator.ledger.queries import Known
from nightfleet.orchestrator.ledger.spending import NAMES, Amounts
from nightfleet.orchestrator.ledger.tables import Drive
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import count, interval, percent, total_gain

# Of what strangers wrote, in characters.
LONGEST_TITLE = 80
LONGEST_REASON = 160
# How many verdicts are shown.
LATEST = 8
# Where a candidate is while something is done to it.
AT_WORK = frozenset({"building", "behaving", "timing"})


class News(NamedTuple):
    """Something that a person who follows a night wants to hear. `loud`: worth waking up for."""

    at_us: int
    words: str
    loud: bool = False


# What an entry has to say, and whether loudly.
Said: TypeAlias = tuple[str, bool] | None


@dataclass(frozen=True)
class Judged:
    """One verdict, for the list of the latest."""

    number: int
    verdict: str
    gain: float | None
    title: str


class Standing:
    """One night as of the last `catch_up`.

    Attributes:
        now_us: when that was, by the ledger's clock.
        states: candidates by state.
        verdicts: candidates by their latest verdict.
        latest: the last verdicts, the latest last.
        strategies: how many were proposed.
        reserved: indices of the error budget and their alpha, by purpose.
        holders: who holds which task: holder, role, task, until when (us).
        ending: why the night ended; None as long as it goes on.
        drive: the last process that drove it.
        at_work: candidates that are being heard, by number: state and title.
    """

    def __init__(self, ledger: Ledger, night: int) -> None:
        self._ledger, self._number = ledger, night
        with ledger.read() as reading:
            self._sequence = reading.last_entry()[0]
            self._begin(reading, queries.status(reading, night))
            rows = queries.known(reading, night)
            steps = queries.steps(reading, night)
            meant = promotions.unsettled(reading, night)
            found = queries.proposals(reading, night)
            self._unsettled = {row.id: _amounts(vars(row)) for row in spending.open_spends(reading, night)}
            self._spent = _amounts(asdict(spending.total(reading, night)))
        self._candidates = {row.id: row for row in rows}
        verdicts = sorted((row for row in rows if row.verdict is not None), key=lambda row: row.moved_us)
        self.latest = deque((_judged(row) for row in verdicts[-LATEST:]), maxlen=LATEST)
        self._steps = {promotion.id: verification.gain for promotion, _, verification in steps}
        self._promotions = {promotion.id: promotion.candidate for promotion, _, _ in steps}
        if meant is not None:
            self._promotions[meant.id] = meant.candidate
        self.strategies, self._proposal = len(found), found[-1][0] if found else 0
        self.at_work = {row.number: (row.state, _title(row)) for row in rows if row.state in AT_WORK}

    def _begin(self, reading: Reading, status: queries.Status) -> None:
        self.night, self.ending = status.night, status.night.ending
        self.states, self.verdicts = Counter(status.states), Counter(status.verdicts)
        self.reserved = dict(status.reserved)
        self._about_now(reading)

    def _about_now(self, reading: Reading) -> None:
        self.now_us = reading.now_us
        self.holders: list[queries.Holder] = queries.holders(reading, self._number)
        self.drive: Drive | None = driver.last(reading)

    @property
    def candidates(self) -> int:
        """How many there are."""
        return len(self._candidates)

    @property
    def gains(self) -> list[float | None]:
        """Of each step of the staircase, as it was promoted with."""
        return list(self._steps.values())

    @property
    def spent(self) -> Amounts:
        """All that is spent or reserved."""
        return Amounts(**self._spent)

    @property
    def total_gain(self) -> float:
        """What the steps amount to if each has the gain that it was promoted with."""
        return total_gain(self.gains)

    def catch_up(self) -> list[News]:
        """Read what was written since, and say what of it is news."""
        folds = self._folds()
        with self._ledger.read() as reading:
            self.now_us = reading.now_us
            last = reading.last_entry()[0]
            if last == self._sequence:
                return []
            entries = queries.entries_of(reading, folds, self._sequence)
            proposed = queries.proposals(reading, self._number, self._proposal)
            self._about_now(reading)
        self._sequence = last
        news = self._proposed(proposed)
        for entry in entries:
            said = folds[entry.kind](json.loads(entry.payload))
            if said is not None:
                news.append(News(entry.at_us, *said))
        return news

    # --- what each kind of entry changes, and says -------------------------------------------------------------------

    def _folds(self) -> Mapping[str, Callable[[Mapping[str, Any]], Said]]:
        return {
            "candidate submitted": self._submitted,
            "candidate moved": self._moved,
            "candidate judged": self._was_judged,
            "promotion meant": self._meant,
            "promotion settled": self._settled,
            "promotion signed off": self._signed_off,
            "promotions withdrawn": self._withdrawn,
            "error budget reserved": self._index_reserved,
            "spend reserved": self._spend_reserved,
            "spend settled": self._spend_settled,
            "spend recorded": self._spend_recorded,
            "drive began": self._drive_began,
            "night ended": self._ended,
        }

    def _proposed(self, found: list[tuple[int, str]]) -> list[News]:
        if not found:
            return []
        self.strategies, self._proposal = self.strategies + len(found), found[-1][0]
        by = Counter(made_by for _, made_by in found)
        return [News(self.now_us, f"{one_line(who)} found {_strategies(number)}") for who, number in by.items()]

    def _submitted(self, values: Mapping[str, Any]) -> Said:
        if values["night"] == self._number:
            row = Known(values["id"], values["number"], values["description"], "submitted", None, None, 0)
            self._candidates[row.id] = row
            self.states[row.state] += 1
        return None

    def _moved(self, values: Mapping[str, Any]) -> Said:
        row = self._to(values["candidate"], values["to"])
        if row is None or row.state != "stale":
            return None
        return f"{_named(row)} is stale{_because(values['reason'])}", False

    def _was_judged(self, values: Mapping[str, Any]) -> Said:
        row = self._to(values["candidate"], "judged")
        if row is None:
            return None
        if row.verdict is not None:
            self.verdicts[row.verdict] -= 1
        row = self._candidates[row.id] = row._replace(verdict=values["verdict"], gain=values["gain"])
        self.verdicts[values["verdict"]] += 1
        self.latest.append(_judged(row))
        gain = "" if row.gain is None else f" {percent(row.gain)} {interval(values['low'], values['high'])}".rstrip()
        return f"#{row.number} {row.verdict}{gain}: {_title(row)}{_because(values['reason'])}", False

    def _meant(self, values: Mapping[str, Any]) -> Said:
        if values["night"] == self._number:
            self._promotions[values["id"]] = values["candidate"]
        return None

    def _settled(self, values: Mapping[str, Any]) -> Said:
        row = self._candidates.get(self._promotions.get(values["promotion"], 0))
        if row is None:
            return None
        if values["result"] != "swapped":
            return f"{_named(row)} was not promoted: the champion moved meanwhile", False
        self._steps[values["promotion"]] = row.gain
        steps = f"; {count(len(self.gains), 'step')}, about {percent(self.total_gain)} together"
        return f"PROMOTED {_named(row)}{'' if row.gain is None else f', {percent(row.gain)}'}{steps}", True

    def _withdrawn(self, values: Mapping[str, Any]) -> Said:
        """One and all after it left the champion."""
        if values["promotion"] not in self._steps:
            return None
        kept = {number: gain for number, gain in self._steps.items() if number < values["promotion"]}
        gone, self._steps = len(self._steps) - len(kept), kept
        return f"{count(gone, 'promotion')} left the champion; {count(len(kept), 'step')} of it stand", True

    def _signed_off(self, values: Mapping[str, Any]) -> Said:
        row = self._candidates.get(self._promotions.get(values["promotion"], 0))
        if row is None:
            return None
        word = "accepted" if values["accepted"] else "rejected"
        return f"{_named(row)} was {word} by {one_line(values['said_by'], LONGEST_TITLE)}", True

    def _ended(self, values: Mapping[str, Any]) -> Said:
        if values["night"] != self._number:
            return None
        self.ending = values["ending"]
        return f"the night ended: {one_line(values['ending'])}", True

    def _drive_began(self, values: Mapping[str, Any]) -> Said:
        return f"process {values['pid']} on {one_line(values['host'], LONGEST_TITLE)} drives the night", False

    def _index_reserved(self, values: Mapping[str, Any]) -> Said:
        if values["night"] == self._number:
            purpose: Purpose = values["purpose"]
            indices, alpha = self.reserved[purpose]
            self.reserved[purpose] = (indices + 1, alpha + values["alpha"])
        return None

    def _spend_reserved(self, values: Mapping[str, Any]) -> Said:
        if values["night"] == self._number:
            reserved = self._unsettled[values["id"]] = _amounts(values)
            self._spent.update(reserved)
        return None

    def _spend_settled(self, values: Mapping[str, Any]) -> Said:
        reserved = self._unsettled.pop(values["spend"], None)
        if reserved is not None:
            self._spent.subtract(reserved)
            self._spent.update(_amounts(values))
        return None

    def _spend_recorded(self, values: Mapping[str, Any]) -> Said:
        if values["night"] == self._number:
            self._spent.update(_amounts(values))
        return None

    def _to(self, candidate: int, state: str) -> Known | None:
        """A candidate of this night in its new state; None for another night's."""
        row = self._candidates.get(candidate)
        if row is None:
            return None
        self.states[row.state] -= 1
        self.states[state] += 1
        self._candidates[candidate] = row = row._replace(state=state)
        self.at_work.pop(row.number, None)
        if state in AT_WORK:
            self.at_work[row.number] = (state, _title(row))
        return row


def _amounts(values: Mapping[str, Any]) -> Counter[str]:
    return Counter({name: int(values[name]) for name in NAMES})


def _judged(row: Known) -> Judged:
    return Judged(row.number, str(row.verdict), row.gain, _title(row))


def _title(row: Known) -> str:
    return one_line(row.description, LONGEST_TITLE)


def _named(row: Known) -> str:
    return f"#{row.number} {_title(row)}"


def _because(reason: str) -> str:
    return f" ({one_line(reason, LONGEST_REASON)})" if reason else ""


def _strategies(number: int) -> str:
    return "1 strategy" if number == 1 else f"{number} strategies"
