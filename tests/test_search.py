"""The search backend: staircases, constants, settings, whole crates, recipes, and two arenas from end to end."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from deskless import ALONE, Listener, brief_for, brief_of

from nightfleet.agents.contract import (
    RECIPE_CHARACTERS,
    Changed,
    Failed,
    Knob,
    Nothing,
    Profile,
    Proposed,
    Share,
    Strategy,
    Tried,
)
from nightfleet.agents.search import backend
from nightfleet.agents.search.backend import SearchBackend
from nightfleet.agents.search.change import Change, Place
from nightfleet.agents.search.constants import sweeps
from nightfleet.agents.search.crates import crate_changes
from nightfleet.agents.search.ranking import ranked, weight
from nightfleet.agents.search.recipe import Edit, Recipe, StaleError, apply, recipe_of
from nightfleet.agents.search.settings import profile_of, settings
from nightfleet.agents.search.sources import Sources, language_of, read_sources
from nightfleet.agents.search.staircase import Move, next_numbers, next_rungs
from nightfleet.agents.search.syntax import is_broken

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "grid-simulator"
WORDS = ROOT / "tests" / "arenas" / "python-words"
RELEASE = [["cargo", "build", "--release"]]


def won(before: int, after: int) -> Move:
    return Move(str(before), str(after), won=True)


def lost(before: int, after: int) -> Move:
    return Move(str(before), str(after), won=False)


@pytest.mark.parametrize(
    ("value", "moves", "expected"),
    [
        (64, [], [128, 32]),
        (64, [lost(64, 128)], [32]),
        (64, [lost(64, 128), lost(64, 32)], []),
        (128, [won(64, 128)], [256]),
        (32, [lost(64, 128), won(64, 32)], [16]),
        (256, [won(64, 128), won(128, 256)], [512]),
        # It turned: half the step, on from the best first.
        (256, [won(64, 128), won(128, 256), lost(256, 512)], [362, 181]),
        (256, [won(128, 256), lost(256, 512), lost(256, 362), lost(256, 181)], [304, 215]),
        (256, [won(128, 256), *(lost(256, other) for other in (512, 362, 181, 304, 215))], []),
        (362, [won(128, 256), lost(256, 512), won(256, 362)], [724]),
        # Nearly enough: further the same way, before the other way.
        (64, [Move("64", "128", won=False, promising=True)], [256, 32]),
        (2, [], [4]),
    ],
)
def test_a_number_climbs_its_staircase(value: int, moves: list[Move], expected: list[int]) -> None:
    assert next_numbers(value, moves, least=2) == expected


def test_a_staircase_finds_the_best_and_ends() -> None:
    """A true best at 700: every move that gets closer wins."""
    value = 64
    moves: list[Move] = []
    for _ in range(40):
        found = next_numbers(value, moves)
        if not found:
            break
        better = abs(found[0] - 700) < abs(value - 700)
        moves.append(Move(str(value), str(found[0]), won=better))
        value = found[0] if better else value
    else:
        pytest.fail("it never ends")
    assert 0.8 < value / 700 < 1.25


def test_a_ladder_goes_on_from_the_last_win() -> None:
    ladder = ("false", "thin", "fat")
    assert next_rungs(ladder, "false", []) == ["thin", "fat"]
    assert next_rungs(ladder, "thin", [Move("false", "thin", won=True)]) == ["fat"]
    assert next_rungs(ladder, "thin", [Move("false", "thin", won=True), Move("thin", "fat", won=False)]) == []
    assert next_rungs(ladder, "fat", []) == ["thin", "false"]
    assert next_rungs(ladder, "chosen", []) == ["thin", "fat", "false"]


def swept(path: str, text: str) -> dict[str, str]:
    """Titles of sweeps and the text after each."""
    return {change.title: change.files[path] for change in sweeps(Sources({path: text}), {})}


@pytest.mark.parametrize(
    ("path", "text", "titles"),
    [
        ("a.rs", "const BUFFER_BYTES: usize = 4_096;\n", {"8_192 instead of 4_096", "2_048 instead of 4_096"}),
        ("a.rs", "const CHUNK: u64 = 1 << 20;\n", {"1 << 21 instead of 1 << 20", "1 << 19 instead of 1 << 20"}),
        ("a.rs", "fn f() { let v = Vec::with_capacity(16usize); }\n", {"32usize instead of 16usize", "8usize instead"}),
        ("a.py", "CHUNK_SIZE = 64 * 1024\n", {"128 instead of 64", "32 instead of 64"}),
        ("a.py", "@lru_cache(maxsize=100)\ndef f(x):\n    return x\n", {"200 instead of 100", "50 instead of 100"}),
        ("a.c", "#define BUF_SIZE 512\n", {"1024 instead of 512", "256 instead of 512"}),
        ("a.c", "int f(void) { char buf[100]; return 0; }\n", {"200 instead of 100", "50 instead of 100"}),
        ("a.go", "package main\n\nfunc f() { a := make([]int, 0, 64); _ = a }\n", {"128 instead of 64", "32 instead"}),
        ("a.js", "const CACHE_SLOTS = 256;\n", {"512 instead of 256", "128 instead of 256"}),
    ],
)
def test_a_constant_that_cuts_up_work_is_swept(path: str, text: str, titles: set[str]) -> None:
    found = swept(path, text)
    assert len(found) == len(titles)
    for words in titles:
        assert any(words in title for title in found), found
    language = language_of(path)
    assert language is not None
    assert all(not is_broken(after, language) and after != text for after in found.values())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.rs", "const VERSION_TABLE: u32 = 3;\n"),
        ("a.rs", "const BUFFER_MASK: u32 = 4095;\n"),
        ("a.rs", "const TABLE_SEED: u64 = 12345;\n"),
        ("a.rs", "const CHUNK: u64 = 0xFF00;\n"),
        ("a.rs", "enum Block { A = 4, B = 8 }\n"),
        ("a.rs", "const CACHE: usize = 1;\n"),
        ("a.rs", "#[cfg(test)]\nmod tests {\n    const BUFFER: usize = 64;\n}\n"),
        ("tests/a.rs", "const BUFFER: usize = 64;\n"),
        ("a.py", "AGE = 30\n"),
        ("a.py", "block = rows[16]\n"),
        ("a.c", "#define BUFFER_ID 512\n"),
        ("a.c", "int chunk = 0755;\n"),
    ],
)
def test_other_numbers_are_left_alone(path: str, text: str) -> None:
    assert swept(path, text) == {}


def test_cargo_profiles_are_edited_with_their_comments() -> None:
    manifest = '# Mine.\n[package]\nname = "a"\n\n[profile.release]\ndebug = true # for perf\nlto = "thin"\n'
    found = {one.title: one for one in settings(Sources({"Cargo.toml": manifest}), RELEASE, {})}
    fat = next(change for title, change in found.items() if "lto to fat" in title)
    text = fat.files["Cargo.toml"]
    assert "# Mine." in text
    assert "# for perf" in text
    assert tomllib.loads(text)["profile"]["release"] == {"debug": True, "lto": "fat"}
    abort = next(change for title, change in found.items() if "panic to abort" in title)
    assert "caught" in abort.may_break
    assert any("codegen-units to 1 " in title for title in found)


@pytest.mark.parametrize(
    ("build", "profile"),
    [
        (RELEASE, "release"),
        ([["cargo", "build", "-r"]], "release"),
        ([["cargo", "build"]], "dev"),
        ([["cargo", "build", "--profile", "fast"]], "fast"),
        ([["cargo", "build", "--profile=fast"]], "fast"),
        ([["sh", "-c", "cargo build --release && true"]], "release"),
        ([], "release"),
    ],
)
def test_the_profile_is_the_one_that_is_built(build: list[list[str]], profile: str) -> None:
    assert profile_of(build) == profile


def test_flags_are_raised_where_they_lie() -> None:
    found = {
        one.title: one.files["Makefile"] for one in settings(Sources({"Makefile": "CFLAGS = -O2 -g\nall: a\n"}), [], {})
    }
    assert "CFLAGS = -O3 -g\nall: a\n" in found.values()
    native = next(title for title in found if "-march=native" in title)
    assert found[native] == "CFLAGS = -O2 -march=native -g\nall: a\n"
    bound = next(one for one in settings(Sources({"Makefile": "A = -O2\n"}), [], {}) if one.title == native)
    assert "bound to processors" in bound.risk


CRATE = {
    "src/main.rs": '//! A crate.\n\nmod world;\n\nfn main() {\n    println!("{}", world::World::new().best());\n}\n',
    "src/world.rs": (
        "use std::collections::{BTreeMap, HashMap};\n\n#[derive(Clone, Debug)]\npub struct World {\n"
        "    grid: Vec<u8>,\n    names: HashMap<u8, u8>,\n    order: BTreeMap<u8, u8>,\n}\n\nimpl World {\n"
        "    pub fn new() -> Self {\n        let grid = vec![1, 2];\n"
        "        World { grid, names: HashMap::with_capacity(4), order: BTreeMap::new() }\n    }\n\n"
        "    fn set(&mut self, at: usize) {\n        self.grid[at] = 3;\n        self.names.insert(1, 2);\n"
        "        self.order.clear();\n    }\n\n    pub fn best(&self) -> usize {\n        let mut most = 0;\n"
        "        for at in 0..2 {\n            let mut next = self.clone();\n            next.set(at);\n"
        "            for value in &next.grid {\n                most += *value as usize;\n            }\n        }\n"
        "        most + self.order.len() + self.names.len()\n    }\n}\n"
    ),
}


def test_whole_crates_are_rewritten_and_still_do_the_same(tmp_path: Path) -> None:
    found = {change.rule + change.key: change for change in crate_changes(Sources(CRATE), lambda _: True, waiting=True)}
    names = {"rust-quick-hashquick-hash", "rust-share-fieldWorld.grid", "rust-share-fieldWorld.names"}
    assert set(found) == {*names, "rust-share-fieldWorld.order", "rust-reuse-clonenext = self"}
    said = {compiled(tmp_path / "base", CRATE)}
    said |= {compiled(tmp_path / str(n), {**CRATE, **one.files}) for n, one in enumerate(found.values())}
    assert len(said) == 1
    assert not list(crate_changes(Sources({"src/main.rs": "fn main() {}\n"}), lambda _: True))
    frozen = [one.rule for one in crate_changes(Sources(CRATE), lambda path: path in CRATE)]
    assert "rust-quick-hash" not in frozen


def compiled(folder: Path, files: dict[str, str]) -> str:
    """What a crate prints: one call of the compiler, without Cargo."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    subprocess.run(["rustc", "--edition=2021", "-o", folder / "run", folder / "src/main.rs"], check=True)
    return subprocess.run([folder / "run"], check=True, capture_output=True, text=True).stdout


