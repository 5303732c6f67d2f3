"""A report that was tampered with is found out, in each of many ways, and the reason names what differs."""

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from clocked import Bench
from paperwork import Content, account_of, content_of, edit, put_rows, report_of, rows_of, seal
from tiny import HALF, Tiny, doing

from nightfleet.harness.evidence import plain
from nightfleet.harness.sums import Damage, locate, row_sums
from nightfleet.orchestrator.commands import edge

CORRUPTIONS = 500
# Of the cases that this test's salt draws: none of the smoke gate's, two of block 2.
RARE = doing("if (number % 105 == 0) number++;")
CRASH = doing("if (number % 139 == 0) abort();")


@pytest.fixture(scope="module")
def originals() -> Iterator[dict[str, Path]]:
    """Reports of a promotion, of a candidate that differs and of one that crashes."""
    ground = Path(tempfile.mkdtemp(prefix="nightfleet-test-"))
    ground.chmod(0o755)
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny = Tiny(ground / "tiny")
        yield {
            "promote": report_of(tiny, monkeypatch, "half", HALF, lambda: Bench(gain=0.12)),
            "incorrect": report_of(tiny, monkeypatch, "rare", RARE),
            "broken": report_of(tiny, monkeypatch, "crash", CRASH),
            "reject": report_of(tiny, monkeypatch, "slow", doing("/* nothing */")),
            "out_of_scope": report_of(tiny, monkeypatch, "scope", "\0"),
        }
    shutil.rmtree(ground)


