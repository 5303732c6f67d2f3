"""A round of timed pairs, one of every workload under one coin, and what can time it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from nightfleet.harness.cases import Cases
from nightfleet.harness.reading import Pair, Reading
from nightfleet.native import Completed, Draw, MachineError

# A block for each workload, by name.
Blocks: TypeAlias = Mapping[str, Cases]


class TooLoadedError(MachineError):
    """More than a tenth of the pairs were void: the machine is too loaded to time anything."""


class BrokenError(RuntimeError):
    """The candidate ended badly in two timed runs: the candidate's fault. `trial` is the last of them."""

    def __init__(self, workload: str, trial: Completed | None, why: str) -> None:
        super().__init__(why)
        self.workload, self.trial = workload, trial


@dataclass(frozen=True)
class Round:
    """What one round gave. `pairs` are in the order of the workloads; a void round may lack some and never counts.

    Attributes:
        draws: what was recorded of each workload before anything ran; one coin and the same copies for all.
        void: why the round does not count: nothing that a trial can do.
        diverged: of each workload that has any, the cases whose timed records differ.
        tasks: most threads and child processes that one trial made beyond the program itself.
    """

    draws: Mapping[str, Draw]
    pairs: tuple[Pair, ...]
    void: str | None = None
    diverged: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tasks: int = 0


class Bench(Protocol):
    """What times rounds: `pairs.PairBench`, or a simulation of one."""

    @property
    def facts(self) -> dict[str, str]:
        """By which mechanisms; see `Sandbox.facts`."""

    def warm_up_round(self, blocks: Blocks) -> Round:
        """The one round that is never counted."""

    def round(self, blocks: Blocks, *, reference: bool = False) -> Round:
        """Draw, record and run one round; `reference`: with an extra baseline trial of each block before the coin."""

    def reference(self, blocks: Blocks) -> dict[str, Reading]:
        """One baseline trial of each block by itself."""