def test_a_recipe_finds_its_place_again_and_nowhere_else() -> None:
    before = {"a": "one\nsame\ntwo\nsame\nthree\n"}
    after = {"a": "one\nsame\ntwo\nSAME\nthree\n", "new": "hello\n"}
    recipe = recipe_of("It says.", before, after)
    assert apply(recipe, before) == after
    assert apply(recipe, {"a": "zero\n" + before["a"]}) == {**after, "a": "zero\n" + after["a"]}
    with pytest.raises(StaleError, match="twice"):
        apply(recipe, {"a": before["a"] * 2})
    with pytest.raises(StaleError, match="no longer"):
        apply(recipe, {"a": "one\nsame\nother\nsame\nthird\n"})
    with pytest.raises(StaleError, match="there already"):
        apply(recipe, {**before, "new": "x"})


def test_a_profile_decides_the_order() -> None:
    def change(function: str, first: int) -> Change:
        place = Place("src/a.rs", function, first, first, first + 9)
        return Change("r", function, "H.", "", 0.02, place, function, {})

    hot, cold = change("hot", 1), change("cold", 20)
    by_name = Profile(source="callgrind", shares=(Share(path="?", function="crate::a::hot", share=0.9),))
    by_line = Profile(source="x", shares=(Share(path="src/a.rs", line=25, share=0.9),))
    assert [one.title for one in ranked([cold, hot], by_name, 0)] == ["hot", "cold"]
    assert [one.title for one in ranked([cold, hot], by_line, 0)] == ["cold", "hot"]
    assert weight(Place("src/b.rs", "hot"), by_name) < 0.1
    deep = Place("a", "f", 1, 1, 40, depth=2)
    assert weight(deep, None) > weight(Place("a", "f", 1, 1, 40), None) > weight(Place("a", "g", 1, 1, 3), None)
    assert weight(Place("a", everywhere=True), by_name) == 1.0


