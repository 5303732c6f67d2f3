"""Replay: the commits of an existing branch, one by one onto the baseline of now, judged as if they were new.

Commits come as plain data, so that no agent ever reads the user's repository. A commit is carried over as `cherry-pick`
would: file by file, a three-way merge between the commit's parent, the commit, and the tree of now, by `git merge-file`
in a folder that is thrown away. Renames are a file less and a file more. Files that the arena freezes stay as they are,
and the report names them.
"""

import hashlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightfleet.agents.contract import (
    Brief,
    Changed,
    Desk,
    Failed,
    Nothing,
    Outcome,
    Proposed,
    Report,
    Spend,
    Strategy,
    fit,
)
from nightfleet.agents.trees import write_files
from nightfleet.harness.copies import take_away
from nightfleet.harness.folder import Folder
from nightfleet.harness.tree import printable
from nightfleet.native import MachineError, UserError

# How what became of a commit without a verdict begins, for whoever tells people.
CONFLICT = "conflicts with the baseline"
NOT_INSIDE = "nothing that `edit` names"
NOTHING_LEFT = "the baseline holds all that this commit changes inside edit"
# Fixed: merging a file of the largest size takes milliseconds.
MERGE_TIMEOUT_S = 60.0

NUMBER = r"([0-9]+(?:[.,][0-9]+)?)"
FASTER = (
    r"(?:faster|quicker|speed[- ]?ups?|improvements?|improved|gains?|reductions?|less|fewer|lower|shorter|savings?"
    r"|better)"
)
SLOWER = r"(?:slower|slow[- ]?downs?|regressions?|more time|longer|worse)"
BETTER = (
    r"(?:faster|quicker|speed(?:s|ed)?[- ]?ups?|sped up|improv\w+|gain\w*|reduc\w+|sav\w+|cut\w*|shav\w+|decreas\w+"
    r"|lower\w*|drop\w*)"
)
TIME = r"(?:time|runtime|run[- ]time|latency|cpu|wall|duration|ms|seconds|cycles|instructions)"
# People's signs: hyphen, minus, dash; the letter x, the multiplication sign.
MINUS = "[-\u2212\u2013]"
BY = "[x\u00d7]"
RATE = re.compile(r"throughput|ops?/s|/s\b|per second|\bfps\b|\bqps\b|\brps\b|\bhz\b|tok(?:ens)?/s", re.IGNORECASE)
TIMES = re.compile(rf"(?<![\w.]){NUMBER} ?{BY}(?!\w)(?! ?[0-9])", re.IGNORECASE)
ARROW = re.compile(rf"(?<![\w.]){NUMBER} ?(?:[a-zA-Zµ%/]{{0,12}}) ?(?:→|->|=>|⟶) ?{NUMBER}")
FROM_TO = re.compile(rf"\bfrom {NUMBER} ?[a-zA-Zµ/]{{0,12}} (?:down |up )?to {NUMBER}", re.IGNORECASE)
PERCENTS: Sequence[tuple[re.Pattern[str], int]] = tuple(
    (re.compile(pattern, re.IGNORECASE), sign)
    for pattern, sign in (
        (rf"{NUMBER} ?% ?(?:\w+ ){{0,2}}{SLOWER}", -1),
        (rf"{NUMBER} ?% ?(?:\w+ ){{0,2}}{FASTER}", 1),
        (rf"\+{NUMBER} ?% (?:\w+ )?{TIME}\b", -1),
        (rf"{MINUS}{NUMBER} ?% (?:\w+ )?{TIME}\b", 1),
        (rf"\b{TIME}:? ?\(?\+{NUMBER} ?%", -1),
        (rf"\b{TIME}:? ?\(?{MINUS}{NUMBER} ?%", 1),
        (rf"slower by (?:about |~)?{NUMBER} ?%", -1),
        (rf"\b{BETTER}\b[^.;%]{{0,60}}?(?:\bby |\bof |: ?|\(|~|\+| ){NUMBER} ?%", 1),
        (rf"(?<![\w.]){MINUS}{NUMBER} ?%", 1),
    )
)


