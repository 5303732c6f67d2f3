"""The night's git side, against real repositories: hostile, odd and ordinary ones."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfleet.harness.folder import Folder, git_name
from nightfleet.harness.scope import Scope
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator.repo.checkout import Checkout, Identity
from nightfleet.orchestrator.repo.door import Door
from nightfleet.orchestrator.repo.guard import fingerprint
from nightfleet.orchestrator.repo.message import one_line, trailers_of, with_trailers
from nightfleet.orchestrator.repo.promotion import Shown, message_of, promotion_commit, promotions
from nightfleet.orchestrator.repo.rebase import rebase
from nightfleet.orchestrator.repo.refs import MovedError, References
from nightfleet.orchestrator.repo.snapshot import Snapshot, snapshot
from nightfleet.orchestrator.repo.trees import AgentTrees, default_place

WHO = Identity("Ada Ünlü", "ada@example.org")
SCOPE = Scope(("src/**", "Cargo.toml"))
QUIET = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{key}": "u@v" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")},
}
FILES: Mapping[str, bytes] = {
    "program.md": b"---\n---\n",
    "src/main.rs": b"fn main() {}\r\n" + b"// line\n" * 8 + b"// end\n",
    "src/deep/er.rs": "// ß\n".encode(),
    "src/with space and ünicode.rs": b"x\n",
    "tests/check.sh": b"#!/bin/sh\n",
    ".gitignore": b"target\n",
}
# An arena's place in its repository.
PLACES = ["", "crates/sim", 'with blank/ün"\\t']


def git(where: Path, *arguments: str, stdin: bytes = b"", **environment: str) -> str:
    done = subprocess.run(
        ["git", "-C", where, *arguments],
        input=stdin,
        timeout=60,
        capture_output=True,
        check=True,
        env={**QUIET, **environment},
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def commit_all(where: Path, files: Mapping[str, bytes] = {}) -> str:
    write(where, files)
    git(where, "add", "--all", "--force", ".")
    git(where, "commit", "--allow-empty", "--quiet", "-m", "c")
    return git(where, "rev-parse", "HEAD").strip()


def new_repository(place: Path, subfolder: str = "", form: str = "sha1") -> Path:
    """A repository with an arena and something beside it; its arena's folder."""
    place.mkdir(parents=True)
    git(place, "init", "--quiet", "--initial-branch=main", f"--object-format={form}")
    write(place / subfolder, FILES)
    (place / subfolder / "tests/check.sh").chmod(0o755)
    commit_all(place, {"beside/the arena": b"1\n"} if subfolder else {})
    return place / subfolder


class Ground:
    """One repository with all that works on it."""

    def __init__(self, arena: Path, tmp: Path) -> None:
        self.arena = arena
        self.checkout = Checkout(arena)
        self.top = self.checkout.top
        self.door = Door(self.checkout, tmp / "state")
        self.references = References(self.checkout, patience_ms=200)
        self.trees = AgentTrees(tmp / "cache" / "trees", tmp / "state")
        self.root = self.checkout.standing().start

    def candidate(self, files: Mapping[str, bytes | None], parent: str | None = None) -> Snapshot:
        """What a worker would hand in that changed these files."""
        parent = parent or self.root
        tree = self.trees.make("run", self.door.tree(parent))
        write(tree.folder, {name: data for name, data in files.items() if data is not None})
        for name, data in files.items():
            if data is None:
                (tree.folder / name).unlink()
        taken = snapshot(self.door, tree.folder, parent, SCOPE, message="a change", who=WHO)
        tree.remove()
        return taken

    def commit(self, files: Mapping[str, bytes | None], parent: str | None = None) -> str:
        made = self.candidate(files, parent).commit
        assert made is not None
        return made

    def shown(self, candidate: str, number: int = 1, strategy: str = "Hoist the table") -> Shown:
        digests = ("ab" * 32, "cd" * 32)
        return Shown(strategy, "night-1", number, candidate, 0.083, 0.071, 0.095, 23, 20_000, *digests)

    def promote(self, candidate: str, was: str, number: int = 1) -> str:
        shown = self.shown(candidate, number)
        commit = promotion_commit(self.door, was, shown, who=WHO, when_s=1_800_000_000)
        self.references.move_branch(CHAMPION, commit, was)
        return commit

    def files(self, commit: str) -> dict[str, bytes]:
        tree = self.checkout.reading.tree(commit, self.checkout.subfolder)
        return {path: tree.read(path) for path in tree.files}


CHAMPION = "nightfleet/night-1/champion"


