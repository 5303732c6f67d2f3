"""The example and the small arenas: each builds, repeats itself, and does not mind how its cases are cut into blocks.

What each patch claims to be worth is measured by `benchmarks/known_truth.py`; here it only has to apply, and two of
them to build and change no record (`--slow`: all of them to change as many as they say).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "grid-simulator"
PATCHES = sorted((ROOT / "tests" / "patches" / "grid-simulator").glob("*.patch"))
ARENAS = sorted((ROOT / "tests" / "arenas").glob("*/program.md"))
BUILD = re.compile(r"^build: (.+)$", re.MULTILINE)
RUN = re.compile(r"run: ([^,]+),")
CLAIM = re.compile(r"^Cases that differ: (\d+) to (\d+)$", re.MULTILINE)
CASES = [2**31 - 1, *range(399)]


def copy_of(source: Path, folder: Path, patch: Path | None = None) -> Path:
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("target"))
    if patch:
        # Inside a repository, git takes the paths of a patch from its root, and skips them in silence.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        subprocess.run(["git", "apply", patch], cwd=folder, env=environment, check=True)
    return folder


def build(folder: Path) -> Path:
    command = ["cargo", "build", "--release", "--offline", "--locked", "--quiet"]
    subprocess.run(command, cwd=folder, env={**os.environ, "CARGO_TARGET_DIR": str(folder / "target")}, check=True)
    return folder / "target" / "release" / "sim"


def run(command: list[str], cases: list[int], folder: Path | None = None) -> list[str]:
    text = "".join(f"{case}\n" for case in cases)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stderr == ""
    return done.stdout.splitlines(keepends=True)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build(copy_of(EXAMPLE, tmp_path_factory.mktemp("example") / "copy")))


def test_there_are_patches_and_arenas() -> None:
    assert len(PATCHES) == 10
    assert len(ARENAS) == 5


def test_a_record_depends_on_its_case_alone(simulator: str) -> None:
    records = run([simulator], CASES)
    assert records == run([simulator], CASES)
    assert records[:57] + records[57:] == run([simulator], CASES[:57]) + run([simulator], CASES[57:])
    assert records[::-1] == run([simulator], CASES[::-1])


def test_a_record_is_one_short_line_that_tells_cases_apart(simulator: str) -> None:
    records = run([simulator], CASES)
    assert len({re.sub(r"^case=\d+ ", "", record) for record in records}) == len(CASES)
    assert {64 <= len(record) <= 200 and record.endswith("\n") for record in records} == {True}
    assert [int(record.split()[0].removeprefix("case=")) for record in records] == CASES


@pytest.mark.parametrize("line", ["-1", "2147483648", "seven"])
def test_what_is_no_case_is_refused(simulator: str, line: str) -> None:
    done = subprocess.run([simulator], input=f"{line}\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_applies_and_says_its_truth(patch: Path, tmp_path: Path) -> None:
    header = patch.read_text(encoding="utf-8").split("diff --git", 1)[0]
    assert header.startswith("Truth: ")
    assert CLAIM.search(header)
    folder = copy_of(EXAMPLE, tmp_path / "copy", patch)
    changed = [
        path.name
        for path in sorted((EXAMPLE / "src").glob("*.rs"))
        if path.read_bytes() != (folder / "src" / path.name).read_bytes()
    ]
    assert changed


@pytest.mark.parametrize("name", ["skip-masked", "rewrite"])
def test_an_honest_gain_changes_no_record(simulator: str, name: str, tmp_path: Path) -> None:
    patch = next(path for path in PATCHES if path.stem == name)
    assert run([str(build(copy_of(EXAMPLE, tmp_path / "copy", patch)))], CASES) == run([simulator], CASES)


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_changes_as_many_records_as_it_says(simulator: str, patch: Path, tmp_path: Path) -> None:
    cases = list(range(20_000))
    patched = run([str(build(copy_of(EXAMPLE, tmp_path / "copy", patch)))], cases)
    differing = sum(left != right for left, right in zip(run([simulator], cases), patched, strict=True))
    claim = CLAIM.search(patch.read_text(encoding="utf-8"))
    assert claim
    assert int(claim[1]) <= differing <= int(claim[2])


@pytest.mark.parametrize("program", ARENAS, ids=lambda program: program.parent.name)
def test_a_small_arena_repeats_itself(program: Path, tmp_path: Path) -> None:
    text = program.read_text(encoding="utf-8")
    folder = copy_of(program.parent, tmp_path / "copy")
    command = found(RUN, text).split()
    for tool in {command[0].replace("python3", sys.executable), *found(BUILD, text, "true").split()[:1]}:
        if not tool.startswith("./") and not shutil.which(tool):
            pytest.skip(f"{tool} is not on PATH")
    subprocess.run(found(BUILD, text, "true").split(), cwd=folder, check=True)
    command = [word.replace("python3", sys.executable) for word in command]
    records = run(command, CASES, folder)
    assert len(set(records)) == len(CASES)
    assert records == run(command, CASES[:57], folder) + run(command, CASES[57:], folder)


def found(pattern: re.Pattern[str], text: str, default: str = "") -> str:
    match = pattern.search(text)
    return match[1] if match else default
