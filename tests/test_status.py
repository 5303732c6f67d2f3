"""`nightfleet status`, `nightfleet watch` and whose reports `nightfleet audit list` lists, as they are typed."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nightwork
import pytest
import staged
from nightwork import Hands, eventually
from sqlalchemy import text

from nightfleet.orchestrator.commands import edge
from nightfleet.orchestrator.ledger import Ledger, nights
from nightfleet.orchestrator.ledger.tables import Verification


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def a_ledger(here: Path) -> Iterator[Ledger]:
    (here / ".nightfleet").mkdir(exist_ok=True)
    with nightwork.opened(here / ".nightfleet/ledger.sqlite", Hands()) as ledger:
        yield ledger


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ending:
        edge.main(list(arguments))
    shown = capsys.readouterr()
    return ending.value.code, shown.out, shown.err


@pytest.mark.parametrize("command", ["status", "watch"])
def test_in_a_folder_without_a_night(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = typed(capsys, command)
    assert (code, out) == (2, "")
    assert "no night was begun in" in err
    assert "`nightfleet launch`" in err
    assert len(err.splitlines()) == 1
    assert list(here.iterdir()) == []
    with a_ledger(here):
        pass
    code, _, err = typed(capsys, command)
    assert code == 2
    assert "has none" in err


@pytest.mark.parametrize("command", ["status", "watch"])
def test_of_a_ledger_that_a_newer_version_wrote(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    with a_ledger(here) as ledger:
        staged.begin(ledger)
        with ledger._engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '99'"))
    code, out, err = typed(capsys, command)
    assert (code, out) == (2, "")
    assert "install the newer nightfleet that wrote it" in err
    code, out, err = typed(capsys, "audit", "list")
    assert code == 0
    assert "whose reports these are cannot be told" in err


@pytest.mark.parametrize("command", ["status", "watch"])
def test_of_a_ledger_that_lies_elsewhere(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with nightwork.opened(tmp_path / "elsewhere.sqlite", Hands()) as ledger:
        staged.a_night(ledger, Hands())
    monkeypatch.setenv("NIGHTFLEET_LEDGER", f"sqlite:///{tmp_path / 'elsewhere.sqlite'}")
    code, out, err = typed(capsys, command)
    assert (code, err) == (0, "")
    assert "PROMOTED 2 of 9 candidates" in out
    assert not (here / ".nightfleet").exists()


def test_status_in_words_and_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hands = Hands()
    with a_ledger(here) as ledger:
        staged.a_night(ledger, hands)
    code, out, err = typed(capsys, "status")
    assert (code, err) == (0, "")
    assert "nobody drives it; type `nightfleet launch` to go on" in out
    assert out.splitlines()[-1] == "PROMOTED 2 of 9 candidates, total gain not measured: the night goes on"
    code, out, err = typed(capsys, "status", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["candidates"], found["driven"], found["awaiting_sign_off"]) == (9, False, [7])


def test_watching_what_nobody_drives_ends_with_its_status(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with a_ledger(here) as ledger:
        staged.begin(ledger)
    code, out, _ = typed(capsys, "watch")
    assert code == 0
    assert "nobody drives it" in out
    assert out.splitlines()[-1].startswith("PROMOTED 0 of 0")


@contextmanager
def watching(here: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-m", "nightfleet.orchestrator", "watch"]
    with (here / "seen").open("w") as seen:
        process = subprocess.Popen(command, cwd=here, stdout=seen, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def begun_to_watch(ledger: Ledger, here: Path) -> None:
    """Only what comes after it looked first is news: say things until one of them is heard."""

    def heard() -> bool:
        staged.judged(ledger, "broken", None, "guess")
        return "broken: guess" in (here / "seen").read_text()

    eventually(heard)


def test_a_night_is_followed_from_another_process(here: Path) -> None:
    with a_ledger(here) as ledger, ledger.drive():
        night = staged.begin(ledger)
        with watching(here) as process:
            begun_to_watch(ledger, here)
            staged.promoted(ledger, 0.1, "hoist")
            with ledger.write() as writing:
                nights.end(writing, night, "the time is spent")
            assert process.wait(60) == 0
    said = (here / "seen").read_text().splitlines()
    assert any(line.endswith("hoist, +10.0%; 1 step, about +10.0% together") for line in said)
    assert any(line.endswith("the night ended: the time is spent") for line in said)
    assert said[-1].startswith("PROMOTED 1 of")


def test_ctrl_c_leaves_and_the_night_goes_on(here: Path) -> None:
    with a_ledger(here) as ledger, ledger.drive():
        staged.begin(ledger)
        with watching(here) as process:
            begun_to_watch(ledger, here)
            with ledger.read() as reading:
                before = reading.last_entry()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        with ledger.read() as reading:
            assert reading.last_entry() == before
    assert (here / "seen").read_text().splitlines()[-1] == "left; nothing that you did here changed the night"


def test_a_watcher_notices_that_the_driver_is_gone(here: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from nightfleet.orchestrator.ledger import Ledger\n"
        "ledger = Ledger.open(Path('.nightfleet/ledger.sqlite'))\n"
        "with ledger.drive():\n    print('drives', flush=True); sys.stdin.read()\n"
    )
    with a_ledger(here) as ledger:
        staged.begin(ledger)
        with subprocess.Popen(
            [sys.executable, "-c", script], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "drives\n"
            with watching(here) as process:
                begun_to_watch(ledger, here)
                driver.kill()
                driver.wait()
                assert process.wait(60) == 0
    assert "nobody drives it; type `nightfleet launch` to go on" in (here / "seen").read_text()


def test_reports_are_listed_with_the_candidate_that_they_are_about(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("v20261120-220000-aaaa", "v20261120-230000-bbbb"):
        (here / ".nightfleet/reports" / name).mkdir(parents=True)
    _, out, _ = typed(capsys, "audit", "list")
    assert "night" not in out.splitlines()[0].replace(".nightfleet", "")
    with a_ledger(here) as ledger:
        staged.begin(ledger)
        staged.judged(ledger, "broken", None, report="v20261120-220000-aaaa")
        with ledger.read() as reading:
            assert reading.get(Verification, 1).report == "v20261120-220000-aaaa"
    monkeypatch.setenv("COLUMNS", "140")
    _, out, err = typed(capsys, "audit", "list")
    assert err == ""
    assert "n1 #1" in out
    _, out, _ = typed(capsys, "audit", "list", "--json")
    assert [(one["id"][-4:], one["night"], one["number"]) for one in json.loads(out)["reports"]] == [
        ("bbbb", None, None),
        ("aaaa", "n1", 1),
    ]
