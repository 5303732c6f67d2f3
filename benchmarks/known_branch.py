"""A small C program, and a branch of twelve commits to it of which everything is known beforehand.

Every case is a chain of steps, each of which needs the one before, so that time is steps and little else. Some links of
the chain are made twice for nothing: a gain makes one of them once. Work is counted in thousandths of the program at
the branch's beginning (`UNIT` steps each), and so is what each commit changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["gain", "near", "neutral", "slower", "wrong"]
FILE = "parcels.c"
MAKEFILE = "parcels: parcels.c\n\tcc -O1 -o parcels parcels.c\n"
# One record in 300 is another one after the wrong commit: 4,000 cases miss it twice in a million times.
PROGRAM = """\
---
name: parcels
edit: ["*.c"]
build: make
workloads:
  - {name: parcels, run: ./parcels, cases: 4000, block: 200, unit: parcels}
behaviour: exact
budget: {experiments: 60, night: 2h}
---
# Seal parcels faster

Every parcel's line has to stay what it is, to the byte.
"""
WHOLE = 1000
SOURCE = """\
/* Reads numbers of parcels, one a line, and prints the seal of each. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { UNIT = 220 };

/* A chain in which every step needs the one before. */
static uint64_t mix(uint64_t state, int units) {
    for (int step = 0; step < units * UNIT; step++) state = state * 6364136223846793005u + 1442695040888963407u;
    /* What a compiler cannot look through, it cannot do once instead of twice. */
    __asm__ volatile("" : "+r"(state));
    return state;
}

static uint64_t high(uint64_t word) {
    return word >> 32;
}

static uint64_t low(uint64_t word) {
    return word & 0xffffffffu;
}

/* What a parcel weighs without its box. */
static uint64_t weigh(uint64_t parcel) {
    uint64_t box = mix(parcel ^ 1, 100);
    uint64_t gross = mix(parcel ^ 1, 100) + parcel;
    return 2 * gross - box;
}

/* Wrapped in paper, and the paper in a box. */
static uint64_t pack(uint64_t parcel) {
    uint64_t paper = mix(parcel ^ 2, 54);
    uint64_t box = low(paper) * 3;
    return paper ^ box;
}

/* The label says where it goes. */
static uint64_t label(uint64_t parcel) {
    uint64_t front = high(mix(parcel ^ 3, 27));
    uint64_t back = low(mix(parcel ^ 3, 27));
    return front + back;
}

/* The way there, and the way back should nobody be at home. */
static uint64_t route(uint64_t parcel) {
    uint64_t there = mix(parcel ^ 4, 81);
    uint64_t again = mix(parcel ^ 4, 81) >> 7;
    return there - again;
}

/* One parcel in 300 is looked into. */
static uint64_t check(uint64_t parcel) {
    uint64_t lot = high(mix(parcel ^ 5, 100));
    return lot % 300 == 0 ? parcel : 0;
}

/* What it costs to send. */
static uint64_t charge(uint64_t parcel) {
    uint64_t by_weight = mix(parcel ^ 6, 90);
    uint64_t by_size = mix(parcel ^ 6, 90) | 1;
    return by_weight / 3 + by_size / 5;
}

/* The day on which it is sent. */
static uint64_t date(uint64_t parcel) {
    uint64_t day = mix(parcel ^ 7, 44);
    uint64_t month = day % 12;
    return day + month;
}

/* How many stamps there are, and what they are worth. */
static uint64_t count(uint64_t parcel) {
    uint64_t stamps = mix(parcel ^ 8, 24) % 7;
    uint64_t worth = mix(parcel ^ 8, 24) % 11;
    return stamps * worth;
}

/* Wax over the string. */
static uint64_t seal(uint64_t parcel) {
    uint64_t wax = mix(parcel ^ 9, 73);
    uint64_t string = mix(parcel ^ 9, 73) >> 3;
    return wax ^ string;
}

/* Everything that is known of a parcel, in one word. */
static uint64_t sealed(uint64_t parcel) {
    uint64_t parts[] = {
        weigh(parcel), pack(parcel), label(parcel), route(parcel), check(parcel),
        charge(parcel), date(parcel), count(parcel), seal(parcel), mix(parcel, 12),
    };
    uint64_t all = 0;
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) all = all * 31 + parts[part];
    return all;
}