@pytest.fixture
def report(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the promotion's report, to be tampered with."""
    return Path(shutil.copytree(originals["promote"], tmp_path / originals["promote"].name))


@pytest.fixture
def wrong(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the report on the candidate that differs."""
    return Path(shutil.copytree(originals["incorrect"], tmp_path / originals["incorrect"].name))


def found_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `audit verify` says of a report that it must refuse."""
    with pytest.raises(SystemExit) as ending:
        edge.main(["audit", "verify", str(folder), "--json"])
    shown = capsys.readouterr()
    assert ending.value.code == 1, shown
    found = json.loads(shown.out)
    assert found["holds"] is False
    return "; ".join(f"{one['name']}: {one['words']}" for one in found["checks"] if one["holds"] is False)


def test_reports_of_every_verdict_hold(originals: dict[str, Path]) -> None:
    for verdict, folder in originals.items():
        account = account_of(folder)
        assert account.failed == []
        assert account.holds, account.checks
        assert account.verdict == verdict


def test_an_extraordinary_claim_holds(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Tiny(open_ground / "tiny")
    report = report_of(tiny, monkeypatch, "half", HALF, lambda: Bench(gain=0.4))
    assert content_of(report)["verification"]["extraordinary"] is True
    assert account_of(report).failed == []


def interrupted(content: Content, pairs: int) -> None:
    """As `verify` leaves it when Ctrl-C comes while pairs are timed."""
    content["verification"] |= {"verdict": "undecided", "reason": f"interrupted after {pairs} pairs"}
    for gate in content["verification"]["gates"]:
        if gate["name"] == "speed":
            gate |= {"passed": None, "reason": "cut short: interrupted"}
        if gate["name"] == "extraordinary":
            gate |= {"passed": None, "reason": "not reached"}


def test_an_interrupted_timing_holds_as_what_it_is(report: Path) -> None:
    content = content_of(report)
    pairs = content["verification"]["pairs"]
    interrupted(content, pairs)
    seal(report, content)
    assert account_of(report).holds
    interrupted(content, pairs + 1)
    seal(report, content)
    assert [check.name for check in account_of(report).failed] == ["verdict"]


# --- single hands: what is done to a report, and what the reason names ------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def flipped_digest_byte(folder: Path) -> None:
    flip(folder / "digests-1.npy", 192 + 24 * 33 + 10)


def flipped_header_byte(folder: Path) -> None:
    flip(folder / "digests-0.npy", 30)


def truncated_array(folder: Path) -> None:
    path = folder / "digests-0.npy"
    path.write_bytes(path.read_bytes()[:-24])


def truncated_within_a_row(folder: Path) -> None:
    path = folder / "digests-0.npy"
    path.write_bytes(path.read_bytes()[:-5])


def truncated_report(folder: Path) -> None:
    path = folder / "report.json"
    path.write_bytes(path.read_bytes()[:-300])


def missing_array(folder: Path) -> None:
    (folder / "digests-1.npy").unlink()


def something_more(folder: Path) -> None:
    shutil.copy(folder / "digests-1.npy", folder / "digests-2.npy")


def a_link(folder: Path) -> None:
    (folder / "digests-1.npy").rename(folder.parent / "elsewhere.npy")
    (folder / "digests-1.npy").symlink_to(folder.parent / "elsewhere.npy")


def edited_pair(folder: Path) -> None:
    edit(folder, lambda content: content["speed"]["pairs"][3]["candidate"].update(wall_ns=1))


def turned_coin(folder: Path) -> None:
    def turn(content: Content) -> None:
        pair = content["speed"]["confirmation"][0]
        pair["candidate_first"] = not pair["candidate_first"]

    edit(folder, turn)


def edited_verdict(folder: Path) -> None:
    edit(folder, lambda content: content["verification"].update(verdict="simplify"))


def forged_root(folder: Path) -> None:
    edit(folder, lambda content: content.update(root="0" * 64))


def said_twice(folder: Path) -> None:
    path = folder / "report.json"
    path.write_text(path.read_text().replace('"verdict": "promote"', '"verdict": "reject", "verdict": "promote"', 1))


NAIVE: dict[Callable[[Path], None], str] = {
    flipped_digest_byte: "digests-1.npy: .* in row 33, byte 2 of `high`: it is 0x.. and was 0x..",
    flipped_header_byte: "digests-0.npy: its header does not fit its 400 rows: byte 30",
    truncated_array: "digests-0.npy: .*header does not fit its 399 rows",
    truncated_within_a_row: "digests-0.npy: it is cut or has been added to",
    truncated_report: "report.json is cut or damaged at line",
    missing_array: "files: missing: digests-1.npy",
    something_more: "files: no part of the report: digests-2.npy",
    a_link: "digests-1.npy is a link",
    edited_pair: "root: .*changed: /speed/pairs/3",
    turned_coin: "root: .*changed: /speed/confirmation/0",
    edited_verdict: "root: .*changed: /verification/verdict",
    forged_root: "root: it says 0000.* the root itself was changed",
    said_twice: "report.json says 'verdict' twice",
}


@pytest.mark.parametrize("hand", NAIVE, ids=lambda hand: hand.__name__)
def test_what_was_changed_is_named(
    report: Path, capsys: pytest.CaptureFixture[str], hand: Callable[[Path], None]
) -> None:
    hand(report)
    said = found_out(report, capsys)
    assert re.search(NAIVE[hand], said), said


# --- thorough hands: every sum and digest is forged, so that only what is derived again can show it -----------------


def flipped_digest(folder: Path, _content: Content) -> None:
    flip(folder / "digests-1.npy", 192 + 24 * 33 + 10)


def dropped_case(folder: Path, content: Content) -> None:
    for name in content["files"]:
        put_rows(folder, name, np.delete(rows_of(folder, name), 7))
    content["verification"]["behaviour"]["cases"] -= 1


def dropped_on_one_side(folder: Path, _content: Content) -> None:
    put_rows(folder, "digests-1.npy", np.delete(rows_of(folder, "digests-1.npy"), 7))


def other_case(folder: Path, content: Content) -> None:
    for name in content["files"]:
        rows = rows_of(folder, name).copy()
        rows["case"][7] += 1
        put_rows(folder, name, rows)


def swapped_sides(_folder: Path, content: Content) -> None:
    for pair in content["speed"]["pairs"]:
        pair["baseline"], pair["candidate"] = pair["candidate"], pair["baseline"]


def swapped_labels(_folder: Path, content: Content) -> None:
    for about in content["files"].values():
        about["side"] = "baseline"


def faster_pair(_folder: Path, content: Content) -> None:
    content["speed"]["pairs"][3]["candidate"]["wall_ns"] //= 2


def dropped_pair(_folder: Path, content: Content) -> None:
    del content["speed"]["pairs"][-1]


def another_verdict(_folder: Path, content: Content) -> None:
    content["verification"]["verdict"] = "incremental"


def another_reason(_folder: Path, content: Content) -> None:
    content["verification"]["reason"] = "promoted: gain 42%"


def larger_gain(_folder: Path, content: Content) -> None:
    content["verification"]["gain"]["low"] = content["verification"]["gain"]["estimate"]


def more_pairs(_folder: Path, content: Content) -> None:
    content["verification"]["pairs"] += 20


def more_cases(_folder: Path, content: Content) -> None:
    content["verification"]["behaviour"]["cases"] = 20_000


def another_salt(_folder: Path, content: Content) -> None:
    content["subject"]["salt"] = "00" * 32


def another_salt_and_commitment(_folder: Path, content: Content) -> None:
    content["subject"] |= {"salt": "00" * 32, "commitment": hashlib.sha256(bytes(32)).hexdigest()}


def another_program(_folder: Path, content: Content) -> None:
    content["subject"]["program_text"] += "\nAnything goes.\n"


def another_contract(_folder: Path, content: Content) -> None:
    content["subject"]["contract"]["cores"] = 2


def contract_of_the_forger(content: Content) -> None:
    """The digest that a contract has, whatever program.md says."""
    from nightfleet.harness.sums import canonical

    subject = content["subject"]
    subject["arena"]["digest"] = hashlib.sha256(canonical({"nightfleet arena 1": subject["contract"]})).hexdigest()


def contract_of_another_program(_folder: Path, content: Content) -> None:
    from nightfleet.harness.evidence import recompute

    content["subject"]["contract"]["thresholds"]["promote_ratio"] = content["speed"]["rules"]["promote"] = 0.021
    contract_of_the_forger(content)
    _decide_again(content, recompute)


def another_arenas_name(_folder: Path, content: Content) -> None:
    content["subject"]["arena"]["name"] = "respectable"


def more_cases_than_memory(_folder: Path, content: Content) -> None:
    content["subject"]["contract"]["workloads"][0]["cases"] = content["subject"]["cases"]["sums"] = 10**12
    contract_of_the_forger(content)


def larger_blocks_than_memory(_folder: Path, content: Content) -> None:
    content["subject"]["contract"]["workloads"][0]["block"] = 10**12
    contract_of_the_forger(content)


def looser_rules(_folder: Path, content: Content) -> None:
    from nightfleet.harness.evidence import recompute

    content["speed"]["rules"]["promote"] = 0.021
    _decide_again(content, recompute)


def looser_guard(_folder: Path, content: Content) -> None:
    from nightfleet.harness.evidence import recompute

    content["speed"]["rules"]["guards"] = []
    _decide_again(content, recompute)


def _decide_again(content: Content, recompute: Callable[[Content], object]) -> None:
    """Record the decision that follows from what stands there: the forger owns nightfleet as well."""
    from nightfleet.harness.calibration import Calibration
    from nightfleet.harness.evidence import read_block, read_pair, read_rules
    from nightfleet.harness.verdict import decide

    speed = content["speed"]
    decision = decide(
        read_rules(speed["rules"]),
        Calibration.from_dict(speed["calibration"]),
        [read_pair(pair) for pair in speed["pairs"]],
        blocks=[read_block(block) for block in speed["blocks"]],
        confirmation=[read_pair(pair) for pair in speed["confirmation"]],
    )
    speed["decision"] = plain(decision)
    recompute(speed)
    gain = content["verification"]["gain"]
    gain |= {"estimate": decision.gain, "low": decision.low, "high": decision.high}
    content["verification"]["reason"] = decision.reason
    for gate in content["verification"]["gates"]:
        if gate["name"] == "speed":
            gate["reason"] = decision.reason


def a_gate_less(_folder: Path, content: Content) -> None:
    gates = content["verification"]["gates"]
    gates[:] = [gate for gate in gates if gate["name"] != "tests"]


def a_gate_passed_over(_folder: Path, content: Content) -> None:
    gate = next(gate for gate in content["verification"]["gates"] if gate["name"] == "smoke")
    gate |= {"passed": None, "reason": "not reached"}


def of_another_report(_folder: Path, content: Content) -> None:
    content["files"]["digests-1.npy"]["report"] = "v20261120-000000-000000"


FORGED: dict[Callable[[Path, Content], None], str] = {
    flipped_digest: "counts: differing records, while behaviour passed: it says 0; the evidence gives 1",
    dropped_case: r"cases: baseline of sums: case \d+ is missing \(1 of 400\)",
    dropped_on_one_side: r"cases: candidate of sums: case \d+ is missing",
    other_case: r"cases: baseline of sums: case \d+ is none that the salt draws",
    swapped_sides: "pairs: the timing ended after 5 pairs .reject.; no more fit",
    swapped_labels: "side 'baseline' of sums stands there twice",
    faster_pair: "pairs: .*does not follow|pairs: the timing ended",
    dropped_pair: "pairs: ",
    another_verdict: "verdict: verdict: it says 'incremental'; the evidence gives 'promote'",
    another_reason: "verdict: reason: it says 'promoted: gain 42%'; the evidence gives",
    larger_gain: "pairs: gain.low: it says 0",
    more_pairs: r"pairs: pairs: it says \d+; the evidence gives \d+",
    more_cases: "counts: behaviour.cases: it says 20000; the evidence gives 400",
    another_salt: "salt: the salt has SHA-256 .* committed to",
    another_salt_and_commitment: "cases: baseline of sums: case .* is none that the salt draws",
    another_program: "program: its text has SHA-256",
    another_contract: "program: the contract has SHA-256",
    contract_of_another_program: "contract: the contract is not what program.md says: the contract's digest",
    another_arenas_name: "contract: .* it says 'respectable'; the evidence gives 'tiny'",
    more_cases_than_memory: "cases: sums: 1000000000000 cases in blocks of 100 are more than a program can have",
    larger_blocks_than_memory: "cases: sums: 400 cases in blocks of 1000000000000 are more",
    looser_rules: "rules: the verdict went by promote 0.021; the program says 0.05",
    looser_guard: "rules: guard wall was measured and not held",
    a_gate_less: "verdict: the gates are .*; each of",
    a_gate_passed_over: "verdict: gate smoke was not reached, and no gate before it ended it",
    of_another_report: "digests-1.npy: it belongs to report",
}


@pytest.mark.parametrize("hand", FORGED, ids=lambda hand: hand.__name__)
def test_what_does_not_follow_is_named_even_where_every_digest_was_forged(
    report: Path, capsys: pytest.CaptureFixture[str], hand: Callable[[Path, Content], None]
) -> None:
    content = content_of(report)
    hand(report, content)
    seal(report, content)
    said = found_out(report, capsys)
    assert re.search(FORGED[hand], said), said


def test_a_duplicated_case_is_named(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(report, "digests-0.npy")
    put_rows(report, "digests-0.npy", np.insert(rows, 7, rows[7]))
    assert "the report says 400" in found_out(report, capsys)
    # No tool of ours seals such an array, so the forger writes its digests by hand.
    from nightfleet.harness import twin
    from nightfleet.harness.sums import canonical

    def sealed(content: Content) -> None:
        about = content["files"]["digests-0.npy"]
        metadata = canonical({key: about[key] for key in ("report", "side", "workload")})
        data = (report / "digests-0.npy").read_bytes()[twin.HEADER_BYTES :]
        about |= {"rows": 401, "root": twin._root(metadata, data), **row_sums(data)}

    edit(report, sealed)
    assert f"case {rows['case'][7]} in row 8 stands there twice" in found_out(report, capsys)


def test_swapped_files_are_found(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = wrong / "digests-0.npy", wrong / "digests-1.npy"
    contents = left.read_bytes(), right.read_bytes()
    left.write_bytes(contents[1])
    right.write_bytes(contents[0])
    said = found_out(wrong, capsys)
    assert "digests-0.npy: the report says SHA-256" in said
    assert "digests-1.npy: the report says SHA-256" in said


def test_a_difference_that_is_denied_is_found(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of(wrong)
    content["verification"]["behaviour"]["diverged"] -= 1
    seal(wrong, content)
    assert "counts: behaviour.diverged: it says" in found_out(wrong, capsys)


def test_a_difference_that_is_invented_is_found(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of(wrong)
    gate = next(gate for gate in content["verification"]["gates"] if gate["name"] == "behaviour")
    rows = [rows_of(wrong, name) for name in ("digests-0.npy", "digests-1.npy")]
    same = rows[0]["case"][rows[0]["high"] == rows[1]["high"]]
    gate["facts"]["diverged"]["sums"][0] = int(same[0])
    seal(wrong, content)
    assert f"case {same[0]} of sums is said to differ; its digests do not" in found_out(wrong, capsys)


def test_a_record_that_is_shown_hashes_to_its_digest(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [check.words for check in account_of(wrong).checks if check.name == "records"]
    assert shown == ["2 that are shown have their digests"]
    content = content_of(wrong)
    record = content["divergences"][0]
    record["baseline"]["text"] = record["baseline"]["text"].replace("1", "7")
    seal(wrong, content)
    assert f"records: the record shown for case {record['case']} of sums hashes to" in found_out(wrong, capsys)


def test_a_report_under_another_name_is_found(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = report.rename(report.with_name("v20261120-000000-000000"))
    assert f"the report in it is {report.name}" in found_out(other, capsys)


@pytest.mark.parametrize(
    ("version", "says"), [(4, "has format 4; this version reads 3"), (2, "has format 2"), (1, "has format 1")]
)
def test_another_format_is_no_answer(report: Path, capsys: pytest.CaptureFixture[str], version: int, says: str) -> None:
    edit(report, lambda content: content.update(format=version))
    with pytest.raises(SystemExit) as ending:
        edge.main(["audit", "verify", str(report)])
    assert ending.value.code == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert "nightfleet verify" in shown


def test_single_bytes_that_change_a_fact_are_found(
    originals: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(11)  # noqa: S311 - which bytes are flipped is no secret
    reports = [
        Path(shutil.copytree(originals[name], tmp_path / originals[name].name)) for name in ("promote", "incorrect")
    ]
    files = [path for folder in reports for path in sorted(folder.iterdir())]
    changed = 0
    while changed < CORRUPTIONS:
        path = chance.choice(files)
        right = path.read_bytes()
        at, bit = chance.randrange(len(right)), 1 << chance.randrange(8)
        wrong = bytearray(right)
        wrong[at] ^= bit
        if path.suffix == ".json" and _same(right, bytes(wrong)):
            continue  # blanks between words are no facts
        path.write_bytes(wrong)
        with pytest.raises(SystemExit) as ending:
            edge.main(["audit", "verify", str(path.parent)])
        shown = capsys.readouterr()
        # A flipped digit of the format is another format, and that is refused.
        assert ending.value.code == 1 or (ending.value.code == 2 and "has format" in shown.err), (path, at, shown)
        path.write_bytes(right)
        changed += 1
    assert all(account_of(folder).holds for folder in reports)


def _same(right: bytes, wrong: bytes) -> bool:
    try:
        return bool(json.loads(right) == json.loads(wrong))
    except ValueError:
        return False


def test_damage_is_located_to_the_byte_or_the_rows() -> None:
    rows = np.random.default_rng(5).integers(0, 256, 24 * 700, dtype=np.uint8).tobytes()
    recorded = row_sums(rows)
    assert locate(rows, recorded) is None
    for at in (0, 24 * 256 - 1, 24 * 256, 24 * 700 - 1):
        wrong = bytearray(rows)
        wrong[at] ^= 0x41
        damage = Damage(at // 24, at // 24 + 1, at % 24, was=rows[at], now=rows[at] ^ 0x41)
        assert locate(bytes(wrong), recorded) == damage
    wrong = bytearray(rows)
    wrong[24 * 300] ^= 1
    wrong[24 * 301 + 5] ^= 1
    assert locate(bytes(wrong), recorded) == Damage(256, 512)
    assert locate(rows[:-24], row_sums(rows[: 24 * 256])) is None


def test_nothing_of_it_needs_native(originals: dict[str, Path]) -> None:
    code = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("nightfleet.native"):
            raise ImportError("native is what is being checked")

sys.meta_path.insert(0, Refused())
from pathlib import Path
from nightfleet.harness.audit.examination import examine
from nightfleet.harness.audit.papers import Papers
account = examine(Papers.of_folder(Path(sys.argv[1])))
assert account.holds, account
assert len(account.checks) >= 12, account
assert not [name for name in sys.modules if name.startswith("nightfleet.native")]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(originals["promote"])], check=True)
