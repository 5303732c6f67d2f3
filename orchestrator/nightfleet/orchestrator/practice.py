"""Practice for agents of every kind: the task's tree as it is now, over the commit that it was made from.

It makes noise: whoever calls it has entered `Quiet.noise`.
"""

from collections.abc import Callable
from pathlib import Path

from nightfleet.agents.contract import Brief, Practice
from nightfleet.harness.practice import practise
from nightfleet.harness.request import Request
from nightfleet.native import UserError
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.program_file import read_back
from nightfleet.orchestrator.repo.snapshot import tree_of

# As the contract has it.
LONGEST = 8_000


def practice(place: Place, program: Program, folder: Path, parent: str) -> Practice:
    """Build a task's tree and run practice cases in it.

    Args:
        place: of the night.
        program: what it goes by now.
        folder: the agent's tree.
        parent: the commit that it was made from.

    Raises:
        UserError: the parent does not build or run.
        nightfleet.native.MachineError: the machine could not do its part.
    """
    arena = program.arena
    baseline = place.door.tree(parent)
    try:
        now = tree_of(place.door, folder, parent, arena.scope)
    except UserError as error:
        # The tree is at fault: too much, too deep, not readable.
        return Practice(stage="build", said=str(error)[:LONGEST])
    request = Request(arena, baseline, now, place.here, place.state, program.front.text, place.master())
    found = practise(request)
    said = "\n".join(found.lines)
    return Practice(stage=found.stage, said=said if len(said) <= LONGEST else said[: LONGEST - 2] + "\n…")


def in_process(place: Place) -> Callable[[Brief], Practice]:
    """What the fleet of a night under way practises with: beside each tree stands what it was made from."""

    def practise_in(brief: Brief) -> Practice:
        program = read_back(place, place.night().number)
        return practice(place, program, brief.tree, place.trees.commit_of(brief.tree))

    return practise_in
