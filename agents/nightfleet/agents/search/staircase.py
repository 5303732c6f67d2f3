"""Where to move a setting next: on in the direction that won, by half the step where it turns.

Pure: everything is computed from the value now and the moves that were tried, so a night that is continued goes on
where it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Fixed: the first step doubles or halves; a step of a fifth is the last that is worth a build.
EXPONENTS = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class Move:
    """One move that was tried, oldest first in a list of them.

    Attributes:
        won: it was promoted, so it is part of the baseline.
        promising: it was measured to be faster, and not by enough.
    """

    before: str
    after: str
    won: bool
    promising: bool = False


def next_numbers(value: int, moves: Sequence[Move], least: int = 1) -> list[int]:
    """The values to try now, the likeliest first; none where the best is found.

    Args:
        value: of the baseline.
        moves: of this number.
        least: what it may not go below.
    """
    steps = [(int(move.before), int(move.after), move) for move in moves if _is_number(move)]
    known = {value, *(after for _, after, _ in steps), *(before for before, _, move in steps if move.won)}
    wins = [after > before for before, after, move in steps if move.won]
    pushed = [_moved(after, 1.0, up=after > before) for before, after, move in steps if move.promising]
    if not wins:
        found = [*pushed, *(_moved(value, EXPONENTS[0], up=up) for up in (True, False))]
        return _new(found, known, least)
    for exponent in EXPONENTS:
        # The first step goes on as it went; a smaller one looks on both sides of the turn.
        sides = (wins[-1],) if exponent == EXPONENTS[0] else (wins[-1], not wins[-1])
        found = _new([_moved(value, exponent, up=up) for up in sides], known, least)
        if found:
            return _new([*pushed, *found], known, least)
    return []


def next_rungs(ladder: Sequence[str], value: str, moves: Sequence[Move]) -> list[str]:
    """The rungs of a ladder of named values to try now: on from the last win first, then the nearest.

    A value that is on no rung (somebody chose it on purpose) counts as the lowest.
    """
    here = ladder.index(value) if value in ladder else 0
    known = {value, *(move.after for move in moves), *(move.before for move in moves if move.won)}
    won = [move for move in moves if move.won and move.after in ladder and move.before in ladder]
    up = ladder.index(won[-1].after) > ladder.index(won[-1].before) if won else True
    rungs = sorted(
        (rung for rung in range(len(ladder)) if ladder[rung] not in known),
        key=lambda rung: ((rung > here) != up, abs(rung - here)),
    )
    return [ladder[rung] for rung in rungs]


def _moved(value: int, exponent: float, *, up: bool) -> int:
    return round(value * math.exp2(exponent if up else -exponent))


def _new(found: Sequence[int], known: set[int], least: int) -> list[int]:
    return [number for number in dict.fromkeys(found) if number >= least and number not in known]


def _is_number(move: Move) -> bool:
    return move.before.isdecimal() and move.after.isdecimal()
