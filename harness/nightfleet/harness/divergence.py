"""A case on which two programs differ, as people read it: the records themselves, run again and cut out."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightfleet.harness import arena
from nightfleet.native import Sandbox

# Fixed: of one record, so much is kept, around the first byte that differs.
RECORD_BYTES = 16 << 10
BEFORE_BYTES = 1 << 10
EQUAL_AGAIN = "the records were equal when they were run again"


@dataclass(frozen=True)
class Record:
    """A stretch of a record from `start`, at most RECORD_BYTES long; `size` is the whole record's."""

    data: bytes
    start: int
    size: int

    @property
    def text(self) -> str:
        """For people: control characters and what is not UTF-8 as escapes, ends of lines kept."""
        decoded = self.data.decode("utf-8", "backslashreplace")
        return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


@dataclass(frozen=True)
class Divergence:
    """One case run again on two sides. `fed` is what the program was given for it.

    A record is None if there is none; `note` says why, or why both look alike. `first` is the first byte that differs
    in the raw records, before any canonical form.
    """

    workload: str
    case: int
    fed: str
    baseline: Record | None
    candidate: Record | None
    first: int | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; records as their text."""
        records = {
            side: None if one is None else {"text": one.text, "start": one.start, "size": one.size}
            for side, one in (("baseline", self.baseline), ("candidate", self.candidate))
        }
        about = {"workload": self.workload, "case": self.case, "fed": self.fed}
        return {**about, **records, "first": self.first, "note": self.note}


@dataclass(frozen=True)
class Look:
    """How to run a workload again in order to see its records."""

    workload: arena.Workload
    form: arena.Behaviour
    manifest: Sequence[str] | None
    timeout_s: float
    output_bytes: int

    def at(self, case: int, block: Sequence[int], sides: tuple[Sandbox, Sandbox], sieve: Sandbox | None) -> Divergence:
        """Run a block on both sides and cut out the case's record. `sieve`: the sandbox of the workload's filter."""
        if self.workload.record == "files":
            note = "its records are files, which are hashed where they are written and not kept"
            return Divergence(self.workload.name, case, self._fed(case), None, None, None, note)
        found, notes = [], []
        for name, sandbox in zip(("baseline", "candidate"), sides, strict=True):
            record, note = self._record(case, block, sandbox, sieve)
            found.append(record)
            notes += [f"{name}: {note}"] if note else []
        baseline, candidate = found
        if baseline is not None and baseline == candidate:
            notes.append(EQUAL_AGAIN)
        first = None if baseline is None or candidate is None else _first_difference(baseline, candidate)
        around = first or 0
        return Divergence(
            self.workload.name,
            case,
            self._fed(case),
            _cut(baseline, around),
            _cut(candidate, around),
            first,
            "; ".join(notes),
        )

    def _record(
        self, case: int, block: Sequence[int], sandbox: Sandbox, sieve: Sandbox | None
    ) -> tuple[bytes | None, str]:
        argument = self.workload.feed == "argument"
        argv = (
            [word.replace("{case}", self._fed(case)) for word in self.workload.run] if argument else self.workload.run
        )
        stdin = b"" if argument else "".join(f"{self._fed(one)}\n" for one in block).encode()
        ran = sandbox.run(argv, stdin=stdin, timeout_s=self.timeout_s, output_bytes=self.output_bytes)
        output = ran.stdout
        if self.form.filter and sieve is not None:
            output = sieve.run(
                self.form.filter, stdin=output, timeout_s=self.timeout_s, output_bytes=self.output_bytes
            ).stdout
        records = split(output, self.workload.record)
        place = list(block).index(case)
        note = "" if ran.outcome == "ok" else f"ended with {ran.outcome} {ran.status}"
        if place < len(records):
            return records[place], note
        return None, "; ".join(filter(None, [note, f"gave {len(records)} records for {len(block)} cases"]))

    def _fed(self, case: int) -> str:
        return str(case) if self.manifest is None else self.manifest[case]


def split(output: bytes, record: str) -> list[bytes]:
    """The records of an output: "line", "length" or "stdout" (all of it). What is cut short at its end is left out."""
    if record == "stdout":
        return [output]
    if record == "line":
        return _lines(output)
    records, at = [], 0
    while at + 4 <= len(output):
        (length,) = struct.unpack_from("<I", output, at)
        if at + 4 + length > len(output):
            break
        records.append(output[at + 4 : at + 4 + length])
        at += 4 + length
    return records


def _lines(output: bytes) -> list[bytes]:
    """Lines end at a newline and nothing else: `splitlines` would also end them at a carriage return."""
    parts = output.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _first_difference(left: bytes, right: bytes) -> int | None:
    if left == right:
        return None
    shorter = min(len(left), len(right))
    return next((i for i in range(shorter) if left[i] != right[i]), shorter)


def _cut(record: bytes | None, around: int) -> Record | None:
    if record is None:
        return None
    start = max(0, around - BEFORE_BYTES) if len(record) > RECORD_BYTES else 0
    return Record(record[start : start + RECORD_BYTES], start, len(record))
