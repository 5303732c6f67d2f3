"""The house's own rules, each seen failing on a planted violation."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down: a room may import itself and every room after it.
ROOMS = {
    "orchestrator": "orchestrator/nightfleet/orchestrator",
    "agents": "agents/nightfleet/agents",
    "harness": "harness/nightfleet/harness",
    "native": "native/python/nightfleet/native",
}
# Names of a layer, not of anything in the field; whatever is put there has a better place.
LAYER_NAMES = {"utils.py", "helpers.py", "common.py", "base.py", "manager.py"}
PYO3 = re.compile(r"\bpyo3\b")


def wrong_way_imports(root: Path) -> list[str]:
    """Name every import that goes up, as "room/file.py:line imports nightfleet.room"."""
    order = list(ROOMS)
    return [
        f"{path.relative_to(root)}:{line} imports nightfleet.{imported}"
        for room, folder in ROOMS.items()
        for path in sorted((root / folder).rglob("*.py*"))
        if path.suffix in {".py", ".pyi"}
        for line, imported in imported_rooms(path, package=package_of(path, root / folder, room))
        if imported not in order[order.index(room) :]
    ]


def package_of(path: Path, folder: Path, room: str) -> list[str]:
    """Name the package that a file's relative imports start from."""
    return ["nightfleet", room, *path.relative_to(folder).parent.parts]


def imported_rooms(path: Path, package: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, room) for every import anywhere in a file: in functions, under TYPE_CHECKING, by importlib."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        for module in imported_modules(node, package):
            top, _, rest = module.partition(".")
            if top == "nightfleet" and rest:
                yield getattr(node, "lineno", 0), rest.split(".")[0]


def imported_modules(node: ast.AST, package: list[str]) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            anchor = package[: len(package) - level + 1] if level else []
            origin = ".".join([*anchor, *([module] if module else [])])
            # `from nightfleet import harness` names the room only after `import`.
            return [f"{origin}.{alias.name}" for alias in names]
        case ast.Call(func=ast.Name(id="__import__" | "import_module"), args=[ast.Constant(value=str(name)), *_]):
            return [name]
        case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
            return [name]
        case _:
            return []


def layer_files(root: Path) -> list[str]:
    places = [*ROOMS.values(), "tests", "benchmarks", "examples"]
    return [
        str(path.relative_to(root))
        for place in places
        for path in (root / place).rglob("*.py")
        if path.name in LAYER_NAMES
    ]


def namespace_markers(root: Path) -> list[str]:
    """Find `nightfleet/__init__.py`: one would hide the other distribution's rooms."""
    return [
        str((root / folder).parent / "__init__.py")
        for folder in ROOMS.values()
        if (root / folder).parent.joinpath("__init__.py").exists()
    ]


def files_that_know_python(root: Path) -> list[str]:
    rust = [path for path in sorted((root / "native").rglob("*.rs")) if "target" not in path.relative_to(root).parts]
    return [str(path.relative_to(root)) for path in rust if PYO3.search(path.read_text(encoding="utf-8"))]


def test_the_four_rooms_exist_and_are_typed() -> None:
    for folder in ROOMS.values():
        assert (ROOT / folder / "__init__.py").exists(), folder
        assert (ROOT / folder / "py.typed").exists(), folder


def test_imports_only_go_down() -> None:
    assert wrong_way_imports(ROOT) == []


def test_no_file_is_named_after_a_layer() -> None:
    assert layer_files(ROOT) == []


def test_nightfleet_is_a_namespace() -> None:
    assert namespace_markers(ROOT) == []


def test_one_rust_file_knows_python() -> None:
    assert files_that_know_python(ROOT) == ["native/src/py.rs"]


def test_the_two_distributions_have_one_version() -> None:
    root = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    cargo = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', root, re.MULTILINE)
    assert version
    assert f'version = "{version[1]}"' in cargo
    assert f'"nightfleet-native=={version[1]}"' in root


def plant(root: Path, file: str, code: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "code", "line", "imported"),
    [
        ("harness/nightfleet/harness/arena.py", "import nightfleet.agents.contract", 1, "agents"),
        ("harness/nightfleet/harness/arena.py", "from nightfleet import native, orchestrator", 1, "orchestrator"),
        ("harness/nightfleet/harness/deep/arena.py", "from ...agents import contract", 1, "agents"),
        ("harness/nightfleet/harness/arena.py", "from .. import agents as hands", 1, "agents"),
        (
            "agents/nightfleet/agents/brief.py",
            "def f():\n    from nightfleet.orchestrator.desk import Desk",
            2,
            "orchestrator",
        ),
        (
            "agents/nightfleet/agents/brief.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nightfleet.orchestrator import night",
            3,
            "orchestrator",
        ),
        (
            "native/python/nightfleet/native/door.py",
            "import importlib\nimportlib.import_module('nightfleet.harness')",
            2,
            "harness",
        ),
        ("native/python/nightfleet/native/_native.pyi", "from nightfleet.harness import arena", 1, "harness"),
        ("harness/nightfleet/harness/arena.py", "import nightfleet.views", 1, "views"),
    ],
)
def test_an_import_that_goes_up_is_seen(tmp_path: Path, file: str, code: str, line: int, imported: str) -> None:
    plant(tmp_path, file, code)
    assert wrong_way_imports(tmp_path) == [f"{file}:{line} imports nightfleet.{imported}"]


def test_imports_that_go_down_are_let_through(tmp_path: Path) -> None:
    plant(tmp_path, "orchestrator/nightfleet/orchestrator/night.py", "from nightfleet import agents, harness, native")
    plant(
        tmp_path,
        "harness/nightfleet/harness/verdict.py",
        "import numpy\nfrom nightfleet.harness import speed\nfrom . import arena",
    )
    assert wrong_way_imports(tmp_path) == []


def test_the_other_rules_fail_when_broken(tmp_path: Path) -> None:
    plant(tmp_path, "harness/nightfleet/harness/utils.py", "")
    plant(tmp_path, "tests/helpers.py", "")
    plant(tmp_path, "agents/nightfleet/__init__.py", "")
    plant(tmp_path, "native/src/py.rs", "use pyo3::prelude::*;")
    plant(tmp_path, "native/src/lease.rs", "fn lease() -> pyo3::PyResult<()>")
    plant(tmp_path, "native/target/debug/generated.rs", "use pyo3::prelude::*;")
    assert sorted(layer_files(tmp_path)) == ["harness/nightfleet/harness/utils.py", "tests/helpers.py"]
    assert namespace_markers(tmp_path) == [str(tmp_path / "agents/nightfleet/__init__.py")]
    assert files_that_know_python(tmp_path) == ["native/src/lease.rs", "native/src/py.rs"]