@dataclass(frozen=True)
class Versions:
    """One file before and after a commit; None where it is not there."""

    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Commit:
    """One commit of the branch, as plain data.

    Attributes:
        id: of the commit.
        message: in full.
        author: a name, for the record.
        files: every path that it changes, relative to the arena's folder.
    """

    id: str
    message: str
    files: Mapping[str, Versions] = field(repr=False)
    author: str = ""

    @property
    def subject(self) -> str:
        """The message's first line."""
        return (self.message.strip().splitlines() or [""])[0]

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: the same commit is the same idea."""
        return hashlib.sha256(f"nightfleet replay 1 {self.id}".encode()).hexdigest()[:32]


class ReplayBackend:
    """Somebody else's night.

    Args:
        commits: the oldest first.
    """

    name = "replay"
    # A commit builds on those before it: they are tried one after the other.
    most_scouts = 1
    most_workers = 1
    busy = True

    def __init__(self, commits: Sequence[Commit]) -> None:
        self._commits = tuple(commits)

    def scout(self, brief: Brief, desk: Desk) -> Report:
        """Propose the commits that were not tried yet, the oldest first."""
        del desk
        # What was never judged because its baseline was replaced gets its turn on the new one.
        tried = {one.fingerprint for one in brief.tried if one.verdict != "stale" or one.gain is not None}
        left = [commit for commit in self._commits if commit.fingerprint not in tried]
        if not left:
            return Report(outcome=Nothing(reason=f"all {len(self._commits)} commits of the branch were tried"))
        return Report(outcome=Proposed(strategies=fit([_strategy(one) for one in left], brief.limits.strategies)))

    def worker(self, brief: Brief, desk: Desk) -> Report:
        """Carry one commit over to the brief's tree."""
        began = time.monotonic()
        notes: list[str] = []
        try:
            outcome = self._work(brief, desk, notes.append)
        except (UserError, MachineError, OSError) as error:
            outcome = Failed(cause=str(error)[:8_000])
        return Report(outcome=outcome, notes=tuple(notes), spend=Spend(seconds=time.monotonic() - began))

    def _work(self, brief: Brief, desk: Desk, note: Callable[[str], None]) -> Outcome:
        wanted = brief.strategy.recipe if brief.strategy is not None else ""
        commit = next((one for one in self._commits if one.id == wanted), None)
        if commit is None:
            return Failed(cause=f"the branch has no commit {printable(wanted[:80])!r}")
        if desk.cancelled():
            return Failed(cause="cancelled")
        scope = brief.arena.scope
        inside = {path: one for path, one in commit.files.items() if scope.frozen_because(path) is None}
        frozen = sorted(commit.files.keys() - inside.keys())
        if not inside:
            return Nothing(reason=f"{NOT_INSIDE}: {', '.join(map(printable, frozen)) or 'no file at all'}"[:8_000])
        if frozen:
            note(f"left out, because edit does not name them: {', '.join(map(printable, frozen))}"[:500])
        now = Folder(brief.tree).tree()
        there = now.files
        ours = {path: now.read(path) if path in there else None for path in inside}
        merged = {path: merge(one, ours[path]) for path, one in inside.items()}
        conflicts = [path for path, result in merged.items() if isinstance(result, Conflict)]
        if conflicts:
            return Failed(cause=f"{CONFLICT} in {', '.join(map(printable, conflicts))}"[:8_000])
        changed = {path: new for path, new in merged.items() if not isinstance(new, Conflict) and new != ours[path]}
        if not changed:
            return Nothing(reason=NOTHING_LEFT)
        write_files(brief.tree, {path: new for path, new in changed.items() if new is not None})
        for path in (path for path, new in changed.items() if new is None):
            take_away(brief.tree, path, int(time.time()))
        return Changed(summary=f"Carried over {commit.id[:12]}: {commit.subject}"[:500])


