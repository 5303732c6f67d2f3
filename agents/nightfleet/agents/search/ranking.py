"""Which change to try first: what it may save times how much of the work happens there.

With a profile the share of the work is known by function and line; without one, code in loops and in long functions is
taken to be where the time goes.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from nightfleet.agents.contract import UNKNOWN, Profile, Share
from nightfleet.agents.search.change import Change, Place

# Fixed: a place that no profile mentions may still matter: a profile of one build, by instructions, is not the truth.
FLOOR = 0.02
# Fixed: the tenth change of one kind is worth less than the first of another.
SAMENESS = 0.85
# Fixed: another value of a knob is worth little before it is known what came of the first.
SAME_KNOB = 0.1
# Fixed: what an earlier baseline's profile says counts for less: the work may be gone by now, not hidden.
FADED = 0.5
# Fixed: a guess.
INLINED = 0.3
# Fixed: a guess at what copies cost where no profile says it: a type that can be cloned is cloned somewhere.
COPIED = 0.2


def ranked(
    changes: Iterable[Change], profile: Profile | None, seed: int, before: Profile | None = None
) -> list[Change]:
    """Changes in the order in which to try them; the same for the same seed.

    Args:
        changes: in any order.
        profile: of the tree that they change.
        seed: settles ties.
        before: of the baseline that the night began with. A function that the compiler has inlined since has no symbol
            in `profile`, and still does its work.
    """
    scored = [(change.gain * _weight(change.place, profile, before), change) for change in changes]
    scored.sort(key=lambda pair: (-pair[0], _tie(seed, pair[1])))
    seen: Counter[str] = Counter()
    spread: list[tuple[float, Change]] = []
    for score, change in scored:
        # A change without a knob is like a knob of its own.
        knob = change.fingerprint if change.knob is None else change.knob.name
        spread.append((score * SAMENESS ** seen[change.rule] * SAME_KNOB ** seen[knob], change))
        seen.update((change.rule, knob))
    spread.sort(key=lambda pair: (-pair[0], _tie(seed, pair[1])))
    return [change for _, change in spread]


def _weight(place: Place, profile: Profile | None, before: Profile | None) -> float:
    now = weight(place, profile)
    return now if before is None or not before.shares else max(now, FADED * weight(place, before))


def weight(place: Place, profile: Profile | None) -> float:
    """How much of the work happens at a place, in [0, 1]."""
    if place.everywhere:
        return 1.0
    if profile is None or not profile.shares:
        if place.copies:
            return COPIED
        # A loop in a function of forty lines stands for a third of a program.
        size = min(1.0, (place.last - place.first + 1) / 120)
        return min(1.0, FLOOR + size * (1 + place.depth) / 2)
    return min(1.0, FLOOR + share(place, profile))


def share(place: Place, profile: Profile) -> float:
    """The share of the work in the function around a place: by its lines where they are known, else by its name."""
    lines = sum(one.share for one in profile.shares if one.path == place.path and place.first <= one.line <= place.last)
    inside = [one for one in profile.shares if one.function and not one.line and _is_in_file(one, place)]
    named = [one.share for one in inside if _name(one) == place.function]
    # A function that no profiler saw was inlined into its callers, which are often in the same file.
    around = [INLINED * one.share for one in inside] if place.function and not named else []
    # What making and dropping copies of a type costs is said by symbols that name it, wherever they are.
    copies = [one.share for one in profile.shares if place.copies and _copies(one.function, place.copies)]
    return max([lines, *named, *around, *copies])


def _copies(symbol: str, name: str) -> bool:
    """Whether a symbol is about copies of a type: its clone, or its drop."""
    return re.search(rf"\b{re.escape(name)}\b", symbol) is not None and re.search(r"(?i)clone|drop", symbol) is not None


def _name(one: Share) -> str:
    return one.function.split("::")[-1].partition("<")[0].split(".")[-1]


def _is_in_file(one: Share, place: Place) -> bool:
    """Whether a profiled function is in a place's file; without a path the symbol's modules have to name it."""
    modules = one.function.split("::")[:-1]
    if one.path != UNKNOWN:
        return one.path == place.path
    stem = PurePosixPath(place.path).stem
    return stem in modules or not modules


def _tie(seed: int, change: Change) -> str:
    return hashlib.sha256(f"{seed} {change.fingerprint}".encode()).hexdigest()