@pytest.fixture(params=["sha1", "sha256"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(new_repository(tmp_path / "user"), tmp_path)


# The checkout and what is said of it.


def test_an_ordinary_repository_needs_no_remarks(ground: Ground) -> None:
    standing = ground.checkout.standing()
    assert standing.start == git(ground.top, "rev-parse", "HEAD").strip()
    assert (standing.branch, standing.dirty, standing.bare, standing.shallow) == ("main", (), False, False)
    assert standing.remarks() == []


def test_what_is_odd_about_a_repository_is_said(ground: Ground, tmp_path: Path) -> None:
    write(ground.top, {"src/main.rs": b"dirty", "new\x1b[31m": b"", ".nightfleet/state": b"", "target/x": b""})
    git(ground.top, "checkout", "--quiet", "--detach")
    git(ground.top, "worktree", "add", "--quiet", str(tmp_path / "another"), "-b", "other")
    standing = ground.checkout.standing()
    assert standing.dirty == ("src/main.rs", "new\\x1b[31m")
    assert standing.branch is None
    assert standing.worktrees == (str(tmp_path / "another"),)
    assert [remark.split(" ")[0] for remark in standing.remarks()] == ["changes", "no"]
    assert "new\\x1b[31m; to include them, commit first" in standing.remarks()[0]


def test_dirty_files_are_named_five_at_most(ground: Ground) -> None:
    write(ground.top, {f"new{number}": b"" for number in range(7)})
    assert "new0, new1, new2, new3, new4 and 2 more" in ground.checkout.standing().remarks()[0]


def test_a_shallow_clone_works(ground: Ground, tmp_path: Path) -> None:
    commit_all(ground.top, {"src/main.rs": b"second\n"})
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{ground.top}", "shallow")
    shallow = Ground(tmp_path / "shallow", tmp_path / "other")
    assert "shallow" in shallow.checkout.standing().remarks()[0]
    first = shallow.commit({"src/main.rs": b"faster\n"})
    shallow.references.new_branch(CHAMPION, shallow.root)
    tip = shallow.promote(first, shallow.root)
    assert [one.commit for one in promotions(shallow.door, tip, shallow.root)] == [tip]


def test_submodules_are_said_and_stay(ground: Ground) -> None:
    git(ground.top, "update-index", "-z", "--index-info", stdin=b"160000 " + b"1" * 40 + b"\tsrc/lib\0")
    git(ground.top, "commit", "--quiet", "-m", "a submodule")
    again = Ground(ground.arena, ground.top.parent)
    assert again.checkout.standing().submodules == ("src/lib",)
    assert "submodules are not exported" in again.checkout.standing().remarks()[-1]
    made = again.commit({"src/main.rs": b"faster\n"})
    assert git(ground.top, "ls-tree", made, "src/lib").startswith(f"160000 commit {'1' * 40}")


def test_what_is_no_repository_to_work_on_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "bare")
    with pytest.raises(UserError, match="bare repository, without files"):
        Checkout(tmp_path / "bare")
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="in no git repository"):
        Checkout(tmp_path / "plain")
    git(tmp_path, "init", "--quiet", "empty")
    with pytest.raises(UserError, match="has no commit yet"):
        Checkout(tmp_path / "empty").standing()


def test_an_arena_whose_folder_has_no_readable_name_is_refused(tmp_path: Path) -> None:
    arena = new_repository(tmp_path / "user", "two\nlines")
    with pytest.raises(UserError, match="control or invisible"):
        Checkout(arena).standing()


def test_a_work_tree_of_a_bare_repository_works(ground: Ground, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(ground.top), "bare.git")
    git(tmp_path / "bare.git", "worktree", "add", "--quiet", str(tmp_path / "linked"), "main")
    linked = Ground(tmp_path / "linked", tmp_path / "other")
    made = linked.commit({"src/main.rs": b"faster\n"})
    linked.references.new_branch("mine", made)
    assert git(tmp_path / "bare.git", "rev-parse", "mine").strip() == made
    with pytest.raises(UserError, match=r"is checked out in .*linked"):
        linked.references.move_branch("main", made, linked.root)


