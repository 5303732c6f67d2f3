"""What a trial may have left behind on the host: processes, mounts, control groups."""

import os
import time
from collections.abc import Callable
from pathlib import Path


def processes(marker: str) -> list[int]:
    """The processes with `marker` in their command line; a zombie has none, and is its parent's to reap."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:  # it ended while we looked
                continue
            if marker.encode() in line:
                found.append(int(entry.name))
    return found


def mounts() -> set[str]:
    """The mounts of this process's namespace."""
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def control_groups() -> set[str]:
    """The control groups that this process's sandboxes made, which have its id in their name."""
    own = f"nightfleet-*-{os.getpid()}-*"
    # os.walk passes over what vanishes under it; other sandboxes come and go meanwhile.
    walked = (Path(top) / name for top, names, _files in os.walk("/sys/fs/cgroup") for name in names)
    return {str(path) for path in walked if path.match(own)}


def gone(left: Callable[[], object], within_s: float = 5.0) -> bool:
    """Whether `left()` becomes empty: the kernel takes a moment to end what was killed."""
    deadline = time.monotonic() + within_s
    while left():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
