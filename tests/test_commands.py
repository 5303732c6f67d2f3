"""The command line, from outside where it matters: exit codes, and what goes to which stream."""

import io
import json
import os
import subprocess
import sys
from importlib.metadata import version
from typing import NoReturn

import pytest
import structlog

from nightfleet import native
from nightfleet.orchestrator.commands import edge
from nightfleet.orchestrator.log import set_up_log

FACTS = {
    "kernel": {"landlock": "Landlock ABI 7", "control group: memory": "no: not writable [v1]"},
    "promises": {"own root": "pivot_root", "memory limit": "lost: no writable memory cgroup [v1]"},
    "below_minimum": None,
}
LOSES = {"kernel": FACTS["kernel"], "promises": {}, "below_minimum": "user namespaces are switched off"}


def nightfleet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "nightfleet.orchestrator", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
    )


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ending:
        edge.main(list(arguments))
    return ending.value.code


def test_version() -> None:
    run = nightfleet("--version")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"nightfleet {version('nightfleet')}\n", "")


def test_help_shows_the_example() -> None:
    run = nightfleet("probe", "--help")
    assert run.returncode == 0
    assert "nightfleet probe --json" in run.stdout


def test_an_unknown_command_is_the_tool_not_the_answer() -> None:
    run = nightfleet("prob")
    assert run.returncode == 2
    assert run.stdout == ""
    assert "prob" in run.stderr


def test_probe_of_this_machine() -> None:
    run = nightfleet("probe", "--json")
    assert run.returncode in {0, 1}, run.stderr
    assert run.stderr == ""
    facts = json.loads(run.stdout)
    assert run.returncode == (0 if facts["below_minimum"] is None else 1)
    assert facts["kernel"]
    table = nightfleet("probe")
    assert table.returncode == run.returncode
    assert "minimum" in table.stdout


def test_probe_answers_yes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(native, "probe", lambda: FACTS)
    assert exit_code("probe") == 0
    shown = capsys.readouterr().out
    assert "pivot_root" in shown
    assert "[v1]" in shown
    assert "the stated minimum holds" in shown
    assert exit_code("probe", "--json") == 0
    assert json.loads(capsys.readouterr().out) == FACTS


def test_probe_answers_no_when_the_minimum_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "probe", lambda: LOSES)
    assert exit_code("probe") == 1
    assert "below the minimum: user namespaces are switched off" in capsys.readouterr().out
    assert exit_code("probe", "--json") == 1


def fail_with(error: BaseException) -> object:
    def probe() -> NoReturn:
        raise error

    return probe


@pytest.mark.parametrize(
    ("error", "says"), [(native.UserError, "cores: 9"), (native.MachineError, "this machine could not do it")]
)
def test_errors_of_the_library_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[Exception], says: str
) -> None:
    monkeypatch.setattr(native, "probe", fail_with(error("cores: 9, but there are 2; type cores: 2")))
    assert exit_code("probe") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_defect_is_not_an_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(native, "probe", fail_with(ZeroDivisionError("planted")))
    assert exit_code("probe") == 2
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: planted" in shown
    assert "defect in nightfleet" in shown


def test_ctrl_c_says_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(native, "probe", fail_with(KeyboardInterrupt()))
    assert exit_code("probe") == 130
    assert capsys.readouterr().err == "nightfleet: interrupted\n"


@pytest.mark.parametrize(
    ("verbosity", "shown"), [(0, ["warning"]), (1, ["warning", "info"]), (5, ["warning", "info", "debug"])]
)
def test_events_go_to_standard_error(capsys: pytest.CaptureFixture[str], verbosity: int, shown: list[str]) -> None:
    set_up_log(verbosity)
    log = structlog.get_logger()
    for level in ("warning", "info", "debug"):
        getattr(log, level)("voided", pair=3)
    streams = capsys.readouterr()
    assert streams.out == ""
    assert [level for level in ("warning", "info", "debug") if level in streams.err] == shown
    assert streams.err.count("pair=3") == len(shown)


def test_an_event_goes_where_standard_error_is_now(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", gone)
        set_up_log()
    gone.close()
    structlog.get_logger().warning("voided")
    assert "voided" in capsys.readouterr().err


def test_an_event_that_nobody_can_read_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        set_up_log()
        structlog.get_logger().warning("voided")
        # What the pipe still holds would be written, and refused, when it is closed.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, pipe.fileno())
        os.close(nowhere)
    # The file is closed now.
    structlog.get_logger().warning("voided")
