"""What every test shares: how thorough to be, and the small programs that sandboxes are tried with."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from databases import new_schema, running_server
from nightwork import Hands, opened

from nightfleet.orchestrator.ledger import Ledger

TESTS = Path(__file__).parent

hypothesis.settings.register_profile("fast", max_examples=20, deadline=None)
hypothesis.settings.register_profile("slow", max_examples=1000, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run tests marked slow, and 1000 examples of every property")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it runs in the background deaf to Ctrl-C, and so would be every program that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("slow" if config.getoption("--slow") else "fast")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every small C program of these tests, compiled, under its own name."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang")
    directory = tmp_path_factory.mktemp("programs")
    # A sandbox may map its program to an id that does not own the tree.
    directory.chmod(0o755)
    for source in sorted([*TESTS.glob("escapes/*.c"), *TESTS.glob("bombs/*.c")]):
        target = directory / source.stem
        subprocess.run([compiler, "-O1", "-pthread", "-o", target, source], check=True)
        target.chmod(0o755)
    return directory


@pytest.fixture
def marker() -> str:
    """An argument that no other process has."""
    return f"nightfleet-{uuid.uuid4().hex}"


@pytest.fixture
def open_ground() -> Iterator[Path]:
    """A fresh directory that anybody may enter: a refusal below it is the sandbox's doing, not the file mode's."""
    directory = Path(tempfile.mkdtemp(prefix="nightfleet-test-"))
    directory.chmod(0o755)
    yield directory
    for parent, _, _ in os.walk(directory):
        Path(parent).chmod(0o755)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that these tests started; skips where none is installed."""
    with running_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new ledger goes: a file, or a schema of its own in PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "ledger.sqlite"
    return new_schema(request.getfixturevalue("postgres"))


@pytest.fixture
def hands() -> Hands:
    """The clock of `ledger`."""
    return Hands()


@pytest.fixture
def ledger(tmp_path: Path, hands: Hands) -> Iterator[Ledger]:
    """A new ledger in a file."""
    with opened(tmp_path / "ledger.sqlite", hands) as ledger:
        yield ledger
