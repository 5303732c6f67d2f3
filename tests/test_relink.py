"""Another layout of the same program: real compilers and linkers, and what moves."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from nightfleet.harness.folder import Folder
from nightfleet.harness.inventory import walk
from nightfleet.harness.relink import FOLDER, LINKERS, NotRelinkedError, gap_bytes, programs
from nightfleet.harness.tree import Tree
from nightfleet.harness.workspace import Built, Workspace
from nightfleet.native import Sandbox
from nightfleet.orchestrator.program import load_program

ROOT = Path(__file__).parents[1]
C_LIFE = ROOT / "tests" / "arenas" / "c-life"
ADDRESS = re.compile(r"^([0-9a-f]+) [tT] (.+)$", re.MULTILINE)
PROGRAM = (C_LIFE / "program.md").read_text()
ENV = "\nimport os\nprint(sorted(os.environ.items()), file=open('seen', 'w'))\n"


class Arena:
    """An arena's workspace and its tree."""

    def __init__(self, folder: Path, source: Path, files: Mapping[str, str]) -> None:
        if source.is_dir():
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns("target"))
        for path, text in files.items():
            folder.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        self.arena = load_program((folder / "program.md").read_text()).arena
        self.tree: Tree = Folder(folder).tree()
        self.workspace = Workspace(folder.parent / "state", self.arena, folder)

    def program(self, built: Built) -> Path:
        return built.path / self.arena.workloads[0].run[0].removeprefix("./")

    def addresses(self, built: Built) -> dict[str, int]:
        """Where every function lies."""
        listed = subprocess.run(["nm", self.program(built)], check=True, capture_output=True, text=True)
        return {name: int(address, 16) for address, name in ADDRESS.findall(listed.stdout)}

    def answers(self, built: Built) -> bytes:
        options = self.workspace.sandbox_options("trial", built)
        with Sandbox(built.path, **options) as sandbox:
            done = sandbox.run(self.arena.workloads[0].run, stdin=b"1\n2\n3\n")
        assert done.outcome == "ok", done.stderr
        return done.stdout


def arena(folder: Path, source: Path = Path("/nonexistent"), **files: str) -> Arena:
    names = {"program": "program.md", "makefile": "Makefile", "main": "main.c", "life": "life.c"}
    return Arena(folder / "source", source, {names.get(name, name): text for name, text in files.items()})


