"""What a report's program.md says, as the judge reads it: whether its contract follows, and whether it may be run here.

The contract is what a verdict goes by; the text is what people read. Whoever forges a report can make them two.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightfleet.harness.arena import Arena, read_arena
from nightfleet.harness.audit.papers import ContradictionError, UnknownFormatError, hold_equal
from nightfleet.harness.frontmatter import load_front_matter, read_front_matter
from nightfleet.harness.tree import Tree, printable
from nightfleet.native import UserError, __version__

PROGRAM = "program.md"
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def arena_of(subject: Mapping[str, Any]) -> Arena:
    """The arena that a report's program.md names.

    Raises:
        ContradictionError: the report's contract is another.
        UnknownFormatError: so it is, but another version wrote it, which may read the text otherwise.
    """
    text, said = subject["program_text"], subject["arena"]
    try:
        arena, _ = read_arena(read_front_matter(text).section)
        hold_equal("the contract's digest", said["digest"], arena.digest)
        hold_equal("the arena's name", said["name"], arena.name)
    except (ContradictionError, UserError) as error:
        if subject["version"] == __version__:
            raise ContradictionError(f"the contract is not what {PROGRAM} says: {error}") from None
        raise UnknownFormatError(
            f"this version ({__version__}) reads the report's {PROGRAM} otherwise than the one that judged by it "
            f"({printable(str(subject['version']))}); run that one"
        ) from None
    return arena


def check_contract(subject: Mapping[str, Any]) -> str:
    """The contract is what program.md says. Raises as `arena_of`."""
    return f"it is what {PROGRAM} says of {arena_of(subject).name}"


def refuse_strange_names(subject: Mapping[str, Any], names: Mapping[str, str | None]) -> None:
    """UserError if a report from elsewhere would have a folder of this machine read, and nobody typed its name."""
    for side, name in names.items():
        said = str(subject[side]["name"])
        if name is None and not COMMIT.fullmatch(said):
            raise UserError(
                f"the report is not of {Path.cwd()}, and its {side} is no commit but {printable(said)!r}; "
                f"type --{side} REVISION-OR-FOLDER"
            )


def refuse_strange_program(subject: Mapping[str, Any], baseline: Tree, source: Path) -> None:
    """UserError if commands would be run that neither the baseline nor the user's folder holds.

    Set-up has the network, and `sandbox.read` shows it files of this machine: a report from elsewhere must not choose.
    """
    text = subject["program_text"]
    if text not in (_committed(baseline), _lying_in(source)):
        raise UserError(
            f"the report's {PROGRAM} is neither the baseline's nor the one in {source}, and its commands would be run "
            f"here; read it, and if you would run them put it there as {PROGRAM}"
        )


def _committed(baseline: Tree) -> str | None:
    try:
        return read_front_matter(baseline.read(PROGRAM).decode("utf-8")).text if PROGRAM in baseline.files else None
    except (UserError, UnicodeDecodeError):
        return None


def _lying_in(source: Path) -> str | None:
    try:
        return load_front_matter(source / PROGRAM).text if (source / PROGRAM).is_file() else None
    except UserError:
        return None
