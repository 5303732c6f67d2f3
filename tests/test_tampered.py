"""Builds that something else changes while a verification is under way: nothing is concluded from them."""

from pathlib import Path
from typing import Any

import pytest
from clocked import Bench, on_clock
from tiny import HALF, SOURCE, Tiny

from nightfleet.harness.report import Gate, read_report
from nightfleet.harness.request import Nobody
from nightfleet.harness.rounds import Blocks, Round
from nightfleet.harness.verify import CutShortError, verify
from nightfleet.native import MachineError

SIDES = {"baseline": SOURCE, "candidate": HALF}


def tamper(tiny: Tiny, side: str) -> None:
    """Change the program in every build of a side's sources."""
    for source in tiny.state.glob("builds/*/tree/tiny.c"):
        if source.read_text() == SIDES[side]:
            program = source.with_name("tiny")
            program.write_bytes(program.read_bytes() + b"\0")


class Tampering(Nobody):
    """Changes a program when a gate begins."""

    def __init__(self, tiny: Tiny, gate: str, side: str) -> None:
        self.tiny, self.gate, self.side = tiny, gate, side

    def begins(self, gate: str) -> None:
        if gate == self.gate:
            tamper(self.tiny, self.side)


@pytest.fixture
def tiny(open_ground: Path) -> Tiny:
    return Tiny(open_ground / "tiny")


@pytest.mark.parametrize("side", SIDES)
def test_a_build_changed_before_the_behaviour_gate_is_the_machines_error(tiny: Tiny, side: str) -> None:
    request = tiny.request(tiny.branch("half", {"tiny.c": HALF}))
    with pytest.raises(MachineError, match=r"no longer what was built: tiny differs; remove .*builds") as error:
        verify(request, Tampering(tiny, "behaviour", side))
    assert not isinstance(error.value, CutShortError)
    assert not (tiny.state / "reports").exists()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("gate", "pairs"), [("speed", False), ("extraordinary", True)])
def test_one_changed_before_timing_or_the_last_gate_leaves_no_verdict(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, gate: str, pairs: bool, side: str
) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.5))
    with pytest.raises(CutShortError, match="tiny differs") as cut:
        verify(tiny.request(tiny.branch("half", {"tiny.c": HALF})), Tampering(tiny, gate, side))
    assert cut.value.found.verdict == "undecided"
    assert bool(cut.value.found.pairs) == pairs
    assert read_report(cut.value.report)["verification"]["verdict"] == "undecided"


@pytest.mark.parametrize("side", SIDES)
def test_so_does_one_changed_while_it_was_timed(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    class Meanwhile(Bench):
        def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
            if len(self.asked) == 3:
                tamper(tiny, side)
            return super().round(blocks, reference=reference)

    on_clock(monkeypatch, lambda: Meanwhile(gain=0.12))
    with pytest.raises(CutShortError, match="tiny differs") as cut:
        verify(tiny.request(tiny.branch("half", {"tiny.c": HALF})), Nobody())
    assert cut.value.found.pairs > 20
    assert next(gate for gate in cut.value.found.gates if gate.name == "extraordinary").reason == "not reached"


def test_the_report_holds_the_same_artefacts_at_every_gate(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clock(monkeypatch, lambda: Bench(gain=0.5))
    found, directory = verify(tiny.request(tiny.branch("half", {"tiny.c": HALF})), Nobody())
    gates: dict[str, Gate] = {gate.name: gate for gate in found.gates}
    built = {side: gates["build"].facts[side] for side in ("baseline", "candidate")}
    assert [gates[name].facts["artefacts"] for name in ("behaviour", "speed", "extraordinary")] == [built] * 3
    subject: dict[str, Any] = read_report(directory)["subject"]
    assert {side: subject[side]["artefact"] for side in built} == built
    assert built["baseline"] != built["candidate"]
