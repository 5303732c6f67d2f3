"""Which of the user's tools a sandbox must be shown, found by resolving PATH.

A sandbox shows /usr, /bin and the libraries by itself. Tools that a user installed elsewhere (rustup, pyenv, nvm, a
virtual environment, Go in their home) are shown read-only, each by its own root, never by the user's home as a whole.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What every sandbox shows anyway.
SHOWN = tuple(Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"))
# Names of directories that hold a prefix's commands; the prefix is then the root.
COMMAND_DIRECTORIES = frozenset({"bin", "sbin", "shims", "condabin"})
INSIDE_HOME = Path("/home/nightfleet")
_ASK_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Toolchain:
    """What to pass to `Sandbox`: paths to read (host path, path inside) and environment."""

    read: tuple[tuple[Path, Path], ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The host paths that are shown."""
        return tuple(host for host, _inside in self.read)


def resolve(cwd: Path, environ: Mapping[str, str] = os.environ) -> Toolchain:
    """The toolchain that a command typed in `cwd` would use.

    Args:
        cwd: where rustup looks for the toolchain that a project asks for.
        environ: PATH, HOME, CARGO_HOME, GOMODCACHE, GOPATH are read, nothing else is taken over.
    """
    home = Path(environ.get("HOME") or "/nonexistent").resolve()
    directories = [Path(name) for name in environ.get("PATH", "").split(os.pathsep) if name.startswith("/")]
    read: dict[Path, Path] = {}
    path: list[str] = []
    rust = _rust_sysroot(cwd, environ)
    if rust is not None:
        read[rust] = rust
        path.append(str(rust / "bin"))
    for directory in directories:
        real = directory.resolve()
        # Not `is_dir` alone, which raises below a folder that is somebody else's.
        if not _usable(real) or _shown(real) or _is_rustup(real):
            continue
        root = _root(real, home)
        read[root] = root
        path.append(str(real))
    path += ["/usr/local/go/bin"] if Path("/usr/local/go/bin").is_dir() else []
    path += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    env = {"PATH": os.pathsep.join(dict.fromkeys(path))}
    for host, inside, variables in _caches(home, environ):
        if _usable(host):
            read[host] = inside
            env.update(variables)
    kept = sorted((host, inside) for host, inside in read.items() if not _within_another(host, read))
    return Toolchain(tuple(kept), env)


def _usable(folder: Path) -> bool:
    """Whether there is such a folder and we may look into it; somebody else's is as good as none."""
    return os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()


def _shown(path: Path) -> bool:
    return any(path.is_relative_to(root) for root in SHOWN)


def _root(directory: Path, home: Path) -> Path:
    """The prefix of a directory of commands; the directory itself where the prefix would show too much."""
    prefix = directory.parent
    too_much = prefix == Path("/") or home.is_relative_to(prefix) or prefix == home / ".local"
    return directory if directory.name not in COMMAND_DIRECTORIES or too_much else prefix


def _is_rustup(directory: Path) -> bool:
    """Whether these are rustup's stand-ins, which would want to write to their home."""
    return (directory / "rustup").exists() and (directory / "cargo").exists()


def _rust_sysroot(cwd: Path, environ: Mapping[str, str]) -> Path | None:
    rustc = shutil.which("rustc", path=environ.get("PATH"))
    if rustc is None or _shown(Path(rustc).resolve()):
        return None
    try:
        asked = subprocess.run(
            [rustc, "--print", "sysroot"],
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_ASK_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    sysroot = Path(asked.stdout.strip())
    return sysroot if (sysroot / "bin" / "rustc").exists() else None


def _caches(home: Path, environ: Mapping[str, str]) -> list[tuple[Path, Path, dict[str, str]]]:
    """Downloaded sources: shown without the directory around them, where the credentials lie."""
    cargo = Path(environ.get("CARGO_HOME") or home / ".cargo")
    go_path = Path(environ.get("GOPATH") or home / "go")
    go = Path(environ.get("GOMODCACHE") or go_path / "pkg" / "mod")
    inside_cargo, inside_go = INSIDE_HOME / ".cargo", INSIDE_HOME / "go" / "pkg" / "mod"
    return [
        (cargo / "registry", inside_cargo / "registry", {}),
        (cargo / "git", inside_cargo / "git", {}),
        (go, inside_go, {"GOFLAGS": "-mod=mod", "GOPROXY": "off"}),
    ]


def _within_another(path: Path, read: Mapping[Path, Path]) -> bool:
    """Whether `path` already appears, at the same place, as part of another root."""
    return read[path] == path and any(
        path != other and path.is_relative_to(other) and inside == other for other, inside in read.items()
    )
