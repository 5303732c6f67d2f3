"""`nightfleet demo`: an example in a repository of its own, and a short night on it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nightfleet.orchestrator.commands.answer import ANSWER_IS_NO
from nightfleet.orchestrator.commands.probe import Findings, show
from nightfleet.orchestrator.views.lasting import Lasting

EXAMPLES = Path("examples")
# In the demo's git directory, so that no other repository is taken for one.
MARK, WHOLE = "nightfleet-demo", "whole"
PLACE = Path(".nightfleet/demo")
# How short a night can be and still show everything.
EXPERIMENTS, SECONDS = 13, 250.0
AUTHOR = ("-c", "user.name=nightfleet", "-c", "user.email=nightfleet@localhost", "-c", "commit.gpgsign=false")


@dataclass(frozen=True)
class Asked:
    """What the demonstration is of."""

    example: Path
    folder: Path


def demo(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A folder of examples/.")] = "grid-simulator",
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to put it; else .nightfleet/demo/NAME.")
    ] = None,
    *,
    experiments: Annotated[int, typer.Option(min=1, max=1000, help="Candidates to judge.")] = EXPERIMENTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end instead of words.")] = False,
) -> None:
    """Copy an example into a fresh repository and put a fleet to work on it: no model, no key, no network.

    Five minutes on two cores. Interrupted, the same command goes on with the same night.

    Exits with 1 if this machine is below the minimum, with 2 if the night could not be held.

    Example: `nightfleet demo grid-simulator /tmp/simulator`
    """
    from nightfleet import native
    from nightfleet.orchestrator.commands.launch import end_of, hold
    from nightfleet.orchestrator.commands.subject import find_subject
    from nightfleet.orchestrator.holding import Wishes
    from nightfleet.orchestrator.place import Place

    console = Lasting(stderr=as_json, highlight=False)
    asked = _asked(name, directory)
    findings: Findings = native.probe()
    show(findings, console)
    if findings["below_minimum"] is not None:
        raise typer.Exit(ANSWER_IS_NO)
    if not _is_whole(asked.folder):
        _begin(asked)
    console.print(Text(f"{name} is in {asked.folder}", style="dim"), soft_wrap=True)
    place = Place.open(asked.folder, make=True)
    subject = find_subject(asked.folder, "HEAD", None)
    wishes = Wishes(experiments=experiments, seconds=SECONDS)
    # A short night has no time for the calibration of a long one.
    end_of(place, hold(place, subject, wishes, console, brief=True), console, as_json=as_json)


def _asked(name: str, directory: Path | None) -> Asked:
    """The example, and the folder that it goes to. UserError where there is none, or something else is there."""
    from nightfleet.native import UserError

    example, known = EXAMPLES / name, sorted(path.parent.name for path in EXAMPLES.glob("*/program.md"))
    if name not in known:
        there = f"; there are {', '.join(known)}" if known else "; type it in a clone of nightfleet"
        raise UserError(f"there is no example {name} in {EXAMPLES.absolute()}{there}")
    if directory is not None:
        if directory.exists() and not (directory.is_dir() and (_is_empty(directory) or _is_demo(directory))):
            raise UserError(f"{directory} is not empty; name a folder that is, or that a demo was begun in")
        return Asked(example, directory.absolute())
    return Asked(example, _unfinished_or_new(PLACE.absolute(), name))


def _unfinished_or_new(folder: Path, name: str) -> Path:
    """The demo that was interrupted, or the first folder that is free."""
    number = 1
    while True:
        found = folder / (name if number == 1 else f"{name}-{number}")
        if not found.exists() or _goes_on(found):
            return found
        number += 1


def _goes_on(folder: Path) -> bool:
    """Whether a night was begun there and has not ended."""
    from nightfleet.native import UserError
    from nightfleet.orchestrator.ledger import nights
    from nightfleet.orchestrator.place import Place

    try:
        place = Place.open(folder)
    except UserError:
        # Begun, and interrupted before there was a night.
        return _is_demo(folder)
    with place.ledger as ledger, ledger.read() as reading:
        return nights.running(reading) is not None


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def _is_demo(folder: Path) -> bool:
    """Whether a demo was begun there: what else has a `.git` is somebody's work."""
    return (folder / ".git" / MARK).exists()


def _is_whole(folder: Path) -> bool:
    return _is_demo(folder) and (folder / ".git" / MARK).read_text() == WHOLE


def _begin(asked: Asked) -> None:
    """A repository with one commit: the example. One that was cut short is begun again."""
    git_dir, ignored = asked.folder / ".git", shutil.ignore_patterns("target", ".nightfleet")
    if git_dir.exists():
        shutil.rmtree(git_dir)
    git_dir.mkdir(parents=True)
    (git_dir / MARK).touch()
    shutil.copytree(asked.example, asked.folder, ignore=ignored, dirs_exist_ok=True)
    # Nothing of a repository around it, nor of the user's settings.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for command in (["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "--quiet", "-m", _MESSAGE]):
        subprocess.run(["git", *AUTHOR, *command], cwd=asked.folder, env=environment, check=True)
    (git_dir / MARK).write_text(WHOLE)


_MESSAGE = "The simulator as it was ported"
