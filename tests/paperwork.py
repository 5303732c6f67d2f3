"""Reports of real gates on a simulated clock, and hands that edit them: with the digests as they were, or forged."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocked import Bench, on_clock
from tiny import HALF, Tiny, doing

from nightfleet.harness.audit.account import Account
from nightfleet.harness.audit.examination import examine
from nightfleet.harness.audit.papers import Papers
from nightfleet.harness.report import read_report
from nightfleet.harness.request import Nobody
from nightfleet.harness.sums import canonical, part_sums, row_sums
from nightfleet.harness.twin import HEADER_BYTES, ROWS, array_header, root_digest
from nightfleet.harness.verify import verify

Content = dict[str, Any]
RARE = doing("if (number % 105 == 0) number++;")


def report_of(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, name: str, source: str, bench: Callable[[], Bench] = Bench
) -> Path:
    """The report on a candidate with this source."""
    on_clock(monkeypatch, bench)
    _, folder = verify(tiny.request(tiny.branch(name, {"tiny.c": source})), Nobody())
    read_report(folder)
    return folder


def account_of(folder: Path) -> Account:
    return examine(Papers.of_folder(folder))


def content_of(folder: Path) -> Content:
    content: Content = json.loads((folder / "report.json").read_text())
    return content


def edit(folder: Path, change: Callable[[Content], object], *, forged: bool = False) -> None:
    """Change what report.json says. `forged`: every sum and digest is made anew, as only a thorough forger would."""
    content = content_of(folder)
    change(content)
    if forged:
        seal(folder, content)
    else:
        (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n")


def seal(folder: Path, content: Content) -> None:
    """Sums and digests for whatever stands there now."""
    for name, about in content["files"].items():
        metadata = canonical({key: about[key] for key in ("report", "side", "workload")})
        rows = (folder / name).read_bytes()[HEADER_BYTES:]
        about |= {"rows": len(rows) // ROWS.itemsize, "root": root_digest(folder / name, metadata), **row_sums(rows)}
    content = {key: value for key, value in content.items() if key not in {"parts", "root"}}
    content["parts"] = part_sums(content)
    root = hashlib.sha256(b"nightfleet report 3\n" + canonical(content)).hexdigest()
    (folder / "report.json").write_text(json.dumps({**content, "root": root}, indent=1) + "\n")


def rows_of(folder: Path, name: str) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    return np.load(folder / name, allow_pickle=False)  # type: ignore[no-any-return]


def put_rows(folder: Path, name: str, rows: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
    (folder / name).write_bytes(array_header(len(rows)) + rows.astype(ROWS).tobytes())


@contextmanager
def two_reports() -> Iterator[Tiny]:
    """A repository with a report on a promotion, and one on a candidate that differs."""
    ground = Path(tempfile.mkdtemp(prefix="nightfleet-test-"))
    ground.chmod(0o755)
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny = Tiny(ground / "tiny")
        report_of(tiny, monkeypatch, "half", HALF, lambda: Bench(gain=0.12))
        # Names tell the second.
        time.sleep(1)
        report_of(tiny, monkeypatch, "rare", RARE)
        yield tiny
    shutil.rmtree(ground)
