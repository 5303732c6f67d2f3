"""The ledger itself: opened once by each process, read and written in transactions, checked."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from nightfleet.orchestrator.ledger import check, database, driver, version
from nightfleet.orchestrator.ledger.clock import Clock, to_us, utc_now
from nightfleet.orchestrator.ledger.session import Reading, Writing
from nightfleet.orchestrator.ledger.tables import Drive


class Ledger:
    """A ledger that is open. Threads may share it; a forked child must open its own.

    Every method may raise MachineError: the disk is full, the database is gone. Then what was being written is not
    there at all, what was written before is, and the same Ledger works again once the machine does.
    """

    def __init__(self, engine: Engine, url: URL, clock: Clock) -> None:
        self.url, self._clock = url, clock
        self._engine = engine
        self._for_writing, self._for_reading = database.for_writing(engine), database.for_reading(engine)
        # Threads of one process queue here, in order; SQLite would have them all poll.
        self._queue = threading.Lock()
        self._writer: int | None = None
        self._drive: int | None = None

    @classmethod
    def open(cls, where: Path | str, clock: Clock = utc_now) -> "Ledger":
        """Open a ledger, which is made if there is none, and brought up to date if it is an older one.

        Args:
            where: a Path of a SQLite file; or a URL, like postgresql://user@host/name.
            clock: what time it is.

        Raises:
            UserError: the address is impossible, or what is there is newer than this nightfleet, or no ledger.
            nightfleet.native.MachineError: it cannot be reached, read or written.
        """
        url = database.url_of(where)
        with database.failures(url):
            engine = database.connect(url)
            try:
                version.bring_up(engine, url)
            except BaseException:
                engine.dispose()
                raise
        return cls(engine, url, clock)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """One moment of the ledger."""
        with database.failures(self.url), Session(self._for_reading, expire_on_commit=False) as session:
            yield Reading(session, self._now_us())

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """A transaction: kept as a whole when the block ends, not at all if it raises."""
        if self._writer == threading.get_ident():
            raise RuntimeError("a transaction of this thread is under way: write with that one")
        with self._queue, database.failures(self.url), Session(self._for_writing, expire_on_commit=False) as session:
            self._writer = threading.get_ident()
            try:
                # Asked for only now that nobody else writes: the times of entries follow their order.
                session.connection()
                yield Writing(session, self._now_us(), self._drive)
                session.commit()
            finally:
                self._writer = None

    @contextmanager
    def drive(self) -> Iterator[Drive]:
        """Be the one process that drives the night. Whoever joins it does without: the desk needs no right to drive.

        Raises:
            driver.DrivenError: another process is; it says who and what to type.
        """
        with database.failures(self.url):
            give_back = driver.take(self.url)
        if give_back is None:
            with self.read() as reading:
                raise driver.DrivenError(driver.refusal(driver.last(reading)))
        try:
            with self.write() as writing:
                drive = driver.begin(writing)
            self._drive = drive.number
            yield drive
            with self.write() as writing:
                driver.end(writing, drive.number)
        finally:
            self._drive = None
            give_back()

    def check(self, remembered: Mapping[int, str] | None = None) -> check.Health:
        """Whether the ledger is what was written; see `check`."""
        with self.read() as reading:
            return check.check(reading.session, remembered)

    def _now_us(self) -> int:
        return to_us(self._clock())
