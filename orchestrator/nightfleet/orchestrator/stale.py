"""What has not got its due when its baseline is replaced is run again on the new one, never silently dropped.

In this order: what would have been promoted, what waits, what was nearer to it, what was near (`rank`). A candidate is
run again as a new row, its changes carried over file by file; where they do not go together, a worker gets both diffs.
"""

from nightfleet.harness.scope import Scope
from nightfleet.orchestrator.briefs import strategy_of
from nightfleet.orchestrator.ledger import Reading, candidates, promotions, tasks, verifications
from nightfleet.orchestrator.ledger.candidates import MOST_RERUNS, RERUN_VERDICTS
from nightfleet.orchestrator.ledger.tables import Candidate, Night, Strategy
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.repo.message import with_trailers
from nightfleet.orchestrator.repo.rebase import Rebased, rebase

# Of a conflict's files, so many are shown to the worker who settles it.
MOST_FILES = 5


def due(reading: Reading, night: int, least: float) -> list[Candidate]:
    """The candidates that are stale and have not been said to be, in the order in which they are run again.

    `least`: an undecided one was near if its gain is this or more (a fraction), or not known. Where the machine is
    noisy most of those without any gain are undecided, and each run again would cost pairs and error budget.
    """
    row = reading.get(Night, night)
    open_ones = candidates.with_state(reading, night, "submitted", "waiting")
    judged = [one for one in candidates.with_verdict(reading, night, *RERUN_VERDICTS) if one.state == "judged"]
    near = [one for one in judged if _near(reading, one, least)]
    moved = [one for one in (*open_ones, *near) if one.parent != row.champion or one.epoch != row.epoch]
    return sorted((one for one in moved if not _promoted(reading, one)), key=lambda one: (rank(one), one.number))


def rank(candidate: Candidate) -> int:
    """Whose turn it is: 0 lost the swap, 1 waits to be timed, 2 to be built, 3 was near."""
    if candidate.state == "judged":
        return 0 if candidate.verdict in {"promote", "simplify"} else 3
    return 1 if candidate.state == "waiting" else 2


def run_again(place: Place, candidate: Candidate, scope: Scope) -> Candidate | None:
    """Make a candidate of the champion out of one of an earlier baseline.

    Returns:
        The new row; None where there is none, and the old one says why.

    Raises:
        nightfleet.native.MachineError: git or the database failed.
    """
    night = place.night()
    if candidate.depth >= MOST_RERUNS:
        _leave(place, candidate, f"its baseline was replaced, and it was run again {MOST_RERUNS} times before")
        return None
    message = with_trailers(candidate.description, {"Rerun-of": f"{night.name}/{candidate.number}"})
    who = place.checkout.identity()
    parent, onto = candidate.parent, night.champion
    moved = rebase(place.door, candidate.commit, parent, onto, scope=scope, message=message, who=who)
    if moved.commit is None:
        _leave(place, candidate, _why(moved), moved)
        return None
    with place.ledger.write() as writing:
        candidates.move(writing, candidate.id, "stale", f"its baseline was replaced by {onto[:12]}")
        again = candidates.submit(
            writing,
            night.number,
            parent=onto,
            tree=place.door.tree_id(moved.commit),
            commit=moved.commit,
            made_by=candidate.made_by,
            description=candidate.description,
            strategy=candidate.strategy,
            rebased_from=candidate.id,
            fingerprint=candidate.fingerprint,
        )
    place.references.keep_candidate(night.name, again.number, again.commit)
    return again


def _near(reading: Reading, candidate: Candidate, least: float) -> bool:
    gain = verifications.latest(reading, candidate).gain
    return candidate.verdict != "undecided" or gain is None or gain >= least


def _leave(place: Place, candidate: Candidate, why: str, moved: Rebased | None = None) -> None:
    with place.ledger.write() as writing:
        candidates.move(writing, candidate.id, "stale", why)
        # An exact recipe does not fit any more; whoever made it will propose it for the new baseline.
        if moved is not None and moved.conflicts and _has_words(writing, candidate):
            shown = [{"path": one.path, "theirs": one.theirs, "ours": one.ours} for one in moved.conflicts[:MOST_FILES]]
            brief = {"conflict": {"candidate": candidate.number, "files": shown}}
            tasks.post(writing, candidate.night, "worker", brief, strategy=candidate.strategy)


def _has_words(reading: Reading, candidate: Candidate) -> bool:
    """Whether a worker could carry its strategy over."""
    strategy = None if candidate.strategy is None else reading.get(Strategy, candidate.strategy)
    return strategy is not None and not strategy_of(strategy).recipe


def _why(moved: Rebased) -> str:
    if moved.conflicts:
        return f"it conflicts with the new baseline in {', '.join(one.path for one in moved.conflicts[:MOST_FILES])}"
    if moved.objections:
        return f"on the new baseline it is out of scope: {moved.objections[0].text}"
    return "the new baseline holds all of it"


def _promoted(reading: Reading, candidate: Candidate) -> bool:
    """Whether it is in the champion, or a person does not want it there."""
    swap = promotions.of(reading, candidate.id)
    if swap is None or swap.result == "lost":
        return False
    return swap.result != "withdrawn" or promotions.rejected(reading, candidate.id)