def needs(*tools: str) -> None:
    for tool in (*tools, "nm"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")


def moved(place: Arena, number: int = 1, baseline: Built | None = None) -> tuple[dict[str, int], dict[str, int]]:
    """The addresses of the plain build and of a relink, which answers the same."""
    plain = place.workspace.build(place.tree, baseline=baseline)
    other = place.workspace.build(place.tree, baseline=baseline, relink=number)
    assert place.answers(other) == place.answers(plain)
    assert other.artefact_digest != plain.artefact_digest
    return place.addresses(plain), place.addresses(other)


def test_gaps_differ_and_few_of_them_are_whole_pages() -> None:
    gaps = [gap_bytes(number) for number in range(1, 1021)]
    assert len(set(gaps)) == len(gaps)
    assert {gap % 16 for gap in gaps} == {0}
    assert 0 < min(gaps) < max(gaps) < 5 * 4096
    assert all(gap % 4096 for gap in gaps[:8])


def test_the_functions_of_a_c_program_move_by_the_gap(open_ground: Path) -> None:
    needs("cc")
    place = arena(open_ground, C_LIFE)
    seen = set()
    for number in (1, 2):
        plain, other = moved(place, number)
        assert plain.keys() == other.keys()
        assert other["main"] - plain["main"] == gap_bytes(number)
        seen.add(other["main"])
    assert len(seen) == 2


def test_no_trace_of_the_linkers_is_left_or_is_in_an_ordinary_build(open_ground: Path) -> None:
    needs("cc", "python3")
    see = PROGRAM.replace("build: cc -O2 -o life life.c", "build: [python3 see.py, cc -O2 -o life life.c]")
    place = arena(open_ground, C_LIFE, program=see, **{"see.py": ENV})
    plain = place.workspace.build(place.tree)
    assert str(FOLDER) not in (plain.path / "seen").read_text()
    other = place.workspace.build(place.tree, relink=1)
    assert f"('COMPILER_PATH', '{FOLDER}')" in (other.path / "seen").read_text()
    for built in (plain, other):
        assert not [path for path, _ in walk(built.path.parent) if path.rpartition("/")[2] in LINKERS]
    # And a plain build asked for afterwards is the one that was there before.
    assert place.workspace.build(place.tree).key == plain.key != other.key


@pytest.mark.parametrize(
    ("makefile", "path", "holds"),
    [
        # Nothing to do but to link: what is compiled is not compiled again.
        (
            "life: o\n\tcc -o life o\n\techo link >> log\no: life.c\n\tcc -O2 -o o -c life.c\n\techo compile >> log\n",
            "log",
            "compile\nlink\nlink\n",
        ),
        # Nothing to do at all, since a stamp says so: made from nothing.
        ("stamp: life.c\n\tcc -O2 -o life life.c\n\techo one >> stamp\n", "stamp", "one\n"),
    ],
)
def test_make_links_again(open_ground: Path, makefile: str, path: str, holds: str) -> None:
    needs("cc", "make")
    program = PROGRAM.replace("build: cc -O2 -o life life.c", "build: make")
    place = arena(open_ground, C_LIFE, program=program, makefile=makefile)
    plain, other = moved(place)
    assert plain["main"] != other["main"]
    assert (place.workspace.build(place.tree, relink=1).path / path).read_text() == holds


def test_a_candidate_is_relinked_from_its_own_build(open_ground: Path) -> None:
    needs("cc")
    place = arena(open_ground, C_LIFE)
    baseline = place.workspace.build(place.tree)
    changed = open_ground / "changed"
    shutil.copytree(C_LIFE, changed)
    (changed / "life.c").write_text((C_LIFE / "life.c").read_text() + "int more(void) { return 1; }\n")
    place.tree = Folder(changed).tree()
    plain, other = moved(place, baseline=baseline)
    assert other["more"] - plain["more"] == gap_bytes(1)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        ("env -u COMPILER_PATH PATH=/usr/bin:/bin cc -O2 -o life life.c", "the build gives the same bytes"),
        ("""sh -c 'test -z "$COMPILER_PATH" && cc -O2 -o life life.c'""", "ended with status 1"),
    ],
)
def test_what_cannot_be_relinked_says_why(open_ground: Path, build: str, says: str) -> None:
    needs("cc")
    program = PROGRAM.replace("build: cc -O2 -o life life.c", f"build: {build}")
    place = arena(open_ground, C_LIFE, program=program)
    place.workspace.build(place.tree)
    with pytest.raises(NotRelinkedError, match=says):
        place.workspace.build(place.tree, relink=1)


def test_scripts_have_no_layout(open_ground: Path) -> None:
    place = arena(open_ground, ROOT / "tests" / "arenas" / "python-words")
    assert programs(place.workspace.build(place.tree).record, place.arena) == {}
    with pytest.raises(NotRelinkedError, match="makes no program"):
        place.workspace.build(place.tree, relink=1)


def test_go_lays_out_its_functions_at_random(open_ground: Path) -> None:
    needs("go")
    plain, other = moved(arena(open_ground, ROOT / "tests" / "arenas" / "go-maze"))
    main = [name for name in plain if name.startswith("main.")]
    assert main
    assert [plain[name] for name in main] != [other[name] for name in main]


def test_the_functions_of_a_rust_program_move_together(open_ground: Path) -> None:
    needs("cargo")
    plain, other = moved(arena(open_ground, ROOT / "examples" / "grid-simulator"))
    ours = sorted((name for name in plain if "3sim" in name and name in other), key=plain.__getitem__)
    assert len(ours) > 5
    (distance,) = {other[name] - plain[name] for name in ours}
    assert distance >= gap_bytes(1)
