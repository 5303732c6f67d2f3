"""A report held against itself: everything that can be derived is derived again, without `nightfleet.native`."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightfleet.harness import sums, twin
from nightfleet.harness.audit import draws, reckoning
from nightfleet.harness.audit.account import Account
from nightfleet.harness.audit.papers import REPORT, ContradictionError, Papers, gate_of, hold_equal

ROOT_PREFIX = b"nightfleet report 3\n"
SIDES = ("baseline", "candidate")
MOST_NAMED = 3


def examine(papers: Papers) -> Account:
    """Check one report.

    Returns:
        What was looked at, what holds, and what differs.

    Raises:
        UnknownFormatError: it is of another format.
    """
    account = Account(papers.name)
    if not account.look("form", lambda: _form(papers)):
        return account
    content = papers.content
    verification = content.get("verification")
    if isinstance(verification, dict):
        account.verdict, account.reason = str(verification.get("verdict")), str(verification.get("reason"))
    whole = account.look("root", lambda: _root(content))
    whole &= account.look("files", lambda: _files(papers))
    names = content["files"] if isinstance(content.get("files"), dict) else {}
    for name in names:
        whole &= account.look(str(name), lambda name=name: _array(papers, name))  # type: ignore[misc]
    further = {
        "program": lambda: _program(content["subject"]),
        "salt": lambda: _salt(content["subject"]),
        "cases": lambda: _cases(papers),
        "counts": lambda: _counts(papers),
        "records": lambda: _records(papers),
        "rules": lambda: reckoning.check_rules(content),
        "pairs": lambda: reckoning.check_pairs(content),
        "verdict": lambda: reckoning.check_verdict(content),
    }
    for name, check in further.items():
        if whole:
            account.look(name, check)
        else:
            account.pass_over(name, "not looked at: what lies here is not what was written")
    return account


def tables_of(papers: Papers) -> dict[str, dict[str, NDArray[np.void]]]:
    """The digest arrays of both sides, by workload and side. ContradictionError unless each stands there once."""
    found: dict[str, dict[str, NDArray[np.void]]] = {}
    for name, about in papers.content["files"].items():
        sides = found.setdefault(about["workload"], {})
        if about["side"] not in SIDES or about["side"] in sides:
            raise ContradictionError(
                f"{name}: side {about['side']!r} of {about['workload']} stands there twice, or is none"
            )
        sides[about["side"]] = papers.table(name)
    for workload, sides in found.items():
        if len(sides) != len(SIDES):
            raise ContradictionError(f"workload {workload} has digests of one side only")
    return found


def _form(papers: Papers) -> str:
    content = papers.content
    if content["verification"]["id"] != papers.name:
        raise ContradictionError(f"the folder is {papers.name}; the report in it is {content['verification']['id']}")
    return f"{REPORT} is whole, format {content['format']}"


def _root(content: Mapping[str, Any]) -> str:
    inner = {key: value for key, value in content.items() if key != "root"}
    found = hashlib.sha256(ROOT_PREFIX + sums.canonical(inner)).hexdigest()
    if found == content["root"]:
        return f"SHA-256 {found} stands over everything"
    parts = sums.differing_parts({key: value for key, value in inner.items() if key != "parts"}, content["parts"])
    named = ", ".join(parts[:MOST_NAMED]) + (f" and {len(parts) - MOST_NAMED} more" if parts[MOST_NAMED:] else "")
    where = f"changed: {named}" if parts else "every part is as it was: the root itself was changed"
    raise ContradictionError(f"it says {content['root']}; the content gives {found}; {where}")


def _files(papers: Papers) -> str:
    listed = {REPORT, *papers.content["files"]}
    missing, more = sorted(listed - set(papers.files)), sorted(set(papers.files) - listed)
    if missing:
        raise ContradictionError(f"missing: {', '.join(missing)}")
    if more:
        raise ContradictionError(f"no part of the report: {', '.join(more)}")
    return f"{len(listed)}, and nothing else"


def _array(papers: Papers, name: str) -> str:
    """The rows are those of the report, by SHA-256; where they are not, which byte."""
    about = papers.content["files"][name]
    rows = papers.rows(name)
    count = len(rows) // twin.ROWS.itemsize
    if count != about["rows"]:
        raise ContradictionError(f"it has {count} rows; the report says {about['rows']}")
    metadata = sums.canonical({key: about[key] for key in ("report", "side", "workload")})
    digest = hashlib.sha256(twin.ROOT_PREFIX + len(metadata).to_bytes(8, "little") + metadata + rows).hexdigest()
    if digest != about["root"]:
        damage = sums.locate(rows, about)
        where = f"changed {damage.text}" if damage else "its rows are as they were: its root or description was changed"
        raise ContradictionError(f"the report says SHA-256 {about['root']}; it gives {digest}; {where}")
    if {key: about[key] for key in ("sums", "xor")} != sums.row_sums(rows):
        raise ContradictionError("its sums are not those of its rows")
    _ascending(papers.table(name)["case"])
    if about["report"] != papers.content["verification"]["id"]:
        raise ContradictionError(f"it belongs to report {about['report']}")
    return f"{about['side']} of {about['workload']}: {count} rows, SHA-256 {digest}"


def _ascending(cases: NDArray[np.int64]) -> None:
    steps = np.diff(cases)
    if len(cases) and (cases[0] < 0 or cases[-1] >= twin.CASE_END):
        raise ContradictionError("its cases must lie in [0, 2**31)")
    (bad,) = np.nonzero(steps <= 0)
    if len(bad):
        row = int(bad[0]) + 1
        verb = "stands there twice" if steps[bad[0]] == 0 else "is out of order"
        raise ContradictionError(f"case {int(cases[row])} in row {row} {verb}")


def _program(subject: Mapping[str, Any]) -> str:
    text = hashlib.sha256(subject["program_text"].encode("utf-8")).hexdigest()
    if text != subject["program"]:
        raise ContradictionError(f"its text has SHA-256 {text}; the report says {subject['program']}")
    arena = hashlib.sha256(sums.canonical({"nightfleet arena 1": subject["contract"]})).hexdigest()
    if arena != subject["arena"]["digest"]:
        raise ContradictionError(f"the contract has SHA-256 {arena}; the report says {subject['arena']['digest']}")
    return f"program.md has SHA-256 {text}, its contract {arena}"


def _salt(subject: Mapping[str, Any]) -> str:
    salts = [bytes.fromhex(subject[name]) for name in ("salt", "practice_salt")]
    if any(len(salt) != 32 for salt in salts):
        raise ContradictionError("a salt has 32 bytes")
    found = hashlib.sha256(salts[0]).hexdigest()
    if found != subject["commitment"]:
        raise ContradictionError(f"the salt has SHA-256 {found}; what was committed to is {subject['commitment']}")
    return f"the salt is the one committed to, {found}"


def _cases(papers: Papers) -> str:
    """The cases of each array are those that the salt draws: all of them, or whole blocks where a gate ended early."""
    subject = papers.content["subject"]
    salt, practice = (bytes.fromhex(subject[name]) for name in ("salt", "practice_salt"))
    passed = gate_of(papers.content, "behaviour")["passed"] is True
    words = []
    for workload, arrays in tables_of(papers).items():
        contract = _contract(subject, workload)
        count, block, whole = subject["cases"][workload], contract["block"], contract["cases"]
        if not 1 <= block <= draws.MOST_CASES or not 0 <= count <= draws.MOST_CASES:
            # Before anything is drawn: whoever forges a report must not choose how much memory that takes.
            raise ContradictionError(f"{workload}: {count} cases in blocks of {block} are more than a program can have")
        if isinstance(whole, int):
            hold_equal(f"cases of {workload}", count, draws.times(subject) * whole)
            drawn = draws.behaviour_cases(salt, practice, workload, count, block)
        else:
            drawn = draws.manifest_order(salt, workload, count)
        for side, table in arrays.items():
            _drawn(f"{side} of {workload}", table["case"], drawn, block, passed=passed)
        words.append(f"{len(arrays['baseline'])} of {workload}")
    if passed and set(tables_of(papers)) != {one["name"] for one in subject["contract"]["workloads"]}:
        raise ContradictionError("behaviour passed, and yet not every workload has its digests")
    return f"{', '.join(words)}: those that the salt draws" if words else "none was compared"


def _drawn(name: str, cases: NDArray[np.int64], drawn: list[int], block: int, *, passed: bool) -> None:
    recorded, expected = set(cases.tolist()), set(drawn)
    strangers = sorted(recorded - expected)
    if strangers:
        raise ContradictionError(f"{name}: case {strangers[0]} is none that the salt draws")
    if passed and recorded != expected:
        missing = sorted(expected - recorded)
        raise ContradictionError(f"{name}: case {missing[0]} is missing ({len(missing)} of {len(expected)})")
    for start in range(0, len(drawn), block):
        there = [case in recorded for case in drawn[start : start + block]]
        if any(there) and not all(there):
            raise ContradictionError(f"{name}: case {drawn[start + there.index(False)]} is missing; its block was run")


def _counts(papers: Papers) -> str:
    """Cases and divergences are as many as the arrays show."""
    verification, gate = papers.content["verification"], gate_of(papers.content, "behaviour")
    said, differing, cases = verification["behaviour"], 0, 0
    for workload, arrays in tables_of(papers).items():
        differs = _differs(arrays)
        listed = gate["facts"].get("diverged")
        for case in listed.get(workload, ()) if isinstance(listed, dict) else ():
            if case not in arrays["baseline"]["case"][differs]:
                raise ContradictionError(f"case {case} of {workload} is said to differ; its digests do not")
        differing += int(np.count_nonzero(differs))
        cases += len(differs)
        empty = [side for side, table in arrays.items() if gate["passed"] and not np.all(table["high"] | table["low"])]
        if empty:
            raise ContradictionError(
                f"the {empty[0]} of {workload} has a case without a record, and yet behaviour passed"
            )
    hold_equal("behaviour.cases", said["cases"], cases)
    hold_equal("behaviour.identical", said["identical"], gate["passed"])
    if gate["passed"] is True:
        hold_equal("differing records, while behaviour passed", 0, differing)
    if gate["passed"] is False and verification["verdict"] == "broken":
        # Of a block that crashed the missing records are no divergences.
        differing = min(differing, said["diverged"])
    hold_equal("behaviour.diverged", said["diverged"], differing)
    return f"{cases} cases, {differing} with different records"


def _records(papers: Papers) -> str:
    """The baseline's records that are shown have the digests that stand in its array."""
    subject, tables = papers.content["subject"], tables_of(papers)
    seed, form = draws.seed(bytes.fromhex(subject["salt"])), subject["contract"]["behaviour"]
    hashed = 0
    for shown in papers.content["divergences"]:
        record, case = shown["baseline"], shown["case"]
        arrays = tables.get(shown["workload"])
        if record is None or arrays is None or case not in arrays["baseline"]["case"]:
            continue
        data = record["text"].encode("utf-8")
        if record["start"] != 0 or record["size"] != len(data):
            # Cut out of a longer one, or shown with escapes.
            continue
        digest = _hashed(data, seed, form)
        table = arrays["baseline"]
        row = table[np.searchsorted(table["case"], case)]
        if digest is not None and digest != (int(row["high"]), int(row["low"])):
            raise ContradictionError(
                f"the record shown for case {case} of {shown['workload']} hashes to {digest[0]:016x}{digest[1]:016x}; "
                f"recorded is {int(row['high']):016x}{int(row['low']):016x}"
            )
        hashed += digest is not None
    return f"{hashed} that are shown have their digests" if hashed else "none is shown whole"


def _hashed(data: bytes, seed: int, form: Mapping[str, Any]) -> tuple[int, int] | None:
    """The digest of one record; None where `ignore` means something else to Python."""
    try:
        rows = twin.hash_records(data, seed=seed, record="output", canonical=form["form"], ignore=form["ignore"])
    except ValueError:
        return None
    return int(rows[0, 0]), int(rows[0, 1])


def _differs(arrays: Mapping[str, NDArray[np.void]]) -> NDArray[np.bool_]:
    left, right = (arrays[side] for side in SIDES)
    if not np.array_equal(left["case"], right["case"]):
        only = np.setxor1d(left["case"], right["case"])
        raise ContradictionError(f"case {int(only[0])} stands on one side only")
    differs: NDArray[np.bool_] = (left["high"] != right["high"]) | (left["low"] != right["low"])
    return differs


def _contract(subject: Mapping[str, Any], workload: str) -> Mapping[str, Any]:
    found = [one for one in subject["contract"]["workloads"] if one["name"] == workload]
    if not found:
        raise ContradictionError(f"the program has no workload {workload}")
    contract: Mapping[str, Any] = found[0]
    return contract
