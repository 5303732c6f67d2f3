"""How a night begins, or goes on after whatever ended the process that drove it."""

from dataclasses import dataclass

from nightfleet.native import UserError
from nightfleet.orchestrator import naming
from nightfleet.orchestrator.ledger import Reading, candidates, nights, promotions, tasks
from nightfleet.orchestrator.ledger.tables import Candidate, Night
from nightfleet.orchestrator.loans import Loans
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program
from nightfleet.orchestrator.program_file import edited_meanwhile
from nightfleet.orchestrator.promotion import finish, set_back


@dataclass(frozen=True)
class Opened:
    """A night that is under way. `remarks`: what a person should know; `continued`: it had begun before."""

    night: Night
    continued: bool
    remarks: tuple[str, ...]


def open_night(place: Place, program: Program, *, planned: int, branch: str | None = None) -> Opened:
    """Begin a night from the commit that is checked out, or go on with the one that has not ended.

    Args:
        place: where.
        program: what the night goes by.
        planned: T, the timed tests that its error budget is split by; only a new night asks.
        branch: of the champion; None for one with the run's name.

    Raises:
        UserError: there is no commit yet; the branch is taken; another branch than that of the night under way.
        nightfleet.native.MachineError: git, disk or database failed.
    """
    with place.ledger.read() as reading:
        running = nights.running(reading)
    standing = place.checkout.standing("HEAD" if running is None else running.root)
    remarks = tuple(standing.remarks())
    if running is not None:
        if branch not in {None, running.champion_branch}:
            raise UserError(
                f"the night {running.name} to {running.champion_branch} has not ended; "
                f"type `nightfleet launch` to go on with it, or `nightfleet stop` to end it before another to {branch}"
            )
        edits = edited_meanwhile(place, running.number, program)
        return Opened(place.night(), continued=True, remarks=(*remarks, *edits))
    if not program.prose.strip():
        raise UserError("program.md says no goal: write below its front matter what agents should reach, and why")
    # Before the ledger: a branch that cannot be made must leave no night behind.
    new = naming.name_night(place, standing.start, branch)
    with place.ledger.write() as writing:
        begun = nights.begin_or_continue(
            writing,
            name=new.name,
            root=standing.start,
            base_branch=standing.branch or standing.start,
            champion_branch=new.branch,
            planned=planned,
            alpha=program.arena.thresholds.false_promotions_per_night,
        )
        nights.read_program(writing, begun.night.number, program.front.text)
    naming.named(place)
    return Opened(begun.night, begun.continued, remarks)


def recover(place: Place, night: Night) -> list[str]:
    """Put right what a process that was killed left behind; what there is to say about it.

    Steps that were cut short go back to where they began. A swap of the champion that was meant is made, or found made.
    """
    said: list[str] = []
    with place.ledger.write() as writing:
        cut_short = candidates.with_state(writing, night.number, "building", "behaving", "timing")
        for one in cut_short:
            back: candidates.State = "waiting" if one.state == "timing" else "submitted"
            candidates.move(writing, one.id, back, "the process that judged it was ended")
            said.append(f"candidate {one.number} was {one.state} when the last process ended; it goes on from there")
        meant = promotions.unsettled(writing, night.number)
        tasks.put_back_abandoned(writing, night.number)
        kept = [(one.number, one.commit) for one in _all(writing, night)]
    if meant is not None:
        finish(place, night, meant)
        said.append(f"the champion was about to become {meant.to_commit[:12]}; it is")
    # Somebody may have moved it meanwhile: better said now than after the next hour's work.
    set_back(place)
    for number, commit in kept:
        place.references.keep_candidate(night.name, number, commit)
    # What is lent to agents from outside lasts for as long as their claims do, whoever drives the night.
    loans = Loans(place)
    loans.tidy()
    reclaimed = place.trees.reclaim(lambda name: any(loan.tree == name for loan in loans))
    if reclaimed:
        said.append(f"{len(reclaimed)} agents' trees of ended processes are removed")
    return said


def _all(reading: Reading, night: Night) -> list[Candidate]:
    return candidates.with_state(reading, night.number, *candidates.STATES)
