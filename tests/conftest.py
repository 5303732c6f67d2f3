import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


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
