"""How often the same two trees were timed before: each timing has its own chance of a false promotion, and they add up.

One line for each timing is kept in the state directory, written before its first pair, so that a timing that was killed
counts too; where that file is missing, it is made from the reports that are there. A timing that is gone on with is the
same timing, whoever goes on with it: it counts once, by its name. This counts honest repetitions. Who removes the file
with the reports, or changes a blank in the candidate, is not seen.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

INDEX = "timed.jsonl"


def earlier(state: Path, subject: Mapping[str, Any], name: str = "") -> list[float]:
    """The error rates of all earlier timings of the same trees in the same arena, but for the one of this name.

    Args:
        state: the `.nightfleet` directory.
        subject: of a report.
        name: of the timing that asks: going on with it is no further look.
    """
    return [alpha for other, alpha in _timings(state, subject).items() if other != name]


def remember(state: Path, name: str, subject: Mapping[str, Any]) -> None:
    """Keep a timing in mind by its name, once. OSError if that cannot be written."""
    if name not in _timings(state, subject):
        _append(state / INDEX, [{"id": name, "alpha": subject["alpha"], **_trees(subject)}])


def warning(alpha: float, before: list[float]) -> str | None:
    """What to say of a timing with this error rate after these; None for the first."""
    if not before:
        return None
    times, most = len(before) + 1, min(1.0, alpha + sum(before))
    each = f" = {alpha:g} each" if set(before) == {alpha} else " of each added up"
    return (
        f"this is verification {times} of these two trees; with alpha{each}, a false promotion among {times} has "
        f"probability up to {100 * most:.3g}%"
    )


def _timings(state: Path, subject: Mapping[str, Any]) -> dict[str, float]:
    """The error rate of each timing of these trees in this arena, by its name."""
    wanted = _trees(subject)
    # A tree's digest stands in its lines only: the others need not be read as JSON.
    lines = [line for line in _index(state).splitlines() if wanted["candidate"] in line]
    return {
        str(entry.get("id")): entry["alpha"]
        for entry in _entries(lines)
        if {name: entry.get(name) for name in wanted} == wanted
    }


def _trees(subject: Mapping[str, Any]) -> dict[str, str]:
    sides = {side: subject[side]["tree"] for side in ("baseline", "candidate")}
    return {"arena": subject["arena"]["digest"], **sides}


def _index(state: Path) -> str:
    place = state / INDEX
    if not place.exists():
        _append(place, list(_reported(state / "reports")))
    return place.read_text(encoding="utf-8", errors="replace")


def _reported(reports: Path) -> Iterator[dict[str, Any]]:
    """An entry for each report that came to timing; what is no report is passed over."""
    for path in sorted(reports.glob("*/report.json")):
        try:
            content = json.loads(path.read_bytes())
            if content["verification"]["pairs"]:
                subject = content["subject"]
                name = subject.get("timing", path.parent.name)
                yield {"id": name, "alpha": subject["alpha"], **_trees(subject)}
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _entries(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # cut short when the machine stopped
            continue
        if isinstance(entry, dict) and isinstance(entry.get("alpha"), float):
            yield entry


def _append(place: Path, entries: list[dict[str, Any]]) -> None:
    # One write at the file's end: two verifications at once do not cut into each other.
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(handle, "wb", buffering=0) as file:  # noqa: PTH123 - a handle
        file.write(text.encode())
