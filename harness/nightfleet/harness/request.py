"""What one verification is asked, and who is told meanwhile."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nightfleet.harness.arena import Arena
from nightfleet.harness.report import Gate, new_id
from nightfleet.harness.rules import VERIFY_ALPHA, Purpose
from nightfleet.harness.tree import Tree


@dataclass(frozen=True)
class Request:
    """One candidate against one baseline.

    Attributes:
        baseline: the tree that must be beaten; its build is the user's to mend.
        candidate: the tree on trial; untrusted.
        source: the user's folder, for `data` and the toolchain; never written to.
        state: the `.nightfleet` directory.
        program_text: the text of program.md, as `FrontMatter.text` gives it; the report keeps it.
        master: 32 secret bytes; all cases and seeds follow from it and `index`.
        index: this verification's own number.
        alpha: error rate of the timing, where nobody names it when the timing begins.
        purpose: a gain in speed, or a simplification that costs nothing.
        notes: what is to be said beside the verdict.
        id: of the report.
        timing: the timing's name, for one that may be gone on with: by the same request, or by another that names it
            under the same master and index. Empty: the report's id.
    """

    arena: Arena
    baseline: Tree
    candidate: Tree
    source: Path
    state: Path
    program_text: str
    master: bytes
    index: int = 0
    alpha: float = VERIFY_ALPHA
    purpose: Purpose = "speed"
    notes: tuple[str, ...] = ()
    id: str = field(default_factory=new_id)
    timing: str = ""

    @property
    def program_digest(self) -> str:
        """SHA-256 of the program's text, 64 hex digits."""
        return hashlib.sha256(self.program_text.encode("utf-8")).hexdigest()


class Watch(Protocol):
    """Told what happens; a progress bar, a log, or nobody."""

    def begins(self, gate: str) -> None:
        """A gate is entered."""

    def progress(self, gate: str, words: str, done: int, of: int | None, left_s: float | None) -> None:
        """Within a gate: what is being done, how much of it is, and how long it will take (s), where known."""

    def ends(self, gate: Gate) -> None:
        """What a gate found."""


class Nobody:
    """Hears and says nothing."""

    def begins(self, gate: str) -> None:
        """Nothing."""

    def progress(self, *_news: Any) -> None:
        """Nothing."""

    def ends(self, gate: Gate) -> None:
        """Nothing."""
