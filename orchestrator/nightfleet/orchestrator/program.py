"""The human's program: the arena, the night's budget, the fleet, and the goal in prose.

Each room owns its keys: the judge's are read by `nightfleet.harness.arena`, the night's here, and a key that nobody
owns is refused.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from nightfleet.agents.contract import GOAL_CHARACTERS
from nightfleet.harness.arena import Arena, read_arena
from nightfleet.harness.frontmatter import FrontMatter, ProgramError, load_front_matter, read_front_matter
from nightfleet.harness.keys import ArenaKeys
from nightfleet.harness.quantities import count, dollars, duration
from nightfleet.harness.schema import Keys, key_names, one_of, read_keys, unknown_key

BACKENDS = ("search", "outside")
BackendName: TypeAlias = Literal["search", "outside"]
OTHERS = "; models and command-line agents are not available in this version"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a night may spend; each is a hard stop.

    Attributes:
        experiments: candidates that are timed: the T of the night's error budget.
        night_s: from launch to the last claim, in seconds.
        task_s: one agent on one strategy, in seconds.
        tokens: in and out, over all models.
        cost_cents: US cents, over all models.
    """

    experiments: int
    night_s: float
    task_s: float
    tokens: int
    cost_cents: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many agents run side by side, and of which backend; those from outside come by `nightfleet claim`."""

    scouts: int
    workers: int
    scout: BackendName
    worker: BackendName


@dataclass(frozen=True, slots=True)
class Program:
    """A whole program.

    Attributes:
        prose: the goal, given to every agent in full.
        digest: SHA-256 (64 hex digits) of the file's text.
        front: what was read, for edits and for the lines of keys.
    """

    arena: Arena
    budget: Budget
    fleet: Fleet
    prose: str
    digest: str
    front: FrontMatter

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and weakens the evidence."""
        return self.arena.warnings


class BudgetKeys(Keys):
    """What a night may spend."""

    SHAPE: ClassVar[str] = "a mapping like {experiments: 200, night: 8h}"

    experiments: Annotated[int, count("1", "100k")] = 200
    night: Annotated[float, duration("1m", "168h")] = 28_800.0
    task: Annotated[float, duration("10s", "24h")] = 900.0
    tokens: Annotated[int, count("1", "100G")] = 2_000_000
    cost: Annotated[int, dollars("$0", "$100000")] = 2_000


class FleetKeys(Keys):
    """Who looks for gains."""

    SHAPE: ClassVar[str] = "a mapping like {scouts: 2, workers: 4, scout: search, worker: search}"

    scouts: Annotated[int, count("1", "64")] = 2
    workers: Annotated[int, count("1", "256")] = 4
    scout: Annotated[BackendName, one_of(*BACKENDS, others=OTHERS)] = "search"
    worker: Annotated[BackendName, one_of(*BACKENDS, others=OTHERS)] = "search"


class NightKeys(Keys):
    """The keys that the orchestrator owns."""

    LATER: ClassVar[Mapping[str, str]] = {}

    budget: BudgetKeys = BudgetKeys()
    fleet: FleetKeys = FleetKeys()


def load_program(source: Path | str) -> Program:
    """Read and check a program.

    Args:
        source: a Path is a file to read; a str is the text itself.

    Raises:
        ProgramError: with the file, the line, the limit and the value, and what to type instead.
    """
    front = load_front_matter(source) if isinstance(source, Path) else read_front_matter(source)
    # First of all: what looks missing to a room may only be misspelt.
    known = [*ArenaKeys.model_fields, *NightKeys.model_fields]
    _, unowned = front.section.split([*known, *ArenaKeys.LATER, *NightKeys.LATER])
    for key in unowned.values:
        raise unknown_key(unowned, (key,), known)
    if len(front.prose) > GOAL_CHARACTERS:
        raise ProgramError(
            front.section.file, None, f"the goal may have {GOAL_CHARACTERS} characters; it has {len(front.prose)}"
        )
    arena, mine = read_arena(front.section)
    keys = read_keys(mine, NightKeys)
    if keys.budget.task > keys.budget.night:
        raise mine.error(
            ("budget", "task"), f"must fit into budget.night, {keys.budget.night:g} s; got {keys.budget.task:g} s"
        )
    return Program(
        arena=arena,
        budget=_budget(keys.budget),
        fleet=Fleet(keys.fleet.scouts, keys.fleet.workers, keys.fleet.scout, keys.fleet.worker),
        prose=front.prose,
        digest=hashlib.sha256(front.text.encode("utf-8")).hexdigest(),
        front=front,
    )


def program_keys() -> tuple[str, ...]:
    """Every key of a program, dotted, the judge's first."""
    return (*key_names(ArenaKeys), *key_names(NightKeys))


def _budget(keys: BudgetKeys) -> Budget:
    return Budget(keys.experiments, keys.night, keys.task, keys.tokens, keys.cost)
