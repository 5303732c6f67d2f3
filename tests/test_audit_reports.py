"""Reports listed, found, shown, told apart, exported: what people and scripts see of `nightfleet audit`."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paperwork import content_of, edit, seal, two_reports
from tiny import HALF, Tiny

from nightfleet.harness.audit import bundle
from nightfleet.harness.audit.papers import ContradictionError, Papers
from nightfleet.harness.audit.shelf import Shelf
from nightfleet.native import UserError
from nightfleet.orchestrator.commands import edge

MANY = 2000


@pytest.fixture(scope="module")
def judged() -> Iterator[Tiny]:
    with two_reports() as tiny:
        yield tiny


@pytest.fixture
def tiny(judged: Tiny, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    monkeypatch.chdir(judged.root)
    return judged


@pytest.fixture
def promotion(tiny: Tiny) -> Path:
    return with_verdict(tiny, "promote")


@pytest.fixture
def other(tiny: Tiny) -> Path:
    return with_verdict(tiny, "incorrect")


def with_verdict(tiny: Tiny, verdict: str) -> Path:
    return next(
        path for path in (tiny.state / "reports").iterdir() if content_of(path)["verification"]["verdict"] == verdict
    )


def audit(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ending:
        edge.main(["audit", *map(str, arguments)])
    assert ending.value.code == code


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    audit(*arguments, "--json", code=code)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("tiny")
def test_the_newest_come_first_by_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "list")
    assert found["of"] == 2
    assert [one["verdict"] for one in found["reports"]] == ["incorrect", "promote"]
    assert found["reports"][1]["cases"] == 400
    assert 0.1 < found["reports"][1]["gain"] < 0.14
    audit("list", "--limit", "1")
    shown = capsys.readouterr().out
    assert "incorrect" in shown
    assert "the newest 1 of 2" in shown


def test_thousands_are_listed_without_their_digests(
    promotion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (promotion / "report.json").read_text()
    reports = tmp_path / ".nightfleet" / "reports"
    for number in range(MANY):
        folder = reports / f"v20261120-{number:06}-abcdef"
        folder.mkdir(parents=True)
        # No array lies there: whoever looked for one would fail.
        (folder / "report.json").write_text(text)
    (reports / "v20261120-000005-abcdef" / "report.json").write_text(text[:-200])
    (reports / "v20261120-000006-abcdef" / "report.json").unlink()
    (reports / "v20261120-000007-abcdef" / "report.json").write_text('{"format": 7}')
    monkeypatch.chdir(tmp_path)
    found = answer(capsys, "list")
    assert found["of"] == MANY
    assert [one["id"] for one in found["reports"]] == [f"v20261120-{MANY - 1 - k:06}-abcdef" for k in range(20)]
    everything = answer(capsys, "list", "--all")["reports"]
    assert len(everything) == MANY
    problems = {one["id"][10:16]: one["problem"] for one in everything if one["problem"]}
    assert problems == {
        "000005": "report.json is damaged",
        "000006": "no report.json: its writing was cut short",
        "000007": "format 7; this version reads 3",
    }


def test_nothing_to_list_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    audit("list")
    assert "`nightfleet verify main my-branch` writes one" in capsys.readouterr().out
    audit("show", "latest", code=2)
    assert "`nightfleet verify main my-branch` first" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_report_is_found_by_what_no_other_has(
    promotion: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (promotion.name, promotion.name[-6:], promotion):
        assert answer(capsys, "show", text)["verification"]["id"] == promotion.name
    newest = max(promotion.name, other.name)
    assert answer(capsys, "show", "latest")["verification"]["id"] == newest
    audit("show", "v20", code=2)
    assert f"'v20' may mean {newest}, {min(promotion.name, other.name)}; type more of it" in capsys.readouterr().err
    for text in ("v1999", "./nowhere", ""):
        audit("verify", text, code=2)
        assert "type `nightfleet audit list`" in capsys.readouterr().err


def test_what_a_report_says_is_shown_without_control_characters(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(other, tmp_path / other.name))
    content = content_of(copy)
    content["verification"]["reason"] = "fine \x1b[2J [bold]really[/bold] \u202egnp"
    seal(copy, content)
    audit("show", copy)
    shown = capsys.readouterr().out
    assert r"fine \x1b[2J [bold]really[/bold] \u202egnp" in shown
    assert "the first difference is at byte" in shown
    assert "\x1b" not in shown
    edit(copy, lambda content: content["verification"].pop("gates"))
    audit("show", copy, code=2)
    assert "malformed" in capsys.readouterr().err


HOSTILE = "\x1b[2J[/none] \u202egnp"


def test_nothing_that_a_report_holds_reaches_a_terminal_as_it_is(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(other, tmp_path / other.name))
    content = content_of(copy)
    found = content["verification"]
    # A gate that this version does not know may say no, by any word.
    gate = {"name": "later", "passed": False, "reason": HOSTILE, "seconds": 0.0, "facts": {}}
    for one in found["gates"][1:]:
        one |= {"passed": None, "reason": "not reached"}
    found["gates"].insert(1, gate)
    found |= {"verdict": HOSTILE, "reason": HOSTILE, "behaviour": {"cases": 0, "identical": None, "diverged": 0}}
    for name in content["files"]:
        (copy / name).unlink()
    content |= {"files": {}}
    seal(copy, content)
    audit("verify", copy)
    assert "holds" in (said := capsys.readouterr().out)
    assert "\x1b" not in said
    content["verification"] |= {"id": HOSTILE, "pairs": HOSTILE}
    content["verification"]["gain"] = {"estimate": 0.1, "low": 0.1, "high": 0.1, "clock": HOSTILE}
    content["divergences"][0] |= {"workload": HOSTILE, "fed": HOSTILE, "case": HOSTILE, "note": HOSTILE}
    content["files"] = {HOSTILE: {}}
    (copy / "report.json").write_text(json.dumps(content))
    for arguments, code in ((["verify", copy], 1), (["show", copy], 0), (["diff", other, copy], 1), (["list"], 0)):
        audit(*arguments, code=code)
        said = capsys.readouterr().out
        assert not {letter for letter in said if not letter.isprintable()} - {"\n"}
        assert arguments == ["list"] or r"\x1b[2J[/none] \u202egnp" in "".join(said.split("\n"))


def test_one_damaged_report_does_not_hide_the_others(
    promotion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = tmp_path / ".nightfleet" / "reports"
    for second in range(4):
        shutil.copytree(promotion, reports / f"v20261120-00000{second}-abcdef")
    folders = sorted(reports.iterdir())
    edit(folders[1], lambda content: content["verification"]["gain"].update(estimate=10**400))
    edit(folders[2], lambda content: content["verification"]["gain"].update(estimate=float("nan")))
    (folders[3] / "report.json").unlink()
    os.mkfifo(folders[3] / "report.json")
    monkeypatch.chdir(tmp_path)
    problems = [one["problem"] for one in answer(capsys, "list")["reports"]]
    assert problems == ["no report.json: its writing was cut short", *["report.json is damaged"] * 2, ""]


def test_two_reports_are_told_apart(promotion: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "diff", promotion.name, other.name, code=1)
    changed = {(one["group"], one["name"]) for one in found["changes"]}
    assert {("trees", "candidate.tree"), ("verdict", "verdict"), ("figures", "pairs")} <= changed
    assert not {group for group, _ in changed} & {"arena", "machine", "toolchain"}
    audit("diff", promotion.name, promotion.name)
    assert "the same question and the same verdict" in capsys.readouterr().out


def test_figures_alone_are_no_difference(promotion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(promotion, tmp_path / "copy"))
    edit(copy, lambda content: content["verification"]["gain"].update(estimate=0.5))
    assert [one["name"] for one in answer(capsys, "diff", promotion, copy)["changes"]] == ["gain.estimate"]
    edit(copy, lambda content: content["subject"]["machine"].update(kernel="another"))
    edit(copy, lambda content: content["subject"].update(program_text="another\n"))
    found = answer(capsys, "diff", promotion, copy, code=1)
    assert ("machine", "kernel") in {(one["group"], one["name"]) for one in found["changes"]}
    assert "+another" in found["program"]


# --- bundles ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(promotion: Path, tmp_path: Path) -> Path:
    audit("export", promotion.name, "--output", tmp_path / "evidence.tar.gz")
    return tmp_path / "evidence.tar.gz"


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {one.name: file.read() for one in archive if (file := archive.extractfile(one)) is not None}


def test_a_bundle_is_whole_and_always_the_same(promotion: Path, packed: Path, tmp_path: Path) -> None:
    audit("export", promotion, "--output", tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == packed.read_bytes()
    names = {name.removeprefix(f"{promotion.name}/") for name in members(packed)}
    derived = {"README.txt", "program.md", "trees.txt", "change.patch"}
    assert names == {"report.json", "digests-0.npy", "digests-1.npy"} | derived
    patch = members(packed)[f"{promotion.name}/change.patch"].decode()
    assert "-enum { ROUNDS = 20000 };\n+enum { ROUNDS = 10000 };\n" in patch


def test_the_patch_leads_from_one_tree_to_the_other(tiny: Tiny, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.c").write_text(tiny.git("show", "main:tiny.c"))
    patch = next(data for name, data in members(packed).items() if name.endswith("change.patch"))
    subprocess.run(["git", "apply", "-p1"], input=patch, cwd=tmp_path, check=True)
    assert (tmp_path / "tiny.c").read_text() == HALF


def test_a_bundle_is_checked_anywhere(
    promotion: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = answer(capsys, "verify", packed.name)
    assert found["holds"]
    assert found["id"] == promotion.name
    assert answer(capsys, "show", packed)["verification"]["id"] == promotion.name


def test_nothing_is_overwritten_and_nothing_false_exported(
    promotion: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit("export", promotion, "--output", packed, code=2)
    assert "is there already" in capsys.readouterr().err
    audit("export", promotion, "--output", tmp_path / "no" / "where", code=2)
    assert "--output" in capsys.readouterr().err
    copy = Path(shutil.copytree(promotion, tmp_path / promotion.name))
    edit(copy, lambda content: content["verification"].update(verdict="simplify"))
    audit("export", copy, "--output", tmp_path / "false.tar.gz", code=1)
    assert "/verification/verdict" in capsys.readouterr().err
    assert not (tmp_path / "false.tar.gz").exists()


def test_a_bundle_is_written_whole_or_not_at_all(promotion: Path, tmp_path: Path) -> None:
    target = tmp_path / "evidence.tar.gz"
    code = (
        "import resource, sys; from nightfleet.orchestrator.commands import edge; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); edge.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "audit", "export", str(promotion), "--output", str(target)]
    run = subprocess.run(command, text=True, capture_output=True, check=False)
    assert (run.returncode, target.exists()) == (2, False)
    assert "this machine could not do it" in run.stderr
    assert "Traceback" not in run.stderr


RUN = """
import sys
sys.modules["nightfleet"] = None
exec(compile(sys.stdin.read(), "README.txt", "exec"))
"""


def check_by_readme(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run exactly the lines that the bundle's README shows, where nightfleet cannot be imported."""
    lines = (folder / "README.txt").read_text().splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)
    assert "nightfleet." not in code
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN], input=code, cwd=folder, text=True, capture_output=True, check=False
    )


