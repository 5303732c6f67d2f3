"""The shape of a ledger's tables, and how older ones come up to it. Newer ones are refused: half-understood is lost."""

import contextlib
import importlib.metadata
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, column, inspect, select, table
from sqlalchemy.engine import URL

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger.database import for_reading, for_writing, shown

# The last of migrations/versions, by its number; a test compares.
NEWEST = 2
MIGRATIONS = Path(__file__).with_name("migrations")
VERSION_TABLE = "alembic_version"


def bring_up(engine: Engine, url: URL) -> None:
    """Make the tables of a new ledger, or change those of an older one after keeping a copy of its file.

    UserError for a newer ledger, and for a database of something else.
    """
    with for_reading(engine).connect() as connection:
        found = version_of(connection, url)
    if found == NEWEST:
        return
    if found and url.get_backend_name() == "sqlite":
        _keep_copy(Path(str(url.database)), found)
    with for_writing(engine).begin() as connection:
        # Another process may have been quicker.
        if version_of(connection, url) != NEWEST:
            _migrate(connection)


def version_of(connection: Connection, url: URL) -> int:
    """The version of a ledger, 0 for an empty database. UserError for a newer one, and for what is no ledger."""
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE not in tables:
        if tables:
            raise UserError(f"{shown(url)} is a database of something else; name another place for the ledger")
        return 0
    version = int(connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE))) or 0)
    if version > NEWEST:
        ours = importlib.metadata.version("nightfleet")
        raise UserError(
            f"the ledger {shown(url)} has version {version}, and nightfleet {ours} knows versions up to {NEWEST}; "
            "install the newer nightfleet that wrote it"
        )
    return version


def _migrate(connection: Connection) -> None:
    # Slow to import, and needed once in a ledger's life.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _keep_copy(place: Path, version: int) -> None:
    """Copy a ledger as of one moment, whole or not at all; `cp` would miss what is still in its write-ahead log."""
    kept = place.with_name(f"{place.name}.version-{version}")
    half = kept.with_name(f"{kept.name}.half")
    half.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(place)) as source:
        source.execute("VACUUM INTO ?", (str(half),))
    half.chmod(0o600)
    half.replace(kept)
