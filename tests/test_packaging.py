"""The two distributions, as someone gets them who never saw this repository."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE_PACKAGES = Path(pytest.__file__).parents[1]
PIN = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][a-z0-9.+!-]*")

# A stand-in for the well-known distribution that ships a top-level package called `agents`.
RIVAL_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "rival"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["agents"]
"""
USE_BOTH = """
import agents
import nightfleet.agents, nightfleet.harness, nightfleet.native._native, nightfleet.orchestrator.commands.edge
assert agents.OWNER == "rival", agents
assert agents is not nightfleet.agents
assert nightfleet.native._native.__version__ == "0.1.0"
for room in (nightfleet.agents, nightfleet.harness, nightfleet.native, nightfleet.orchestrator):
    assert room.__file__.startswith({prefix!r}), room
"""


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, out: Path, *kinds: str) -> list[Path]:
    """Build a source tree; without kinds, build the sdist and the wheel from that sdist."""
    tools = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Crates that `make setup` compiled already need no second time.
        "CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target")),
    }
    run(sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", out, source, cwd=out.parent, env=tools)
    return sorted(out.iterdir())


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def room_files() -> set[str]:
    """What the repository's three pure rooms hold, by the name that it is imported by."""
    rooms = [ROOT / room for room in ("orchestrator", "agents", "harness")]
    return {
        str(path.relative_to(room))
        for room in rooms
        for path in room.rglob("*")
        # Beside code: the search's rule packs, and the module that it writes into Rust crates.
        if path.suffix in {".py", ".yaml", ".rs"} or path.name == "py.typed"
    }


def install(environment: Path, *wheels: Path) -> Path:
    """Make an environment with these wheels and this one's third-party packages, and return its Python.

    A plain path in a .pth file is searched last and its own .pth files are not read, so this repository's editable
    install stays out of sight.
    """
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin/python"
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "tools.pth").write_text(f"{SITE_PACKAGES}\n", encoding="utf-8")
    run(python, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", python, *wheels, cwd=environment)
    return python


def test_the_pure_wheel_holds_the_three_rooms_and_nothing_else(tmp_path: Path) -> None:
    (wheel,) = build(ROOT, tmp_path / "dist", "--wheel")
    assert wheel.name == "nightfleet-0.1.0-py3-none-any.whl"
    names = {name for name in members(wheel) if not name.startswith("nightfleet-0.1.0.dist-info/")}
    assert names == room_files()
    assert "nightfleet/__init__.py" not in names
    assert {f"nightfleet/{room}/py.typed" for room in ("orchestrator", "agents", "harness")} <= names


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    names = [line.split("==")[0] for line in lines]
    assert len(set(names)) == len(names)
    assert {"hatchling", "maturin", "numpy", "pydantic-ai-slim", "pytest"} <= set(names)
    for planted in (
        "numpy @ https://example.org/numpy.whl",
        "--index-url https://example.org",
        "numpy>=2",
        "numpy==2 ; x",
    ):
        assert not PIN.fullmatch(planted)


@pytest.mark.packaging
def test_both_distributions_install_beside_another_one_called_agents(tmp_path: Path) -> None:
    native = build(ROOT / "native", tmp_path / "native")
    pure = build(ROOT, tmp_path / "pure")
    assert [path.name.split("-")[0] for path in (*native, *pure)] == ["nightfleet_native"] * 2 + ["nightfleet"] * 2
    for sdist in (native[1], pure[1]):
        with tarfile.open(sdist) as archive:
            assert not [name for name in archive.getnames() if "/target/" in name or name.endswith((".so", "uv.lock"))]

    rival = tmp_path / "rival"
    (rival / "agents").mkdir(parents=True)
    (rival / "agents/__init__.py").write_text('OWNER = "rival"\n', encoding="utf-8")
    (rival / "pyproject.toml").write_text(RIVAL_PROJECT, encoding="utf-8")
    rivals = build(rival, tmp_path / "rivals", "--wheel")

    wheels = [path for path in (*native, *pure, *rivals) if path.suffix == ".whl"]
    # In either order: what is installed last would win silently if a name were shared.
    for name, order in (("ours first", wheels), ("rival first", wheels[::-1])):
        environment = tmp_path / name
        python = install(environment, order[0])
        for wheel in order[1:]:
            run(python, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", python, wheel, cwd=tmp_path)
        run(python, "-W", "error", "-c", USE_BOTH.format(prefix=str(environment)), cwd=tmp_path)
        assert run(environment / "bin/nightfleet", "--version", cwd=tmp_path) == "nightfleet 0.1.0\n"