def test_the_users_identity_or_a_stated_one(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert ground.checkout.identity() == Identity("nightfleet", "nightfleet@localhost")
    (tmp_path / "home/.gitconfig").write_text('[user]\nname = "Ada <Ünlü>\\n"\nemail = ada@example.org\n')
    assert ground.checkout.identity() == WHO
    git(ground.top, "config", "user.email", "\n")
    assert ground.checkout.identity() == Identity("nightfleet", "nightfleet@localhost")


# Snapshots.


@pytest.mark.parametrize("place", PLACES)
def test_a_candidate_is_its_parent_and_the_changes(tmp_path: Path, form: str, place: str) -> None:
    ground = Ground(new_repository(tmp_path / 'a "b\nc', place, form), tmp_path)
    tree = ground.trees.make("run", ground.door.tree(ground.root))
    write(tree.folder, {"src/main.rs": b"faster\n", "src/new/one.rs": b"new\n", "tests/check.sh": b"cheat\n"})
    write(tree.folder, {"target/debug/sim": b"\0" * 100, "program.md": b"cheat", ".gitattributes": b"* filter=x"})
    (tree.folder / "src/deep/er.rs").unlink()
    (tree.folder / "src/with space and ünicode.rs").chmod(0o755)
    taken = snapshot(ground.door, tree.folder, ground.root, SCOPE, message="töpic\n\nbody\n", who=WHO)
    assert taken.objections == ()
    changed = ("src/deep/er.rs", "src/main.rs", "src/new/one.rs", "src/with space and ünicode.rs")
    assert taken.changed == changed
    assert taken.commit is not None
    expected = {**FILES, "src/main.rs": b"faster\n", "src/new/one.rs": b"new\n"}
    del expected["src/deep/er.rs"]
    assert ground.files(taken.commit) == expected
    assert git(ground.top, "diff-tree", "-r", "--name-only", "-z", ground.root, taken.commit).split("\0")[:-1] == [
        f"{place}/{path}" if place else path for path in changed
    ]
    modes = {line.partition("\t")[2]: line[:6] for line in git(ground.top, "ls-tree", "-rz", taken.commit).split("\0")}
    prefix = f"{place}/" if place else ""
    assert modes[f"{prefix}src/with space and ünicode.rs"] == modes[f"{prefix}tests/check.sh"] == "100755"
    said = git(ground.top, "show", "-s", "--format=%an|%ae|%cn|%ce|%at|%ct|%P|%B", taken.commit)
    when = int(git(ground.top, "show", "-s", "--format=%ct", ground.root)) + 1
    who = "Ada Ünlü|ada@example.org"
    assert said.rstrip("\n") == f"{who}|{who}|{when}|{when}|{ground.root}|töpic\n\nbody"
    git(ground.top, "fsck", "--strict", "--no-dangling")
    assert snapshot(ground.door, tree.folder, ground.root, SCOPE, message="töpic\n\nbody\n", who=WHO) == taken
    assert ground.references.keep_candidate("run", 7, taken.commit) == "refs/nightfleet/run/7"
    assert ground.references.keep_candidate("run", 7, taken.commit) == "refs/nightfleet/run/7"
    with pytest.raises(MachineError, match="candidates never change"):
        ground.references.keep_candidate("run", 7, ground.root)
    assert git(ground.top, "branch", "--list").strip() == "* main"


def test_nothing_changed_is_no_commit(ground: Ground) -> None:
    assert ground.candidate({}) == Snapshot(None, (), ())
    assert ground.candidate({"tests/check.sh": b"outside edit\n"}) == Snapshot(None, (), ())


def test_a_file_for_a_folder_and_back(ground: Ground) -> None:
    first = ground.commit({"src/deep/er.rs": None, "src/deep2": b"file\n"})
    second = ground.candidate({"src/deep2": None}, first)
    assert second.commit is not None
    tree = ground.trees.make("run", ground.door.tree(first))
    (tree.folder / "src/deep2").unlink()
    write(tree.folder, {"src/deep2/inside.rs": b"x\n", "src/deep": b"y\n"})
    taken = snapshot(ground.door, tree.folder, first, SCOPE, message="m", who=WHO)
    assert taken.commit is not None
    assert {"src/deep2/inside.rs", "src/deep"} <= ground.files(taken.commit).keys()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("link", "is a link"),
        ("pipe", "is no regular file"),
        ("big", "the limit for a changed file"),
        ("binary", "is binary"),
        ("case", "differs only in case"),
        ("control", "control or invisible"),
        ("deep", "folders deep"),
        ("build.rs", "tools run or obey"),
    ],
)
def test_what_is_out_of_scope_is_never_committed(ground: Ground, name: str, words: str) -> None:
    tree = ground.trees.make("run", ground.door.tree(ground.root))
    inside = tree.folder / "src"
    (inside / "main.rs").write_bytes(b"faster\n")
    if name == "link":
        (inside / "link").symlink_to("/etc/passwd")
    elif name == "pipe":
        os.mkfifo(inside / "pipe")
    elif name == "big":
        with (inside / "big").open("wb") as file:
            file.truncate(100 << 20)
    elif name == "deep":
        (inside / "/".join(["d"] * 100)).mkdir(parents=True)
    else:
        odd = {"binary": b"\0", "MAIN.rs": b"", "a\u202eb": b"", "build.rs": b"fn main() {}\n"}
        write(inside, dict([list(odd.items())[["binary", "case", "control", "build.rs"].index(name)]]))
    taken = snapshot(ground.door, tree.folder, ground.root, SCOPE, message="m", who=WHO)
    assert taken.commit is None
    assert any(words in objection.text for objection in taken.objections), taken.objections
    tree.remove()
    assert not tree.folder.exists()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, {"large": b"1234", "small": b"123"})
    tree = Folder(tmp_path, reads_up_to=3, names=git_name("sha1")).tree()
    assert (tree.entries["large"].id, tree.entries["large"].size) == ("sha256:", 4)
    expected = git(tmp_path, "hash-object", "--stdin", stdin=b"123").strip()
    assert tree.entries["small"].id == f"git:{expected}"
    assert tree.read("small") == b"123"


def test_what_is_outside_edit_is_not_even_looked_at(ground: Ground) -> None:
    tree = ground.trees.make("run", ground.door.tree(ground.root))
    (tree.folder / "target" / "/".join(["d"] * 100)).mkdir(parents=True)
    with (tree.folder / "huge").open("wb") as file:
        file.truncate(9 << 30)
    os.mkfifo(tree.folder / "pipe")
    write(
        tree.folder,
        {"Cargo.toml": b"[profile.release]\n", ".git/hooks/x": b"", "src/.git/HEAD": b"x", "src/.gitx": b""},
    )
    taken = snapshot(ground.door, tree.folder, ground.root, SCOPE, message="m", who=WHO)
    assert (taken.changed, taken.objections) == (("Cargo.toml",), ())


def test_links_of_the_parents_stay(ground: Ground) -> None:
    (ground.top / "src/alias.rs").symlink_to("main.rs")
    parent = commit_all(ground.top)
    made = ground.commit({"src/main.rs": b"faster\n"}, parent)
    assert git(ground.top, "ls-tree", made, "src/alias.rs").startswith("120000")
    replaced = ground.candidate({"src/alias.rs": b"a file now\n"}, parent)
    assert replaced.commit is None
    assert "is a link in the baseline" in replaced.objections[0].why


