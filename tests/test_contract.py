"""Ordinary programs of many languages must run inside the sandbox as they do outside."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from toolchain import Toolchain, find

from nightfleet.native import Completed, Sandbox, give_tree

PROGRAMS = Path(__file__).parent / "contract"


@dataclass(frozen=True)
class Contract:
    """One program: its toolchain, sources, how it is built (if at all) and run, and what it must print."""

    name: str
    tool: str
    source: str
    run: tuple[str, ...]  # {tool} is the toolchain's program
    expected: str
    build: tuple[str, ...] = ()
    builder: str = ""  # the toolchain of the build, where it is another one
    cores: int | None = None
    denied: frozenset[str] = frozenset()  # calls that the sandbox refuses and the program does without


CONTRACTS = [
    Contract("asyncio", "python", "event_loop.py", ("{tool}", "event_loop.py"), "CHILD\npair\nthreads 19600\ntimer\n"),
    Contract("multiprocessing", "python", "pool.py", ("{tool}", "pool.py"), "5050\n"),
    Contract("node", "node", "workers.mjs", ("{tool}", "workers.mjs"), "workers 40\nchild 0\ntimer\nwasm 42 1040\n"),
    Contract(
        "java",
        "java",
        "Contract.java",
        ("{tool}", "-Xmx256m", "-cp", "/tree", "Contract"),
        "threads 7998000\nchild\nexit 0 true\nhandle true\ncollected true\n",
        build=("{tool}", "-d", "/tree", "Contract.java"),
        builder="javac",
        # The C library asks the name service daemon for the user's name, and does without.
        denied=frozenset({"socket(AF_UNIX)"}),
    ),
    Contract("ruby", "ruby", "forks.rb", ("{tool}", "forks.rb"), "threads 7998000\nfork 0\nchild\ncollected true\n"),
    Contract(
        "go",
        "go",
        "goroutines",
        ("./contract",),
        "goroutines 4950\nchild\nerror <nil>\ntimer\ncollected true\n",
        build=("{tool}", "build", "-o", "contract", "."),
    ),
    Contract(
        "openmp",
        "cc",
        "openmp.c",
        ("./openmp",),
        "processors 2\nthreads 2\ntotal 499999500000\n",
        build=("{tool}", "-O1", "-fopenmp", "-o", "openmp", "openmp.c"),
        cores=2,
    ),
]


def toolchain(name: str) -> Toolchain:
    """The toolchain called `name`, or a skip that says what is missing."""
    found = find(name)
    if found is None:
        pytest.skip(f"no {name} on PATH")
    return found


def filled(command: Sequence[str], tool: Toolchain) -> list[str]:
    """`command` with the toolchain's program in its place."""
    return [word.replace("{tool}", tool.program) for word in command]


def explained(done: Completed) -> str:
    """All that a failed run can tell."""
    return (
        f"{done.outcome} {done.status}, denied {done.denied}\n{done.stdout!r}\n{done.stderr.decode(errors='replace')}"
    )


