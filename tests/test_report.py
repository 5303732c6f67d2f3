"""Reports: what is written is what is read, and whatever is changed in between is found."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from nightfleet.harness.calibration import Calibration, Noise
from nightfleet.harness.evidence import Evidence
from nightfleet.harness.passing import NAMES
from nightfleet.harness.reading import Pair, Reading
from nightfleet.harness.report import (
    FORMAT,
    Array,
    Gain,
    Gate,
    ReportError,
    Verification,
    new_id,
    read_report,
    write_report,
)
from nightfleet.harness.rules import Rules
from nightfleet.harness.verdict import decide

FLIPS = 60


def speed() -> dict[str, object]:
    """Evidence of a timing that a wall clock rejects at once."""
    rules = Rules("wall")
    noise = Noise(0.0, (), (0.01,))
    calibration = Calibration({"": {"wall": noise}})
    pairs = tuple(Pair(bool(i % 2), Reading(10_000_000 + i), Reading(11_000_000 - i)) for i in range(5))
    decision = decide(rules, calibration, pairs)
    return Evidence(rules, calibration, (), pairs, (), decision).to_dict()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    cases = np.arange(50, dtype=np.int64)
    digests = np.random.default_rng(3).integers(0, 2**63, (50, 2), dtype=np.uint64)
    found = speed()["decision"]
    assert isinstance(found, dict)
    passed = [Gate(name, passed=True, reason="yes", seconds=1.5) for name in NAMES[:-2]]
    gates = (*passed, Gate("speed", passed=False, reason=found["reason"]), Gate("extraordinary", None, "not reached"))
    gain = Gain(found["gain"], found["low"], found["high"], "wall")
    verification = Verification(new_id(), "reject", found["reason"], gates, gain, pairs=5, cases=50)
    directory = tmp_path / verification.id
    arrays = tuple(Array(side, "episodes", cases, digests) for side in ("baseline", "candidate"))
    root = write_report(directory, verification, subject={"arena": "x"}, arrays=arrays, speed=speed())
    assert read_report(directory)["root"] == root
    return directory


def test_what_is_written_is_read(report: Path) -> None:
    content = read_report(report)
    assert content["verification"]["verdict"] == "reject"
    assert content["verification"]["behaviour"] == {"cases": 50, "identical": True, "diverged": 0}
    assert sorted(content["files"]) == ["digests-0.npy", "digests-1.npy"]
    assert np.load(report / "digests-0.npy", allow_pickle=False)["case"].tolist() == list(range(50))


def test_single_bytes_that_change_a_fact_are_found(report: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - which bytes are flipped is no secret
    for name in ("report.json", "digests-0.npy", "digests-1.npy"):
        path = report / name
        right = path.read_bytes()
        for _ in range(FLIPS):
            at, bit = chance.randrange(len(right)), 1 << chance.randrange(8)
            wrong = bytearray(right)
            wrong[at] ^= bit
            path.write_bytes(wrong)
            if name == "report.json" and _same(right, bytes(wrong)):
                continue  # blanks between words are no facts
            with pytest.raises(ReportError):
                read_report(report)
        path.write_bytes(right)
    read_report(report)


def _same(right: bytes, wrong: bytes) -> bool:
    try:
        return bool(json.loads(right) == json.loads(wrong))
    except ValueError:
        return False


def test_a_verdict_that_does_not_follow_is_found_even_under_a_new_root(report: Path) -> None:
    from nightfleet.harness import report as module

    path = report / "report.json"
    content = json.loads(path.read_text())
    content["speed"]["decision"]["step"] = "promote"
    del content["root"]
    path.write_text(json.dumps({**content, "root": module._root(content)}))
    with pytest.raises(ReportError, match="does not follow from its pairs"):
        read_report(report)


@pytest.mark.parametrize("name", ["report.json", "digests-1.npy"])
def test_a_missing_file_is_named(report: Path, name: str) -> None:
    (report / name).unlink()
    with pytest.raises(ReportError, match=name):
        read_report(report)


def test_a_newer_format_is_refused_by_name(report: Path) -> None:
    path = report / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    with pytest.raises(ReportError, match=f"format {FORMAT + 1}; this version reads {FORMAT}"):
        read_report(report)


def test_a_verdict_that_its_own_pairs_speak_against_is_refused(tmp_path: Path) -> None:
    # With a root that fits: whoever writes the report can compute one.
    gates = tuple(Gate(name, passed=True, reason="yes") for name in NAMES)
    forged = Verification(new_id(), "promote", "faster", gates, pairs=5)
    write_report(tmp_path / "forged", forged, subject={"purpose": "speed"}, speed=speed())
    with pytest.raises(ReportError, match="the pairs give"):
        read_report(tmp_path / "forged")


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("verdict", "promote", "gate speed ended it"),
        ("reason", "because", "reason"),
        ("pairs", 6, "pairs"),
        ("extraordinary", True, "extraordinary"),
    ],
)
def test_nothing_that_is_said_may_contradict_what_it_follows_from(
    report: Path, where: str, value: object, says: str
) -> None:
    from nightfleet.harness import report as module

    path = report / "report.json"
    content = json.loads(path.read_text())
    content["verification"][where] = value
    del content["root"]
    path.write_text(json.dumps({**content, "root": module._root(content)}))
    with pytest.raises(ReportError, match=says):
        read_report(report)