@pytest.mark.parametrize(
    ("symbol", "found"),
    [
        ("core::ptr::drop_in_place<crate::yard::Yard>", True),
        ("<crate::yard::Yard as core::clone::Clone>::clone", True),
        ("core::ptr::drop_in_place<crate::yard::Yardstick>", False),
        ("crate::yard::Yard::step", False),
    ],
)
def test_a_type_that_is_copied_weighs_what_its_copies_cost(symbol: str, found: bool) -> None:
    profile = Profile(source="callgrind", shares=(Share(path="?", function=symbol, share=0.4),))
    assert (weight(Place("src/yard.rs", line=3, copies="Yard"), profile) > 0.4) == found


def test_what_the_compiler_hides_since_is_still_known_from_the_first_profile() -> None:
    def change(function: str, gain: float) -> Change:
        return Change("r", function, "H.", "", gain, Place("src/a.rs", function), function, {})

    hidden, plain = change("hidden", 0.06), change("plain", 0.05)
    first = Profile(source="callgrind", shares=(Share(path="?", function="crate::a::hidden", share=0.9),))
    now = Profile(source="callgrind", shares=(Share(path="?", function="crate::a::plain", share=0.3),))
    assert [one.title for one in ranked([hidden, plain], now, 0)] == ["plain", "hidden"]
    assert [one.title for one in ranked([hidden, plain], now, 0, first)] == ["hidden", "plain"]
    # What both know counts as it is now.
    assert [one.title for one in ranked([hidden, plain], now, 0, now)] == ["plain", "hidden"]