def test_who_shares_the_repository_can_go_on_writing(ground: Ground, tmp_path: Path) -> None:
    git(ground.top, "config", "core.sharedRepository", "group")
    before = set((ground.top / ".git/objects").iterdir())
    Ground(ground.arena, tmp_path / "2").commit({"src/main.rs": b"faster\n"})
    made = set((ground.top / ".git/objects").iterdir()) - before
    assert made
    assert all(folder.stat().st_mode & stat.S_IWGRP for folder in made)


def test_the_door_keeps_nothing(ground: Ground) -> None:
    before = sorted(ground.door.git_dir.rglob("*"))
    ground.commit({"src/main.rs": b"faster\n"})
    ground.commit({"src/main.rs": b"faster still\n"})
    assert sorted(ground.door.git_dir.rglob("*")) == before


def test_many_changes_at_once(ground: Ground) -> None:
    made = ground.commit({f"src/{number}.rs": b"%d\n" % number for number in range(300)})
    assert ground.files(made)["src/299.rs"] == b"299\n"


# Rebases.


def test_changes_that_go_together_commute(ground: Ground) -> None:
    base = FILES["src/main.rs"]
    top, end = base.replace(b"fn main() {}", b"fn main() { fast() }"), base.replace(b"// end", b"// fast end")
    one, two = ground.commit({"src/main.rs": top, "src/a.rs": b"a\n"}), ground.commit({"src/main.rs": end})
    commits = []
    for candidate, onto in ((one, two), (two, one)):
        done = rebase(ground.door, candidate, ground.root, onto, scope=SCOPE, message="m", who=WHO)
        assert (done.conflicts, done.objections) == ((), ())
        assert done.commit is not None
        commits.append(done.commit)
        assert git(ground.top, "rev-parse", f"{done.commit}^").strip() == onto
    first, second = (git(ground.top, "rev-parse", f"{commit}^{{tree}}") for commit in commits)
    assert first == second
    assert ground.files(commits[0])["src/main.rs"] == top.replace(b"// end", b"// fast end")


def test_a_conflict_comes_with_both_diffs(ground: Ground) -> None:
    base = FILES["src/main.rs"]
    mine = ground.commit({"src/main.rs": base.replace(b"main()", b"mine()"), "src/deep/er.rs": b"changed\n"})
    onto = ground.commit({"src/main.rs": base.replace(b"main()", b"theirs()"), "src/deep/er.rs": None})
    done = rebase(ground.door, mine, ground.root, onto, scope=SCOPE, message="m", who=WHO)
    assert done.commit is None
    removed, edited = done.conflicts
    assert (removed.path, edited.path) == ("src/deep/er.rs", "src/main.rs")
    assert "-fn main() {}" in edited.theirs
    assert "+fn theirs() {}" in edited.theirs
    assert "+fn mine() {}" in edited.ours
    assert "-// ß" in removed.theirs
    assert "+changed" not in removed.theirs


def test_a_rebase_that_leaves_nothing(ground: Ground) -> None:
    mine, onto = (ground.commit({"src/main.rs": b"same\n", name: b"x\n"}) for name in ("src/x.rs", "src/y.rs"))
    part = ground.commit({"src/main.rs": b"same\n"})
    assert rebase(ground.door, part, ground.root, onto, scope=SCOPE, message="m", who=WHO).commit is None
    assert rebase(ground.door, mine, ground.root, onto, scope=SCOPE, message="m", who=WHO).changed == ("src/x.rs",)


def test_a_baseline_that_has_the_change_within_others_leaves_nothing(ground: Ground) -> None:
    part = FILES["src/main.rs"].replace(b"fn main", b"fn fast")
    mine = ground.commit({"src/main.rs": part})
    onto = ground.commit({"src/main.rs": part.replace(b"// end", b"// fast end")})
    done = rebase(ground.door, mine, ground.root, onto, scope=SCOPE, message="m", who=WHO)
    assert (done.commit, done.changed, done.conflicts) == (None, (), ())


def test_both_add_one_name(ground: Ground) -> None:
    mine, onto = (ground.commit({"src/x.rs": data}) for data in (b"1\n", b"2\n"))
    (conflict,) = rebase(ground.door, mine, ground.root, onto, scope=SCOPE, message="m", who=WHO).conflicts
    assert (conflict.path, "+2" in conflict.theirs, "+1" in conflict.ours) == ("src/x.rs", True, True)


# References and promotions.


@pytest.mark.parametrize("place", PLACES)
def test_a_night_of_promotions_reads_back(tmp_path: Path, form: str, place: str) -> None:
    ground = Ground(new_repository(tmp_path / "user", place, form), tmp_path)
    ground.references.new_branch(CHAMPION, ground.root)
    was, tips = ground.root, []
    for number in range(3):
        candidate = ground.commit({"src/main.rs": b"%d\n" % number}, was)
        ground.references.keep_candidate("night-1", number, candidate)
        was = ground.promote(candidate, was, number)
        assert ground.promote(candidate, git(ground.top, "rev-parse", f"{was}^").strip(), number) == was
        tips.append((was, candidate))
    assert git(ground.top, "rev-parse", CHAMPION).strip() == was
    found = promotions(ground.door, was, ground.root)
    assert [one.commit for one in found] == [tip for tip, _ in tips]
    assert [one.shown for one in found] == [ground.shown(candidate, n) for n, (_, candidate) in enumerate(tips)]
    assert [one.tree for one in found] == [git(ground.top, "rev-parse", f"{c}^{{tree}}").strip() for _, c in tips]
    assert promotions(ground.door, ground.root, ground.root) == []


