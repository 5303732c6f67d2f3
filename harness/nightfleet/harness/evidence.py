"""What the ledger keeps of a verdict on speed: all that it was made of, so that reading it is recomputing it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.reading import BothSides, Pair, Reading
from nightfleet.harness.rules import Guard, Rules
from nightfleet.harness.verdict import Decision, decide, decide_relinked


@dataclass(frozen=True)
class Evidence:
    """The rules, the frozen calibration, every trial in the order it ran, and the decision that they led to.

    An extraordinary claim has further pairs, of relinked builds of both sides, and a decision on those alone.
    """

    rules: Rules
    calibration: Calibration
    blocks: tuple[BothSides, ...]
    pairs: tuple[Pair, ...]
    confirmation: tuple[Pair, ...]
    decision: Decision
    relinked: tuple[Pair, ...] = ()
    relinked_decision: Decision | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: floats come back from it as they were."""
        return {
            "rules": plain(self.rules),
            "calibration": self.calibration.to_dict(),
            "blocks": [plain(block) for block in self.blocks],
            "pairs": [plain(pair) for pair in self.pairs],
            "confirmation": [plain(pair) for pair in self.confirmation],
            "decision": plain(self.decision),
            "relinked": [plain(pair) for pair in self.relinked],
            "relinked_decision": None if self.relinked_decision is None else plain(self.relinked_decision),
        }


def recompute(recorded: Mapping[str, Any]) -> Evidence:
    """Evidence from its plain values, decided once more. ValueError unless decisions are identical to the recorded.

    Identical on the same C library: another one may round a logarithm differently in the last place.
    """
    rules = read_rules(recorded["rules"])
    calibration = Calibration.from_dict(recorded["calibration"])
    blocks = tuple(read_block(block) for block in recorded["blocks"])
    pairs, confirmation = (tuple(read_pair(pair) for pair in recorded[which]) for which in ("pairs", "confirmation"))
    decision = decide(rules, calibration, pairs, blocks=blocks, confirmation=confirmation)
    _held_against(recorded["decision"], decision)
    relinked = tuple(read_pair(pair) for pair in recorded["relinked"])
    again = decide_relinked(rules, calibration, relinked) if relinked else None
    _held_against(recorded["relinked_decision"], again)
    return Evidence(rules, calibration, blocks, pairs, confirmation, decision, relinked, again)


def _held_against(recorded: Mapping[str, Any] | None, decision: Decision | None) -> None:
    if (None if decision is None else plain(decision)) != recorded:
        said, found = (recorded or {}).get("reason"), None if decision is None else decision.reason
        raise ValueError(
            f"the recorded verdict does not follow from its pairs: recorded {said!r}, recomputed {found!r}"
        )


def plain(record: Decision | Rules | Pair | BothSides) -> dict[str, Any]:
    """A record as JSON would give it back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(record)))
    return values


def read_rules(values: Mapping[str, Any]) -> Rules:
    """Rules from their plain values. ValueError as `Rules`."""
    guards = tuple(Guard(**guard) for guard in values["guards"])
    return Rules(**{**values, "workloads": tuple(values["workloads"]), "guards": guards})


def read_block(values: Mapping[str, Any]) -> BothSides:
    """What a block of the behaviour gate took, from its plain values."""
    return BothSides(Reading(**values["baseline"]), Reading(**values["candidate"]), values["workload"])


def read_pair(values: Mapping[str, Any]) -> Pair:
    """A timed pair from its plain values."""
    reference = values["reference"]
    return Pair(
        values["candidate_first"],
        Reading(**values["baseline"]),
        Reading(**values["candidate"]),
        values["workload"],
        Reading(**reference) if reference else None,
    )
