"""A PostgreSQL server of one's own, for the tests that run on both databases."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

# Where Debian and others keep what is not on PATH.
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
PATIENCE_S = 60.0


def postgres_programs() -> Path | None:
    """The directory of initdb and postgres, of the release that was installed last."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = [path for place in PLACES for path in Path("/").glob(place.lstrip("/")) if (path / "initdb").exists()]
    return max(found, key=lambda path: path.parent.stat().st_mtime_ns, default=None)


def unprivileged() -> str | None:
    """Whom to run the server as: `postgres` refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """A server without a network, in a directory of its own; gives the URL of its one database."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql): the ledger is tested on SQLite alone")
    user = unprivileged()
    with tempfile.TemporaryDirectory(prefix="nightfleet-pg-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        if user:
            shutil.chown(place, user)
        data = str(place / "data")
        as_user = {"user": user, "extra_groups": []} if user else {}
        made = [programs / "initdb", "--no-sync", "--auth=trust", "--username=tests", "--encoding=UTF8", "-D", data]
        subprocess.run(made, check=True, capture_output=True, cwd=place, **as_user)  # type: ignore[call-overload]
        options = ("listen_addresses=", "fsync=off", f"unix_socket_directories={place}", "max_connections=60")
        command = [programs / "postgres", "-D", data, *(f"--{option}" for option in options)]
        with (place / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd=place, **as_user)  # type: ignore[call-overload]
        try:
            wait_for(programs, place, server)
            yield f"postgresql://tests@/postgres?host={place}"
        finally:
            # At once: nothing in it is wanted.
            server.send_signal(3)
            server.wait()


def wait_for(programs: Path, place: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while subprocess.run([programs / "pg_isready", "-h", place], capture_output=True, check=False).returncode:
        assert server.poll() is None, (place / "log").read_text(errors="replace")
        assert time.monotonic() < deadline, "PostgreSQL did not start"
        time.sleep(0.1)


def new_schema(url: str) -> str:
    """The URL of an empty schema."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return f"{url}&options=-csearch_path={name}"