def test_promotions_refuse_what_is_none(ground: Ground) -> None:
    other = ground.commit({"src/main.rs": b"1\n"})
    with pytest.raises(UserError, match="is no promotion"):
        promotions(ground.door, other, ground.root)
    git(ground.top, "checkout", "--quiet", "--orphan", "elsewhere")
    unrelated = commit_all(ground.top, {"src/main.rs": b"unrelated\n"})
    with pytest.raises(UserError, match="is no promotion"):
        promotions(ground.door, unrelated, ground.root)


def test_promotions_lead_back_to_the_root(ground: Ground) -> None:
    ground.references.new_branch(CHAMPION, ground.root)
    candidate, sibling = ground.commit({"src/main.rs": b"1\n"}), ground.commit({"src/main.rs": b"2\n"})
    tip = ground.promote(candidate, ground.root)
    with pytest.raises(UserError, match="does not lead back"):
        promotions(ground.door, tip, sibling)


def test_a_forged_trailer_is_none(ground: Ground) -> None:
    title = "x\n\nNightfleet-Gain: 50%\r\nNightfleet-Pairs: 9\u2028Nightfleet-Cases: 1\n---\n\x1b[31mred\u202e"
    shown = ground.shown(ground.root, strategy=title)
    read = git(ground.top, "interpret-trailers", "--parse", "--no-divider", stdin=message_of(shown).encode())
    expected = {
        "Strategy": "x Nightfleet-Gain: 50% Nightfleet-Pairs: 9 Nightfleet-Cases: 1 --- red",
        "Candidate": f"night-1/1 {ground.root}",
        "Gain": "8.300% (7.100% to 9.500%)",
        "Pairs": "23",
        "Cases": "20000",
        "Report": f"sha256:{'ab' * 32}",
        "Ledger": f"sha256:{'cd' * 32}",
    }
    assert read.splitlines() == [f"Nightfleet-{name}: {value}" for name, value in expected.items()]
    assert trailers_of(message_of(shown)) == expected
    assert trailers_of("Nightfleet-Gain: 50%\n") == {}
    assert trailers_of("t\n\nNightfleet-Gain: 5%\nNightfleet-Gain: 50%\n") == {}
    for dull in ("---", "--- a/x", "", "# comment", "Nightfleet-Gain: 50%"):
        message = with_trailers(dull, {"Gain": "1%"})
        assert git(ground.top, "interpret-trailers", "--parse", stdin=message.encode()) == "Nightfleet-Gain: 1%\n"


@given(st.text())
def test_one_line_is_one_harmless_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 500
    assert line == one_line(line)
    assert trailers_of(with_trailers(text, {"Strategy": text, "Gain": "1%"})).get("Gain") == "1%"


def test_a_branch_that_somebody_moved_is_left_alone(ground: Ground) -> None:
    candidate, mine = ground.commit({"src/main.rs": b"1\n"}), ground.commit({"src/main.rs": b"2\n"})
    ground.references.new_branch(CHAMPION, ground.root)
    git(ground.top, "update-ref", f"refs/heads/{CHAMPION}", mine)
    with pytest.raises(MovedError, match=f"was {ground.root} .* is {mine} now"):
        ground.promote(candidate, ground.root)
    git(ground.top, "update-ref", "-d", f"refs/heads/{CHAMPION}")
    with pytest.raises(MovedError, match="is gone now"):
        ground.promote(candidate, ground.root)
    assert CHAMPION not in git(ground.top, "branch")


