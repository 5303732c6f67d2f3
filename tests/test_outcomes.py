"""Outcomes of tests: what real runners printed is read, and what a candidate loses is named."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import Tiny

from nightfleet.harness.outcomes import Outcomes, hold, lost
from nightfleet.harness.request import Nobody
from nightfleet.harness.runners import LONGEST, read_outcomes
from nightfleet.harness.verify import verify

RECORDED = Path(__file__).parent / "outcomes"
# Of each recording: names that passed, and the summary's passed and skipped if there is one.
# Recorded from the tools themselves; only the paths of the machine were taken out.
READ: dict[str, tuple[int, tuple[int, int] | None]] = {
    "ctest": (2, None),
    "go": (2, None),
    "go-json": (5, None),
    "go-v": (4, None),
    "jest": (2, (2, 1)),
    "libtest": (7, (7, 3)),
    "libtest-nocapture": (7, (7, 3)),
    "libtest-quiet": (0, (7, 3)),
    "node-spec": (3, (3, 1)),
    "node-tap": (3, (3, 1)),
    "prove": (1, (4, 0)),
    "prove-v": (3, (4, 0)),
    "pytest": (2, (9, 3)),
    "pytest-q": (0, (9, 3)),
    "pytest-rA": (4, (4, 2)),
    "pytest-v": (4, (4, 2)),
    "unittest": (0, (5, 1)),
    "unittest-v": (5, (5, 1)),
    "vitest": (0, (2, 1)),
    "vitest-v": (2, (2, 1)),
}
# The same tests where one fails: what is said of it, against the recording where it passes.
FAILED = {
    "ctest": "fails did not pass",
    "go-v": "TestFails failed",
    "jest": "fails failed",
    "libtest": "fails failed",
    "node-spec": "a kind failed, fails failed",
    "node-tap": "a kind failed, fails failed",
    "prove": "t/a.t is missing",
    "unittest-v": "test_fails (test_unit.Adds.test_fails) failed, test_parts (test_unit.Adds.test_parts) failed",
}
LIBTEST = b"test a::one ... ok\ntest a::two ... ok\ntest works ... ok\ntest works ... ok\ntest old ... ignored\n"


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.txt").read_bytes()


def read(name: str) -> Outcomes:
    return read_outcomes(recorded(name))


@pytest.mark.parametrize("name", READ)
def test_what_a_runner_printed_is_read(name: str) -> None:
    found = read(name)
    passed = [name for name, outcomes in found.tests.items() if outcomes["passed"]]
    summary = None if found.counts is None else (found.counts["passed"], found.counts["skipped"])
    assert (len(passed), summary) == READ[name]
    assert lost(found, found) is None


def test_every_recording_is_used() -> None:
    failed = {f"{name.removesuffix('-v')}-failed" for name in FAILED}
    assert {path.stem for path in RECORDED.iterdir()} == READ.keys() | failed | {"pytest-failed"} | (
        {"node-spec-failed", "node-tap-failed"}
    )


@pytest.mark.parametrize("name", FAILED)
def test_what_fails_is_named(name: str) -> None:
    said = lost(read(name), read(f"{name.removesuffix('-v')}-failed"))
    assert said is not None
    assert said.split(": ", 1)[1] == FAILED[name]


@pytest.mark.parametrize("name", [name for name in READ if name not in {"libtest-quiet", "pytest-q", "unittest"}])
def test_colours_and_windows_lines_change_nothing(name: str) -> None:
    plain = recorded(name)
    words = (b"ok", b"PASSED", b"PASS", b"passed", b"Passed", b"adds")
    painted = plain
    for word in words:
        painted = painted.replace(word, b"\x1b[1;32m" + word + b"\x1b[0m\x1b]8;;x\x07")
    if name == "go-json":
        painted = plain  # it prints no colours
    assert read_outcomes(painted.replace(b"\n", b"\r\n")) == read(name)


def test_what_is_split_over_two_streams_or_several_binaries_is_added_up() -> None:
    half = len(recorded("libtest").split(b"\n\n\n", 1)[0])
    assert read_outcomes(recorded("libtest")[:half], recorded("libtest")[half:]) == read("libtest")
    assert read_outcomes(LIBTEST).tests["works"] == {"passed": 2}


def test_a_documentation_test_may_move_to_another_line() -> None:
    moved = recorded("libtest").replace(b"(line 5)", b"(line 50)").replace(b"(line 13)", b"(line 58)")
    assert lost(read("libtest"), read_outcomes(moved)) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            (b"test a::two ... ok", b"test a::two ... ignored"),
            "1 of 3 tests that passed on the baseline did not here: a::two is skipped",
        ),
        ((b"test a::two ... ok", b"test a::two ... ignored, slow"), "a::two is skipped"),
        ((b"test a::two ... ok\n", b""), "a::two is missing"),
        ((b"test a::two ... ok", b"test a::two ... FAILED"), "a::two failed"),
        ((b"test works ... ok\n", b""), "works passed 1 times instead of 2"),
        # A line forged by the code under test does not make up for the real one, before or after it.
        ((b"test a::two ... ok", b"test a::two ... ok\ntest a::two ... ignored"), "a::two is skipped"),
        ((b"test a::two ... ok", b"test a::two ... FAILED\ntest a::two ... ok\ntest a::two ... ok"), "a::two failed"),
        (
            (LIBTEST, LIBTEST.replace(b"ok", b"ignored")),
            "3 of 3 .*: a::one is skipped, a::two is skipped, works is",
        ),
    ],
)
def test_what_does_not_run_and_pass_as_before_is_lost(change: tuple[bytes, bytes], said: str) -> None:
    candidate = LIBTEST.replace(*change, 1)
    assert candidate != LIBTEST
    found = lost(read_outcomes(LIBTEST), read_outcomes(candidate))
    assert found is not None
    assert pytest.RaisesExc(ValueError, match=said).matches(ValueError(found)), found


def test_more_tests_and_other_order_are_no_loss() -> None:
    lines = LIBTEST.splitlines(keepends=True)
    more = b"".join([b"test new ... ok\n", b"test newer ... ignored\n", *reversed(lines)])
    assert lost(read_outcomes(LIBTEST), read_outcomes(more)) is None


def test_where_only_numbers_are_known_they_must_not_fall_nor_more_be_skipped() -> None:
    quiet = recorded("pytest-q")
    fewer, skipping = quiet.replace(b"9 passed", b"8 passed"), quiet.replace(b"3 skipped", b"4 skipped")
    assert lost(read_outcomes(quiet), read_outcomes(fewer)) == "8 tests passed; on the baseline 9"
    assert lost(read_outcomes(quiet), read_outcomes(skipping)) == "4 tests skipped; on the baseline 3"
    said = lost(read_outcomes(quiet), read_outcomes(b"nothing to see\n"))
    assert said == "9 tests passed on the baseline; no number of them is to be found here"
    assert lost(read_outcomes(quiet), read_outcomes(quiet.replace(b"9 passed", b"10 passed"))) is None


def test_the_reason_tells_what_is_known() -> None:
    names, numbers, nothing = read("libtest"), read("pytest-q"), read_outcomes(b"checked, all fine\n")
    assert hold(["cargo test"], [names], [names]).reason == "7 tests passed on both sides"
    assert "only their number is known" in hold(["pytest -q"], [numbers], [numbers]).reason
    blind = hold(["cargo test", "make check"], [names, nothing], [names, nothing])
    assert blind.reason == (
        "7 tests passed on both sides; exit status only: no test names recognised in the output of 'make check'"
    )
    assert blind.against is None
    assert blind.facts[0]["baseline"] == {"names": 9, "failed": 0, "passed": 7, "skipped": 3}
    lost_all = hold(["cargo test"], [names], [nothing])
    assert lost_all.against is not None
    assert lost_all.against.startswith("'cargo test': 7 of 7 tests that passed on the baseline did not here: ")
    assert lost_all.against.endswith(", and 4 more")


@pytest.mark.parametrize(
    "text",
    [
        b"ok 12 things done\n",  # TAP has a plan
        b"data.csv ...\n",  # pytest begins its session
        b"everything is ok\nFAILED to be bored\nok\n",
        b'test \n... ok\n--- PASS\n{"Action": "pass"}\n{"Action": []}\n[1\n{',
        b"test " + b"x" * LONGEST + b" ... ok\n",
        b"Tests: none\nRan away in 3s\nOK\n",
    ],
)
def test_ordinary_text_names_no_test(text: bytes) -> None:
    assert not read_outcomes(text).recognised


LINES = st.sampled_from([line for path in sorted(RECORDED.iterdir()) for line in path.read_bytes().splitlines()])


@given(st.lists(st.one_of(st.binary(max_size=80), LINES, st.text(max_size=40).map(str.encode))))
@example([b"{" * 2000, b'{"Action":"pass","Package":"p","Test":3}', b"Ran 99999999999999999999 tests in 1s", b"OK"])
def test_any_text_is_read_without_a_fault(lines: list[bytes]) -> None:
    found = read_outcomes(b"\n".join(lines))
    assert lost(found, found) is None
    assert all(name and sum(outcomes.values()) for name, outcomes in found.tests.items())
    hold(["x"], [found], [found])


CARGO = {
    "program.md": """\
