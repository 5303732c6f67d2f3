"""What a command is about: trees that people name, the program that they are judged by, and what cannot be."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightfleet.harness.repository import Repository
    from nightfleet.harness.tree import Tree
    from nightfleet.orchestrator.program import Program


def repository_around(here: Path, *names: str) -> "tuple[Repository | None, str]":
    """The repository around a folder and the folder's place in it; None where there is none and all names are folders.

    Raises:
        UserError: there is none, and something else than a folder is named.
    """
    from nightfleet.harness.repository import Repository
    from nightfleet.native import UserError

    try:
        return Repository.find(here)
    except UserError:
        if not all(Path(name).is_dir() for name in names):
            raise
        return None, ""


def refuse_empty_scope(program: "Program", tree: "Tree", name: str) -> None:
    """UserError if no file of the tree may be edited."""
    from nightfleet.native import UserError

    if not any(program.arena.scope.frozen_because(path) is None for path in tree.files):
        raise UserError(f"edit: {', '.join(program.arena.edit)} matches no file of {name}; correct it in program.md")
