"""One process drives the nights of a ledger. The operating system holds it to that, and forgets it when it dies.

A lock on a file beside the ledger, or an advisory lock of PostgreSQL's for as long as a connection lasts. A connection
can break while its process lives: so each drive has a number, and the writes of an older drive are refused.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from nightfleet.harness.store import Hold
from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.clock import from_us
from nightfleet.orchestrator.ledger.database import DRIVER_LOCK
from nightfleet.orchestrator.ledger.fold import folds
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Drive, Entry

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DrivenError(UserError):
    """Another process drives the nights of this ledger."""


@folds("drive began")
def _began(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.add(Drive(**values, began_us=entry.at_us))


@folds("drive ended")
def _ended(session: Session, entry: Entry, values: dict[str, Any]) -> None:
    session.get_one(Drive, values["drive"]).ended_us = entry.at_us


def take(url: URL) -> Callable[[], None] | None:
    """The right to drive, and how to give it back; None if another process has it."""
    if url.get_backend_name() == "sqlite":
        hold = Hold.take(Path(f"{url.database}.driver"), "alone", wait=False)
        return None if hold is None else hold.release
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    connection = engine.connect()
    asked = text("SELECT pg_try_advisory_lock(:lock, hashtext(current_schema()))")
    if connection.scalar(asked, {"lock": DRIVER_LOCK}):
        return connection.close
    connection.close()
    return None


def begin(writing: Writing) -> Drive:
    """Record that this process drives."""
    number = writing.next_number(Drive.number)
    owner = {"number": number, "host": socket.gethostname(), "pid": os.getpid(), **_birth()}
    writing.append("drive began", owner)
    return writing.get(Drive, number)


def end(writing: Writing, drive: int) -> None:
    """Record that it gave the wheel back by itself."""
    writing.append("drive ended", {"drive": drive})


def last(reading: Reading) -> Drive | None:
    """The drive that began last."""
    return reading.session.scalars(select(Drive).order_by(Drive.number.desc()).limit(1)).one_or_none()


def drives_still(drive: Drive) -> bool | None:
    """Whether the process of a drive still drives; None if it is another machine's, of which nobody here can tell."""
    if drive.ended_us is not None:
        return False
    if drive.host != socket.gethostname():
        return None
    born = {"boot": drive.boot, "started_ticks": drive.started_ticks}
    try:
        return _birth(str(drive.pid)) == born
    except (FileNotFoundError, ProcessLookupError):
        return False


def refusal(drive: Drive | None) -> str:
    """What to tell who comes second."""
    who = "another process"
    if drive is not None and drive.ended_us is None:
        since = f"{from_us(drive.began_us):%Y-%m-%d %H:%M:%S} UTC"
        who = f"process {drive.pid} on {drive.host} (since {since})"
    return f"{who} drives the night of this repository; type 'nightfleet launch --join' to help it"


def _birth(pid: str = "self") -> dict[str, Any]:
    """What tells a process from every other of its number, on this machine."""
    # The command's name is in brackets and may hold anything; the start is the 22nd field of the whole line.
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return {"boot": BOOT_ID.read_text(encoding="ascii").strip(), "started_ticks": int(after_name[19])}