@pytest.mark.parametrize("verdict", ["promote", "incorrect"])
def test_the_readme_of_a_bundle_checks_it(tiny: Tiny, tmp_path: Path, verdict: str) -> None:
    report = with_verdict(tiny, verdict)
    audit("export", report, "--output", tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / report.name
    run = check_by_readme(folder)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{verdict} | ")
    data = bytearray((folder / "digests-1.npy").read_bytes())
    data[300] ^= 1
    (folder / "digests-1.npy").write_bytes(data)
    run = check_by_readme(folder)
    assert run.returncode == 1
    assert "AssertionError: digests-1.npy" in run.stderr


def rebuilt(path: Path, change: dict[str, bytes | None]) -> Path:
    """A bundle with some members put in or taken out."""
    old = members(path)
    folder = next(iter(old)).split("/")[0]
    new = {**old, **{f"{folder}/{name}": data for name, data in change.items()}}
    return packed_of(path.with_name("other.tar.gz"), [(name, data) for name, data in new.items() if data is not None])


def packed_of(path: Path, files: list[tuple[str, bytes]], **about: Any) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in about.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return path


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    found = answer(capsys, "verify", path, code=1)
    return "; ".join(check["words"] for check in found["checks"] if check["holds"] is False)


@pytest.mark.parametrize("name", ["README.txt", "program.md", "trees.txt", "change.patch"])
def test_what_comes_along_for_people_is_held_against_the_report(
    packed: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{name} is not what the report says" in refusal(rebuilt(packed, {name: b"import os\n"}), capsys)
    assert f"{name} is missing" in refusal(rebuilt(packed, {name: None}), capsys)


def test_hostile_archives_are_refused(
    promotion: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where, name = tmp_path / "hostile.tar.gz", promotion.name
    for member in (
        "../../report.json",
        "/etc/report.json",
        f"{name}/../report.json",
        f"{name}/x/report.json",
        f"{name}/evil",
    ):
        assert "which no bundle does" in refusal(packed_of(where, [(member, b"x")]), capsys)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE):
        said = refusal(packed_of(where, [(f"{name}/report.json", b"")], type=kind, linkname="/etc/passwd"), capsys)
        assert "no plain file" in said or "damaged" in said
    twice = [(f"{name}/report.json", b"{}"), (f"{name}/report.json", b"{}")]
    assert "holds report.json twice" in refusal(packed_of(where, twice), capsys)
    two = [("a/report.json", b"{}"), ("b/program.md", b"{}")]
    assert "2 folders" in refusal(packed_of(where, two), capsys)
    deep = b"[" * 100_000
    assert "is no report" in refusal(packed_of(where, [(f"{name}/report.json", deep)]), capsys)
    long = b'{"format": ' + b"9" * 5000 + b"}"
    assert "is no report" in refusal(packed_of(where, [(f"{name}/report.json", long)]), capsys)
    assert "0 folders" in refusal(packed_of(where, []), capsys)
    where.write_bytes(packed.read_bytes()[:-300])
    assert "cut or damaged" in refusal(where, capsys)
    where.write_bytes(gzip.compress(b"no archive at all" * 100))
    assert "damaged" in refusal(where, capsys)
    monkeypatch.setattr(bundle, "MOST_BYTES", 1000)
    assert "more than 1000 bytes" in refusal(packed, capsys)
    where.write_bytes(b"PK not this kind")
    audit("verify", where, code=2)
    assert "is no bundle" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence.tar.gz", "hostile.tar.gz"]


def test_a_file_that_claims_to_be_larger_than_it_is_is_not_read(
    promotion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "sparse.tar.gz"
    name = f"{promotion.name}/report.json"
    about = {"major": 1, "minor": 0, "name": name, "realsize": 1 << 60}
    headers = {f"GNU.sparse.{key}": str(value) for key, value in about.items()}
    packed_of(where, [(name, b"1\n0\n1\n".ljust(512, b"\0") + b"x")], pax_headers=headers)
    assert where.stat().st_size < 1000
    assert "no plain file" in refusal(where, capsys)


def test_a_bundle_that_was_tampered_with_is_found_out(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = next(data for name, data in members(packed).items() if name.endswith("digests-1.npy"))
    flipped = data[:1000] + bytes([data[1000] ^ 8]) + data[1001:]
    assert re.search("in row 33, byte 0 of `low`|in row", refusal(rebuilt(packed, {"digests-1.npy": flipped}), capsys))


def test_special_files_in_a_report_are_not_opened(promotion: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(promotion, tmp_path / promotion.name))
    (copy / "digests-1.npy").unlink()
    os.mkfifo(copy / "digests-1.npy")
    with pytest.raises(ContradictionError, match=r"digests-1\.npy is no file"):
        Papers.of_folder(copy)
    with pytest.raises(UserError, match="no report and no bundle"):
        Shelf(tmp_path).find("./nothing")
