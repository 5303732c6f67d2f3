"""A promotion: the champion branch moves by one commit, which says in its trailers what was shown.

The commit has the candidate's tree and the last champion as its only parent, so that the branch reads as the night: one
commit per promotion. `References.move_branch` moves the branch onto it; work tree, index and HEAD are never touched.
"""

import re
from dataclasses import dataclass

from nightfleet.native import UserError
from nightfleet.orchestrator.repo.checkout import Identity
from nightfleet.orchestrator.repo.door import Door
from nightfleet.orchestrator.repo.message import one_line, trailers_of, with_trailers

GAIN = re.compile(r"(-?[0-9.]+)% \((-?[0-9.]+)% to (-?[0-9.]+)%\)")
CANDIDATE = re.compile(r"([A-Za-z0-9_-]+)/([0-9]+) ([0-9a-f]{40,64})")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shown:
    """What was shown of one candidate, as its promotion's trailers hold it.

    Attributes:
        strategy: its title; anything, made harmless when it is written.
        run: of the candidate.
        number: of the candidate within its run.
        candidate: its commit's id.
        gain: a ratio, 0.05 for 5%; kept to a thousandth of a percent.
        low: end of the 95% interval.
        high: the other end.
        pairs: timed.
        cases: compared.
        report: root digest of the hash report, 64 hexadecimal digits.
        ledger: hash of the ledger's last row when this was decided, 64 hexadecimal digits.
    """

    strategy: str
    run: str
    number: int
    candidate: str
    gain: float
    low: float
    high: float
    pairs: int
    cases: int
    report: str
    ledger: str


@dataclass(frozen=True)
class Promotion:
    """One commit of a champion branch that reads as a promotion.

    Attributes:
        commit: its id.
        parent: the champion before it.
        tree: the id of its tree, which is the candidate's.
        shown: what its trailers say.
    """

    commit: str
    parent: str
    tree: str
    shown: Shown


def promotion_commit(door: Door, was: str, shown: Shown, *, who: Identity, when_s: int) -> str:
    """The commit that the champion branch is to move to; no reference is made or moved.

    The same arguments give the same commit.

    Args:
        door: to the objects of the user's repository.
        was: the champion's commit, which is the candidate's parent too.
        shown: what the trailers say.
        who: author and committer.
        when_s: when it was decided, seconds since 1970.

    Returns:
        Its id.

    Raises:
        UserError: the candidate has another parent, or a digest is none.
        MachineError: git or the disk failed.
    """
    for digest in (shown.report, shown.ledger):
        if DIGEST.fullmatch(digest) is None:
            raise UserError(f"{digest!r} is not a digest of 64 hexadecimal digits")
    found = door.tell("show", "--no-patch", "--format=%T %P", f"{shown.candidate}^{{commit}}")
    tree, *parents = found.decode("ascii").split()
    if parents != [was]:
        raise UserError(f"candidate {shown.candidate} was made from {' '.join(parents)}, not from the champion {was}")
    return door.commit(was, message_of(shown), who=who, when_s=when_s, tree=tree)


def message_of(shown: Shown) -> str:
    """The commit message of a promotion."""
    gain, low, high = (f"{100 * ratio:.3f}%" for ratio in (shown.gain, shown.low, shown.high))
    trailers = {
        "Strategy": shown.strategy,
        "Candidate": f"{shown.run}/{shown.number} {shown.candidate}",
        "Gain": f"{gain} ({low} to {high})",
        "Pairs": str(shown.pairs),
        "Cases": str(shown.cases),
        "Report": f"sha256:{shown.report}",
        "Ledger": f"sha256:{shown.ledger}",
    }
    return with_trailers(shown.strategy, trailers)


def promotions(door: Door, tip: str, root: str) -> list[Promotion]:
    """The promotions between two commits, the oldest first.

    Args:
        door: to the objects of the user's repository.
        tip: a champion's commit.
        root: the commit that the night began from.

    Raises:
        UserError: the branch does not lead there, or a commit on the way is no promotion.
        MachineError: git failed.
    """
    form = "--format=%H %T %P%n%B"
    listed = door.tell("log", "--first-parent", "--reverse", "-z", form, "--end-of-options", tip, f"^{root}")
    found = [_read(text) for text in listed.decode("utf-8", "replace").split("\0") if text]
    parents = [root, *(one.commit for one in found)]
    for one, parent in zip(found, parents, strict=False):
        if one.parent != parent:
            raise UserError(f"{tip} does not lead back to {root} promotion by promotion: see {one.commit}")
    return found


def _read(text: str) -> Promotion:
    first, _, message = text.partition("\n")
    commit, tree, *parents = first.split()
    trailers = trailers_of(message)
    try:
        shown = _shown(trailers)
    except (KeyError, ValueError):
        raise UserError(f"commit {commit} is no promotion: its trailers are missing or malformed") from None
    if len(parents) != 1:
        raise UserError(f"commit {commit} is no promotion: it has {len(parents)} parents")
    return Promotion(commit, parents[0], tree, shown)


def _shown(trailers: dict[str, str]) -> Shown:
    gain, candidate = GAIN.fullmatch(trailers["Gain"]), CANDIDATE.fullmatch(trailers["Candidate"])
    digests = [trailers[name].removeprefix("sha256:") for name in ("Report", "Ledger")]
    if gain is None or candidate is None or any(DIGEST.fullmatch(digest) is None for digest in digests):
        raise ValueError
    return Shown(
        strategy=one_line(trailers["Strategy"]),
        run=candidate[1],
        number=int(candidate[2]),
        candidate=candidate[3],
        gain=float(gain[1]) / 100,
        low=float(gain[2]) / 100,
        high=float(gain[3]) / 100,
        pairs=int(trailers["Pairs"]),
        cases=int(trailers["Cases"]),
        report=digests[0],
        ledger=digests[1],
    )
