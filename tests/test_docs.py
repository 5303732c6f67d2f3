"""What the documents say exists, and what exists is documented."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import typer.main

from nightfleet.orchestrator.commands.edge import app

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^## `nightfleet ([a-z -]+)`$", re.MULTILINE)
MAKE_COMMAND = re.compile(r"`make ([a-z]+)`|^(?:\$ )?make ([a-z]+)", re.MULTILINE)
MAKE_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)
EXAMPLE = re.compile(r"^Example: `nightfleet ", re.MULTILINE)


class Command(Protocol):
    """The part of typer's command objects that is read here; groups also have `commands`."""

    help: str | None
    hidden: bool


def commands_of(group: object, prefix: str = "") -> Iterator[tuple[str, Command]]:
    for name, command in cast("dict[str, Command]", getattr(group, "commands", {})).items():
        yield f"{prefix}{name}", command
        yield from commands_of(command, f"{prefix}{name} ")


def commands() -> dict[str, Command]:
    return dict(commands_of(typer.main.get_command(app)))


def without_example(commands: dict[str, Command]) -> list[str]:
    return [name for name, command in commands.items() if not EXAMPLE.search(command.help or "")]


def make_commands(text: str) -> set[str]:
    return {name or other for name, other in MAKE_COMMAND.findall(text)}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_command_has_help_with_an_example() -> None:
    assert commands()
    assert without_example(commands()) == []


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert sorted(HEADING.findall(read("docs/commands.md"))) == sorted(commands())


def test_every_make_command_in_the_documents_is_a_target() -> None:
    targets = set(MAKE_TARGET.findall(read("Makefile")))
    for name in ("README.md", "CONTRIBUTING.md", "docs/index.md", "docs/commands.md"):
        assert make_commands(read(name)) <= targets, name
    assert {"demo", "test"} <= make_commands(read("README.md"))


def test_every_relative_link_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert [link for document in documents for link in broken_links(document)] == []


def broken_links(document: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    return [f"{document.name}: {target}" for target in targets if not (document.parent / target).exists()]


def test_these_checks_fail_when_broken(tmp_path: Path) -> None:
    bare = typer.Typer()

    @bare.command()
    def mute() -> None:
        """Say nothing."""

    @bare.command()
    def spoken() -> None:
        """Speak.

        Example: `nightfleet spoken`
        """

    assert without_example(dict(commands_of(typer.main.get_command(bare)))) == ["mute"]
    assert HEADING.findall("## `nightfleet probe`\n## probe\n### `nightfleet deeper`\n") == ["probe"]
    assert make_commands("type `make test`, then\nmake demo\nto make sure") == {"test", "demo"}
    (tmp_path / "page.md").write_text(
        "[here](page.md) [gone](gone.md#part) [web](https://example.org)", encoding="utf-8"
    )
    assert broken_links(tmp_path / "page.md") == ["page.md: gone.md"]