def test_the_swap_itself_compares(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, mine = ground.commit({"src/main.rs": b"1\n"}), ground.commit({"src/main.rs": b"2\n"})
    ground.references.new_branch(CHAMPION, ground.root)
    refuse = References.refuse_checked_out

    def moved_meanwhile(references: References, branch: str) -> None:
        refuse(references, branch)
        git(ground.top, "update-ref", f"refs/heads/{branch}", mine)

    monkeypatch.setattr(References, "refuse_checked_out", moved_meanwhile)
    with pytest.raises(MovedError) as error:
        ground.promote(candidate, ground.root)
    assert error.value.found == mine
    assert git(ground.top, "rev-parse", CHAMPION).strip() == mine


def test_a_branch_under_a_work_tree_is_left_alone(ground: Ground, tmp_path: Path) -> None:
    candidate = ground.commit({"src/main.rs": b"1\n"})
    ground.references.new_branch(CHAMPION, ground.root)
    git(ground.top, "worktree", "add", "--quiet", str(tmp_path / "another"), CHAMPION)
    with pytest.raises(UserError, match=r"is checked out in .*another"):
        ground.promote(candidate, ground.root)
    git(tmp_path / "another", "checkout", "--quiet", "--detach")
    (ground.top / ".git/worktrees/another/rebase-merge").mkdir()
    (ground.top / ".git/worktrees/another/rebase-merge/head-name").write_text(f"refs/heads/{CHAMPION}\n")
    with pytest.raises(UserError, match="is checked out in"):
        ground.promote(candidate, ground.root)
    git(ground.top, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    with pytest.raises(UserError, match="only stands for refs/heads/main"):
        ground.references.move_branch("alias", candidate, ground.root)
    assert git(ground.top, "rev-parse", "main").strip() == ground.root


def test_a_candidate_of_another_parent_is_refused(ground: Ground) -> None:
    candidate = ground.commit({"src/main.rs": b"1\n"})
    with pytest.raises(UserError, match="not from the champion"):
        ground.promote(candidate, candidate)
    with pytest.raises(UserError, match="is not a digest"):
        promotion_commit(ground.door, ground.root, replace(ground.shown(candidate), report="x"), who=WHO, when_s=0)


@pytest.mark.parametrize("name", ["", "a..b", "-x", "a b", "x.lock", "a\nb", "@{", "HEAD", "a/", "\x1b[1m", "a" * 300])
def test_what_cannot_be_a_branch_is_refused(ground: Ground, name: str) -> None:
    with pytest.raises(UserError, match="cannot be a branch"):
        ground.references.new_branch(name, ground.root)


def test_a_taken_branch_is_refused(ground: Ground) -> None:
    candidate = ground.commit({"src/main.rs": b"1\n"})
    ground.references.new_branch("faster", candidate)
    for taken in ("faster", "main", "faster/still", "main/x"):
        with pytest.raises(UserError, match=r"taken|in the way"):
            ground.references.new_branch(taken, candidate)
    assert git(ground.top, "rev-parse", "main").strip() == ground.root
    for run in ("../x", "a/b", "", "a\nb", "x" * 65):
        with pytest.raises(UserError, match="cannot name a run"):
            ground.references.keep_candidate(run, 1, candidate)


def test_a_lock_that_stays_is_named_and_never_removed(ground: Ground) -> None:
    candidate = ground.commit({"src/main.rs": b"1\n"})
    ground.references.new_branch(CHAMPION, ground.root)
    lock = ground.top / f".git/refs/heads/{CHAMPION}.lock"
    lock.touch()
    with pytest.raises(MachineError, match=r"champion\.lock was there for"):
        ground.promote(candidate, ground.root)
    assert lock.exists()
    lock.unlink()
    ground.promote(candidate, ground.root)


def test_a_lock_that_goes_is_waited_for(ground: Ground) -> None:
    candidate = ground.commit({"src/main.rs": b"1\n"})
    ground.references.new_branch(CHAMPION, ground.root)
    lock = ground.top / f".git/refs/heads/{CHAMPION}.lock"
    lock.touch()
    release = subprocess.Popen(["sh", "-c", 'sleep 1; rm "$0"', lock])
    patient = References(ground.checkout, patience_ms=60_000)
    commit = promotion_commit(ground.door, ground.root, ground.shown(candidate), who=WHO, when_s=0)
    patient.move_branch(CHAMPION, commit, ground.root)
    assert release.wait() == 0


# Agents' trees.


def test_an_agents_tree_is_a_repository_of_its_own(form: str, tmp_path: Path) -> None:
    arena = new_repository(tmp_path / "other user", PLACES[2], form)
    other = Ground(arena, tmp_path / "other")
    first, second = (other.trees.make("run", other.door.tree(other.root)) for _ in range(2))
    for tree in (first, second):
        found = {str(p.relative_to(tree.folder)) for p in tree.folder.rglob("*") if p.is_file()}
        assert {name for name in found if not name.startswith(".git/")} == set(FILES)
        assert git(tree.folder, "status", "--porcelain") == ""
        assert git(tree.folder, "log", "--format=%an %s").splitlines() == ["nightfleet the baseline"]
        assert git(tree.folder, "remote") == ""
        assert not (tree.folder / ".git/hooks").exists()
        assert not (tree.folder / ".git/objects/info/alternates").exists()
        assert not [p for p in tree.folder.rglob("*") if p.is_file() and str(tmp_path).encode() in p.read_bytes()]
    write(first.folder, {"src/main.rs": b"1\n"})
    git(first.folder, "commit", "--quiet", "--all", "-m", "the agent's")
    assert (second.folder / "src/main.rs").read_bytes() == FILES["src/main.rs"]
    assert git(second.folder, "log", "--format=%s") == "the baseline\n"
    with pytest.raises(subprocess.CalledProcessError):
        git(first.folder, "cat-file", "-e", other.root)
    first.remove()
    first.remove()
    assert not first.folder.parent.exists()
    assert second.folder.exists()


def test_agents_trees_are_out_of_reach(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in (tmp_path / "state/trees", tmp_path):
        with pytest.raises(UserError, match="an agent must not come near"):
            AgentTrees(bad, tmp_path / "state")
    with pytest.raises(UserError, match="inside the repository"):
        AgentTrees(ground.top / "trees", tmp_path / "state")
    assert stat.S_IMODE(ground.trees.root.stat().st_mode) == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_place() == tmp_path / "xdg/nightfleet/trees"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_place() == Path.home() / ".cache/nightfleet/trees"


OWNER = """
import sys
from pathlib import Path
from nightfleet.harness.folder import Folder
from nightfleet.orchestrator.repo.trees import AgentTrees
trees = AgentTrees(Path(sys.argv[1]), Path(sys.argv[2]))
kept = [trees.make("orphaned", Folder(Path(sys.argv[3])).tree()) for _ in range(2)]
print(kept[0].folder, flush=True)
sys.stdin.read()
"""


def test_orphans_of_a_killed_process_are_reclaimed(ground: Ground, tmp_path: Path) -> None:
    mine = ground.trees.make("mine", ground.door.tree(ground.root))
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, ground.trees.root, tmp_path / "state", ground.arena],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().decode().strip())
        marker = json.loads(folder.parent.with_name(f"{folder.parent.name}.lock").read_text())
        assert (marker["run"], marker["pid"]) == ("orphaned", owner.pid)
        assert ground.trees.reclaim() == []
        (folder / "/".join(["deep"] * 300)).mkdir(parents=True)
        (folder / "read-only").mkdir()
        (folder / "read-only/file").touch()
        (folder / "read-only").chmod(0o500)
        (ground.trees.root / "half.0123456789ab").mkdir()
        (ground.trees.root / "bare.0123456789ab.lock").touch()
        owner.send_signal(signal.SIGKILL)
    assert sorted(ground.trees.reclaim()) == ["half", "orphaned", "orphaned"]
    assert mine.folder.exists()
    assert sorted(p.name for p in ground.trees.root.iterdir() if p.name.startswith(("orphaned", "half", "bare"))) == []
    assert ground.trees.reclaim() == []


# What a repository must not be able to do.


def hostile(top: Path, canary: Path) -> None:
    """Everything by which a repository's own settings make git run something or see something else."""
    evil = canary.with_name("evil.sh")
    evil.write_text(f'#!/bin/sh\necho "$0" "$@" >> "{canary}"\ncat\n')
    evil.chmod(0o755)
    hooks = top / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    names = ("reference-transaction", "pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "post-checkout")
    for name in (*names, "pre-auto-gc", "post-index-change", "update", "post-rewrite", "fsmonitor-watchman"):
        (hooks / name).write_bytes(evil.read_bytes())
        (hooks / name).chmod(0o755)
    included = canary.with_name("included")
    included.write_text(f'[filter "inc"]\nclean = {evil}\n[core]\nhooksPath = {hooks}\n')
    settings = {
        "core.fsmonitor": evil, "core.hooksPath": hooks, "core.pager": evil, "core.editor": evil, "diff.external": evil,
        "core.sshCommand": evil, "core.askPass": evil, "core.alternateRefsCommand": evil, "gpg.program": evil,
        "filter.evil.clean": evil, "filter.evil.smudge": evil, "filter.evil.required": "true",
        "filter.a=b.clean": evil, "filter.p.process": evil, "merge.evil.driver": evil, "diff.evil.textconv": evil,
        "diff.evil.command": evil, "commit.gpgSign": "true", "log.showSignature": "true", "merge.default": "evil",
        "trailer.x.command": evil, "credential.helper": evil, "includeIf.gitdir:/**.path": included,
        "hook.h.command": evil, "hook.h.event": "reference-transaction", "alias.fast-import": f"!{evil}",
        "interactive.diffFilter": evil, "core.untrackedCache": "true", "core.worktree": canary.parent / "elsewhere",
        "gc.auto": "1", "gc.recentObjectsHook": evil,
    }  # fmt: skip
    for key, value in settings.items():
        git(top, "config", key, str(value))
    (top / ".git/info/attributes").write_text("* filter=a=b diff=evil merge=evil\n*.rs filter=evil\n*.sh filter=p\n")


def attributes(top: Path) -> str:
    (top / ".gitattributes").write_text(
        "* filter=evil diff=evil merge=evil export-subst ident text eol=crlf\n*.rs export-ignore\n"
    )
    return commit_all(top)


def dirty(top: Path) -> None:
    """Touch what is tracked, so that git has to compare contents."""
    for name in ("src/main.rs", "tests/check.sh"):
        os.utime(top / name, (1, 1))


def whole_night(ground: Ground) -> str:
    """Every operation that there is; the champion at the end."""
    ground.checkout.standing()
    ground.checkout.identity()
    fingerprint(ground.checkout)
    base = ground.files(ground.root)["src/main.rs"]
    one = ground.commit({"src/main.rs": base.replace(b"fn main", b"fn fast"), ".gitattributes": b"* filter=evil"})
    two = ground.commit({"src/main.rs": base.replace(b"// end", b"// fast end")})
    ground.references.keep_candidate("run", 1, one)
    ground.references.new_branch(CHAMPION, ground.root)
    champion = ground.promote(one, ground.root, 1)
    moved = rebase(ground.door, two, ground.root, champion, scope=SCOPE, message="m", who=WHO).commit
    assert moved is not None
    champion = ground.promote(moved, champion, 2)
    ground.references.new_branch("mine", two)
    assert len(promotions(ground.door, champion, ground.root)) == 2
    ground.trees.reclaim()
    return champion


def test_nothing_that_a_repository_plants_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arena = new_repository(tmp_path / "user")
    attributes(arena)
    clean = whole_night(Ground(new_copy(arena, tmp_path / "clean"), tmp_path / "1"))
    canary = tmp_path / "canary"
    hostile(arena, canary)
    dirty(arena)
    planted = {"GIT_DIR": "/nonexistent", "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": "/nonexistent/index"}
    planted |= {"GIT_OBJECT_DIRECTORY": str(tmp_path), "GIT_EXTERNAL_DIFF": "false", "GIT_TRACE": str(canary)}
    planted |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": "true"}
    planted |= {"GIT_CONFIG_PARAMETERS": "'core.bare'='true'", "GIT_NAMESPACE": "n", "GIT_AUTHOR_DATE": "1"}
    planted |= {"GIT_COMMON_DIR": "/nonexistent", "GIT_CEILING_DIRECTORIES": "/", "GIT_ATTR_SOURCE": "HEAD"}
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    assert whole_night(Ground(arena, tmp_path / "2")) == clean
    assert not canary.exists(), canary.read_text()


def new_copy(arena: Path, place: Path) -> Path:
    subprocess.run(["cp", "-a", arena, place], check=True)
    return place


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["update-ref", "refs/x", "HEAD"],
        ["add", "src/main.rs"],
        ["diff", "HEAD", "--"],
        ["commit", "-am", "x"],
    ],
)
def test_what_was_planted_would_run(tmp_path: Path, command: list[str]) -> None:
    arena = new_repository(tmp_path / "user")
    attributes(arena)
    canary = tmp_path / "canary"
    hostile(arena, canary)
    dirty(arena)
    (arena / "src/main.rs").write_bytes(b"changed\n")
    subprocess.run(
        ["git", "--work-tree=.", "--git-dir=.git", *command], cwd=arena, env=QUIET, check=False, capture_output=True
    )
    assert canary.exists()


