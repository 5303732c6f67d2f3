"""Command lines of `program.md` as argument lists: nothing here ever meets a shell by accident."""

import re
import shlex
from typing import TypeAlias

Command: TypeAlias = tuple[str, ...]

LONGEST = 2000
# What only a shell understands. As an argument it would be passed on literally, which nobody who types it means.
SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "<<", "2>", "2>&1"})
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def read_command(value: object) -> Command:
    """Split a command line as a shell would, without a shell's other powers.

    Raises:
        ValueError: not one line of text, unbalanced quotes, or words that need a shell.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a command line; got {value!r}")
    if len(value) > LONGEST or not value.isprintable():
        raise ValueError(f"must be one line of at most {LONGEST} printable characters; got {value[:80]!r}")
    try:
        words = shlex.split(value)
        # Quotes kept: a quoted operator is an argument like any other.
        raw = shlex.split(value, posix=False)
    except ValueError as error:
        raise ValueError(f"{error} in {value!r}") from None
    shell = next((word for word in raw if word in SHELL_WORDS or word.endswith(";")), None)
    if shell is not None:
        raise ValueError(f"{shell!r} needs a shell, and none is used; type: sh -c {shlex.quote(value)}")
    if ASSIGNMENT.match(words[0]):
        raise ValueError(f"{words[0]!r} is not a program; type: env {value}")
    return tuple(words)


def read_commands(value: object) -> tuple[Command, ...]:
    """One command line, or a list of them to be run in order.

    Raises:
        ValueError: see `read_command`; also for more than 32 of them.
    """
    lines = value if isinstance(value, list) else [value]
    if not 1 <= len(lines) <= 32:
        raise ValueError(f"must be 1 to 32 command lines; got {len(lines)}")
    return tuple(read_command(line) for line in lines)
