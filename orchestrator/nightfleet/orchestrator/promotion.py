"""The champion moves: meant in the ledger, done in git by compare-and-swap, settled in the ledger.

A crash between any two of these is seen at the next start, and the rest is done then; see `opening.recover`.
"""

import contextlib

from nightfleet.orchestrator.ledger import Reading, candidates, promotions, verifications
from nightfleet.orchestrator.ledger.tables import Candidate, Night, Promotion, Strategy, Verification
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.repo.promotion import Shown, promotion_commit
from nightfleet.orchestrator.repo.refs import MovedError


def due(reading: Reading, night: int) -> Verification | None:
    """A verdict that moves the champion and has not yet: against the champion and by the contract that there are now.

    Also one that lost its swap to somebody who has put the champion back since.
    """
    now = reading.get(Night, night)
    for candidate in candidates.with_verdict(reading, night, "promote", "simplify"):
        found, swap = verifications.latest(reading, candidate), promotions.of(reading, candidate.id)
        fits = candidate.state == "judged" and (found.baseline, candidate.epoch) == (now.champion, now.epoch)
        if fits and (swap is None or swap.result == "lost"):
            return found
    return None


def withdraw(place: Place, promotion: Promotion) -> list[Promotion]:
    """Take a rejected promotion and all after it out of the champion; those after it are run again without it."""
    with place.ledger.write() as writing:
        gone = promotions.withdraw(writing, promotion.id)
    set_back(place)
    return gone


def set_back(place: Place) -> None:
    """Move the branch back where it still shows a promotion that was withdrawn.

    Raises:
        MovedError: it is neither there nor at the champion.
        nightfleet.native.UserError: it is checked out somewhere.
    """
    night = place.night()
    found = place.references.read(f"refs/heads/{night.champion_branch}")
    tip = night.champion if found is None else found.commit
    with place.ledger.read() as reading:
        shown = promotions.with_commit(reading, night.number, tip)
    was = tip if shown is not None and shown.result == "withdrawn" else night.champion
    place.references.move_branch(night.champion_branch, night.champion, was)


def promote(place: Place, verification: Verification) -> Promotion:
    """Move the champion branch onto the candidate's tree.

    Raises:
        MovedError: somebody else moved the branch; recorded as lost.
        nightfleet.native.UserError: it is checked out somewhere; nothing was moved.
        nightfleet.native.MachineError: git or the database failed.
    """
    with place.ledger.read() as reading:
        candidate = reading.get(Candidate, verification.candidate)
        night = reading.get(Night, candidate.night)
        strategy = None if candidate.strategy is None else reading.get(Strategy, candidate.strategy)
        _, last = reading.last_entry()
    shown = Shown(
        strategy=candidate.description if strategy is None else strategy.title,
        run=night.name,
        number=candidate.number,
        candidate=candidate.commit,
        gain=verification.gain or 0.0,
        low=verification.low or 0.0,
        high=verification.high or 0.0,
        pairs=verification.pairs,
        cases=verification.cases,
        report=verification.root_digest,
        ledger=last,
    )
    who, when_s = place.checkout.identity(), verification.at_us // 1_000_000
    commit = promotion_commit(place.door, night.champion, shown, who=who, when_s=when_s)
    place.references.refuse_checked_out(night.champion_branch)
    with place.ledger.write() as writing:
        meant = promotions.mean(writing, verification.id, commit)
    return finish(place, night, meant)


def finish(place: Place, night: Night, meant: Promotion) -> Promotion:
    """Do a swap that was meant, or find it done. Raises as `promote`."""
    try:
        place.references.move_branch(night.champion_branch, meant.to_commit, meant.from_commit)
    except MovedError:
        with place.ledger.write() as writing:
            promotions.settle(writing, meant.id, "lost")
        raise
    with place.ledger.write() as writing:
        return promotions.settle(writing, meant.id, "swapped")


def settle(place: Place, night: Night) -> None:
    """Bring a swap to its end that was meant when its process was killed, before a night ends without another.

    Raises:
        nightfleet.native.UserError: the branch is checked out somewhere.
        nightfleet.native.MachineError: git or the database failed.
    """
    with place.ledger.read() as reading:
        meant = promotions.unsettled(reading, night.number)
    if meant is not None:
        # Somebody else moved the branch: it is recorded as lost, and the night may end all the same.
        with contextlib.suppress(MovedError):
            finish(place, night, meant)
