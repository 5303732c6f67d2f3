"""Trees from repositories and folders, hostile ones included, and what of a candidate gets into the judged tree."""

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfleet.harness import overlay as gate
from nightfleet.harness.folder import Folder, find_tree
from nightfleet.harness.manifests import manifest_findings
from nightfleet.harness.overlay import Overlay, overlay
from nightfleet.harness.repository import Repository
from nightfleet.harness.scope import Scope, is_git_name, is_repository, look_alikes, path_problem, read_patterns
from nightfleet.harness.tree import MTIME_S, Entry, Tree, export, printable
from nightfleet.native import UserError

AUTHOR = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
QUIET = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"], **AUTHOR}
FILES: Mapping[str, bytes] = {
    "program.md": b"---\n---\n",
    "src/main.rs": b"fn main() {}\r\n",
    "src/deep/er.rs": "// ß\n".encode(),
    "tests/check.sh": b"#!/bin/sh\n",
    ".gitignore": b"target\n",
    "data.bin": b"\0\xff",
    "with space and ünicode": b"",
}


def git(repository: Path, *arguments: str, stdin: bytes = b"", **environment: str) -> bytes:
    return subprocess.run(
        ["git", "-C", repository, *arguments],
        input=stdin,
        timeout=30,
        capture_output=True,
        check=True,
        env={**QUIET, **environment},
    ).stdout


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def commit(repository: Path, files: Mapping[str, bytes] = {}, message: str = "c") -> str:
    write(repository, files)
    git(repository, "add", "--all", "--force")
    git(repository, "commit", "--allow-empty", "--quiet", "-m", message)
    return git(repository, "rev-parse", "HEAD").decode().strip()


def commit_raw(repository: Path, entries: list[tuple[str, str, bytes]]) -> str:
    """A commit that no work tree could have made: (mode, kind or object, name)."""
    lines = []
    for mode, what, name in entries:
        kind = {"160000": "commit", "040000": "tree"}.get(mode, "blob")
        oid = what if len(what) == 40 else git(repository, "hash-object", "-w", "--stdin", stdin=what.encode()).decode()
        lines.append(f"{mode} {kind} {oid.strip()}\t".encode() + name + b"\0")
    tree = git(repository, "mktree", "-z", "--missing", stdin=b"".join(lines)).decode().strip()
    return git(repository, "commit-tree", tree, "-m", "raw").decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    commit(path, FILES)
    (path / "tests/check.sh").chmod(0o755)
    commit(path)
    return path


def exported(tree: Tree, target: Path) -> dict[str, bytes]:
    export(tree, target)
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def fingerprint(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything that a write would change: names, modes, times and contents."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def test_an_export_is_the_commit(repository: Path, tmp_path: Path) -> None:
    found, inside = Repository.find(repository)
    assert inside == ""
    tree = found.tree("main")
    assert exported(tree, tmp_path / "out") == dict(FILES)
    modes = {name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in FILES}
    assert modes == dict.fromkeys(FILES, 0o644) | {"tests/check.sh": 0o755}
    assert {int(path.stat().st_mtime) for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]} == {MTIME_S}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_dir()} == {0o755}
    with pytest.raises(UserError, match="is not empty"):
        export(tree, tmp_path / "out")


def test_changed_files_can_be_newer_than_a_copied_build(repository: Path, tmp_path: Path) -> None:
    tree = Repository.find(repository)[0].tree("main")
    export(tree, tmp_path / "out", changed={"src/main.rs"}, changed_mtime_s=MTIME_S + 9)
    assert (tmp_path / "out/src/main.rs").stat().st_mtime == MTIME_S + 9
    assert (tmp_path / "out/src/deep/er.rs").stat().st_mtime == MTIME_S


def test_a_dirty_tree_is_not_seen(repository: Path, tmp_path: Path) -> None:
    write(repository, {"src/main.rs": b"dirty", "untracked": b"x"})
    assert exported(Repository.find(repository)[0].tree("HEAD"), tmp_path / "out") == dict(FILES)


