"""Whether a baseline agrees with itself: every case twice, which cases differ, how, and what would settle it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from nightfleet.harness import behaviour
from nightfleet.harness.behaviour import Behaviour, Progress, Span, Work
from nightfleet.harness.divergence import Divergence, Look
from nightfleet.harness.remedy import Both, Remedy, find_remedy
from nightfleet.harness.sides import Side, fresh_copy
from nightfleet.harness.tree import printable
from nightfleet.native import Sandbox

# Fixed: cases whose records are looked at, and how often each is run again until its records differ.
MOST_LOOKED_AT = 5
LOOKS = 4
# Bad blocks that end the comparison: a few more than the gate's, so that a remedy has something to be tried on.
BAD_BLOCKS = 6


@dataclass(frozen=True)
class Determinism:
    """What two runs of the same program over the same cases gave.

    Attributes:
        cases: compared.
        unsteady: by workload, cases whose records differ.
        differing: how many there are, in the blocks that were run.
        shown: some of them, with both records.
        remedies: by workload that is not steady, a form that settles what was seen, and over how many cases it was
            tried; None where nothing known to us does.
        failed: why it could not be found out, if a run ended badly.
        seconds: how long the comparison took.
    """

    cases: int
    unsteady: Mapping[str, tuple[int, ...]]
    differing: int
    shown: tuple[Divergence, ...]
    remedies: Mapping[str, tuple[Remedy, int] | None] = field(default_factory=dict)
    failed: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether both runs agree on every case."""
        return not self.unsteady and not self.failed


def compare_with_itself(
    baseline: Side, spans: Sequence[Span], work: Work, *, on_progress: Callable[[Progress], None] | None = None
) -> Determinism:
    """Run every case of the spans twice; where records differ, look at them and look for a remedy.

    Raises as `behaviour.compare`.
    """
    work = replace(work, most_bad_blocks=BAD_BLOCKS)
    seen = behaviour.compare(baseline, baseline, spans, work, on_progress=on_progress)
    # Both sides are the same: what the later runs happened to repeat differs all the same.
    unsteady = {span.workload.name: _of(span.workload.name, seen) for span in spans}
    unsteady = {name: cases for name, cases in unsteady.items() if cases}
    remedies: dict[str, tuple[Remedy, int] | None] = {}
    shown: list[Divergence] = []
    for span in spans:
        if cases := unsteady.get(span.workload.name):
            samples, looked = _look(baseline, span, cases, work)
            shown += looked
            remedy = find_remedy(samples, span.form.form)
            remedies[span.workload.name] = None if remedy is None else _tried(baseline, span, cases, work, remedy)
    return Determinism(
        seen.cases, unsteady, seen.divergences, tuple(shown) or seen.shown, remedies, _failure(seen), seen.seconds
    )


def _of(name: str, seen: Behaviour) -> tuple[int, ...]:
    return tuple(dict.fromkeys([*seen.diverged.get(name, ()), *seen.unsteady.get(name, ())]))


def _failure(seen: Behaviour) -> str:
    if not seen.failed:
        return ""
    first = seen.failed[0]
    said = [printable(line) for line in first.stderr.strip().splitlines()[-3:]]
    return (
        f"the baseline ends with {first.outcome} {first.status} on a block of workload {first.workload} "
        f"(cases {first.cases[:3].tolist()} …)" + (f": {' / '.join(said)}" if said else "")
    )


def _look(baseline: Side, span: Span, cases: Sequence[int], work: Work) -> tuple[list[Both], list[Divergence]]:
    """The records of some cases, from runs in which they differ."""
    samples: list[Both] = []
    shown: list[Divergence] = []
    with ExitStack() as stack:
        copy = fresh_copy(baseline.tree, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightfleet-"))))
        first, second, sieve = (
            stack.enter_context(Sandbox(copy, **baseline.options))  # type: ignore[arg-type]
            for _ in range(3)
        )
        look = Look(span.workload, span.form, span.manifest, work.timeout_s, work.output_bytes)
        for case in cases[:MOST_LOOKED_AT]:
            block = next(block.tolist() for block in span.blocks if case in block)
            for _ in range(LOOKS):
                found = look.at(case, block, (first, second), sieve)
                if found.baseline is not None and found.candidate is not None and found.first is not None:
                    samples.append((found.baseline.data, found.candidate.data))
                    shown.append(found)
                    break
    return samples, shown


def _tried(baseline: Side, span: Span, cases: Sequence[int], work: Work, remedy: Remedy) -> tuple[Remedy, int] | None:
    """The remedy, if the blocks that differed agree under it, and over how many cases."""
    blocks = [block for block in span.blocks if any(case in block for case in cases)][:BAD_BLOCKS]
    form = replace(span.form, form=remedy.form, ignore=_joined(span.form.ignore, remedy.ignore))
    chosen = [case for block in blocks for case in block.tolist()]
    again = replace(span, form=form, cases=span.cases[[int(i) for i in _places(span, chosen)]])
    seen = behaviour.compare(baseline, baseline, [again], work)
    joined = replace(remedy, ignore=form.ignore)
    return (joined, seen.cases) if seen.identical else None


def _places(span: Span, chosen: Sequence[int]) -> list[int]:
    wanted = set(chosen)
    return [place for place, case in enumerate(span.cases.tolist()) if case in wanted]


def _joined(*patterns: str | None) -> str | None:
    return "|".join(pattern for pattern in patterns if pattern) or None
