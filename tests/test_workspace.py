"""Builds: real compilers in real sandboxes, hostile Makefiles, builds that are killed, made twice, tampered with."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nightfleet.harness import store as store_module
from nightfleet.harness.arena import Arena, read_arena
from nightfleet.harness.copies import refresh
from nightfleet.harness.folder import Folder
from nightfleet.harness.frontmatter import read_front_matter
from nightfleet.harness.job import BaselineFailedError, BuildFailedError, SetupFailedError
from nightfleet.harness.sides import fresh_copy
from nightfleet.harness.store import Store
from nightfleet.harness.tree import Tree
from nightfleet.harness.workspace import Built, Workspace
from nightfleet.native import MachineError, Sandbox, UserError

MAKEFILE = """\
sum: main.o part.o
\tcc -o sum main.o part.o
\techo linked >> journal
main.o: main.c
\tcc -c main.c
\techo main >> journal
part.o: part.c
\tcc -c part.c
\techo part >> journal
"""
C: Mapping[str, str] = {
    "Makefile": MAKEFILE,
    "main.c": '#include <stdio.h>\nint part(void);\nint main(void) { printf("%d\\n", part()); }\n',
    "part.c": "int part(void) { return 1; }\n",
    "spare.c": "",
    "tests/check.sh": "true\n",
}
PROGRAM = """\
---
name: demo
edit: ["*.c", Makefile, "src/**"]
{more}
workloads:
  - {{name: a, run: ./sum, cases: 20000}}
---
"""


def arena(*lines: str) -> Arena:
    return read_arena(read_front_matter(PROGRAM.format(more="\n".join(lines))).section)[0]


class Ground:
    """A user's folder, the state beside it, and candidates."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        self.state = root / "source" / ".nightfleet"
        self.source.mkdir(mode=0o755)
        self.count = 0

    def workspace(self, *lines: str, most_bytes: int = 1 << 30) -> Workspace:
        return Workspace(self.state, arena(*lines), self.source, most_bytes=most_bytes)

    def tree(self, files: Mapping[str, str | None]) -> Tree:
        self.count += 1
        folder = self.root / f"tree-{self.count}"
        folder.mkdir()
        for path, text in files.items():
            if text is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text)
        return Folder(folder).tree()

    def left(self) -> list[str]:
        """What the store holds of builds that are not whole."""
        return [path.name for path in (self.state / "builds").glob("*.making")]


@pytest.fixture
def ground(open_ground: Path) -> Ground:
    return Ground(open_ground)


def output(workspace: Workspace, built: Built, *command: str, tree: Path | None = None) -> str:
    options = workspace.sandbox_options("trial", built)
    with Sandbox(tree or built.path, **options) as sandbox:
        done = sandbox.run(command)
    assert done.outcome == "ok", done.stderr
    return done.stdout.decode()


def journal(built: Built) -> list[str]:
    return (built.path / "journal").read_text().split()


def test_a_candidate_starts_from_the_baselines_build_and_rebuilds_what_changed(ground: Ground) -> None:
    workspace = ground.workspace("build: make")
    tree = ground.tree(C)
    baseline = workspace.build(tree)
    assert journal(baseline) == ["main", "part", "linked"]
    assert output(workspace, baseline, "./sum") == "1\n"
    assert set(baseline.record.artefacts) == {"main.o", "part.o", "sum", "journal"}

    candidate = workspace.build(ground.tree({**C, "part.c": C["part.c"].replace("1", "2")}), baseline=baseline)
    assert journal(candidate) == ["main", "part", "linked", "part", "linked"]
    assert output(workspace, candidate, "./sum") == "2\n"
    assert candidate.artefact_digest != baseline.artefact_digest
    # Another begins from the candidate's, as after a promotion.
    third = workspace.build(ground.tree({**C, "part.c": C["part.c"].replace("1", "3")}), baseline=candidate)
    assert journal(third)[5:] == ["part", "linked"]
    assert output(workspace, third, "./sum") == "3\n"
    # What counts as changed is built again, although it is the same.
    again = workspace.build(tree, baseline=baseline, changed=["main.c"])
    assert journal(again)[3:] == ["main", "linked"]
    assert again.build_ns > 0
    same = {path: item for path, item in again.record.artefacts.items() if path != "journal"}
    assert same == {path: item for path, item in baseline.record.artefacts.items() if path != "journal"}
    for built in (baseline, candidate, third, again):
        built.check()


