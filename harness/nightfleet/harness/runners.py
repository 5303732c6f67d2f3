"""Test runners by what they print: libtest, pytest, unittest, go test, TAP, Node, Jest, Vitest and CTest.

Each line is looked at by itself, whichever runner a command turns out to use: `make test` may use several. Shapes that
ordinary text can have as well count only where the runner says elsewhere that it is at work.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from nightfleet.harness.outcomes import Outcome, Outcomes

# A longer line is no line about a test. The patterns below take at most a time that grows with its square.
LONGEST = 2048

_LINE = re.compile(rb"[^\r\n]+")
_COLOUR = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
# What changes in a name though the test does not: the line of a documentation test, an address.
_UNSTEADY = re.compile(r" \(line \d+\)|0x[0-9a-fA-F]{6,}")
_PERCENT = r"(?:\s+\[\s*\d+%\])?"
_PYTEST_WORD = r"(?P<word>PASSED|FAILED|SUBFAILED|SKIPPED|ERROR|XFAIL|XPASS)"
_UNITTEST_WORD = r"(?P<word>ok|FAIL|ERROR|skipped|expected failure|unexpected success)"

# A line that names a test and says what became of it.
_TESTS = tuple(
    re.compile(pattern)
    for pattern in (
        # libtest
        r"test (?P<name>\S.*?) \.\.\. (?P<word>ok|FAILED|ignored|bench:)(?:, .*| {1,8}[\d.,]+ ns/iter.*| <[\d.]+s>)?",
        # pytest -v, its plugin for several processes, and the short summary
        rf"(?P<name>[^\s:]+::.*?\S) {_PYTEST_WORD}(?: \(.*\))?{_PERCENT}",
        rf"\[gw\d+\]{_PERCENT} {_PYTEST_WORD} (?P<name>[^\s:]+::.*)",
        rf"{_PYTEST_WORD}(?:\(.*?\)|\[.*?\])? (?P<name>[^\s:]+::.*?)(?: - .*)?",
        # unittest -v
        rf"\s*(?P<name>\w+ \([\w.<>]+\))(?: [\[(].*[\])])? \.\.\. {_UNITTEST_WORD}(?: .*)?",
        # go test -v
        r"\s*--- (?P<word>PASS|FAIL|SKIP): (?P<name>\S+) \([\d.]+s\)",
        # Node's spec reporter, Jest, Vitest
        r"\s*(?P<word>[✔✓√✖✗✕\u00d7﹣○↓]) (?:skipped )?(?P<name>\S.*?)(?: \(?[\d.]+ ?m?s\)?)?(?P<directive> # .*)?",
        # CTest
        r"\s*\d+/\d+ Test +#\d+: (?P<name>\S.*?) \.{2,}\s*(?P<word>Passed|\*\*\*(?:Skipped|Not Run|\w+)).*",
        # prove
        r"(?P<name>\S+\.t) \.\.+ (?P<word>ok|skipped|Failed|Dubious).*",
    )
)
# A line that names a test whose outcome comes on a later line, after what the test printed: libtest and pytest -s with
# one thread, unittest with warnings, unittest with a description.
_OPENED = tuple(
    re.compile(pattern)
    for pattern in (
        r"test (?P<name>\S.*?) \.\.\. .*",
        r"(?P<name>\w+ \([\w.<>]+\))(?: \.\.\. .*)?",
        r"(?P<name>\S+\.\w+::\S+) .*",
    )
)
_CLOSED = re.compile(
    r"(?:.* \.\.\. )?"
    rf"(?P<word>ok|FAILED|ignored|FAIL|ERROR|skipped '.*'|expected failure|PASSED|SKIPPED|XFAIL){_PERCENT}"
)
_TAP = re.compile(r"\s*(?P<word>ok|not ok) (?P<number>\d+)(?: -)?(?: (?P<name>[^#]*))?(?P<directive>#.*)?")
_TAP_PLAN = re.compile(rb"(?m)^[ \t]*(?:1\.\.\d+|TAP version \d+)[ \t\r]*$")
_PROGRESS = re.compile(rf"(?P<name>\S+\.\w+) (?P<marks>[.FEsxX]+){_PERCENT}")
_PROGRESS_ON = re.compile(rf"(?P<marks>[.FEsxX]+){_PERCENT}")
_PYTEST = re.compile(rb"(?m)^=+ test session starts =+[ \t\r]*$")
_GO_PACKAGE = re.compile(r"(?P<word>ok|FAIL|\?) *\t(?P<name>\S+)\t(?P<rest>.*)")

_LIBTEST_SUM = re.compile(
    r"test result: \w+\. (?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<ignored>\d+) ignored; "
    r"\d+ measured; (?P<filtered>\d+) filtered out.*"
)
_PYTEST_SUM = re.compile(r"(?:=+ )?(?P<all>\d+ [a-z]+.*?) in \d[\d.]*s\b.*")
_JS_SUM = re.compile(r"\s*Tests:?\s+(?P<all>\d+ [a-z].*)")
_NODE_SUM = re.compile(r"[#ℹ] (?P<word>pass|fail|cancelled|skipped|todo) (?P<count>\d+)")  # noqa: RUF001 - Node's sign
_UNITTEST_SUM = re.compile(r"Ran (?P<count>\d+) tests? in .*")
_UNITTEST_END = re.compile(r"(?:OK|FAILED|NO TESTS RAN)(?: \((?P<all>[^)]*)\))?")
_PROVE_SUM = re.compile(r"Files=\d+, Tests=(?P<count>\d+), .*")
_PART = re.compile(r"\b(\d{1,9}) (passed|failed|skipped|deselected|todo|pending|errors?|xfailed|xpassed)\b")

_WORDS: dict[str, Outcome] = {
    **dict.fromkeys(("ok", "PASSED", "PASS", "pass", "Passed", "passed", "bench:", *"✔✓√."), "passed"),
    **dict.fromkeys(("FAILED", "SUBFAILED", "FAIL", "fail", "failed", "ERROR", "error", "errors"), "failed"),
    **dict.fromkeys(("not ok", "cancelled", "failures", "Failed", "Dubious", *"✖✗✕\u00d7FE"), "failed"),
    **dict.fromkeys(("ignored", "SKIPPED", "SKIP", "skip", "skipped", "deselected", "pending", "?", "s"), "skipped"),
    **dict.fromkeys(("***Skipped", "***Not Run", *"﹣○↓"), "skipped"),
}


def read_outcomes(*streams: bytes) -> Outcomes:
    """What a test command printed, one stream after the other. Never fails: what is no outcome is none."""
    found = _Found()
    for stream in streams:
        reading = _Reading(found, tap=bool(_TAP_PLAN.search(stream)), pytest=bool(_PYTEST.search(stream)))
        for line in _lines(stream):
            reading.line(line)
    # A package says nothing that its tests do not say, where those are named.
    return Outcomes(found.tests or found.packages, found.counts if found.summarised else None)


@dataclass
class _Found:
    tests: dict[str, Counter[Outcome]] = field(default_factory=dict)
    packages: dict[str, Counter[Outcome]] = field(default_factory=dict)
    counts: Counter[Outcome] = field(default_factory=Counter)
    summarised: bool = False

    def test(self, name: str, outcome: Outcome, *, count: int = 1) -> None:
        self.tests.setdefault(_steady(name), Counter())[outcome] += count

    def package(self, name: str, outcome: Outcome) -> None:
        self.packages.setdefault(f"package {name}", Counter())[outcome] += 1

    def sum(self, outcome: Outcome, count: int) -> None:
        self.counts[outcome] += count
        self.summarised = True


@dataclass
class _Reading:
    """One stream. `opened` is a test whose outcome is still to come, `file` the one whose progress may go on."""

    found: _Found
    tap: bool
    pytest: bool
    opened: str | None = None
    file: str | None = None
    ran: int = 0

    def line(self, line: str) -> None:
        file, self.file = self.file, None
        if line.startswith("{"):
            self._go_json(line)
        elif not (self._summary(line) or self._test(line) or self._other(line, file)):
            self._half(line)

    def _test(self, line: str) -> bool:
        match = next((match for pattern in _TESTS if (match := pattern.fullmatch(line))), None)
        if match is None:
            return False
        said = match.groupdict()
        # Vitest's line about a whole file: its summary says more.
        if not re.search(r"\(\d+ tests?\b", said["name"]):
            self.found.test(said["name"], _outcome(said["word"], said.get("directive")))
        self.opened = None
        return True

    def _other(self, line: str, file: str | None) -> bool:
        if self.tap and (match := _TAP.fullmatch(line)):
            name = (match["name"] or "").strip() or f"test {match['number']}"
            self.found.test(name, _outcome(match["word"], match["directive"]))
            return True
        if match := _GO_PACKAGE.fullmatch(line):
            self.found.package(match["name"], "skipped" if "[no test" in match["rest"] else _outcome(match["word"]))
            return True
        if self.pytest and (match := _PROGRESS.fullmatch(line)):
            self._progress(match["name"], match["marks"])
            return True
        if file is not None and (match := _PROGRESS_ON.fullmatch(line)):
            self._progress(file, match["marks"])
            return True
        return False

    def _progress(self, file: str, marks: str) -> None:
        self.file = file
        for mark, count in Counter(marks).items():
            self.found.test(file, _outcome(mark), count=count)

    def _half(self, line: str) -> None:
        if self.opened is not None and (match := _CLOSED.fullmatch(line)):
            self.found.test(self.opened, _outcome(match["word"].split(" '")[0]))
            self.opened = None
        elif match := next((match for pattern in _OPENED if (match := pattern.fullmatch(line))), None):
            self.opened = match["name"]

    def _summary(self, line: str) -> bool:
        if match := _LIBTEST_SUM.fullmatch(line):
            self.found.sum("passed", int(match["passed"]))
            self.found.sum("failed", int(match["failed"]))
            self.found.sum("skipped", int(match["ignored"]) + int(match["filtered"]))
        elif match := _PYTEST_SUM.fullmatch(line) or _JS_SUM.fullmatch(line):
            for count, word in _PART.findall(match["all"]):
                self.found.sum(_outcome(word), int(count))
        elif match := _NODE_SUM.fullmatch(line):
            self.found.sum(_outcome(match["word"]), int(match["count"]))
        elif match := _PROVE_SUM.fullmatch(line):
            self.found.sum("passed", int(match["count"]))
        elif match := _UNITTEST_SUM.fullmatch(line):
            self.ran = int(match["count"])
        elif self.ran and (match := _UNITTEST_END.fullmatch(line)):
            self._unittest(match["all"] or "")
        else:
            return False
        return True

    def _unittest(self, said: str) -> None:
        parts = [part.partition("=") for part in said.split(", ") if part]
        counts = [(word, int(count)) for word, _, count in parts if count.isdecimal()]
        self.found.sum("passed", max(0, self.ran - sum(count for _, count in counts)))
        for word, count in counts:
            self.found.sum(_outcome(word), count)
        self.ran = 0

    def _go_json(self, line: str) -> None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        action, package, test = (event.get(key) for key in ("Action", "Package", "Test"))
        if action not in ["pass", "fail", "skip"] or not isinstance(package, str):
            return
        if isinstance(test, str):
            self.found.test(f"{package} {test}", _outcome(action))
        else:
            self.found.package(package, _outcome(action))


def _lines(stream: bytes) -> Iterator[str]:
    for match in _LINE.finditer(stream):
        if match.end() - match.start() <= LONGEST:
            yield _COLOUR.sub("", match[0].decode("utf-8", "replace")).rstrip()


def _steady(name: str) -> str:
    return _UNSTEADY.sub("", name).strip() or name


def _outcome(word: str, directive: str | None = None) -> Outcome:
    found = _WORDS.get(word, "other")
    if directive is None or found == "failed":
        return found
    said = directive.strip(" #").lower()
    return "skipped" if said.startswith("skip") else "other" if said.startswith("todo") else found
