"""What every gate's sandbox has in common: mounts, environment, limits, and the identity of the tools.

All gates ask here, so that a trial sees the PATH, variables and files that its build saw.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NotRequired, TypeAlias, TypedDict

from nightfleet.harness.arena import Arena
from nightfleet.harness.copies import clear_folder, put
from nightfleet.harness.inventory import inventory_digest, take_inventory, walk
from nightfleet.harness.toolchain import INSIDE_HOME, Toolchain, resolve
from nightfleet.harness.tree import MTIME_S
from nightfleet.native import UserError

Profile: TypeAlias = Literal["trial", "build", "setup", "test", "scorer"]

# Fixed: compilers may need more than what they compile.
BUILD_MEMORY_BYTES = 16 << 30

# Folders of the home where package managers keep what set-up fetched. Each that is not empty afterwards is shown
# read-only to everything that runs later; `.cache` instead starts the cache of each build.
CACHE = ".cache"
KEPT = (".cargo", "go", ".npm", ".m2", ".nuget", ".gem", ".local", CACHE)

# No wrapper, no cache that several builds share, no daemon, nothing that depends on when it was built.
ENVIRONMENT = {
    "RUSTC_WRAPPER": "",
    "RUSTC_WORKSPACE_WRAPPER": "",
    "CARGO_TERM_COLOR": "never",
    "CCACHE_DISABLE": "1",
    "DISTCC_HOSTS": "",
    "GOTOOLCHAIN": "local",
    "GRADLE_OPTS": "-Dorg.gradle.daemon=false",
    "NO_COLOR": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "SOURCE_DATE_EPOCH": str(MTIME_S),
}
# Where there is no network, tools that know this do not look for one.
OFFLINE = {"CARGO_NET_OFFLINE": "true", "GOPROXY": "off", "PIP_NO_INDEX": "1", "UV_OFFLINE": "1"}

# Whose size and time stand for the toolchain, beside the programs that the arena names.
TOOLS = (
    *("cc", "c++", "gcc", "g++", "clang", "ld", "as", "make", "cmake", "ninja", "rustc", "cargo", "go", "node", "npm"),
    *("python3", "python", "java", "javac", "ruby", "sh"),
)
_HEADERS = ("/usr/include", "/usr/lib", "/usr/local/lib", "/usr/local/include", "/var/lib/dpkg/status")


class SandboxOptions(TypedDict):
    """Keyword arguments of `Sandbox`."""

    profile: Profile
    read: list[tuple[Path, Path]]
    write: list[tuple[Path, Path]]
    env: dict[str, str]
    memory_bytes: int
    file_bytes: NotRequired[int]


@dataclass(frozen=True)
class Surroundings:
    """One arena on this machine.

    Args:
        state: the `.nightfleet` folder, which no sandbox may be shown.
        source: the user's folder: where `data` lies and where rustup looks for the toolchain asked for.

    Raises:
        UserError: something to be shown is missing, or would show the state.
    """

    state: Path
    arena: Arena
    source: Path

    def __post_init__(self) -> None:
        for path in self.arena.read:
            if not Path(path).exists():
                raise UserError(f"sandbox.read: {path} is not there; remove it from program.md or make it")
        for path in self.arena.data:
            if not (self.source / path).exists():
                raise UserError(f"data: {path} is not in {self.source}; remove it from program.md or put it there")
        state = self.state.resolve()
        for path in (*self.arena.read, *self.arena.data):
            real = (self.source / path).resolve()
            if state.is_relative_to(real) or real.is_relative_to(state):
                raise UserError(f"{path} would show sandboxes what {state} holds; name folders beside it")

    @cached_property
    def toolchain(self) -> Toolchain:
        """What PATH leads to. With `setup` in the arena nothing of the user's own package caches.

        Raises:
            UserError: it would show the state.
        """
        found = resolve(self.source)
        state = self.state.resolve()
        for root in found.roots:
            if state.is_relative_to(root) or root.is_relative_to(state):
                raise UserError(
                    f"PATH leads into {root}, which would show sandboxes what {state} holds; take it off PATH"
                )
        if not self.arena.setup:
            return found
        read = tuple((host, inside) for host, inside in found.read if not inside.is_relative_to(INSIDE_HOME))
        return Toolchain(read, {name: value for name, value in found.env.items() if name != "GOPROXY"})

    def options(self, profile: Profile, home: Path | None) -> SandboxOptions:
        """What to pass to `Sandbox` besides the tree and its cores.

        Args:
            profile: of the sandbox.
            home: what set-up left, if there was one.
        """
        limits = self.arena.limits
        read = [*self.toolchain.read, *((Path(path), Path(path)) for path in self.arena.read)]
        read += [(self.source / path, Path("/tree") / path) for path in self.arena.data]
        if home is not None and profile != "setup":
            read += [(home / name, INSIDE_HOME / name) for name in KEPT if name != CACHE and _filled(home / name)]
        writes = profile in {"build", "setup", "test"}
        return SandboxOptions(
            profile=profile,
            read=list(dict.fromkeys(read)),
            write=[],
            env={**self.toolchain.env, **ENVIRONMENT, **({} if profile == "setup" else OFFLINE)},
            memory_bytes=max(limits.memory_bytes, BUILD_MEMORY_BYTES) if writes else limits.memory_bytes,
        )

    def data_digest(self) -> str:
        """SHA-256 over the inputs that `data` names: links in them are not followed. Contents are read once.

        Raises:
            UserError: they changed since this was asked first.
        """
        stamp, digest = self._data
        if stamp != self._data_stamp():
            raise UserError(
                f"data: {', '.join(self.arena.data)} changed since this began; put back what was, or restart"
            )
        return digest

    @cached_property
    def _data(self) -> tuple[str, str]:
        stamp = self._data_stamp()
        return stamp, _digest([self._one_digest(path) for path in self.arena.data])

    def _data_stamp(self) -> str:
        return _digest([self._one_stamp(path) for path in self.arena.data])

    def identity(self) -> str:
        """SHA-256 over the tools' real paths, sizes and times, the folders shown, and the environment.

        Contents are not read: who replaces a compiler and forges its size and time deceives only themselves.
        """
        path = self.toolchain.env["PATH"]
        commands = (*self.arena.setup, *self.arena.build, *self.arena.tests, *(w.run for w in self.arena.workloads))
        names = sorted({*TOOLS, *(command[0] for command in commands if "/" not in command[0])})
        facts = [(name, _stamp(shutil.which(name, path=path))) for name in names]
        facts += [(str(root), _stamp(str(place))) for root in self._shown() for place in (root, *_packages(root))]
        facts += [(name, _stamp(name)) for name in _HEADERS]
        content = [facts, sorted(self.options("build", None)["env"].items())]
        return _digest(content)

    def make_room(self, tree: Path) -> None:
        """Make the empty files and folders that the inputs of `data` are mounted over."""
        for path in self.arena.data:
            if (self.source / path).is_dir():
                clear_folder(tree, path, MTIME_S)
            else:
                put(tree, path, b"", 0o644, MTIME_S)

    def _shown(self) -> list[Path]:
        return [*self.toolchain.roots, *(Path(path) for path in self.arena.read)]

    def _one_digest(self, path: str) -> list[str]:
        place = self.source / path
        if place.is_dir():
            return [path, inventory_digest(take_inventory(place))]
        with place.open("rb") as file:
            return [path, hashlib.file_digest(file, "sha256").hexdigest()]

    def _one_stamp(self, path: str) -> list[object]:
        place = self.source / path
        inner = [(inside, *_facts(found)) for inside, found in walk(place)] if place.is_dir() else []
        return [path, *_facts(place.stat()), inner]


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _packages(root: Path) -> Iterator[Path]:
    """Where installing a package into a prefix leaves a trace."""
    yield from sorted(root.glob("lib/python*/site-packages"))
    yield from sorted(root.glob("lib/node_modules"))


def _stamp(path: str | None) -> Sequence[object]:
    if path is None or not Path(path).exists():
        return ()
    real = Path(path).resolve()
    found = real.stat()
    return str(real), found.st_size, found.st_mtime_ns


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
