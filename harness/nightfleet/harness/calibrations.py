"""A folder of calibrations: for which program, judged how, on which machine."""

import hashlib
import json
import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightfleet.harness.calibrate import Calibrated, Summary
from nightfleet.harness.calibration import Calibration
from nightfleet.harness.evidence import plain, read_pair, read_rules

FORMAT = 2


@dataclass(frozen=True)
class Machine:
    """What makes two machines different for timing, as far as one can tell by looking."""

    cpu: str
    cores: int
    kernel: str

    @classmethod
    def here(cls) -> "Machine":
        """This one."""
        return cls(_cpu(Path("/proc/cpuinfo")), os.cpu_count() or 1, platform.release())

    def since(self, before: "Machine") -> str:
        """What changed since `before`, in words; empty if nothing did."""
        then, now = asdict(before), asdict(self)
        return ", ".join(f"{name} {then[name]} → {now[name]}" for name in now if then[name] != now[name])


@dataclass(frozen=True)
class Key:
    """What a calibration holds for: the arena's epoch digest, the digest of the built baseline, and the machine."""

    epoch: str
    artefact: str
    machine: Machine

    @property
    def program(self) -> str:
        """The part that does not depend on the machine: 16 hex digits."""
        return _digest([self.epoch, self.artefact])

    @property
    def file_name(self) -> str:
        """Where it is kept."""
        return f"{self.program}-{_digest(asdict(self.machine))}.json"


@dataclass(frozen=True)
class Found:
    """A stored calibration, or why there is none that holds here."""

    calibrated: Calibrated | None
    why: str = ""


def store(folder: Path, key: Key, calibrated: Calibrated) -> Path:
    """Keep a calibration, at once or not at all; returns the file. OSError when it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "epoch": key.epoch,
        "artefact": key.artefact,
        "machine": asdict(key.machine),
        "rules": plain(calibrated.rules),
        "calibration": calibrated.calibration.to_dict(),
        "pairs": [plain(pair) for pair in calibrated.pairs],
        "summary": calibrated.summary.to_dict(),
    }
    target = folder / key.file_name
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, delete=False) as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    return Path(file.name).replace(target)


def load(folder: Path, key: Key) -> Found:
    """The calibration for this program on this machine, or what changed since there was one."""
    path = folder / key.file_name
    if path.exists():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT or values["epoch"] != key.epoch or values["artefact"] != key.artefact:
                return Found(None, f"{path.name} is of another format or program; run `nightfleet check` again")
            return Found(_read(values))
        except (ValueError, KeyError, TypeError, AttributeError):
            # A disk or an editor: what cannot be read is measured again, and never guessed.
            return Found(None, f"{path.name} is damaged; run `nightfleet check` again")
    others = sorted(folder.glob(f"{key.program}-*.json"), key=lambda other: other.stat().st_mtime_ns)
    if not others:
        return Found(None, "this program was not calibrated here yet; run `nightfleet check` first")
    before = Machine(**json.loads(others[-1].read_text(encoding="utf-8"))["machine"])
    changed = key.machine.since(before)
    return Found(None, f"the machine changed since the last calibration: {changed}; run `nightfleet check` again")


def _read(values: dict[str, Any]) -> Calibrated:
    return Calibrated(
        read_rules(values["rules"]),
        Calibration.from_dict(values["calibration"]),
        tuple(read_pair(pair) for pair in values["pairs"]),
        Summary.from_dict(values["summary"]),
    )


def _cpu(info: Path) -> str:
    """The model's name; on processors that give none, the machine's architecture."""
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