def test_another_value_of_one_knob_comes_after_other_ideas() -> None:
    def turn(name: str, after: str, gain: float) -> Change:
        place, knob = Place("Cargo.toml", everywhere=True), Knob(name=name, before="0", after=after)
        return Change(name, f"{name}={after}", "H.", "", gain, place, f"{name}={after}", {}, knob=knob)

    order = ranked([turn("a", "2", 0.03), turn("a", "1", 0.031), turn("b", "1", 0.02)], None, 0)
    assert [one.title for one in order] == ["a=1", "b=1", "a=2"]


def test_links_and_what_is_outside_edit_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.rs").write_text("fn a() {}\n")
    (tmp_path / "b.rs").write_text("fn b() {}\n")
    (tmp_path / "src" / "link.rs").symlink_to(tmp_path / "b.rs")
    (tmp_path / "src" / "latin.rs").write_bytes(b"// \xe9\n")
    scope = brief_for(tmp_path, "scout", edit=("src/*",)).arena.scope
    assert list(read_sources(tmp_path, scope).texts) == ["src/a.rs"]


def proposals(tree: Path, tried: list[Tried] | None = None) -> list[Strategy]:
    outcome = SearchBackend().scout(brief_of(tree, "scout", tried=tried or []), ALONE).outcome
    assert isinstance(outcome, Proposed)
    return list(outcome.strategies)


def worked(tree: Path, strategy: Strategy) -> Path:
    report = SearchBackend().worker(brief_of(tree, "worker", strategy), ALONE)
    assert isinstance(report.outcome, Changed), report
    assert report.outcome.summary.startswith(strategy.title[:100])
    return tree


def copy_of(arena: Path, folder: Path) -> Path:
    return Path(shutil.copytree(arena, folder, ignore=shutil.ignore_patterns("target")))


def test_the_example_gets_many_strategies_that_a_worker_can_carry_out(tmp_path: Path) -> None:
    tree = copy_of(EXAMPLE, tmp_path / "tree")
    before = {path: path.read_text() for path in sorted(tree.rglob("*")) if path.is_file()}
    strategies = proposals(tree)
    assert len(strategies) >= 15
    assert len({one.fingerprint for one in strategies}) == len(strategies)
    assert strategies == proposals(tree)
    for number, strategy in enumerate(strategies):
        copy = worked(copy_of(EXAMPLE, tmp_path / str(number)), strategy)
        changed = [path for path in sorted(copy.rglob("*")) if path.is_file() and differs(path, copy, before, tree)]
        assert sorted(str(path.relative_to(copy)) for path in changed) == list(strategy.files)
        for path in changed:
            text = path.read_text()
            assert tomllib.loads(text) if path.suffix == ".toml" else not is_broken(text, "rust")
    assert {path: path.read_text() for path in before} == before


def differs(path: Path, copy: Path, before: dict[Path, str], tree: Path) -> bool:
    return before.get(tree / path.relative_to(copy)) != path.read_text()