def test_a_kept_build_is_not_built_again_and_every_input_counts(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def workspace(*lines: str) -> Workspace:
        return ground.workspace("build: cp part.c sum", *lines)

    (ground.source / "data").mkdir()
    first = workspace().build(ground.tree(C))
    stamp = first.path.stat().st_ino
    again = workspace().build(ground.tree(C))
    assert (again.key, again.path.stat().st_ino, again.artefact_digest) == (first.key, stamp, first.artefact_digest)
    keys = {first.key}
    keys.add(workspace().build(ground.tree({**C, "spare.c": "\n"})).key)
    keys.add(workspace("data: [data]").build(ground.tree(C)).key)
    (ground.source / "data" / "more").write_text("x")
    keys.add(workspace("data: [data]").build(ground.tree(C)).key)
    keys.add(workspace("limits: {build: 20s}").build(ground.tree(C)).key)
    keys.add(ground.workspace("build: cp spare.c sum").build(ground.tree(C)).key)
    keys.add(workspace().build(ground.tree(C), baseline=first).key)
    bin_folder = ground.root / "opt" / "bin"
    bin_folder.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    keys.add(workspace().build(ground.tree(C)).key)
    assert len(keys) == 8


def test_a_deleted_file_is_gone_and_so_is_its_folder(ground: Ground) -> None:
    workspace = ground.workspace("build: sh -c 'ls -R > listing'")
    baseline = workspace.build(ground.tree({**C, "src/deep/a": "", "src/b": ""}))
    assert "deep" in (baseline.path / "listing").read_text()
    candidate = workspace.build(ground.tree({**C, "src/b": ""}), baseline=baseline)
    assert "deep" not in (candidate.path / "listing").read_text()
    assert not (candidate.path / "src" / "deep").exists()
    assert (baseline.path / "src" / "deep" / "a").exists()


def test_cargo_rebuilds_what_changed(ground: Ground) -> None:
    crate = {
        "Cargo.toml": '[package]\nname = "sum"\nversion = "0.1.0"\nedition = "2021"\n',
        "Cargo.lock": 'version = 3\n\n[[package]]\nname = "sum"\nversion = "0.1.0"\n',
        "src/main.rs": 'mod part;\nfn main() { println!("{}", part::part()); }\n',
        "src/part.rs": "pub fn part() -> u8 { 1 }\n",
    }
    workspace = ground.workspace("build: cargo build --locked", "setup: cargo fetch --locked")
    baseline = workspace.build(ground.tree(crate))
    assert output(workspace, baseline, "target/debug/sum") == "1\n"
    same = workspace.build(ground.tree({**crate, "note": "text"}), baseline=baseline)
    assert "Compiling" not in same.log.read_text()
    assert same.record.artefacts["target/debug/sum"] == baseline.record.artefacts["target/debug/sum"]
    candidate = workspace.build(ground.tree({**crate, "src/part.rs": "pub fn part() -> u8 { 2 }\n"}), baseline=baseline)
    assert output(workspace, candidate, "target/debug/sum") == "2\n"
    assert candidate.artefact_digest != baseline.artefact_digest
    rebuilt = workspace.build(ground.tree(crate), baseline=baseline, changed=["src/main.rs"])
    assert "Compiling" in rebuilt.log.read_text()
    assert rebuilt.artefact_digest == baseline.artefact_digest
    assert candidate.provision is not None
    assert candidate.provision == baseline.provision


def test_failures_have_an_owner(ground: Ground) -> None:
    workspace = ground.workspace("build: make", "limits: {build: 3s}")
    good = workspace.build(ground.tree(C))
    hostile = "all:\n\t@for i in $$(seq 60); do echo line $$i; done\n\t@printf '\\033[2Jred\\n'\n\t@exit 3\n"
    with pytest.raises(BaselineFailedError, match="ended with status 2") as users:
        workspace.build(ground.tree({**C, "Makefile": hostile}))
    assert isinstance(users.value, UserError)
    with pytest.raises(BuildFailedError, match="ended with status 2") as theirs:
        workspace.build(ground.tree({**C, "Makefile": hostile}), baseline=good)
    assert not isinstance(theirs.value, UserError | MachineError)
    assert theirs.value.outcome == "exit"
    assert len(theirs.value.tail) == 40
    assert "\\x1b[2Jred" in theirs.value.tail
    assert "\x1b" not in str(theirs.value) + theirs.value.log.read_text()
    assert "line 1\n" in theirs.value.log.read_text()
    with pytest.raises(BuildFailedError, match=r"limits\.build, 3 s") as slow:
        workspace.build(ground.tree({**C, "Makefile": "all:\n\tsleep 60\n"}), baseline=good)
    assert slow.value.outcome == "timeout"
    with pytest.raises(SetupFailedError, match="'false' ended with status 1"):
        ground.workspace("build: make", "setup: 'false'").build(ground.tree(C))
    assert ground.left() == []


def test_a_build_has_no_network_and_says_so(ground: Ground) -> None:
    workspace = ground.workspace("build: make")
    good = workspace.build(ground.tree(C))
    fetch = "all:\n\tpython3 -c 'import urllib.request as r; r.urlopen(\"http://example.invalid\")'\n"
    with pytest.raises(BuildFailedError, match="no network here: what it fetches belongs into 'setup'"):
        workspace.build(ground.tree({**C, "Makefile": fetch}), baseline=good)


def test_a_build_that_writes_outside_its_tree_fails(ground: Ground) -> None:
    workspace = ground.workspace("build: make")
    good = workspace.build(ground.tree(C))
    for place in ("/usr/lib/x", "/x", str(ground.state / "x"), "/etc/x", "/tree/../x"):
        with pytest.raises(BuildFailedError) as failed:
            workspace.build(ground.tree({**C, "Makefile": f"all:\n\techo x > {place}\n"}), baseline=good)
        assert failed.value.outcome == "exit", place


def test_a_hostile_makefile_reaches_neither_baseline_nor_cache_nor_frozen_files(ground: Ground) -> None:
    first = "sum:\n\tmkdir -p $(HOME)/.cache && echo good > $(HOME)/.cache/entry && touch sum\n"
    workspace = ground.workspace("build: make", "setup: sh -c 'echo good > .cargo-note && echo ok > ~/.cargo/note'")
    baseline = workspace.build(ground.tree({**C, "Makefile": first}))
    assert (baseline.path / ".cargo-note").read_text() == "good\n"
    hostile = """\
all:
\tcat $(HOME)/.cache/entry $(HOME)/.cargo/note
\techo bad > $(HOME)/.cache/entry
\techo bad > tests/check.sh
\t! (echo bad > $(HOME)/.cargo/note)
\t! (echo bad > {path}/sum)
\t! ls {state}
\trm -rf src && ln -s /usr src
\tmkfifo pipe
\ttouch -d 2099-01-01 part.c sum
\tchmod 4777 sum
\tchmod 0 main.c
"""
    makefile = hostile.format(path=baseline.path, state=ground.state)
    files = {**C, "Makefile": makefile, "src/a": "a"}
    candidate = workspace.build(ground.tree(files), baseline=baseline)
    assert "good\nok" in candidate.log.read_text()
    baseline.check()
    provision = baseline.provision
    assert provision is not None
    assert (provision.home / ".cargo" / "note").read_text() == "ok\n"
    assert (baseline.path.parent / "cache" / "entry").read_text() == "good\n"
    assert (candidate.path / "tests" / "check.sh").read_text() == "true\n"
    assert candidate.record.files["src"].kind == "link"
    assert not (candidate.path / "pipe").exists()
    sum_status = (candidate.path / "sum").stat()
    assert stat.S_IMODE(sum_status.st_mode) == 0o755
    assert (sum_status.st_uid, sum_status.st_mtime < time.time()) == (os.geteuid(), True)
    # The next one to begin there writes through no link, and its changed file is newer than what was dated ahead.
    before = set(Path("/usr").iterdir())
    makefile = "sum: part.c\n\tcp part.c sum\n"
    following = {**C, "Makefile": makefile, "part.c": "new", "src/a": "b"}
    third = workspace.build(ground.tree(following), baseline=candidate)
    assert set(Path("/usr").iterdir()) == before
    assert (third.path / "src" / "a").read_text() == "b"
    assert (third.path / "sum").read_text() == "new"


def test_no_link_that_a_build_leaves_is_followed(ground: Ground) -> None:
    victim = ground.root / "victim"
    (victim / "inner").mkdir(parents=True)
    (victim / "inner" / "kept").write_text("kept")
    (ground.source / "inputs" / "inner").mkdir(parents=True)
    makefile = f"all:\n\tmv inputs moved\n\tln -s {victim} inputs\n"
    workspace = ground.workspace("build: make", "data: [inputs/inner]")
    built = workspace.build(ground.tree({**C, "Makefile": makefile}))
    assert (victim / "inner" / "kept").read_text() == "kept"
    assert (built.path / "inputs").is_dir()
    assert not (built.path / "inputs").is_symlink()
    copy = fresh_copy(built.path, ground.root)
    (copy / "tests").rename(copy / "elsewhere")
    (copy / "tests").symlink_to(victim)
    (victim / "check.sh").write_text("kept")
    with pytest.raises(NotADirectoryError):
        refresh(copy, built.path)
    assert (victim / "check.sh").read_text() == "kept"


def test_a_build_that_leaves_too_much_fails(ground: Ground) -> None:
    workspace = ground.workspace("build: make", most_bytes=1 << 20)
    good = workspace.build(ground.tree(C))
    cases = {
        "all:\n\tfor i in 1 2 3; do head -c 400000 /dev/zero > part$$i; done\n": "size",
        "all:\n\thead -c 2000000 /dev/zero > part1\n": "exit",
        "all:\n\tfor i in $$(seq 150); do mkdir d && cd d || exit 1; done\n": "size",
        "all:\n\tpython3 -c \"import os; [(os.mkdir('d'), os.chdir('d')) for _ in range(1500)]\"\n": "size",
    }
    for makefile, outcome in cases.items():
        with pytest.raises(BuildFailedError) as failed:
            workspace.build(ground.tree({**C, "Makefile": makefile}), baseline=good)
        assert failed.value.outcome == outcome, makefile
    assert ground.left() == []


def test_tampering_is_noticed(ground: Ground) -> None:
    workspace = ground.workspace("build: make")
    built = workspace.build(ground.tree(C))
    places: list[Callable[[Path], object]] = [
        lambda root: (root / "sum").write_bytes((root / "sum").read_bytes()[:-1] + b"?"),
        lambda root: (root / "part.c").write_text("int part(void) { return 2; }\n"),
        lambda root: (root / "sitecustomize.py").write_text(""),
        lambda root: (root / "spare.c").unlink(),
        lambda root: (root / "spare.c").chmod(0o755),
    ]
    for tamper in places:
        copy = fresh_copy(built.path, ground.root)
        built.check(copy)
        tamper(copy)
        with pytest.raises(MachineError, match="no longer what was built"):
            built.check(copy)
    # In the store itself: names and sizes are looked at before a kept build is used, contents by `check`.
    (built.path / "spare.c").write_text("more")
    with pytest.raises(MachineError, match=r"spare\.c differs"):
        built.check()
    built.release()
    again = workspace.build(ground.tree(C))
    again.check()
    assert (again.path / "spare.c").read_text() == ""


def test_copies_are_fresh_and_can_be_given_new_pages(ground: Ground) -> None:
    workspace = ground.workspace("build: make")
    built = workspace.build(ground.tree(C))
    where = ground.root / "copies"
    where.mkdir()
    first, second = (fresh_copy(built.path, where) for _ in range(2))
    assert len(first.name) == len(second.name) == 16
    inodes = {(root / "sum").stat().st_ino for root in (built.path, first, second)}
    assert len(inodes) == 3
    mtime = (built.path / "sum").stat().st_mtime_ns
    with Sandbox(first, **workspace.sandbox_options("trial", built)) as sandbox:
        assert sandbox.run(["./sum"]).stdout == b"1\n"
        before = {path: (first / path).stat().st_ino for path in built.record.files}
        written = refresh(first, built.path)
        assert written == sum(item.size for item in built.record.files.values())
        assert all((first / path).stat().st_ino != before[path] for path in built.record.files)
        assert sandbox.run(["./sum"]).stdout == b"1\n"
    assert (first / "sum").stat().st_mtime_ns == mtime
    assert (first / "sum").stat().st_uid == (second / "sum").stat().st_uid
    built.check(first)
    (second / "sum").unlink()
    (second / "sum").mkdir()
    with pytest.raises(IsADirectoryError):
        refresh(second, built.path)
    # Neither leaves anything beside the copies.
    assert sorted(where.iterdir()) == sorted([first, second])


def test_inputs_and_further_paths_are_shown_read_only_to_every_gate(ground: Ground) -> None:
    (ground.source / "data").mkdir()
    (ground.source / "data" / "a").write_text("input")
    (ground.source / "one").write_text("single")
    shown = ground.root / "shown"
    shown.mkdir()
    (shown / "b").write_text("shown")
    build = f"build: sh -c 'cat data/a one {shown}/b > sum && ! (echo x > data/a) && env > variables'"
    workspace = ground.workspace(build, "data: [data, one]", f"sandbox: {{read: [{shown}]}}")
    built = workspace.build(ground.tree(C))
    assert (built.path / "sum").read_text() == "inputsingleshown"
    assert list((built.path / "data").iterdir()) == []
    assert set(built.record.artefacts) == {"sum", "variables"}
    assert output(workspace, built, "cat", "data/a", "one") == "inputsingle"
    variables = set((built.path / "variables").read_text().splitlines())
    trial = set(output(workspace, built, "sh", "-c", "env").splitlines())
    assert variables == trial
    assert {"CCACHE_DISABLE=1", "RUSTC_WRAPPER=", "HOME=/home/nightfleet"} <= variables
    assert workspace.sandbox_options("trial", built)["memory_bytes"] == 4 << 30
    (ground.source / "data" / "a").write_text("INPUT")
    with pytest.raises(UserError, match="data, one changed since this began"):
        workspace.build(ground.tree(C))
    with pytest.raises(UserError, match="data, one changed since this began"):
        workspace.sandbox_options("trial", built)
    with pytest.raises(UserError, match="data: none is not in"):
        ground.workspace("data: [none]")
    with pytest.raises(UserError, match="would show sandboxes what"):
        ground.workspace(f"sandbox: {{read: [{ground.source}]}}")
    with pytest.raises(UserError, match="is not there"):
        ground.workspace("sandbox: {read: [/nowhere/at/all]}")


def test_a_path_that_would_show_the_state_is_refused(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    (ground.source / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{ground.source}/bin:{os.environ['PATH']}")
    with pytest.raises(UserError, match="take it off PATH"):
        ground.workspace("build: make").build(ground.tree(C))


def test_set_up_runs_once_per_lock_file_and_never_for_a_candidate(ground: Ground) -> None:
    setup = "setup: sh -c 'cat Cargo.lock > fetched && date +%N >> fetched && echo x > part.c'"
    workspace = ground.workspace(setup, "build: cp fetched sum")
    files = {**C, "Cargo.lock": "one\n"}
    first = workspace.build(ground.tree(files))
    assert (first.path / "part.c").read_text() == C["part.c"]
    assert "fetched" not in first.record.artefacts
    second = workspace.build(ground.tree({**files, "part.c": "other"}))
    assert (second.path / "sum").read_text() == (first.path / "sum").read_text()
    candidate = workspace.build(ground.tree({**files, "Cargo.lock": "two\n"}), baseline=first)
    assert (candidate.path / "sum").read_text().startswith("one\n")
    assert first.provision is not None
    assert candidate.provision == first.provision
    assert len(list((ground.state / "setups").glob("*/record.json"))) == 1
    assert set(first.provision.files) == {"fetched"}
    third = workspace.build(ground.tree({**files, "Cargo.lock": "two\n"}))
    assert (third.path / "sum").read_text().startswith("two\n")


def test_who_waited_for_a_lock_makes_nothing_again(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, made = Store(open_ground / "store"), []

    def make(folder: Path) -> None:
        made.append(folder)

    for _ in range(2):
        store._make("key", make, Path.is_dir)
    assert len(made) == 1
    # What another made meanwhile and now uses, perhaps for hours, is not waited for.
    using = store.obtain("key", make, Path.is_dir)
    begun = time.monotonic()
    store._make("key", make, Path.is_dir)
    assert (len(made), time.monotonic() - begun < 2) == (1, True)
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.1)
    with pytest.raises(MachineError, match="damaged and in use"):
        store.obtain("key", make, lambda _: False)
    using.release()
    with pytest.raises(MachineError, match="changes under our hands"):
        store.obtain("key", make, lambda _: False)
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


def test_gc_removes_what_was_used_longest_ago_and_nothing_in_use(ground: Ground) -> None:
    workspace = ground.workspace("build: sh -c 'head -c 100000 /dev/zero > sum'")
    builds = [workspace.build(ground.tree({**C, "spare.c": str(number)})) for number in range(3)]
    paths = [built.path for built in builds]
    assert workspace.gc(0) == 0
    assert all(path.exists() for path in paths)
    # The second was begun before the first was used again.
    workspace.build(ground.tree({**C, "spare.c": "0"})).release()
    builds[0].release()
    builds[1].release()
    assert workspace.gc(250_000) > 100_000
    assert [path.exists() for path in paths] == [True, False, True]
    assert workspace.gc(0) > 100_000
    assert [path.exists() for path in paths] == [False, False, True]
    del builds[2], builds[:]
    assert workspace.gc(0) > 100_000
    assert not paths[2].exists()


NOBODY = 65_532
CHILD = """
import ctypes
import os
import sys
from pathlib import Path
from nightfleet.harness.arena import read_arena
from nightfleet.harness.copies import refresh
from nightfleet.harness.folder import Folder
from nightfleet.harness.frontmatter import read_front_matter
from nightfleet.harness.workspace import Workspace
state, source, program, tree, *user = sys.argv[1:]
if user:  # only now, because the interpreter itself may lie where they cannot read
    os.setgroups([])
    os.setresgid(*3 * [int(user[0])])
    os.setresuid(*3 * [int(user[0])])
    os.environ["HOME"] = source
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, which a program that began as this user has
arena, _ = read_arena(read_front_matter(Path(program).read_text()).section)
print(Workspace(Path(state), arena, Path(source), most_bytes=1 << 30).build(Folder(Path(tree)).tree()).path)
"""


def child(ground: Ground, tree: Path, *lines: str, user: int | None = None) -> subprocess.Popen[str]:
    program = ground.root / "program.md"
    program.write_text(PROGRAM.format(more="\n".join(lines)))
    command = [sys.executable, "-c", CHILD, str(ground.state), str(ground.source), str(program), str(tree)]
    if user is not None:
        command.append(str(user))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; without root every test is this one")
def test_an_ordinary_user_builds_as_well(ground: Ground) -> None:
    shut = "linked >> journal\n\tmkdir -p shut/in && chmod 0 shut/in shut sum\n"
    ground.tree({**C, "Makefile": MAKEFILE.replace("linked >> journal\n", shut)})
    for folder, _, _ in os.walk(ground.root):
        os.chown(folder, NOBODY, NOBODY)
    process = child(ground, ground.root / "tree-1", "build: make", user=NOBODY)
    path = Path(process.communicate()[0].strip())
    assert process.returncode == 0
    assert {(path / name).stat().st_uid for name in ("sum", "shut/in", "main.c")} == {NOBODY}
    assert stat.S_IMODE((path / "shut" / "in").stat().st_mode) == 0o755
    assert ground.left() == []


def test_a_killed_build_leaves_nothing_half(ground: Ground) -> None:
    ground.tree(C)
    lines = ("build: sh -c 'echo half > sum; [ -e /nowhere ] || sleep 2; echo whole > sum'",)
    process = child(ground, ground.root / "tree-1", *lines)
    deadline = time.monotonic() + 30
    while not any(ground.state.glob("builds/*.making/tree/sum")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path for path in (ground.state / "builds").iterdir() if path.suffix == ""] == []
    assert len(ground.left()) == 1
    built = ground.workspace(*lines).build(Folder(ground.root / "tree-1").tree())
    assert (built.path / "sum").read_text() == "whole\n"
    assert ground.left() == []


def test_two_processes_that_want_the_same_build_it_once(ground: Ground) -> None:
    ground.tree(C)
    lines = ("build: sh -c 'date +%N > sum; sleep 0.5'",)
    processes = [child(ground, ground.root / "tree-1", *lines) for _ in range(2)]
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (path,) = paths
    first = (Path(path) / "sum").read_text()
    assert (ground.workspace(*lines).build(Folder(ground.root / "tree-1").tree()).path / "sum").read_text() == first
    logs = [place.read_text() for place in ground.state.glob("builds/*/log")]
    assert len(logs) == 1