def test_revisions(repository: Path) -> None:
    found = Repository(repository / ".git")
    head = git(repository, "rev-parse", "HEAD").decode().strip()
    git(repository, "tag", "-a", "v1", "-m", "annotated")
    assert found.resolve("main") == found.resolve("v1") == found.resolve(head[:10]) == found.resolve("HEAD") == head
    assert found.resolve("HEAD~1") == git(repository, "rev-parse", "HEAD~1").decode().strip()
    for nonsense in ("--help", "--output=x", "nope", "HEAD:src", "HEAD^{tree}", "-", ":/"):
        with pytest.raises(UserError, match="there is no commit"):
            found.resolve(nonsense)
    for unprintable in ("", "HEAD\nmain", "\x1b[31m", "x" * 2000):
        with pytest.raises(UserError, match="is not a revision"):
            found.resolve(unprintable)


def test_an_arena_in_a_subfolder(repository: Path, tmp_path: Path) -> None:
    found, inside = Repository.find(repository / "src/deep")
    assert inside == "src/deep"
    assert exported(found.tree("main", inside), tmp_path / "deep") == {"er.rs": FILES["src/deep/er.rs"]}
    assert exported(found.tree("main", "src"), tmp_path / "src").keys() == {"main.rs", "deep/er.rs"}
    for nowhere in ("nope", "src/main.rs"):
        with pytest.raises(UserError, match="has no folder"):
            found.tree("main", nowhere)
    with pytest.raises(UserError, match="leads out"):
        found.tree("main", "../x")


def test_where_repositories_are(repository: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "--quiet", str(linked), "-b", "other")
    found, inside = Repository.find(linked / "src")
    assert (inside, found.resolve("other")) == ("src", Repository.find(repository)[0].resolve("main"))
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(bare))
    assert Repository(bare).tree("main").digest == found.tree("main").digest
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"is in no git repository; type 'git init"):
        Repository.find(tmp_path / "none")
    write(tmp_path / "fake", {".git": b"#!/bin/sh\n"})
    with pytest.raises(UserError, match="not one that git made"):
        Repository.find(tmp_path / "fake")
    with pytest.raises(UserError, match="has no HEAD"):
        Repository(tmp_path / "none")


def evil_script(folder: Path) -> tuple[Path, Path]:
    """A program that leaves a mark, and the mark."""
    mark = folder / "mark"
    script = folder / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n", encoding="utf-8")
    script.chmod(0o755)
    return script, mark


