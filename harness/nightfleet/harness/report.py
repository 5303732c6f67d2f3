r"""The hash report of one verification: what was compared, what came out, and a root digest over all of it.

A report is a directory: `report.json`, and for each workload and side a digest array (see `native.write_digests`).
Anyone can read it with a JSON parser and NumPy; `docs/evidence.md` names every key, and `audit` reads it without this
file. Its root is SHA-256 over b"nightfleet report 3\n" and the JSON of everything but the root itself (sorted keys, no
blanks, ASCII); the JSON holds the root digest of every array, and the raw pairs from which the verdict on speed is
computed again whenever a report is read.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nightfleet.harness.audit.reckoning import check_pairs, check_verdict
from nightfleet.harness.sums import canonical, part_sums, row_sums
from nightfleet.native import UserError, verify_digests, write_digests

FORMAT = 3
_PREFIX = b"nightfleet report 3\n"
# Of a digest array, before its rows.
HEADER_BYTES = 192

Verdict = Literal[
    "promote",
    "incremental",
    "simplify",
    "reject",
    "undecided",
    "incorrect",
    "broken",
    "out_of_scope",
    "suspicious",
]
Side = Literal["baseline", "candidate"]
# What `Verification.to_json` gives, before anything was found.
NOTHING_FOUND: Mapping[str, Any] = {
    "id": None,
    "verdict": None,
    "reason": "",
    "gain": None,
    "pairs": 0,
    "behaviour": {"cases": 0, "identical": None, "diverged": 0},
    "extraordinary": False,
    "repeats": 0,
    "reused": {},
    "notes": [],
    "gates": [],
    "report": None,
}


class ReportError(UserError):
    """A report that is not what it says: which file, what was expected and what was found."""


@dataclass(frozen=True)
class Gate:
    """What one gate found.

    Attributes:
        passed: None where it was not reached or has nothing to do in this arena.
        reason: one sentence for people.
        seconds: how long it took.
        facts: plain values, for JSON.
    """

    name: str
    passed: bool | None
    reason: str
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gain:
    """A gain as a fraction of the baseline's, with its interval, and of what."""

    estimate: float
    low: float
    high: float
    clock: str


@dataclass(frozen=True)
class Verification:
    """Everything that the gates found about one candidate against one baseline.

    Attributes:
        repeats: how often the same two trees had been timed before.
        reused: by workload whose cases are a manifest's, how often the most used of them was run again.
    """

    id: str
    verdict: Verdict
    reason: str
    gates: tuple[Gate, ...]
    gain: Gain | None = None
    pairs: int = 0
    cases: int = 0
    diverged: int = 0
    extraordinary: bool = False
    repeats: int = 0
    reused: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether this is a candidate that one would merge."""
        return self.verdict in {"promote", "simplify"}

    def to_json(self, report: Path) -> dict[str, Any]:
        """What `--json` prints. Gains are fractions."""
        behaviour = next((gate for gate in self.gates if gate.name == "behaviour"), None)
        return {
            "id": self.id,
            "verdict": self.verdict,
            "reason": self.reason,
            "gain": None if self.gain is None else asdict(self.gain),
            "pairs": self.pairs,
            "behaviour": {
                "cases": self.cases,
                "identical": None if behaviour is None else behaviour.passed,
                "diverged": self.diverged,
            },
            "extraordinary": self.extraordinary,
            "repeats": self.repeats,
            "reused": dict(self.reused),
            "notes": list(self.notes),
            "gates": [asdict(gate) for gate in self.gates],
            "report": str(report),
        }


@dataclass(frozen=True)
class Array:
    """The digests of one workload on one side: `cases` of shape (n,), `digests` of shape (n, 2), [high, low]."""

    side: Side
    workload: str
    cases: NDArray[np.int64]
    digests: NDArray[np.uint64]


def new_id() -> str:
    """A name that sorts by time (UTC) and meets no other."""
    return time.strftime("v%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(3)


def write_report(
    directory: Path,
    verification: Verification,
    *,
    subject: Mapping[str, Any],
    arrays: tuple[Array, ...] = (),
    speed: Mapping[str, Any] | None = None,
    divergences: tuple[Mapping[str, Any], ...] = (),
    sample: tuple[Mapping[str, Any], ...] = (),
    patch: str | None = None,
) -> str:
    """Write a report into `directory`, which is made, or emptied; return its root digest.

    Args:
        directory: where; its parent is there already.
        verification: what was found.
        subject: what was compared: arena, program, commits, trees, artefacts, toolchain, machine, salts, commitment.
        arrays: the digests.
        speed: an `evidence.Evidence` as plain values.
        divergences: readable records of both sides, for people.
        sample: the same of an extraordinary claim's further cases, which are equal.
        patch: between the two trees, for people; None where there is none to show.

    Raises:
        OSError: the disk is full or the place cannot be written; then no report.json stands there.
        nightfleet.native.MachineError: the same for a digest array.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    for leftover in directory.iterdir():
        # Of a writing that was cut short, or of the same request before it was gone on with.
        leftover.unlink()
    files = {}
    for number, array in enumerate(arrays):
        name = f"digests-{number}.npy"
        about = {"report": verification.id, "side": array.side, "workload": array.workload}
        root = write_digests(directory / name, array.cases, array.digests, canonical(about))
        rows = (directory / name).read_bytes()[HEADER_BYTES:]
        files[name] = {**about, "rows": len(array.cases), "root": root, **row_sums(rows)}
    content = {
        "format": FORMAT,
        "verification": verification.to_json(directory),
        "subject": dict(subject),
        "files": files,
        "speed": speed,
        "divergences": [dict(one) for one in divergences],
        "sample": [dict(one) for one in sample],
        "patch": patch,
    }
    # As JSON would give it back, so that what is hashed is what is read.
    content = json.loads(json.dumps(content))
    content["parts"] = part_sums(content)
    root = _root(content)
    _replace(directory / "report.json", json.dumps({**content, "root": root}, indent=1) + "\n")
    return root


def read_report(directory: Path) -> dict[str, Any]:
    """Read a report and hold it against itself: root, every array, and the verdict on speed from its raw pairs.

    Raises:
        ReportError: a file is missing, changed, or of a newer format, or the verdict does not follow from its pairs.
    """
    path = directory / "report.json"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{path} is not there: no report, or one whose writing was cut short") from None
    except (ValueError, OSError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ReportError(
            f"{path} has format {found!r}; this version reads {FORMAT}: read it with the version that wrote it, "
            "or judge the change again"
        )
    root = content.pop("root", None)
    if root != (computed := _root(content)):
        raise ReportError(f"{path} was changed: its root digest is {root}, its content gives {computed}")
    for name, about in content["files"].items():
        _check_array(directory / name, about)
    try:
        # The same reckoning as an audit's: no gate, figure or verdict may say anything else than what it follows from.
        for follows in (check_pairs, check_verdict):
            follows(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{path}: {error}") from None
    return {**content, "root": root}


def _check_array(path: Path, about: Mapping[str, Any]) -> None:
    metadata = canonical({key: about[key] for key in ("report", "side", "workload")})
    try:
        verify_digests(path, metadata, about["root"])
    except UserError as error:
        raise ReportError(f"{path}: {error}") from None


def _root(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_PREFIX + canonical(content)).hexdigest()


def _replace(path: Path, text: str) -> None:
    """Write a file at once or not at all."""
    draft = path.with_suffix(".draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
