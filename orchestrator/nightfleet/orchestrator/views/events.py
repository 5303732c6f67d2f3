"""`events.jsonl`: every entry of the ledger that belongs to a night, a line each, for `jq`, `grep` and `tail -f`.

The file itself says up to where it goes, in its last whole line. So a process that was killed in the middle of a line
leaves nothing out and nothing twice: what it had begun is cut off and written again.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from structlog.processors import JSONRenderer

from nightfleet.orchestrator.ledger import Ledger, Reading, queries
from nightfleet.orchestrator.ledger.tables import Agent, Candidate, Entry, Night, Promotion, Spend, Table, Task
from nightfleet.orchestrator.views.figures import iso

FILE = "events.jsonl"
# Fixed: entries at a time, as a brief may have a megabyte; and how long a text stays as it is, in characters.
AT_A_TIME = 100
LONGEST_TEXT = 2_000
# Fixed, in seconds: how long to wait for another who writes here, and how often to look.
PATIENCE_S, LOOK_S = 5.0, 0.05
# Texts that are left out however short they are: by what kind of entry has them.
TEXTS = {"task posted": "brief", "report submitted": "report", "program read": "text"}
# Entries that do not name their night name something that has one; drives belong to the night that they fall into.
OWNERS: Mapping[str, tuple[str, type[Table]]] = {
    "candidate moved": ("candidate", Candidate),
    "candidate judged": ("candidate", Candidate),
    "promotion settled": ("promotion", Promotion),
    "promotion signed off": ("promotion", Promotion),
    "agent left": ("agent", Agent),
    "task claimed": ("task", Task),
    "task released": ("task", Task),
    "task cancelled": ("task", Task),
    "report submitted": ("task", Task),
    "spend settled": ("spend", Spend),
}
_render = JSONRenderer()


def append_events(ledger: Ledger, night: int, folder: Path) -> int:
    """Append what the file does not have yet; how many lines that was.

    Raises:
        nightfleet.native.MachineError: the ledger cannot be read.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "r+b") as file:
        if not _is_ours(file):
            return 0
        after = _last_sequence(file)
        while True:
            with ledger.read() as reading:
                entries = queries.entries_after(reading, after, AT_A_TIME)
                lines = [_line(entry, payload) for entry, payload in _of_night(reading, night, entries)]
            if not entries:
                return written
            file.write(b"".join(lines))
            file.flush()
            after, written = entries[-1].sequence, written + len(lines)


def _is_ours(file: BinaryIO) -> bool:
    """Whether nobody else writes: whoever drives the night does, and who joined it. Who is busy writes the same."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_S)
        else:
            return True


def _last_sequence(file: BinaryIO) -> int:
    """Up to where a file goes, with what follows its last whole line cut off; all of it if that is no line of ours."""
    end = file.seek(0, os.SEEK_END)
    whole = _after_last_newline(file, end)
    file.truncate(whole)
    begin = _after_last_newline(file, whole - 1) if whole else 0
    file.seek(begin)
    try:
        found = int(json.loads(file.read(whole - begin))["sequence"]) if whole else 0
    except (ValueError, KeyError, TypeError):
        # Not written by us, or lost to a power cut: it is a view, and can be drawn again.
        found = 0
        file.truncate(0)
    file.seek(0, os.SEEK_END)
    return found


def _after_last_newline(file: BinaryIO, end: int, block: int = 1 << 16) -> int:
    while end > 0:
        begin = max(0, end - block)
        file.seek(begin)
        place = file.read(end - begin).rfind(b"\n")
        if place >= 0:
            return begin + place + 1
        end = begin
    return 0


def _of_night(reading: Reading, night: int, entries: Sequence[Entry]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    found = [(entry, json.loads(entry.payload)) for entry in entries]
    owners: dict[type[Table], set[int]] = {}
    for entry, payload in found:
        if entry.kind in OWNERS:
            name, table = OWNERS[entry.kind]
            owners.setdefault(table, set()).add(payload[name])
    nights = {table: queries.nights_of(reading, table, keys) for table, keys in owners.items()}
    row = reading.get(Night, night)
    for entry, payload in found:
        if entry.kind in OWNERS:
            name, table = OWNERS[entry.kind]
            of = nights[table].get(payload[name])
        elif entry.kind.startswith("drive "):
            of = night if row.began_us <= entry.at_us <= (row.ended_us or entry.at_us) else None
        else:
            of = payload["number" if entry.kind == "night began" else "night"]
        if of == night:
            yield entry, payload


def _line(entry: Entry, payload: dict[str, Any]) -> bytes:
    left_out = TEXTS.get(entry.kind, "")
    short = {name: _digest(value) if name == left_out else _short(value) for name, value in payload.items()}
    event = {"sequence": entry.sequence, "at": iso(entry.at_us), "kind": entry.kind, "payload": short}
    # ASCII: what a stranger wrote cannot colour or turn round what a terminal shows.
    return f"{_render(None, '', event)!s}\n".encode("ascii")


def _short(value: Any) -> Any:
    match value:
        case str() if len(value) > LONGEST_TEXT:
            return _digest(value)
        case dict():
            return {name: _short(item) for name, item in value.items()}
        case list():
            return [_short(item) for item in value]
        case _:
            return value


def _digest(text: str) -> dict[str, Any]:
    data = text.encode("utf-8", "surrogatepass")
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
