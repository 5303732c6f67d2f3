"""The reports of one state directory: found by id, in part by id, as `latest`, by their folder, or in a bundle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightfleet.harness.audit import bundle
from nightfleet.harness.audit.papers import FORMAT, REPORT, ContradictionError, Papers, UnknownFormatError, no_constant
from nightfleet.harness.tree import printable
from nightfleet.native import UserError

LATEST = "latest"
MOST_NAMED = 5


@dataclass(frozen=True)
class Entry:
    """One line of the list. `problem`: why there is nothing to say; gains are fractions."""

    id: str
    verdict: str | None = None
    gain: float | None = None
    pairs: int = 0
    cases: int = 0
    program: str = ""
    baseline: str = ""
    candidate: str = ""
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)


# Letters of a report's name up to its second: "v20261120-134501".
SECOND = 16


class Shelf:
    """The reports below a state directory, which need not be there."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "reports"

    def ids(self) -> list[str]:
        """All of them, the newest first: an id begins with its time."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if path.is_dir()]
        # Names tell the second; of two in one second the folder that was written later is the newer.
        found.sort(key=lambda path: (path.name[:SECOND], path.stat().st_mtime_ns, path.name), reverse=True)
        return [path.name for path in found]

    def entries(self, most: int | None) -> list[Entry]:
        """What the newest reports say of themselves, unchecked; no digest is read."""
        return [_entry(self.folder / name) for name in self.ids()[:most]]

    def find(self, text: str) -> Path:
        """The folder of a report, or the file of a bundle.

        Raises:
            UserError: there is none, or more than one.
        """
        path = Path(text)
        if "/" in text or path.is_file() or (path / REPORT).exists():
            if path.is_file() or (path / REPORT).exists():
                return path
            raise UserError(f"{printable(text)} is no report and no bundle; type `nightfleet audit list`")
        ids = self.ids()
        if text == LATEST:
            whole = next((name for name in ids if (self.folder / name / REPORT).exists()), None)
            if whole is None:
                raise UserError(f"there is no report in {self.folder}; type `nightfleet verify main my-branch` first")
            return self.folder / whole
        found = [name for name in ids if name == text] or [name for name in ids if text and text in name]
        if len(found) == 1:
            return self.folder / found[0]
        if not found:
            raise UserError(f"no report {printable(text)!r} in {self.folder}; type `nightfleet audit list`")
        more = f" and {len(found) - MOST_NAMED} more" if found[MOST_NAMED:] else ""
        raise UserError(f"{printable(text)!r} may mean {', '.join(found[:MOST_NAMED])}{more}; type more of it")

    def papers(self, text: str) -> Papers:
        """The papers of a report or bundle, nothing in them believed.

        Raises:
            UserError: there is none.
            ContradictionError: what lies there has not the form of one.
        """
        path = self.find(text)
        return bundle.papers_of(path) if path.is_file() else Papers.of_folder(path)

    def holds(self, papers: Papers) -> bool:
        """Whether they lie here, and nowhere else that a name may have led to."""
        return papers.place is not None and papers.place.parent == self.folder.resolve()

    def content(self, text: str) -> dict[str, Any]:
        """What a report says, unchecked.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        try:
            return self.papers(text).content
        except (ContradictionError, UnknownFormatError) as error:
            raise UserError(f"{error}; type `nightfleet audit verify {text}`") from None


def _entry(folder: Path) -> Entry:
    report = folder / REPORT
    # A pipe that nobody writes to would be waited for.
    if not report.is_file():
        return Entry(folder.name, problem=f"no {REPORT}: its writing was cut short")
    try:
        found: Any = json.loads(report.read_text(encoding="utf-8"), parse_constant=no_constant)
        return _said(folder.name, found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return Entry(folder.name, problem=f"{REPORT} is damaged")


def _said(name: str, content: Mapping[str, Any]) -> Entry:
    if content["format"] != FORMAT:
        return Entry(name, problem=f"format {content['format']!r}; this version reads {FORMAT}")
    found, subject = content["verification"], content["subject"]
    return Entry(
        name,
        str(found["verdict"]),
        None if found["gain"] is None else float(found["gain"]["estimate"]),
        int(found["pairs"]),
        int(found["behaviour"]["cases"]),
        str(subject["arena"]["name"]),
        str(subject["baseline"]["name"]),
        str(subject["candidate"]["name"]),
    )
