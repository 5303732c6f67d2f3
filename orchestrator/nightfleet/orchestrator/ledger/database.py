"""Which database, how its transactions begin, and whose fault it is when it fails.

SQLite in a file, in WAL mode: readers never wait for the writer. `synchronous=FULL`, because in WAL mode NORMAL may
lose the last commits to a power cut: an index of the error budget would be given out twice, or a promotion stand in git
and not in the ledger. PostgreSQL by URL, one schema for each ledger.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from nightfleet.native import MachineError, UserError

# Fixed: how long a writer waits for another process's, how many connections one process holds, and how long its threads
# wait for one of them: those who hold it are ours and give it back, however slow the machine is.
PATIENCE_S = 60
CONNECTIONS = 8
THREAD_PATIENCE_S = 1800
# The classes of PostgreSQL's advisory locks: one writer at a time, and one driver.
WRITER_LOCK, DRIVER_LOCK = 0x6E66_0001, 0x6E66_0002
WRITES = "nightfleet_writes"
KEPT = "Everything recorded so far is kept: type the same command again afterwards."
REMEDIES = {
    "SQLITE_FULL": "the disk is full; free some space",
    "SQLITE_IOERR": "the disk could not be read or written; look at its space, quota and health",
    "SQLITE_BUSY": f"another process has been writing for {PATIENCE_S} s; end it",
    "SQLITE_READONLY": "it may not be written; look at its owner and mode, and at those of its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; look at the owner and mode of its folder",
    "SQLITE_PERM": "it may not be opened; look at its owner and mode",
    "SQLITE_CORRUPT": "it is damaged; put back a copy of it (sqlite3 ledger.sqlite .recover saves what can be read)",
    "SQLITE_NOTADB": "it is not a database; move it away",
}
POSTGRES_FULL = "53100"


def url_of(where: Path | str) -> URL:
    """The address of a ledger: a path names a SQLite file, a text is a URL. UserError for one that cannot be used."""
    if isinstance(where, Path):
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise UserError(f"a ledger is a file or a URL like postgresql://user@host/name; got {where!r}") from error
    if url.drivername in {"postgresql", "postgres"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in {"sqlite", "postgresql"} or (
        url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}
    ):
        raise UserError(f"a ledger is a file of SQLite or a database of PostgreSQL; got {shown(url)}")
    return url


def shown(url: URL) -> str:
    """An address for people: a file's path, or a URL without its password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """An engine whose transactions begin as they should. UserError where the driver for PostgreSQL is missing."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    try:
        engine = create_engine(
            url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=THREAD_PATIENCE_S, pool_pre_ping=True
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise UserError(f"no driver for {shown(url)}; type: pip install 'nightfleet[postgres]'") from error
    event.listen(engine, "begin", _begin_postgres)
    return engine


def _sqlite(url: URL) -> Engine:
    place = Path(str(url.database))
    try:
        # Nobody else's business; SQLite gives the files beside it the same mode.
        os.close(os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise MachineError(f"the ledger {place} cannot be opened: {error.strerror}") from error
    engine = create_engine(
        url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=THREAD_PATIENCE_S, connect_args={"timeout": PATIENCE_S}
    )
    event.listen(engine, "connect", _settle_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _settle_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # Left alone, the driver begins transactions late and not before every statement: SQLAlchemy's manual, "Legacy
    # Transaction Mode with the sqlite3 driver". We begin them, below.
    connection.isolation_level = None
    cursor = connection.cursor()
    mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != ("wal",):
        raise MachineError(f"SQLite cannot use its write-ahead log here ({mode}); a network drive cannot hold a ledger")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later may find that another has written meanwhile, and cannot go on.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    # Entries have no gaps and one order: one writer at a time, as SQLite has it by itself.
    if connection.get_execution_options().get(WRITES, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK}, hashtext(current_schema()))")


def for_writing(engine: Engine) -> Engine:
    """The same connections, beginning with the right to write."""
    return engine.execution_options(**{WRITES: True})


def for_reading(engine: Engine) -> Engine:
    """The same connections, seeing one moment throughout."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


@contextmanager
def failures(url: URL) -> Iterator[None]:
    """Within, a database that fails is the machine's failure: MachineError says what to do about it."""
    try:
        yield
    except IntegrityError:
        # A rule of the tables broken by our own code: a defect.
        raise
    except DBAPIError as error:
        raise MachineError(f"the ledger {shown(url)}: {_remedy(error.orig)}. {KEPT}") from error
    except sqlite3.Error as error:
        # Not through SQLAlchemy: the copy that is made before a migration.
        raise MachineError(f"the ledger {shown(url)}: {_remedy(error)}. {KEPT}") from error
    except PoolTimeoutError as error:
        raise MachineError(
            f"the ledger {shown(url)}: no connection became free in {THREAD_PATIENCE_S} s. {KEPT}"
        ) from error


def _remedy(cause: BaseException | None) -> str:
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", "")
        found = next((words for prefix, words in REMEDIES.items() if name.startswith(prefix)), str(cause))
        return f"{found} ({name})" if name else found
    if getattr(cause, "sqlstate", None) == POSTGRES_FULL:
        return "the database's disk is full; free some space"
    said = " ".join(str(cause).split())
    return f"the database failed or is gone; see that it runs and can be reached ({said})"
