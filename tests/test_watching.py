"""Gates as a log shows them, where no bar can move."""

import io
import time

import pytest
from rich.console import Console

from nightfleet.orchestrator.commands.watching import LOG_EVERY_S, Watching


def test_a_log_hears_of_long_work_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    log = io.StringIO()
    with Watching(Console(file=log)) as watch:
        watch.begins("speed")
        for second in range(65):
            now = float(second)
            watch.progress("speed", "pairs", second, 60, 60.0 - second)
    assert LOG_EVERY_S == 30
    assert log.getvalue().splitlines() == ["  speed: pairs 30 of 60, 30 s left", "  speed: pairs 60 of 60, 0 s left"]