def test_replaced_and_grafted_commits_are_what_they_are(ground: Ground, tmp_path: Path) -> None:
    other = new_copy(ground.arena, tmp_path / "plain")
    plain = whole_night(Ground(other, tmp_path / "1"))
    fake = commit_all(ground.top, {"src/main.rs": b"other\n", "src/deep/er.rs": b"other\n"})
    git(ground.top, "reset", "--quiet", "--hard", ground.root)
    git(ground.top, "replace", ground.root, fake)
    (ground.top / ".git/info/grafts").write_text(f"{ground.root} {fake}\n")
    assert git(ground.top, "log", "--format=%T", "-1") != git(other, "log", "--format=%T", "-1")
    assert whole_night(Ground(ground.arena, tmp_path / "2")) == plain


def test_objects_may_be_borrowed(ground: Ground, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--shared", str(ground.top), "borrower")
    borrower = Ground(tmp_path / "borrower", tmp_path / "other")
    whole_night(borrower)
    git(borrower.top, "fsck", "--no-dangling")


# What a night must leave as it was.


def test_a_night_leaves_the_users_work_as_it_was(ground: Ground, tmp_path: Path) -> None:
    git(ground.top, "tag", "v1")
    git(ground.top, "worktree", "add", "--quiet", str(tmp_path / "another"), "-b", "other")
    write(ground.top, {"src/main.rs": b"stashed\n"})
    git(ground.top, "stash", "--quiet")
    write(ground.top, {"src/deep/er.rs": b"staged\n", "untracked": b"x"})
    git(ground.top, "add", "src")
    write(ground.top, {"src/main.rs": b"not staged\n"})
    before = fingerprint(ground.checkout, champions=[CHAMPION, "mine"])
    whole_night(ground)
    after = fingerprint(ground.checkout, champions=[CHAMPION, "mine"])
    assert before.differences(after) == []
    assert before.digest == after.digest
    assert fingerprint(ground.checkout, champions=[CHAMPION]).differences(after) == [
        "git/logs/refs/heads/mine",
        "refs/heads/mine",
    ]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (["config", "user.name", "x"], "git/config"),
        (["branch", "new"], "refs/heads/new"),
        (["tag", "new"], "refs/tags/new"),
        (["add", "untracked"], "git/index"),
        (["checkout", "--quiet", "--detach"], "git/HEAD"),
        (["stash", "--include-untracked", "--quiet"], "refs/stash"),
    ],
)
def test_the_guard_sees_every_change(ground: Ground, change: list[str], name: str) -> None:
    write(ground.top, {"untracked": b"x"})
    before = fingerprint(ground.checkout)
    git(ground.top, *change)
    after = fingerprint(ground.checkout)
    assert name in before.differences(after)
    assert before.digest != after.digest


def test_the_guard_sees_files_modes_links_and_hooks(ground: Ground, tmp_path: Path) -> None:
    git(ground.top, "worktree", "add", "--quiet", str(tmp_path / "another"), "-b", "other")
    for name in ("link", "to a folder"):
        (ground.top / name).symlink_to("src")
    before = fingerprint(ground.checkout)
    (ground.top / "src/main.rs").chmod(0o600)
    for name, target in (("link", "nowhere"), ("to a folder", "tests")):
        (ground.top / name).unlink()
        (ground.top / name).symlink_to(target)
    (ground.top / ".git/hooks").mkdir(exist_ok=True)
    (ground.top / ".git/hooks/pre-commit").touch()
    (tmp_path / "another/src/main.rs").write_bytes(b"x")
    write(ground.top, {".nightfleet/x": b""})
    mine = (f"tree/{ground.top}/{name}" for name in ("link", "src/main.rs", "to a folder"))
    names = [f"tree/{tmp_path}/another/src/main.rs", *mine]
    assert before.differences(fingerprint(ground.checkout)) == ["git/hooks/pre-commit", *names]