int main(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        uint64_t parcel = strtoull(line, NULL, 10);
        printf("%llu %016llx\\n", (unsigned long long)parcel, (unsigned long long)sealed(parcel));
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Known:
    """One commit: what it is, what it says, what it does.

    Attributes:
        units: of work that it saves; negative where it adds some.
        edits: what stands there, and what does afterwards.
    """

    kind: Kind
    message: str
    units: int
    edits: tuple[tuple[str, str], ...]

    @property
    def subject(self) -> str:
        """The message's first line."""
        return self.message.splitlines()[0]

    def on(self, source: str) -> str:
        """A source with this change. ValueError where a place is not there, or there twice."""
        for before, after in self.edits:
            if source.count(before) != 1:
                raise ValueError(f"{self.subject}: {before!r} stands {source.count(before)} times in the source")
            source = source.replace(before, after)
        return source


HIGH = "static uint64_t high(uint64_t word) {\n    return word >> 32;\n}\n"
LOW = "static uint64_t low(uint64_t word) {\n    return word & 0xffffffffu;\n}\n"
BY_NUMBER = "for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) all = all * 31 + parts[part];"
BY_POINTER = """\
const uint64_t *part = parts, *end = parts + sizeof parts / sizeof *parts;
    while (part < end) all = all * 31 + *part++;"""
# Gains take 10, 9, 11 and 10% of what is left when it is their turn; near-misses 3.0 and 3.3%, and 4.1 and 3.7% after
# the last gain. Claims are as people's are: right, too high, or about nothing.
BRANCH: tuple[Known, ...] = (
    Known(
        "neutral",
        "Say what a seal is of: 12% faster",
        0,
        (
            (
                "and prints the seal of each. */",
                "and prints the seal of each.\n   The same number has the same seal. */",
            ),
        ),
    ),
    Known(
        "gain",
        "Weigh each box once\n\nMeasured on my machine: 1.3x",
        100,
        (("uint64_t gross = mix(parcel ^ 1, 100) + parcel;", "uint64_t gross = box + parcel;"),),
    ),
    Known(
        "slower",
        "Wrap parcels twice, against the rain",
        -54,
        (("uint64_t box = low(paper) * 3;", "uint64_t box = low(mix(parcel ^ 2, 54)) * 3;"),),
    ),
    Known(
        "near",
        "Write a label once: 3% faster",
        27,
        (
            ("uint64_t front = high(mix(parcel ^ 3, 27));", "uint64_t both = mix(parcel ^ 3, 27), front = high(both);"),
            ("uint64_t back = low(mix(parcel ^ 3, 27));", "uint64_t back = low(both);"),
        ),
    ),
    Known("neutral", "Put the halves of a word in order", 0, ((f"{HIGH}\n{LOW}", f"{LOW}\n{HIGH}"),)),
    Known(
        "gain",
        "Look up a route once (9% less time)",
        81,
        (("uint64_t again = mix(parcel ^ 4, 81) >> 7;", "uint64_t again = there >> 7;"),),
    ),
    Known(
        "wrong",
        "Do not draw lots for parcels that nobody looks into: 12% faster",
        100,
        (
            ("    uint64_t lot = high(mix(parcel ^ 5, 100));\n", "    (void)parcel;\n"),
            ("return lot % 300 == 0 ? parcel : 0;", "return 0;"),
        ),
    ),
    Known(
        "gain",
        "Charge by weight and size at once",
        90,
        (("uint64_t by_size = mix(parcel ^ 6, 90) | 1;", "uint64_t by_size = by_weight | 1;"),),
    ),
    Known(
        "slower",
        "Ask twice what day it is\n\nRoughly 8% faster here.",
        -44,
        (("uint64_t month = day % 12;", "uint64_t month = mix(parcel ^ 7, 44) % 12;"),),
    ),
    Known(
        "near",
        "Count stamps once, a speedup of 5%",
        24,
        (
            (
                "uint64_t stamps = mix(parcel ^ 8, 24) % 7;",
                "uint64_t counted = mix(parcel ^ 8, 24), stamps = counted % 7;",
            ),
            ("uint64_t worth = mix(parcel ^ 8, 24) % 11;", "uint64_t worth = counted % 11;"),
        ),
    ),
    Known("neutral", "Walk over the parts by pointer: reduces the loop's time by 6%", 0, ((BY_NUMBER, BY_POINTER),)),
    Known(
        "gain",
        "Melt the wax once",
        73,
        (("uint64_t string = mix(parcel ^ 9, 73) >> 3;", "uint64_t string = wax >> 3;"),),
    ),
)


@dataclass(frozen=True)
class Turn:
    """A commit on the baseline that a judge who is never wrong would hold it against, and against the last one.

    Attributes:
        before: the source without it at its turn; `after`: with it.
        share: of the work of `before` that it saves, by count.
        at_last: the same once all gains are in.
    """

    known: Known
    before: str
    after: str
    share: float
    at_last: float


def turns() -> Iterator[Turn]:
    """Every commit at its turn."""
    source, left = SOURCE, WHOLE
    last = WHOLE - sum(known.units for known in BRANCH if known.kind == "gain")
    for known in BRANCH:
        after = known.on(source)
        yield Turn(known, source, after, known.units / left, known.units / last)
        if known.kind == "gain":
            source, left = after, left - known.units


def champion() -> str:
    """The source with all gains and nothing else."""
    *_, last = (turn.after for turn in turns() if turn.known.kind == "gain")
    return last


def branch() -> Iterator[tuple[str, str]]:
    """The branch as somebody made it: each message with the source after it, everything kept."""
    source = SOURCE
    for known in BRANCH:
        source = known.on(source)
        yield known.message, source