@pytest.fixture
def hostile(repository: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A repository whose configuration, attributes, hooks and replacements all try to have a say."""
    script, mark = evil_script(tmp_path)
    attributes = b"* filter=evil diff=evil export-subst\nsrc/** export-ignore\n"
    commit(repository, {".gitattributes": attributes, "subst": b"$Format:%H$\n"})
    (repository / ".git/evil.config").write_text(
        f"[core]\n\tfsmonitor = {script}\n\tpager = {script}\n", encoding="utf-8"
    )
    for key, value in {
        "include.path": "evil.config",
        "filter.evil.smudge": str(script),
        "filter.evil.clean": str(script),
        "diff.evil.textconv": str(script),
        "diff.external": str(script),
        "core.sshCommand": str(script),
        "core.alternateRefsCommand": str(script),
        "alias.ls-tree": f"!{script}",
        "alias.cat-file": f"!{script}",
        "core.worktree": str(tmp_path / "elsewhere"),
    }.items():
        git(repository, "--work-tree=.", "config", key, value)
    blob = git(repository, "--work-tree=.", "rev-parse", "main:src/main.rs").decode().strip()
    other = git(
        repository, "--work-tree=.", "hash-object", "-w", "--stdin", "--no-filters", stdin=b"replaced!"
    ).decode()
    git(repository, "--work-tree=.", "update-ref", f"refs/replace/{blob}", other.strip())
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"):
        (repository / ".git/hooks").mkdir(exist_ok=True)
        (repository / ".git/hooks" / hook).symlink_to(script)
    mark.unlink(missing_ok=True)
    return repository, mark


def test_a_hostile_repository_says_nothing_and_runs_nothing(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    repository, mark = hostile
    before = fingerprint(repository)
    found, _ = Repository.find(repository)
    files = exported(found.tree("main"), tmp_path / "out")
    assert {name: files[name] for name in FILES} == dict(FILES)
    assert files["subst"] == b"$Format:%H$\n"
    assert not mark.exists()
    assert fingerprint(repository) == before


def test_the_hostile_repository_is_hostile(hostile: tuple[Path, Path]) -> None:
    """Every trap of the fixture springs on someone less careful."""
    repository, mark = hostile
    archive = git(repository, "archive", "main")
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        names = members.getnames()
        assert "src/main.rs" not in names
        subst = members.extractfile("subst")
        assert subst is not None
        assert b"$Format" not in subst.read()
    mark.unlink(missing_ok=True)
    subprocess.run(["git", "--work-tree=.", "status"], cwd=repository, env=QUIET, check=False, capture_output=True)
    assert mark.exists(), "fsmonitor did not run"
    assert git(repository, "cat-file", "blob", "main:src/main.rs") == b"replaced!"


def test_the_environment_says_nothing_either(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, mark = evil_script(tmp_path)
    for name, value in {
        "GIT_DIR": str(tmp_path / "nowhere"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "nowhere"),
        "GIT_INDEX_FILE": "/dev/null",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(script),
        "GIT_EXTERNAL_DIFF": str(script),
        "GIT_TRACE": str(tmp_path / "trace"),
        "GIT_EXEC_PATH": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    found = Repository(repository / ".git")
    assert exported(found.tree("main"), tmp_path / "out") == dict(FILES)
    assert not mark.exists()
    assert not (tmp_path / "trace").exists()


def test_what_is_missing_is_not_fetched(repository: Path, tmp_path: Path) -> None:
    script, mark = evil_script(tmp_path)
    blob = git(repository, "rev-parse", "main:src/main.rs").decode().strip()
    found = Repository(repository / ".git")
    for key, value in {
        "remote.evil.url": f"ext::{script}",
        "remote.evil.promisor": "true",
        "remote.evil.partialclonefilter": "blob:none",
        "protocol.ext.allow": "always",
        "extensions.partialClone": "evil",
        "core.repositoryFormatVersion": "1",
    }.items():
        git(repository, "config", key, value)
    entry = found.tree("main").entries["src/main.rs"]
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UserError, match=r"src/main\.rs: git has no contents.*partial clone"):
        list(found.read([entry]))
    assert not mark.exists()
    subprocess.run(["git", "cat-file", "blob", blob], cwd=repository, env=QUIET, check=False, capture_output=True)
    assert mark.exists(), "nobody would have fetched, so this test shows nothing"


def test_links_and_submodules_are_left_out(repository: Path, tmp_path: Path) -> None:
    (repository / "out").symlink_to("/etc")
    (repository / "src/passwd").symlink_to("/etc/passwd")
    commit(repository)
    head = git(repository, "rev-parse", "HEAD").decode().strip()
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},vendored")
    git(repository, "commit", "--quiet", "-m", "submodule")
    tree = Repository.find(repository)[0].tree("main")
    assert tree.left_out == {"out": "is a link", "src/passwd": "is a link", "vendored": "is a submodule"}
    assert exported(tree, tmp_path / "o") == dict(FILES)
    with pytest.raises(UserError, match="has no file src/passwd"):
        tree.read("src/passwd")
    assert tree.read("src/main.rs") == FILES["src/main.rs"]


def test_names_that_no_file_of_ours_has(repository: Path, tmp_path: Path) -> None:
    names = [b"ok", b"\xff\xfe", b"a\nb", b"e\xe2\x80\xaefdp", b".GIT", b"git~1", ".g\u200cit".encode()]
    raw = commit_raw(repository, [("100644", "x", name) for name in names])
    tree = Repository.find(repository)[0].tree(raw)
    assert len(tree.entries) == len(names)
    assert exported(tree, tmp_path / "o") == {"ok": b"x"}
    assert sorted(tree.left_out.values()) == sorted(
        [
            "is not UTF-8",
            *["contains control or invisible characters"] * 3,
            *["could be taken for a git repository"] * 2,
        ]
    )


def test_a_malformed_tree_is_refused(repository: Path) -> None:
    blob = git(repository, "rev-parse", "main:data.bin").decode().strip()
    row = b"100644 twice\0" + bytes.fromhex(blob)
    tree = (
        git(repository, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=row + row).decode().strip()
    )
    twice = git(repository, "commit-tree", tree, "-m", "x").decode().strip()
    with pytest.raises(UserError, match="malformed: twice stands in it twice"):
        Repository.find(repository)[0].tree(twice)
    row = b"100644 ..\0" + bytes.fromhex(blob)
    tree = git(repository, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=row).decode().strip()
    outside = git(repository, "commit-tree", tree, "-m", "x").decode().strip()
    assert Repository.find(repository)[0].tree(outside).left_out == {"..": "leads out by '..'"}


def test_a_folder_is_taken_without_following_anything(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, {**FILES, ".git/config": b"x", "sub/.git": b"gitdir: /x", ".nightfleet/ledger.sqlite": b"x"})
    (folder / "tests/check.sh").chmod(0o755)
    (folder / "out").symlink_to("/etc")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe")
    tree = Folder(folder).tree()
    assert tree.left_out == {"out": "is a link", "loop": "is a link", "pipe": "is no regular file"}
    assert exported(tree, tmp_path / "o") == dict(FILES)
    with pytest.raises(UserError, match="there is no folder"):
        Folder(tmp_path / "none")


def test_a_folder_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, {"a/b": b"one", "c": b"two"})
    tree = Folder(folder).tree()
    (folder / "c").write_bytes(b"too")
    with pytest.raises(UserError, match="c changed while it was read"):
        export(tree, tmp_path / "1")
    (folder / "c").write_bytes(b"two")
    (folder / "a").rename(folder / "z")
    (folder / "a").symlink_to("z")
    with pytest.raises(UserError, match="cannot be read"):
        export(tree, tmp_path / "2")


def test_a_tree_by_what_people_type(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = Repository.find(repository)
    monkeypatch.chdir(repository)
    assert find_tree("main", found).name == found.resolve("main")
    assert find_tree("./src", found).name == str(repository / "src")
    assert find_tree("src", None).name == find_tree("src", found).name == str(repository / "src")
    git(repository, "branch", "src")
    with pytest.raises(UserError, match=r"type './src' for the folder"):
        find_tree("src", found)
    with pytest.raises(UserError, match="there is no commit 'nope'"):
        find_tree("nope", found)


def test_limits_of_a_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "f", {"a": b"123", "b": b"456"})
    for room in ("tree", "folder"):
        monkeypatch.setattr(f"nightfleet.harness.{room}.MOST_BYTES", 6)
    Folder(tmp_path / "f").tree()
    monkeypatch.setattr("nightfleet.harness.tree.MOST_BYTES", 5)
    with pytest.raises(UserError, match=r"at most 200000 files and 5 bytes; this one has 2 and 6"):
        Folder(tmp_path / "f").tree()
    monkeypatch.setattr("nightfleet.harness.folder.MOST_FILES", 1)
    with pytest.raises(UserError, match="more than 1 files"):
        Folder(tmp_path / "f").tree()


SCOPE = Scope(read_patterns(["src/**/*.rs", "src/**", "Cargo.toml", "**/*.md", ".g*/**"]))
BASE: Mapping[str, bytes] = {
    "program.md": b"---\n---\n",
    "src/main.rs": b"fn main() {}\n",
    "src/old.rs": b"// old\n",
    "tests/check.sh": b"exit 1\n",
    "Cargo.toml": b'[package]\nname = "x"\n[dependencies]\nserde = "1"\n',
}


class Memory:
    """A tree without a disk: contents stand in for their own ids."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def tree(self, name: str = "memory", kinds: Mapping[str, str] = {}) -> Tree:
        return Tree(
            name,
            {
                path: Entry(path, kinds.get(path, "file"), f"git:{data!r}", len(data), self)  # type: ignore[arg-type]
                for path, data in self.files.items()
            },
        )

    def read(self, entries: object) -> Iterator[bytes]:
        assert hasattr(entries, "__iter__")
        yield from (self.files[entry.path] for entry in entries)


def judged(changes: Mapping[str, bytes | None], scope: Scope = SCOPE, kinds: Mapping[str, str] = {}) -> Overlay:
    after = {path: data for path, data in {**BASE, **changes}.items() if data is not None}
    return overlay(Memory(BASE).tree(), Memory(after).tree("candidate", kinds), scope)


def objections(changes: Mapping[str, bytes | None], scope: Scope = SCOPE, kinds: Mapping[str, str] = {}) -> str:
    result = judged(changes, scope, kinds)
    assert (result.tree is None) == bool(result.objections)
    return "\n".join(objection.text for objection in result.objections)


def test_changes_in_scope_are_laid_over_the_baseline(tmp_path: Path) -> None:
    changes = {"src/main.rs": b"fn main() { faster() }\n", "src/new.rs": b"//\n", "src/old.rs": None}
    result = judged(changes)
    assert result.objections == ()
    assert result.changed == ("src/main.rs", "src/new.rs", "src/old.rs")
    assert result.tree is not None
    assert exported(result.tree, tmp_path / "o") == {
        "program.md": BASE["program.md"],
        "src/main.rs": changes["src/main.rs"],
        "src/new.rs": b"//\n",
        "tests/check.sh": BASE["tests/check.sh"],
        "Cargo.toml": BASE["Cargo.toml"],
    }
    nothing = judged({})
    assert (nothing.changed, nothing.objections) == ((), ())
    assert nothing.tree is not None
    assert nothing.tree.digest == Memory(BASE).tree().digest != result.tree.digest


OUT: list[tuple[dict[str, bytes | None], str]] = [
    ({"tests/check.sh": b"exit 0\n"}, "tests/check.sh: is frozen: edit names only"),
    ({"tests/check.sh": None}, "tests/check.sh: is frozen"),
    ({"tests/new.sh": b""}, "tests/new.sh: is frozen"),
    # `edit` matches the next ones; frozen wins.
    ({"program.md": b"x"}, "program.md: is frozen: program.md is the contract itself"),
    ({"src/.gitattributes": b"* filter=x"}, "src/.gitattributes: is frozen: names that git"),
    ({".git/config": b"x"}, ".git/config: is frozen"),
    ({".gitmodules": b"x"}, ".gitmodules: is frozen"),
    ({"src/.GIT/x.rs": b"x"}, "src/.GIT/x.rs: is frozen"),
    ({"src/git~1/x.rs": b"x"}, "is frozen"),
    ({"src/.nightfleet/x.rs": b"x"}, "is frozen"),
    ({"src/../tests/check.sh": b"x"}, "leads out by '..'"),
    ({"src/a\x1b[31m.rs": b"x"}, r"src/a\x1b[31m.rs: contains control or invisible"),
    ({"src/a\u202e.rs": b"x"}, r"src/a\u202e.rs: contains control or invisible"),
    ({"src/\udcff.rs": b"x"}, r"src/\udcff.rs: is not UTF-8"),
    ({"src/Main.rs": b"x"}, "src/Main.rs: differs only in case or Unicode form: src/Main.rs, src/main.rs"),
    ({"src/\u00e9.rs": b"x", "src/e\u0301.rs": b"y"}, "differs only in case or Unicode form"),
    ({"src/Sub/a.rs": b"x", "src/sub/b.rs": b"y"}, "differs only in case or Unicode form: src/Sub, src/sub"),
    ({"src/main.rs/x.rs": b"x"}, "src/main.rs/x.rs: lies below src/main.rs, which is a file"),
    ({"src/a.rs": b"\0"}, "src/a.rs: is binary"),
    ({"src/a.rs": b"\xff\xfe"}, "src/a.rs: is binary"),
    ({"src/a.rs": b"x" * (gate.FILE_BYTES + 1)}, "has 1048577 bytes; the limit for a changed file is 1048576"),
    ({f"src/{n}.rs": b"x" * gate.FILE_BYTES for n in range(9)}, "changes files of 9437184 bytes in all; the limit is"),
    ({f"src/{n}.rs": b"" for n in range(1001)}, "changes 1001 files; the limit is 1000"),
    ({"src/" + "d/" * 600 + "a.rs": b""}, "has more than 1024 bytes"),
    ({"Cargo.toml": BASE["Cargo.toml"] + b'rand = "1"\n'}, "has a new dependency 'dependencies.rand' (the arena may"),
    ({"src/build.rs": b""}, "src/build.rs: is a file that tools run or obey by its name"),
]


@pytest.mark.parametrize(("changes", "says"), OUT, ids=[says[:30] for _, says in OUT])
def test_changes_out_of_scope(changes: dict[str, bytes | None], says: str) -> None:
    assert says in objections(changes)


@pytest.mark.parametrize("kind", ["link", "submodule", "other"])
def test_only_regular_files_come_from_a_candidate(kind: str) -> None:
    assert "is a" in objections({"src/new.rs": b"/etc/passwd"}, kinds={"src/new.rs": kind}) or kind == "other"
    assert "src/main.rs: is" in objections({"src/main.rs": b"x"}, kinds={"src/main.rs": kind})
    # The same contents, another kind.
    assert "src/main.rs: is" in objections({}, kinds={"src/main.rs": kind})


def test_what_was_left_out_of_the_baseline_stays_as_it_was() -> None:
    base = Memory(BASE).tree(kinds={"src/old.rs": "link"})
    same = overlay(base, Memory(BASE).tree(kinds={"src/old.rs": "link"}), SCOPE)
    assert same.objections == ()
    replaced = overlay(base, Memory(BASE).tree(), SCOPE)
    assert [objection.why for objection in replaced.objections] == [
        "is a link in the baseline, which nobody may change"
    ]


def test_look_alikes_of_the_baseline_itself_are_its_own_affair() -> None:
    base = Memory({**BASE, "src/xt_A.c": b"1", "src/xt_a.c": b"2"})
    changed = Memory({**base.files, "src/main.rs": b"//\n"})
    assert overlay(base.tree(), changed.tree(), SCOPE).objections == ()
    worse = Memory({**base.files, "src/XT_A.c": b"3"})
    assert overlay(base.tree(), worse.tree(), SCOPE).objections


def test_the_executable_bit_is_a_change() -> None:
    assert judged({}, kinds={"src/main.rs": "executable"}).changed == ("src/main.rs",)
    assert "is frozen" in objections({}, kinds={"tests/check.sh": "executable"})


def test_a_commit_against_a_folder(repository: Path, tmp_path: Path) -> None:
    found, _ = Repository.find(repository)
    folder = tmp_path / "candidate"
    write(folder, {**FILES, "src/main.rs": b"fn main() {} "})
    (folder / "tests/check.sh").chmod(0o755)
    result = overlay(found.tree("main"), Folder(folder).tree(), SCOPE)
    assert (result.changed, result.objections) == (("src/main.rs",), ())
    write(folder, {"src/main.rs": FILES["src/main.rs"]})
    assert overlay(found.tree("main"), Folder(folder).tree(), SCOPE).changed == ()
    write(folder, {"src/main.rs": FILES["src/main.rs"].replace(b"{", b"(")})
    assert overlay(found.tree("main"), Folder(folder).tree(), SCOPE).changed == ("src/main.rs",)
    commit(repository, {"src/main.rs": b"one\n", "src/zz.rs": b"two\n"})
    both = overlay(found.tree("main~1"), found.tree("main"), SCOPE)
    assert both.changed == ("src/main.rs", "src/zz.rs")
    assert both.tree is not None
    assert exported(both.tree, tmp_path / "o")["src/zz.rs"] == b"two\n"


CARGO = b'[package]\nname = "x"\n[dependencies]\nserde = "1"\n'
FINDINGS: list[tuple[str, bytes | None, bytes | None, set[str]]] = [
    ("Cargo.toml", CARGO, CARGO + b"[profile.release]\nlto = true\ncodegen-units = 1\n", set()),
    (
        "Cargo.toml",
        CARGO,
        CARGO.replace(b'"1"', b'{version = "1", features = ["simd"], default-features = false}'),
        set(),
    ),
    ("Cargo.toml", CARGO, CARGO.replace(b'serde = "1"', b""), set()),
    ("Cargo.toml", CARGO, CARGO.replace(b'"1"', b'"2"'), {"dependencies"}),
    ("Cargo.toml", CARGO, CARGO.replace(b'"1"', b'{git = "https://x"}'), {"dependencies"}),
    ("Cargo.toml", CARGO, CARGO + b'[build-dependencies]\ncc = "1"\n', {"dependencies"}),
    ("Cargo.toml", CARGO, CARGO + b'[target."cfg(unix)".dependencies]\nlibc = "0"\n', {"dependencies"}),
    ("Cargo.toml", CARGO, CARGO + b'[build_dependencies]\ncc = "1"\n', {"dependencies"}),
    ("Cargo.toml", CARGO, CARGO + b'[workspace.dependencies]\nlibc = "0"\n', {"dependencies"}),
    ("Cargo.toml", CARGO, CARGO + b'x = {path = "../x"}\n', {"dependencies", "outside_paths"}),
    ("a/Cargo.toml", CARGO, CARGO + b'[[bin]]\nname = "x"\npath = "../src/x.rs"\n', set()),
    ("Cargo.toml", CARGO, CARGO + b'[lib]\npath = "/etc/x.rs"\n', {"outside_paths"}),
    ("Cargo.toml", CARGO, CARGO + b'[workspace]\nmembers = ["../../x"]\n', {"outside_paths"}),
    ("Cargo.toml", CARGO, CARGO.replace(b"\n[dep", b'\nbuild = "b.rs"\n[dep'), {"build_scripts"}),
    ("Cargo.toml", CARGO, CARGO.replace(b"\n[dep", b"\nbuild = false\n[dep"), set()),
    ("Cargo.toml", CARGO, CARGO + b"[lib]\nproc-macro = true\n", {"build_scripts"}),
    ("Cargo.toml", CARGO, CARGO + b'[patch.crates-io]\nserde = {path = "s"}\n', {"patches"}),
    ("Cargo.toml", CARGO, b"[package", {"build_scripts"}),
    ("Cargo.toml", b"[broken", CARGO, {"dependencies"}),
    ("Cargo.toml", CARGO, None, set()),
    ("Cargo.lock", b"a", b"b", {"dependencies"}),
    (".cargo/config.toml", b"", b'[build]\nrustflags = ["-Ctarget-cpu=native"]\n', set()),
    (".cargo/config.toml", None, b'[build]\nrustc-wrapper = "x"\n', {"build_scripts"}),
    (".cargo/config.toml", b"", b'[target.x]\nrunner = "x"\nrustflags = []\n', {"build_scripts"}),
    ("package.json", b'{"name": "a"}', b'{"name": "a", "type": "module"}', set()),
    ("package.json", b"{}", b'{"scripts": {"postinstall": "x"}}', {"build_scripts"}),
    ("package.json", b"{}", b'{"dependencies": {"x": "file:../../x"}}', {"dependencies", "outside_paths"}),
    ("package.json", b"{}", b'{"overrides": {"x": "1"}}', {"patches"}),
    ("package.json", b"{}", b'{"scripts": {}, "scripts": {}}', {"build_scripts"}),
    ("package.json", b"{}", b"[" * 100_000, {"build_scripts"}),
    ("pyproject.toml", b"", b'[project]\ndescription = "x"\n', set()),
    ("pyproject.toml", b"", b'[project]\ndependencies = ["x"]\n', {"dependencies"}),
    ("pyproject.toml", b"", b'[build-system]\nrequires = ["x"]\n', {"build_scripts"}),
    ("pyproject.toml", b"", b'[tool.pytest.ini_options]\naddopts = "--co"\n', {"build_scripts"}),
    ("src/conftest.py", None, b"", {"build_scripts"}),
    ("src/conftest.py", b"", b"x", {"build_scripts"}),
    ("lib/x.pth", None, b"import os", {"build_scripts"}),
    ("requirements-dev.txt", b"a", b"b", {"dependencies"}),
    ("src/main.py", b"a", b"b", set()),
]


@pytest.mark.parametrize(("path", "before", "after", "kinds"), FINDINGS)
def test_manifest_findings(path: str, before: bytes | None, after: bytes | None, kinds: set[str]) -> None:
    assert {kind for kind, _ in manifest_findings(path, before, after)} == kinds


def test_a_file_that_edit_names_was_meant() -> None:
    assert manifest_findings("build.rs", b"a", b"b", named=True) == []
    assert manifest_findings("build.rs", None, b"b", named=True) != []
    scope = Scope(("Cargo.toml", "build.rs"), allow=frozenset({"dependencies"}))
    assert objections({"Cargo.toml": BASE["Cargo.toml"] + b'rand = "1"\n'}, scope) == ""
    assert "build.rs: is a file that tools run" in objections({"build.rs": b""}, scope)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("src/**/*.rs", ["src/a.rs", "src/b/c/a.rs", "src/.a.rs"], ["a.rs", "src/a.rsx", "xsrc/a.rs", "src/a/b.py"]),
        ("src/**", ["src/a", "src/a/b"], ["src", "srcs/a"]),
        ("**", ["a", "a/b"], [""]),
        ("*.rs", ["a.rs", ".rs"], ["b/a.rs"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("a[b-d].x", ["ab.x", "ac.x"], ["ae.x", "a[b-d].x"]),
        ("a[^b]", ["a^", "ab"], ["ac"]),
        ("a+(b)|c.$", ["a+(b)|c.$"], ["aab"]),
        ("**/x/*", ["x/a", "a/b/x/c"], ["x", "a/x/b/c"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    scope = Scope(read_patterns(pattern))
    assert [path for path in yes if not scope.matches(path)] == []
    assert [path for path in no if scope.matches(path)] == []


@given(st.text("ab/.*-[", min_size=1, max_size=12))
def test_every_accepted_pattern_is_a_pattern(text: str) -> None:
    try:
        patterns = read_patterns(text)
    except ValueError:
        return
    assert all(Scope(patterns).frozen_because(path) for path in ("program.md", ".git/config", "a/.gitmodules"))


def test_frozen_wins_over_editable() -> None:
    scope = Scope(("**",), frozenset({"inputs.txt"}))
    assert scope.frozen_because("inputs.txt") == "the arena depends on it"
    assert scope.frozen_because("input.txt") is None


def test_git_by_any_other_name() -> None:
    names = [".git", ".GIT", ".Git", ".git.", ".git ", ".g\u200cit", "git~1", "GIT~2", ".git:x", "\uff0egit"]
    assert [name for name in names if not is_repository(name) or not is_git_name(name)] == []
    assert [name for name in (".gitignore", ".gitmodules", ".github", ".GITattributes") if not is_git_name(name)] == []
    assert not any(is_repository(name) for name in (".gitignore", ".github", "git", "legit", "dot.git"))


@given(st.text(max_size=20))
def test_a_path_without_problem_stays_inside(path: str) -> None:
    if path_problem(path) is None:
        assert os.path.normpath(f"/top/{path}").startswith("/top/")
        assert "\n" not in printable(path)
    assert printable(path).isprintable()


@given(st.lists(st.text("aAéÉ/", min_size=1), max_size=6))
def test_look_alikes_are_what_a_careless_file_system_merges(paths: list[str]) -> None:
    for group in look_alikes(paths):
        assert len({name.casefold() for name in group}) == 1
        assert len(group) > 1
