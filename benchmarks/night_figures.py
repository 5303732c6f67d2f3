"""Where a night's time went, and whether the timing lease was busy, from its ledger: `python night_figures.py LEDGER`.

Lease busy: of the time in which a candidate waited to be timed, the share in which one was being timed. Only up to
the last verdict: whoever waits when the night is over waits for the next one.
Loop overhead: from a verdict to the next step's beginning, while there was a candidate to go on with.
"""

import argparse
import json
import sqlite3
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Figures:
    """What one ledger says. Times in seconds."""

    length_s: float = 0.0
    rehearsals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gates: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    waited_s: float = 0.0
    busy_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    judged: int = 0
    promoted: int = 0

    @property
    def busy(self) -> float:
        """Share of the time with a candidate waiting in which the lease was busy; 1 where nobody ever waited."""
        return self.busy_s / self.waited_s if self.waited_s else 1.0


def figures(ledger: Path) -> Figures:
    """Read a ledger, entry by entry."""
    found, states = Figures(), dict[int, str]()
    database = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    entries = database.execute("SELECT at_us, kind, payload FROM entries ORDER BY sequence").fetchall()
    before_us, judged_us = entries[0][0], 0
    last_us = max((at_us for at_us, kind, _ in entries if kind == "candidate judged"), default=0)
    for at_us, kind, payload in entries:
        waits, timed = "waiting" in states.values(), "timing" in states.values()
        # One that is being timed had waited: its own time counts as well.
        if (waits or timed) and at_us <= last_us:
            found.waited_s += (at_us - before_us) / 1e6
            found.busy_s += (at_us - before_us) / 1e6 if timed else 0.0
        before_us = at_us
        values: dict[str, Any] = json.loads(payload)
        if kind == "baseline rehearsed":
            for step, seconds in values["seconds"].items():
                found.rehearsals[step] += seconds
            judged_us = 0
        elif kind == "candidate submitted":
            states[values["id"]] = "submitted"
        elif kind == "candidate moved":
            if judged_us and values["to"] in {"building", "timing"}:
                found.gaps_s.append((at_us - judged_us) / 1e6)
                judged_us = 0
            states[values["candidate"]] = values["to"]
        elif kind == "candidate judged":
            states[values["candidate"]] = "judged"
            judged_us = at_us if {"submitted", "waiting"} & set(states.values()) else 0
            found.judged += 1
            for gate, seconds in values["seconds"].items():
                found.gates[gate] += seconds
        elif kind == "promotion settled":
            found.promoted += values["result"] == "swapped"
    found.length_s = (entries[-1][0] - entries[0][0]) / 1e6
    return found


def lines(found: Figures) -> list[str]:
    """For people."""
    rows = {**{f"rehearsal: {step}": s for step, s in found.rehearsals.items()}, **found.gates}
    accounted = sum(rows.values())
    table = [f"{name:28} {s:8.1f} s {s / found.length_s:6.1%}" for name, s in sorted(rows.items(), key=lambda r: -r[1])]
    gap = statistics.median(found.gaps_s) if found.gaps_s else 0.0
    return [
        f"{found.judged} verdicts, {found.promoted} promoted, {found.length_s:.1f} s",
        *table,
        f"{'the rest (morning, git, …)':28} {found.length_s - accounted:8.1f} s",
        f"lease busy while a candidate waited: {found.busy:.1%} of {found.waited_s:.1f} s",
        f"from a verdict to the next step: median {gap * 1e3:.1f} ms over {len(found.gaps_s)}",
    ]


def main() -> None:
    """The figures of each ledger that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ledger", type=Path, nargs="+")
    for ledger in parser.parse_args().ledger:
        print("\n".join([str(ledger), *lines(figures(ledger))]))


if __name__ == "__main__":
    main()
