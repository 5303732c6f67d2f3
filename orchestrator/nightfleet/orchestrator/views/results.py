"""`results.tsv`: a night's candidates as a table that other programs read; its first columns are autoresearch's.

The columns `commit`, `metric`, `memory_gb`, `status`, `description` are those of karpathy/autoresearch (`program.md`,
"Logging results"), with its zeros where nothing was measured, so that scripts made for it work here.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nightfleet.orchestrator.ledger import Ledger, queries
from nightfleet.orchestrator.ledger.queries import Result
from nightfleet.orchestrator.repo.message import one_line
from nightfleet.orchestrator.views.figures import short

FILE = "results.tsv"
COLUMNS = (
    *("commit", "metric", "memory_gb", "status", "description"),
    *("gain", "low", "high", "pairs", "cases", "agent", "minutes", "number", "rebased_from"),
)
GIB = 1 << 30


def write_results(ledger: Ledger, night: int, folder: Path) -> bool:
    """Write the table anew if it would differ, at once or not at all; whether it did.

    Raises:
        nightfleet.native.MachineError: the ledger cannot be read.
        OSError: the folder cannot be written to.
    """
    with ledger.read() as reading:
        rows = queries.results(reading, night)
    target = folder / FILE
    text = "".join(f"{line}\n" for line in _lines(rows)).encode("utf-8")
    if target.exists() and target.read_bytes() == text:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("wb", dir=folder, prefix=f".{FILE}-", delete=False) as file:
        draft = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
        except BaseException:
            draft.unlink()
            raise
    draft.replace(target)
    return True


def _lines(rows: list[Result]) -> Iterator[str]:
    yield "\t".join(COLUMNS)
    numbers = {row.id: row.number for row in rows}
    for row in rows:
        before = "" if row.rebased_from is None else str(numbers[row.rebased_from])
        yield "\t".join([*_first(row), *_ours(row), str(row.number), before])


def _first(row: Result) -> list[str]:
    memory_gb = (row.memory_bytes or 0) / GIB
    status = "keep" if row.promoted else str(row.verdict) if row.state == "judged" else row.state
    return [short(row.commit), f"{row.metric or 0.0:.6f}", f"{memory_gb:.3f}", status, one_line(row.description)]


def _ours(row: Result) -> list[str]:
    figures = ["" if share is None else f"{share:.6f}" for share in (row.gain, row.low, row.high)]
    counts = ["" if number is None else str(number) for number in (row.pairs, row.cases)]
    return [*figures, *counts, one_line(row.made_by), f"{(row.moved_us - row.created_us) / 6e7:.1f}"]
