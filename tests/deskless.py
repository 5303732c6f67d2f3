"""Briefs for agents that are tried without a night around them, and a desk that only listens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightfleet.agents.contract import (
    ArenaSummary,
    Brief,
    Practice,
    Profile,
    Role,
    Spend,
    Strategy,
    TaskLimits,
    Tried,
    WorkloadSummary,
)
from nightfleet.harness.arena import read_arena
from nightfleet.harness.frontmatter import load_front_matter


@dataclass
class Listener:
    """A desk that writes down what it hears."""

    gone: bool = False
    heard: list[str] = field(default_factory=list)
    spent: list[Spend] = field(default_factory=list)

    def heartbeat(self, doing: str) -> None:
        self.heard.append(doing)

    def practice(self) -> Practice:
        return Practice(stage="build", said="there is nothing to practise with")

    def spend(self, spent: Spend) -> None:
        self.spent.append(spent)

    def cancelled(self) -> bool:
        return self.gone


ALONE = Listener()


def brief_for(
    tree: Path,
    role: Role,
    *,
    edit: tuple[str, ...] = ("**",),
    build: tuple[tuple[str, ...], ...] = (),
    strategy: Strategy | None = None,
    tried: Sequence[Tried] = (),
    profile: Profile | None = None,
    strategies: int = 100,
    seed: int = 0,
) -> Brief:
    """A brief for a folder that is no arena."""
    arena = ArenaSummary(
        name="small",
        edit=edit,
        build=build,
        workloads=(WorkloadSummary(name="all", run=("true",), cases="100", block=10, unit="cases"),),
        metric="time",
        over="total",
        clock="cpu",
        cores=1,
        promote_ratio=0.05,
        incremental_ratio=0.02,
        diff_lines=600,
    )
    return Brief(
        task="task-1",
        role=role,
        goal="Make it faster.",
        arena=arena,
        strategy=strategy,
        tried=tuple(tried),
        profile=profile,
        tree=tree,
        limits=TaskLimits(strategies=strategies),
        seed=seed,
    )


def brief_of(tree: Path, role: Role, strategy: Strategy | None = None, tried: Sequence[Tried] = ()) -> Brief:
    """A brief for a folder with a program.md."""
    front = load_front_matter(tree / "program.md")
    arena, _ = read_arena(front.section)
    return Brief(
        task="task-1",
        role=role,
        goal=front.prose,
        arena=ArenaSummary.of(arena),
        strategy=strategy,
        tried=tuple(tried),
        tree=tree,
        limits=TaskLimits(strategies=100),
    )