def test_the_best_strategies_build_and_change_no_record(tmp_path: Path) -> None:
    strategies = proposals(EXAMPLE)
    wanted = ("rust-quick-hash", "rust-share-field", "cargo-profile")
    chosen = [next(one for one in strategies if one.who == f"search/{rule}") for rule in wanted]
    cases = "".join(f"{case}\n" for case in range(30))
    said = set()
    for number, strategy in enumerate([None, *chosen]):
        tree = copy_of(EXAMPLE, tmp_path / str(number))
        if strategy is not None:
            worked(tree, strategy)
        command = ["cargo", "build", "--release", "--offline", "--quiet"]
        environment = {**os.environ, "CARGO_TARGET_DIR": str(tmp_path / "target")}
        subprocess.run(command, cwd=tree, env=environment, check=True)
        program = tmp_path / "target" / "release" / "sim"
        said.add(subprocess.run([program], input=cases, capture_output=True, text=True, check=True).stdout)
    assert len(said) == 1


def test_every_strategy_for_words_runs_and_changes_no_record(tmp_path: Path) -> None:
    cases = "".join(f"{case}\n" for case in range(20))
    said = []
    for number, strategy in enumerate([None, *proposals(WORDS)]):
        tree = copy_of(WORDS, tmp_path / str(number))
        if strategy is not None:
            worked(tree, strategy)
        done = subprocess.run(
            [sys.executable, "words.py"], cwd=tree, input=cases, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (strategy, done.stderr)
        said.append(done.stdout)
    assert len(said) >= 6
    assert len(set(said)) == 1


def test_what_was_tried_is_not_proposed_again_and_a_win_goes_on(tmp_path: Path) -> None:
    tree = copy_of(EXAMPLE, tmp_path / "tree")
    first = proposals(tree)
    tried = [Tried(fingerprint=one.fingerprint, title=one.title, verdict="reject", knob=one.knob) for one in first]
    assert isinstance(SearchBackend().scout(brief_of(tree, "scout", tried=tried), ALONE).outcome, Nothing)
    room = next(one for one in first if one.who == "search/rust-deque-some-capacity")
    worked(tree, room)
    after = proposals(tree, tried)
    bigger = next(one for one in after if one.knob is not None and one.knob.after == "128")
    worked(tree, bigger)
    assert bigger.knob is not None
    promoted = Tried(fingerprint=bigger.fingerprint, title="t", verdict="promote", gain=0.06, knob=bigger.knob)
    name = bigger.knob.name
    then = [one.knob for one in proposals(tree, [*tried, promoted]) if one.knob is not None and one.knob.name == name]
    assert then == [Knob(name=name, before="128", after="256")]


def test_a_worker_leaves_a_stale_or_frozen_place_alone(tmp_path: Path) -> None:
    tree = copy_of(EXAMPLE, tmp_path / "tree")
    strategy = next(one for one in proposals(tree) if one.files == ("src/paths.rs",))
    (tree / "src" / "paths.rs").write_text("// all gone\n")
    stale = SearchBackend().worker(brief_of(tree, "worker", strategy), ALONE).outcome
    assert isinstance(stale, Failed)
    assert "src/paths.rs" in stale.cause
    recipe = recipe_of("x", {}, {"program.md": "easier\n"})
    forged = strategy.model_copy(update={"recipe": recipe.model_dump_json()})
    frozen = SearchBackend().worker(brief_of(tree, "worker", forged), ALONE).outcome
    assert isinstance(frozen, Failed)
    assert "frozen" in frozen.cause
    assert (tree / "program.md").read_bytes() == (EXAMPLE / "program.md").read_bytes()


def test_a_change_that_no_report_takes_costs_that_change_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = copy_of(WORDS, tmp_path / "tree")
    ordinary = proposals(tree)
    monkeypatch.setattr(backend, "recipe_of", huge_for(ordinary[0].title))
    assert proposals(tree) == ordinary[1:]


def huge_for(title: str) -> Callable[..., Recipe]:
    def make(says: str, *texts: Mapping[str, str]) -> Recipe:
        recipe = recipe_of(says, *texts)
        edit = Edit(path="x", before="", after="x" * (RECIPE_CHARACTERS + 1))
        return recipe.model_copy(update={"edits": (edit,)}) if title in says else recipe

    return make


def test_a_worker_that_is_cancelled_changes_nothing(tmp_path: Path) -> None:
    tree = copy_of(WORDS, tmp_path / "tree")
    outcome = SearchBackend().worker(brief_of(tree, "worker", proposals(tree)[0]), Listener(gone=True)).outcome
    assert outcome == Failed(cause="cancelled")
    assert (tree / "words.py").read_bytes() == (WORDS / "words.py").read_bytes()
