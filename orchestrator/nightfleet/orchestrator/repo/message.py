"""Commit messages: a title from a stranger, and trailers that only we write.

A strategy's title comes from a model. Nothing in it can begin a line, so that no trailer can be forged, and nothing of
it can colour, move or reorder what a terminal shows.
"""

import re
import unicodedata

# Fixed lengths in characters.
LONGEST_TITLE = 100
LONGEST_VALUE = 500
ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.|\x9b[0-?]*[ -/]*[@-~]", re.DOTALL
)
PREFIX = "Nightfleet-"
TRAILER = re.compile(rf"({PREFIX}[A-Za-z-]+): (.*)")


def one_line(text: str, longest: int = LONGEST_VALUE) -> str:
    """A stranger's text as one line for terminals, pages and trailers.

    Escape sequences go; every run of blanks, line ends, and control, bidirectional or undecodable characters becomes
    one blank; what is longer than `longest` is cut, with an ellipsis.
    """
    plain = ESCAPES.sub(" ", text)
    plain = "".join(letter if _is_visible(letter) else " " for letter in plain)
    plain = " ".join(plain.split())
    return plain if len(plain) <= longest else plain[: longest - 1].rstrip() + "…"


def with_trailers(title: str, trailers: dict[str, str]) -> str:
    """A commit message.

    Args:
        title: anything.
        trailers: values by names without the prefix.
    """
    lines = [f"{PREFIX}{name}: {one_line(value)}" for name, value in trailers.items()]
    # `git interpret-trailers` takes what follows a line of three dashes for a patch.
    subject = one_line(title, LONGEST_TITLE).lstrip("- ")
    return "\n".join([subject or "(no title)", "", *lines, ""])


def trailers_of(message: str) -> dict[str, str]:
    """Our trailers in a message's last paragraph, by names without the prefix; none where a name stands twice."""
    *before, last = message.rstrip("\n").split("\n\n")
    found = [match for line in last.split("\n") if (match := TRAILER.fullmatch(line)) is not None]
    names = [match[1] for match in found]
    # A title alone is no trailer, whatever it says.
    if not before or len(set(names)) < len(names):
        return {}
    return {match[1].removeprefix(PREFIX): match[2] for match in found}


def _is_visible(letter: str) -> bool:
    return letter.isprintable() and unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