@dataclass(frozen=True)
class Conflict:
    """Both sides changed the same lines, or one of them the whole file."""


def merge(theirs: Versions, ours: bytes | None) -> bytes | Conflict | None:
    """What one file becomes; None where it goes.

    Args:
        theirs: the commit's parent and the commit.
        ours: the tree of now.

    Raises:
        MachineError: git is not there or failed.
    """
    if ours in (theirs.before, theirs.after):
        return theirs.after
    if ours is None or theirs.before is None or theirs.after is None:
        return Conflict()
    return _merged(ours, theirs.before, theirs.after)


def claim_of(message: str) -> float | None:
    """The gain that a commit's message claims, as a fraction of the time; None where it claims none.

    "8% faster" is taken for 8% less time, unless it says 100% or more; "1.3x" for 1 / 1.3 of the time. Of several
    claims the first one counts.
    """
    for line in message.splitlines():
        for read in (_arrow, _percent, _times):
            claim = read(line)
            if claim is not None:
                return max(-100.0, min(claim, 1.0))
    return None


def _strategy(commit: Commit) -> Strategy:
    claim = claim_of(commit.message)
    return Strategy(
        title=(commit.subject or commit.id[:12])[:500],
        hypothesis=commit.message[:8_000],
        # For people: a path may have bytes that no text has, or be longer than a report takes.
        files=tuple(printable(path)[:1_024] for path in sorted(commit.files)[:1_000]),
        expected_gain=0.0 if claim is None else claim,
        how_it_could_fail="It was measured by somebody else, on another baseline."
        if claim is not None
        else "It claims no gain.",
        fingerprint=commit.fingerprint,
        who="replay",
        recipe=commit.id,
    )


def _merged(ours: bytes, base: bytes, theirs: bytes) -> bytes | Conflict:
    with tempfile.TemporaryDirectory(prefix="nightfleet-merge-") as folder:
        place = Path(folder)
        for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
            (place / name).write_bytes(data)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,
            "GIT_CEILING_DIRECTORIES": str(place.parent),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C",
        }
        try:
            done = subprocess.run(
                ["git", "merge-file", "--stdout", "--quiet", "ours", "base", "theirs"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=MERGE_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(f"git merge-file failed: {error}") from None
    # The number of conflicts, at most 127; beyond that an error, as for binary files.
    return done.stdout if done.returncode == 0 else Conflict()


def _arrow(line: str) -> float | None:
    for pattern in (ARROW, FROM_TO):
        found = pattern.search(line)
        if found is not None and (before := _number(found[1])) > 0.0 and (after := _number(found[2])) > 0.0:
            return 1.0 - before / after if RATE.search(line) else 1.0 - after / before
    return None


def _percent(line: str) -> float | None:
    found = [(match.start(), rank, sign, match) for rank, match, sign in _percents(line)]
    if not found:
        return None
    _, _, sign, match = min(found, key=lambda one: (one[1], one[0]))
    share = _number(match[1]) / 100.0
    if sign > 0 and (share >= 1.0 or RATE.search(line)):
        return 1.0 - 1.0 / (1.0 + share)
    return sign * share


def _percents(line: str) -> Iterator[tuple[int, re.Match[str], int]]:
    for rank, (pattern, sign) in enumerate(PERCENTS):
        match = pattern.search(line)
        if match is not None:
            yield rank, match, sign


def _times(line: str) -> float | None:
    if re.search(r"\btwice as fast\b", line, re.IGNORECASE):
        return 0.5
    found = TIMES.search(line)
    if found is None or (factor := _number(found[1])) <= 0.0:
        return None
    rest = line[found.end() :]
    if re.match(rf" (?:the |of the )?(?:\w+ )?{TIME}\b", rest, re.IGNORECASE):
        return 1.0 - factor
    slower = re.match(r" ?slower", rest, re.IGNORECASE)
    return 1.0 - factor if slower else 1.0 - 1.0 / factor


def _number(text: str) -> float:
    return float(text.replace(",", "."))
