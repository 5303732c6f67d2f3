"""Reads case numbers, one per line; makes a text from each, counts its words, and writes one record per line."""

import sys

CASE_LIMIT = 2**31
SYLLABLES = ["ka", "lo", "mi", "ne", "ru", "so", "ta", "vi"]
WORDS = 400


def text_of(case: int) -> str:
    """Make a text of words of one to four syllables from a linear congruential generator."""
    state = case
    words = []
    for _ in range(WORDS):
        state = (state * 1103515245 + 12345) % CASE_LIMIT
        length = 1 + (state >> 16) % 2
        word = ""
        for position in range(length):
            word += SYLLABLES[(state >> (18 + 3 * position)) % len(SYLLABLES)]
        words.append(word)
    return " ".join(words)


def counts_of(text: str) -> dict[str, int]:
    """Count every word."""
    counts: dict[str, int] = {}
    for word in text.split(" "):
        if word in counts.keys():  # noqa: SIM118 - somebody's first version
            counts[word] = counts[word] + 1
        else:
            counts[word] = 1
    return counts


def record(case: int) -> str:
    """Summarise one case: how many words there are, and the five most frequent."""
    counts = counts_of(text_of(case))
    ranking = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"{case} {len(counts)} " + " ".join(f"{word}:{count}" for word, count in ranking[:5])


def main() -> None:
    """Answer every case."""
    for line in sys.stdin:
        case = int(line)
        if not 0 <= case < CASE_LIMIT:
            raise SystemExit(f"a case is an integer from 0 to {CASE_LIMIT - 1}, got {case}")
        sys.stdout.write(record(case) + "\n")


main()
