"""What a command is about: trees that people name, the program that they are judged by, and what cannot be."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightfleet.harness.repository import Repository
    from nightfleet.harness.tree import Tree
    from nightfleet.orchestrator.program import Program

PROGRAM = "program.md"


@dataclass(frozen=True)
class Subject:
    """One tree and the program that it is judged by.

    Attributes:
        tree: what a person named.
        commit: that it is of; None for a folder.
        program: as it was read.
        file: that it was read from; None where the program is only in the tree.
        notes: what there is to say about them.
    """

    tree: "Tree"
    commit: str | None
    program: "Program"
    file: Path | None
    notes: tuple[str, ...]


def find_subject(here: Path, revision: str, program: Path | None) -> Subject:
    """The tree and its program. Everything that can be refused is refused here, before anything is written.

    Args:
        here: the folder that a command was typed in; its program.md comes before the tree's own.
        revision: or a folder.
        program: a file that comes before both.

    Raises:
        UserError: there is no such revision, no program, or one that cannot be.
    """
    from nightfleet.harness.folder import find_tree
    from nightfleet.native import UserError
    from nightfleet.orchestrator.program import load_program

    repository, subfolder = repository_around(here, revision)
    tree = find_tree(revision, repository, subfolder)
    own = tree.read(PROGRAM).decode("utf-8", "replace") if PROGRAM in tree.entries else None
    file = program or (here / PROGRAM if (here / PROGRAM).exists() else None)
    if file is not None:
        loaded = load_program(file)
    elif own is not None:
        loaded = load_program(own)
    else:
        raise UserError(f"there is no {PROGRAM} in {here} nor in {revision}; write one, or name one with --program")
    refuse_empty_scope(loaded, tree, revision)
    notes = [*loaded.warnings]
    if program is None and file is not None and own != loaded.front.text:
        notes.append(
            f"{PROGRAM} here is not the one in {revision}: commit it, or `nightfleet verify` goes by the old one"
        )
    is_folder = repository is None or Path(revision).is_dir()
    commit = None if repository is None or is_folder else repository.resolve(revision)
    return Subject(tree, commit, loaded, file, tuple(notes))


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
