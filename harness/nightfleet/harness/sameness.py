"""What a comparison of records amounts to for a gate, and whose fault it is when it cannot be made."""

from collections.abc import Mapping
from typing import Any

from nightfleet.harness.behaviour import Behaviour
from nightfleet.harness.divergence import Divergence
from nightfleet.harness.passing import Passing
from nightfleet.harness.tree import printable
from nightfleet.native import UserError

# Of what a crashing program said, so much is shown.
TAIL_LETTERS = 400


def judge(gate: Passing, seen: Behaviour) -> None:
    """Pass where every record is the same; else end the verification.

    Raises:
        Ended: the candidate is incorrect or broken.
        UserError: the baseline ends badly, or disagrees with itself.
    """
    match seen.ending:
        case "baseline failed":
            first = next(block for block in seen.failed if block.side == "baseline")
            said = printable(first.stderr[-TAIL_LETTERS:].strip())
            if first.outcome == "start":
                raise UserError(
                    f"workload {first.workload}: its `run` cannot be started: {said}; is it what build makes?"
                )
            raise UserError(
                f"the baseline itself ended with {first.outcome} {first.status} on a block of workload "
                f"{first.workload} (cases {first.cases[:3].tolist()} …): {said}"
            )
        case "nondeterministic baseline":
            name, cases = next(iter(seen.unsteady.items()))
            raise UserError(
                f"the baseline disagrees with itself on cases {list(cases[:5])} of workload {name}: two runs gave "
                "different records; make it deterministic, or have `behaviour: {ignore: …}` remove what differs"
            )
        case "broken":
            bad = next(block for block in seen.failed if block.side == "candidate")
            gate.no("broken", f"ended with {bad.outcome} {bad.status} on workload {bad.workload}", stderr=bad.stderr)
        case "incorrect":
            diverged = {name: list(cases) for name, cases in seen.diverged.items()}
            gate.no("incorrect", _difference(seen), diverged=diverged)


def plain(divergence: Divergence) -> dict[str, Any]:
    """A divergence with its two records, as JSON would give it back."""

    def record(one: Any) -> Mapping[str, Any] | None:
        return None if one is None else {"text": one.text, "start": one.start, "size": one.size}

    return {
        "workload": divergence.workload,
        "case": divergence.case,
        "fed": divergence.fed,
        "baseline": record(divergence.baseline),
        "candidate": record(divergence.candidate),
        "first": divergence.first,
        "note": divergence.note,
    }


def _difference(seen: Behaviour) -> str:
    if not seen.diverged:
        bad = seen.failed[0]
        said = printable(bad.stderr.strip().splitlines()[-1]) if bad.stderr.strip() else bad.outcome
        return f"wrong records on workload {bad.workload}: {said}"
    for name, cases in seen.candidate_unsteady.items():
        return (
            f"it disagrees with itself on case {cases[0]} of workload {name}: another run gives another record, "
            f"after {seen.cases} cases"
        )
    name, cases = next(iter(seen.diverged.items()))
    more = f" (and {seen.divergences - 1} more found)" if seen.divergences > 1 else ""
    return f"case {cases[0]} of workload {name} gives another record{more}, after {seen.cases} cases"