---
name: tally
edit: ["src/**/*.rs"]
build: cargo build --release --offline
workloads:
  - {name: sums, run: target/release/tally, cases: 40, block: 20}
tests: [cargo test --release --offline]
---
# Make it faster
""",
    "Cargo.toml": '[package]\nname = "tally"\nversion = "0.1.0"\nedition = "2021"\n',
    "Cargo.lock": 'version = 3\n\n[[package]]\nname = "tally"\nversion = "0.1.0"\n',
    "src/main.rs": """\
fn double(number: u64) -> u64 {
    number * 2
}

fn main() {
    for line in std::io::stdin().lines() {
        println!("{}", double(line.unwrap().parse().unwrap()));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn doubles() {
        assert_eq!(super::double(4), 8);
    }

    #[test]
    fn doubles_nothing() {
        assert_eq!(super::double(0), 0);
    }
}
""",
}


@pytest.mark.parametrize(
    ("old", "new", "verdict", "said"),
    [
        ("fn doubles()", "#[ignore]\n    fn doubles()", "incorrect", "tests::doubles is skipped"),
        ("#[cfg(test)]", "#[cfg(any())]", "incorrect", "2 of 2 tests that passed .*: tests::doubles is missing, "),
        (
            "    #[test]\n    fn doubles()",
            '    #[test]\n    fn other() { println!("test tests::doubles ... ok"); }\n    fn doubles()',
            "incorrect",
            "tests::doubles is missing",
        ),
        ("assert_eq!(super::double(0), 0)", "assert_eq!(super::double(0), 1)", "incorrect", "ended with status 101"),
    ],
)
def test_a_candidate_cannot_take_tests_out_of_the_files_that_it_may_edit(
    open_ground: Path, old: str, new: str, verdict: str, said: str
) -> None:
    tiny = Tiny(open_ground / "tally", CARGO)
    source = CARGO["src/main.rs"]
    assert old in source
    request = tiny.request(tiny.branch("fewer", {"src/main.rs": source.replace(old, new)}))
    found, _ = verify(request, Nobody())
    assert found.verdict == verdict
    assert re.search(said, found.reason), found.reason
    (gate,) = (gate for gate in found.gates if gate.name == "tests")
    assert gate.facts["commands"][0]["baseline"]["passed"] == 2