def build(tree: Path, command: Sequence[str], tool: Toolchain, **env: str) -> None:
    """Runs a build command on `tree` as a build does: writable tree, no network."""
    env = {**tool.env, "GOCACHE": "/tmp/go", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", **env}  # noqa: S108 -- inside the sandbox
    give_tree(tree)
    with Sandbox(tree, profile="build", read=tool.read, env=env) as sandbox:
        done = sandbox.run(filled(command, tool), timeout_s=300)
    assert done.outcome == "ok", explained(done)


def source_tree(ground: Path, source: str) -> Path:
    """A tree of its own for one program."""
    tree = ground / "tree"
    found = PROGRAMS / source
    if found.is_dir():
        shutil.copytree(found, tree)
    else:
        tree.mkdir()
        shutil.copy(found, tree)
    tree.chmod(0o755)
    return tree


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_program_runs_inside(contract: Contract, open_ground: Path) -> None:
    tool = toolchain(contract.tool)
    cores = sorted(os.sched_getaffinity(0))[: contract.cores] if contract.cores else []
    if cores and len(cores) < (contract.cores or 0):
        pytest.skip(f"{contract.cores} cores wanted, {len(cores)} here")
    tree = source_tree(open_ground, contract.source)
    if contract.build:
        build(tree, contract.build, toolchain(contract.builder or contract.tool))
    with Sandbox(tree, read=tool.read, env=tool.env, cores=cores) as sandbox:
        done = sandbox.run(filled(contract.run, tool), timeout_s=120)
    assert done.outcome == "ok", explained(done)
    assert done.stdout.decode() == contract.expected, explained(done)
    assert {entry.partition(":")[0] for entry in done.denied} <= contract.denied, explained(done)


def vendored_home(home: Path) -> None:
    """A cargo home whose registry is a directory of sources."""
    shutil.copytree(PROGRAMS / "tally", home / "vendor" / "tally")
    (home / "config.toml").write_text(
        f'[source.crates-io]\nreplace-with = "warm"\n\n[source.warm]\ndirectory = "{home}/vendor"\n'
    )


def test_cargo_builds_offline_from_a_read_only_home(open_ground: Path) -> None:
    cargo = toolchain("cargo")
    home = open_ground / "cargo-home"
    home.mkdir()
    vendored_home(home)
    tree = source_tree(open_ground, "crate")
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    shown = Toolchain(cargo.program, (*cargo.read, home), cargo.env)
    build(tree, ("{tool}", "build", "--release", "--offline"), shown, CARGO_HOME=str(home))
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    with Sandbox(tree) as sandbox:
        done = sandbox.run(["target/release/contract"])
    assert (done.outcome, done.stdout, done.denied) == ("ok", b"tally 5050\n", []), explained(done)


def test_cargo_builds_offline_from_a_fetched_registry(open_ground: Path) -> None:
    cargo = toolchain("cargo")
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    tree = source_tree(open_ground, "crate")
    (tree / "Cargo.lock").unlink()
    manifest = tree / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace('tally = "1"', 'cfg-if = "1"'))
    (tree / "src" / "main.rs").write_text('cfg_if::cfg_if! { if #[cfg(unix)] { fn main() { println!("warm"); } } }\n')
    locked = subprocess.run(
        [cargo.program, "fetch", "--offline", "--manifest-path", manifest], capture_output=True, text=True, check=False
    )
    if locked.returncode:
        pytest.skip(f"cfg-if is not in {home}/registry: run cargo fetch in this repository once")
    # Only the registry: the home itself may hold credentials, and inside nothing else of it exists.
    shown = Toolchain(cargo.program, (*cargo.read, home / "registry"), cargo.env)
    build(tree, ("{tool}", "build", "--release", "--offline", "--locked"), shown, CARGO_HOME=str(home))
    with Sandbox(tree) as sandbox:
        done = sandbox.run(["target/release/contract"])
    assert (done.outcome, done.stdout) == ("ok", b"warm\n"), explained(done)


@pytest.mark.parametrize("writable", [False, True])
def test_a_path_below_a_scratch_directory_is_shown(open_ground: Path, writable: bool) -> None:
    # Temporary directories lie below /tmp, which inside is a fresh file system of its own.
    tree, shown = open_ground / "tree", open_ground / "shown"
    for directory in (tree, shown):
        directory.mkdir(mode=0o755)
    (shown / "file").write_text("shown")
    give_tree(shown)
    paths = [shown]
    with Sandbox(tree, read=[] if writable else paths, write=paths if writable else []) as sandbox:
        done = sandbox.run(["/bin/cat", f"{shown}/file"])
        sandbox.run(["/bin/sh", "-c", f"echo changed > {shown}/file"])
    assert (done.outcome, done.stdout) == ("ok", b"shown"), explained(done)
    assert (shown / "file").read_text() == ("changed\n" if writable else "shown")


def test_a_shown_path_hides_its_credentials(open_ground: Path) -> None:
    tree, home = open_ground / "tree", open_ground / "home"
    for directory in (tree, home):
        directory.mkdir(mode=0o755)
    for name in ("config.toml", "credentials.toml", ".netrc"):
        (home / name).write_text(f"{name}-content")
    with Sandbox(tree, read=[home]) as sandbox:
        seen = {
            name: sandbox.run(["/bin/cat", f"{home}/{name}"]).stdout
            for name in ("config.toml", "credentials.toml", ".netrc")
        }
    assert seen == {"config.toml": b"config.toml-content", "credentials.toml": b"", ".netrc": b""}
