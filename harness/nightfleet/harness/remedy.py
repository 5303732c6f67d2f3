"""What would settle a baseline that disagrees with itself: the weakest canonical form under which its records agree.

Tried in order on records of the same case that differ: `json` (the same value, written differently), then an `ignore`
that removes the numbers, times or hexadecimal words that differ, each with the words before it, then both.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nightfleet.native import UserError, canonical_json, hash_records

Form: TypeAlias = Literal["exact", "json"]
Both: TypeAlias = tuple[bytes, bytes]

# The kinds of words that change from run to run, the most particular first.
KINDS = (
    ("a time", rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"),
    ("a time", rb"[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"),
    ("a UUID", rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    ("an address", rb"0x[0-9a-fA-F]+"),
    ("a number", rb"[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?"),
    ("a number", rb"[0-9]+"),
    ("a hexadecimal word", rb"[0-9a-f]{8,}"),
)
# A hexadecimal word begins with digits as often as not: it has to be tried before numbers, but only if it has letters.
WORD = re.compile(
    b"|".join(rb"(?P<k%d>%s)" % (k, KINDS[k][1]) for k in (0, 1, 2, 3))
    + rb"|(?P<k6>(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,})"
    + b"|"
    + b"|".join(rb"(?P<k%d>%s)" % (k, KINDS[k][1]) for k in (4, 5))
)
# Of what stands before a word, so much goes into the expression.
CONTEXT = 12
MOST_PATTERNS = 4


@dataclass(frozen=True)
class Remedy:
    """A canonical form under which the records agree, and what differs, in words."""

    form: Form
    ignore: str | None
    what: str

    @property
    def typed(self) -> str:
        """As it is typed into program.md."""
        if self.ignore is None:
            return f"behaviour: {self.form}"
        quoted = "'" + self.ignore.replace("'", "''") + "'"
        form = f"form: {self.form}, " if self.form != "exact" else ""
        return f"behaviour: {{{form}ignore: {quoted}}}"


def find_remedy(samples: Sequence[Both], form: Form = "exact") -> Remedy | None:
    """The form that makes both records of every sample agree; None if none of those tried here does, or no sample.

    Args:
        samples: records of one case each, from two runs; equal ones say nothing and are left out.
        form: the arena's own; it is kept.
    """
    different = [(left, right) for left, right in samples if left != right]
    if not different:
        return None
    if form == "exact" and all(_same_json(left, right) for left, right in different):
        return Remedy("json", None, "the same JSON values in another order or spacing")
    found = _patterns(different)
    if found is None:
        return None
    kinds, patterns = found
    for form_ in dict.fromkeys((form, "json" if _are_json(different) else form)):
        remedy = Remedy(form_, "|".join(patterns), f"{' and '.join(kinds)} that differs from run to run")
        if all(_agree(left, right, remedy) for left, right in different):
            return remedy
    return None


def _patterns(samples: Sequence[Both]) -> tuple[list[str], list[str]] | None:
    """The kinds of the words that differ, and an expression for each; None where that is not all."""
    kinds: dict[str, None] = {}
    patterns: dict[str, None] = {}
    for left, right in samples:
        words = [list(WORD.finditer(one)) for one in (left, right)]
        if WORD.sub(b"\0", left) != WORD.sub(b"\0", right):
            return None
        before = 0
        for one, other in zip(*words, strict=True):
            if one[0] != other[0]:
                context = _context(left[before : one.start()])
                if not any(chr(byte).isalpha() for byte in context):
                    # Without a word to hold on to, it would remove what is the program's answer elsewhere.
                    return None
                place = max(_kind(one), _kind(other), key=_generality)
                kinds[KINDS[place][0]] = None
                patterns[_escaped(context) + KINDS[place][1].decode()] = None
            before = one.end()
    return None if len(patterns) > MOST_PATTERNS else (list(kinds), list(patterns))


def _kind(match: re.Match[bytes]) -> int:
    return next(place for place in range(len(KINDS)) if match[f"k{place}"] is not None)


def _generality(place: int) -> int:
    # Of 12 and 12ab34cd one is a number by chance: the more general expression covers both.
    return (0, 1, 2, 3, 5, 4, 6)[place]


def _context(before: bytes) -> bytes:
    """The end of what stands before a word on its line, from the beginning of a word, printable ASCII only."""
    text = before.rsplit(b"\n", 1)[-1]
    found = re.search(rb"[\x20-\x7e]*$", text[-CONTEXT:])
    return b"" if found is None else found[0]


def _escaped(literal: bytes) -> str:
    return re.sub(r"([\\.+*?()|\[\]{}^$#&~-])", r"\\\1", literal.decode("ascii"))


def _same_json(left: bytes, right: bytes) -> bool:
    first = canonical_json(left)
    return first is not None and first == canonical_json(right)


def _are_json(samples: Sequence[Both]) -> bool:
    return all(canonical_json(one) is not None for both in samples for one in both)


def _agree(left: bytes, right: bytes, remedy: Remedy) -> bool:
    try:
        digests = [
            hash_records(one, seed=1, record="output", canonical=remedy.form, ignore=remedy.ignore).tolist()
            for one in (left, right)
        ]
    except UserError:
        return False
    return bool(digests[0] == digests[1])
