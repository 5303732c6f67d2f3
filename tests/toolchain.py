"""Where a language's tools live, and what a sandbox must be shown so that they run."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# The sandbox shows these anyway.
SHOWN = (Path("/usr"), Path("/bin"), Path("/lib"), Path("/lib64"))


@dataclass(frozen=True)
class Toolchain:
    """A program, the host paths it needs beyond the sandbox's own, and the environment it expects."""

    program: str
    read: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


def roots(*paths: Path) -> tuple[Path, ...]:
    """Those of `paths` that exist and that no sandbox shows by itself."""
    return tuple(path for path in paths if path.exists() and not any(path.is_relative_to(root) for root in SHOWN))


def find(name: str) -> Toolchain | None:
    """The toolchain behind the command `name`: its real program and the prefix that this was installed under."""
    if name == "python":
        return python()
    if name == "cargo":
        return rust()
    found = shutil.which(name)
    if found is None:
        return None
    program = Path(found).resolve()
    prefix = program.parent.parent
    # Debian's JDK keeps its settings, without which it does not start, in /etc.
    settings = Path("/etc").glob("java-*") if name.startswith("java") else ()
    return Toolchain(str(program), roots(prefix, *settings))


def python() -> Toolchain:
    """The interpreter that runs the tests, without its virtual environment."""
    base = Path(sys.base_prefix).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Toolchain(str(base / "bin" / version), roots(base))


def rust() -> Toolchain | None:
    """Cargo and rustc themselves: rustup's stand-ins would want to write to their home."""
    rustc = shutil.which("rustc")
    if rustc is None:
        return None
    asked = subprocess.run([rustc, "--print", "sysroot"], capture_output=True, text=True, check=False)
    root = Path(asked.stdout.strip())
    if asked.returncode or not (root / "bin" / "cargo").exists():
        return None
    path = os.pathsep.join([str(root / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    return Toolchain(str(root / "bin" / "cargo"), roots(root), {"PATH": path})
