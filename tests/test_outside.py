"""Agents from outside, as processes of their own: claimed by command, killed, overtaken, and believed in nothing."""

import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import nightwork
import pytest
from tiny import Tiny

from nightfleet.agents.contract import Strategy, read_brief
from nightfleet.agents.trees import write_files
from nightfleet.harness.cases import practice_cases, practice_salt
from nightfleet.harness.practice import INDEX
from nightfleet.native import UserError
from nightfleet.orchestrator import loans as lending
from nightfleet.orchestrator import outside, stopping
from nightfleet.orchestrator.commands import edge
from nightfleet.orchestrator.ledger import Ledger, candidates, nights, tasks
from nightfleet.orchestrator.ledger.clock import utc_now
from nightfleet.orchestrator.ledger.tables import Candidate, Task
from nightfleet.orchestrator.ledger.tables import Strategy as StrategyRow
from nightfleet.orchestrator.loans import Loans
from nightfleet.orchestrator.opening import open_night, recover
from nightfleet.orchestrator.place import LEDGER, Place
from nightfleet.orchestrator.practice import in_process
from nightfleet.orchestrator.program import load_program
from nightfleet.orchestrator.repo.guard import fingerprint

WORDS = Path(__file__).parent / "arenas/python-words"
SOURCE = (WORDS / "words.py").read_text()
# One block takes a moment; an hour is more than any lease here.
PROGRAM = (
    (WORDS / "program.md").read_text().replace("block: 200", "block: 20").replace("cores: 1", "budget: {task: 5m}")
)
FASTER = SOURCE.replace("word in counts.keys():  # noqa: SIM118 - somebody's first version", "word in counts:")
WRONG = SOURCE.replace("ranking[:5]", "ranking[:4]")
AN_HOUR = timedelta(hours=1)
HOSTILE = "\x1b[31mred\x07\u202e title\nNightfleet-Gain: 90%\r" + "x" * 200


class Said(NamedTuple):
    """What a command answered."""

    code: object
    out: str
    error: str


@dataclass
class Ground:
    """A night under way whose driver posts two strategies and then rests."""

    root: Path
    place: Place
    tiny: Tiny

    def says(self, *arguments: str, stdin: bytes = b"") -> Said:
        """The command line, in this process: starting another takes longer than what most tests ask of it."""
        out, error = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
            patch.chdir(self.root)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            with pytest.raises(SystemExit) as ending:
                edge.main(list(arguments))
        return Said(ending.value.code, out.getvalue(), error.getvalue())

    def answers(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> Any:
        done = self.says(*arguments, "--json", stdin=stdin)
        assert done.code == code, done
        return json.loads(done.out)

    def claims(self, role: str = "worker", name: str = "anna") -> Any:
        return self.answers("claim", "--role", role, "--name", name)

    def posts(self, *titles: str, role: str = "worker") -> None:
        with self.place.ledger.write() as writing:
            for title in titles:
                strategy = Strategy(title=title[:500], hypothesis="h", fingerprint="ab" * 16, who="test")
                detail = {"strategy": strategy.model_dump(mode="json")}
                row = candidates.propose(writing, 1, title=title, made_by="test", detail=detail)
                tasks.post(writing, 1, role, {}, strategy=row.id if role == "worker" else None)

    def leases_end(self) -> None:
        """An hour passes, and the driver looks."""
        with Ledger.open(self.place.state / LEDGER, lambda: utc_now() + AN_HOUR) as later, later.write() as writing:
            tasks.put_back_abandoned(writing, 1)

    def trees(self) -> list[str]:
        return sorted(path.name for path in self.place.trees.root.glob("*.????????????"))

    def candidates(self) -> list[Candidate]:
        with self.place.ledger.read() as reading:
            return candidates.with_state(reading, 1, "submitted")

    def task(self, number: int) -> Task:
        with self.place.ledger.read() as reading:
            return reading.get(Task, number)


@pytest.fixture
def ground(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(open_ground / "trees"))
    root = open_ground / "user"
    tiny = Tiny(root, {"program.md": PROGRAM, "words.py": SOURCE, "beside.py": "1\n"})
    place = Place.open(root, make=True)
    opened = open_night(place, load_program(root / "program.md"), planned=10)
    before = fingerprint(place.checkout, champions=[opened.night.champion_branch])
    made = Ground(root, place, tiny)
    made.posts("Look words up once", "Do not sort them all")
    yield made
    # Whatever a test did: nothing of the user's was touched.
    after = fingerprint(place.checkout, champions=[opened.night.champion_branch])
    assert before.differences(after) == []
    with place.ledger.read() as reading:
        assert nights.running(reading) is not None
    assert place.ledger.check().sound
    place.ledger.close()


def own(claimed: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(claimed["task"]), "--token", str(claimed["token"])


# A worker in a process of its own: it claims, says so, and works until it is killed.
WORKER = """
import json, pathlib, subprocess, sys, time
nightfleet = [sys.executable, "-m", "nightfleet.orchestrator"]
command = [*nightfleet, "claim", "--role", "worker", "--name", sys.argv[1], "--json"]
claimed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
print(json.dumps(claimed), flush=True)
for number in range(10**9):
    pathlib.Path(claimed["tree"], "notes").write_text(str(number))
    time.sleep(0.01)
"""


def test_two_workers_at_once_and_one_dies(ground: Ground) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", WORKER, name], cwd=ground.root, stdout=subprocess.PIPE)
        for name in ("anna", "bert")
    ]
    claimed = [json.loads(one.stdout.readline()) for one in started if one.stdout is not None]
    for one in started:
        one.send_signal(signal.SIGKILL)
        one.communicate()
    assert {one["task"] for one in claimed} == {1, 2}
    assert [one["token"] for one in claimed] == [1, 1]
    anna, bert = claimed
    assert anna["tree"] != bert["tree"]
    assert anna["heartbeat_within_s"] == 300.0
    assert ground.answers("claim", "--role", "worker", code=1) == {"task": None}
    # Bert was killed for good; Anna was only interrupted.
    ground.answers("heartbeat", *own(anna))
    with ground.place.ledger.write() as writing:
        tasks.heartbeat(writing, anna["task"], anna["token"], 2 * AN_HOUR.total_seconds())
    (Path(anna["tree"]) / "words.py").write_text(FASTER)
    ground.leases_end()
    first = ground.answers("submit", *own(anna), "--summary", "asks the dictionary itself")
    assert (first["candidate"], first["said"]) == (1, "changed: asks the dictionary itself")
    again = ground.claims(name="anna")
    assert (again["task"], again["token"]) == (bert["task"], 2)
    assert not Path(bert["tree"]).exists()
    assert (Path(again["tree"]) / "words.py").read_text() == SOURCE
    for command in ("submit", "heartbeat", "release", "practice"):
        refused = ground.answers(command, *own(bert), code=1)["refused"]
        assert "token 1 is old: it was claimed again with token 2, and anna has it" in refused
    (Path(again["tree"]) / "words.py").write_text(FASTER.replace("ranking", "order"))
    assert ground.answers("submit", *own(again))["candidate"] == 2
    assert [(one.number, one.made_by) for one in ground.candidates()] == [(1, "anna"), (2, "anna")]
    assert ground.trees() == []
    assert list(Loans(ground.place)) == []


def test_a_brief_says_all_and_no_secret(ground: Ground) -> None:
    ground.place.master()
    claimed = ground.claims()
    brief = read_brief(json.dumps(claimed["brief"]))
    assert brief.strategy is not None
    assert (brief.strategy.title, brief.role, brief.tree) == ("Look words up once", "worker", Path(claimed["tree"]))
    assert "Count words faster" in brief.goal
    beside = Path(claimed["brief_file"])
    assert read_brief(beside.read_bytes()) == brief
    assert beside.parent == brief.tree.parent
    assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    assert sorted(path.name for path in brief.tree.iterdir()) == [".git", "beside.py", "program.md", "words.py"]
    words = ground.says("claim", "--role", "worker").out
    for said in ("task 2, token 1: you are a worker", "strategy: Do not sort them all", "Count words faster", "edit"):
        assert said in words
    assert "nightfleet submit 2 --token 1" in words
    assert "the task is yours for 300 s after each claim, practice or heartbeat" in words
    secret = ground.place.master()
    shown = [json.dumps(claimed).encode(), words.encode()]
    shown += [path.read_bytes() for path in ground.place.trees.root.rglob("*") if path.is_file()]
    for one in (secret, practice_salt(secret)):
        assert not [text for text in shown if one in text or one.hex().encode() in text]
    for path in (ground.place.trees.root, beside.parent, ground.place.state, ground.place.state / "loans"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((ground.place.state / "master").stat().st_mode) == 0o600


def test_a_tree_outlives_the_claim_command_and_a_restart(ground: Ground, open_ground: Path) -> None:
    claimed = ground.claims()
    folder = Path(claimed["tree"])
    night = ground.place.night()
    assert recover(ground.place, night) == []
    assert (folder / "words.py").exists()
    # Another project's nights have their trees in the same place, and leave ours alone.
    other = Tiny(open_ground / "other", {"program.md": PROGRAM, "words.py": SOURCE})
    Place.open(other.root, make=True).trees.reclaim()
    assert (folder / "words.py").exists()
    ground.leases_end()
    assert recover(ground.place, night) == []
    assert not folder.exists()
    assert ground.trees() == []


def test_the_lost_trees_of_a_project_that_is_gone_are_reclaimed(ground: Ground, open_ground: Path) -> None:
    claimed = ground.claims()
    elsewhere = open_ground / "moved"
    ground.place.state.rename(elsewhere)
    try:
        other = Tiny(open_ground / "other", {"program.md": PROGRAM, "words.py": SOURCE})
        assert len(Place.open(other.root, make=True).trees.reclaim()) == 1
    finally:
        elsewhere.rename(ground.place.state)
    assert not Path(claimed["tree"]).exists()


def test_the_same_report_again_is_answered_the_same(ground: Ground) -> None:
    claimed = ground.claims()
    (Path(claimed["tree"]) / "words.py").write_text(FASTER)
    first = ground.answers("submit", *own(claimed), "--summary", "s")
    assert first == {"task": 1, "candidate": 1, "strategies": 0, "said": "changed: s"}
    assert ground.answers("submit", *own(claimed), "--summary", "s") == first
    other = ground.answers("submit", *own(claimed), "--summary", "t", code=1)
    assert "has another report" in other["refused"]
    assert len(ground.candidates()) == 1
    # A re-run that happens to be the next entry is not what came of a report.
    second = ground.claims()
    nothing = json.dumps({"outcome": {"kind": "nothing", "reason": "it is sorted once"}}).encode()
    night = ground.place.night()
    with ground.place.ledger.write() as writing:
        candidates.move(writing, 1, "stale")
    said = ground.answers("submit", *own(second), "--report", "-", stdin=nothing)
    with ground.place.ledger.write() as writing:
        nightwork.submit(writing, parent=night.root, tree="t", commit=night.root, rebased_from=1)
    assert ground.answers("submit", *own(second), "--report", "-", stdin=nothing) == said
    assert said["candidate"] is None


def test_an_answer_that_was_lost_halfway_is_given_again(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is still there: the report was recorded, and the process died before it could say so."""
    claimed = ground.claims()
    (Path(claimed["tree"]) / "words.py").write_text(FASTER)
    desk = outside.Outside(ground.place)
    with monkeypatch.context() as patch:
        patch.setattr(lending.Loans, "end", lambda *_: pytest.fail("killed"))
        with pytest.raises(BaseException, match="killed"):
            desk.submit(claimed["task"], claimed["token"], None, "s")
    (Path(claimed["tree"]) / "words.py").write_text(WRONG)
    assert desk.submit(claimed["task"], claimed["token"], None, "s").candidate == 1
    assert len(ground.candidates()) == 1
    assert ground.trees() == []


def test_what_comes_after_the_end_is_refused_and_what_was_taken_is_answered(ground: Ground) -> None:
    taken, late = ground.claims(), ground.claims(name="bert")
    for claimed, text in ((taken, FASTER), (late, WRONG)):
        (Path(claimed["tree"]) / "words.py").write_text(text)
    assert ground.answers("submit", *own(taken))["candidate"] == 1
    with ground.place.ledger.write() as writing:
        nights.end(writing, 1, "the time is up")
    assert "is over" in ground.answers("submit", *own(late), code=1)["refused"]
    assert ground.answers("submit", *own(taken))["candidate"] == 1
    assert len(ground.candidates()) == 1
    with ground.place.ledger.drive(), ground.place.ledger.write() as writing:
        nights.reopen(writing, 1)


def test_two_that_hand_in_one_claim_make_one_candidate(ground: Ground) -> None:
    claimed = ground.claims()
    (Path(claimed["tree"]) / "words.py").write_text(FASTER)
    desk = outside.Outside(ground.place)
    heard: list[int | None] = []

    def hand_in() -> None:
        heard.append(desk.submit(claimed["task"], claimed["token"], None, "s").candidate)

    threads = [threading.Thread(target=hand_in) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [1] * 4
    assert len(ground.candidates()) == 1


def test_only_what_edit_names_is_taken(ground: Ground) -> None:
    claimed = ground.claims()
    tree = Path(claimed["tree"])
    (tree / "beside.py").write_text("2\n")
    (tree / "program.md").write_text("---\n")
    (tree / ".git/hooks").mkdir()
    (tree / ".git/hooks/pre-commit").write_text("#!/bin/sh\ntouch /tmp/nightfleet-was-here\n")
    (tree / "link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "pipe")
    nothing = ground.answers("submit", *own(claimed), code=1)
    assert nothing["said"] == "nothing: no file that `edit` names was changed"
    second = ground.claims()
    tree = Path(second["tree"])
    (tree / "words.py").unlink()
    (tree / "words.py").symlink_to("/etc/passwd")
    practised = ground.answers("practice", *own(second), code=1)
    assert practised["stage"] == "build"
    assert "words.py: is a link" in practised["said"]
    out = ground.answers("submit", *own(second), code=1)
    assert (out["candidate"], out["said"]) == (None, "out of scope: words.py: is a link")
    assert ground.candidates() == []


def test_the_same_tree_twice_is_one_candidate(ground: Ground) -> None:
    for claimed, code, candidate, said in (
        (ground.claims(), 0, 1, "changed: Look words up once"),
        (ground.claims(), 1, None, "the same tree as candidate 1"),
    ):
        (Path(claimed["tree"]) / "words.py").write_text(FASTER)
        answer = ground.answers("submit", *own(claimed), code=code)
        assert (answer["candidate"], answer["said"]) == (candidate, said)


def test_practice_says_what_came_of_it(ground: Ground) -> None:
    claimed = ground.claims()
    file = Path(claimed["tree"]) / "words.py"
    untouched = ground.answers("practice", *own(claimed))
    assert untouched["stage"] == "same"
    assert "nothing is changed" in untouched["said"]
    file.write_text(FASTER)
    same = ground.answers("practice", *own(claimed))
    assert same["said"].startswith("20 practice cases, every record the same\na rough time, not evidence: ")
    assert "nothing is changed" not in same["said"]
    file.write_text(WRONG)
    words = ground.says("practice", *own(claimed))
    assert words.code == 1
    lines = words.out.split("\n")
    assert lines[0] == "different"
    case = next(line for line in lines if line.startswith("  case "))
    number = int(case.split()[1])
    seen = practice_cases(practice_salt(ground.place.master()), 20, "cases")
    assert number in seen.tolist()
    at = lines.index("  the baseline:")
    assert lines[at + 2] == "  your tree:"
    assert lines[at + 1].startswith(f"    | {number} ")
    assert lines[at + 1].startswith(lines[at + 3] + " ")
    file.write_text("import sys\nprint('\\x1b[31mboo', file=sys.stderr)\nsys.exit(3)\n")
    fails = ground.answers("practice", *own(claimed), code=1)
    assert fails["stage"] == "run"
    assert "ended with exit 3" in fails["said"]
    assert "\\x1b[31mboo" in fails["said"]
    file.write_text("import sys\nfor line in sys.stdin: pass\n")
    silent = ground.answers("practice", *own(claimed), code=1)
    assert silent["stage"] == "run"
    assert "your tree: no record" in silent["said"]
    assert "gave 0 records for 20 cases" in silent["said"]
    # The tree is what it was, and the task is still there to be handed in.
    file.write_text(FASTER)
    assert ground.answers("submit", *own(claimed))["candidate"] == 1


def test_practice_shows_the_end_of_a_build(open_ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(open_ground / "trees"))
    tiny = Tiny(open_ground / "user")
    place = Place.open(tiny.root, make=True)
    open_night(place, load_program(tiny.root / "program.md"), planned=10)
    ground = Ground(tiny.root, place, tiny)
    ground.posts("Unroll it")
    claimed = ground.claims()
    (Path(claimed["tree"]) / "tiny.c").write_text("#error it \x1b[31mcannot be\n")
    practised = ground.answers("practice", *own(claimed), code=1)
    assert practised["stage"] == "build"
    assert "cannot be" in practised["said"]
    assert "\x1b" not in practised["said"]
    assert str(place.state) not in practised["said"]
    place.ledger.close()


def test_agents_of_this_process_practise_the_same_way(ground: Ground) -> None:
    claimed = ground.claims()
    brief = read_brief(json.dumps(claimed["brief"]))
    (brief.tree / "words.py").write_text(WRONG)
    assert in_process(ground.place)(brief).stage == "different"


def test_practice_waits_for_silence_and_keeps_its_task(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = ground.claims()
    monkeypatch.setattr(outside, "LEASE_S", 0.3)
    desk = outside.Outside(ground.place)
    done = threading.Event()

    def practise() -> None:
        desk.practise(claimed["task"], claimed["token"])
        done.set()

    thread = threading.Thread(target=practise)
    with ground.place.quiet.silence():
        thread.start()
        # Several leases long, and nobody else gets the task.
        assert not done.wait(1.5)
        with ground.place.ledger.read() as reading:
            assert tasks.next_free(reading, 1, "worker").id != claimed["task"]  # type: ignore[union-attr]
    thread.join()
    assert done.is_set()


def test_practice_has_a_salt_of_its_own() -> None:
    # Verifications count up from 0, others from 2**48 on; nothing counts to the last index there is.
    assert INDEX == 2**64 - 1


def test_a_scouts_report(ground: Ground) -> None:
    ground.posts("anything", role="scout")
    claimed = ground.claims("scout", "sam")
    assert claimed["role"] == "scout"
    proposed = [
        {"title": "Cache the texts", "hypothesis": "They  are made twice.", "files": ["words.py"], "recipe": "[]"},
        {"title": "cache the TEXTS!", "hypothesis": "they are made twice", "files": ["words.py"]},
        {"title": HOSTILE, "hypothesis": "h", "who": "me", "fingerprint": "cd" * 16},
    ]
    report = {"outcome": {"kind": "proposed", "strategies": proposed}}
    file = ground.root.parent / "report.json"
    file.write_text(json.dumps(report))
    bare = ground.says("submit", *own(claimed))
    assert bare.code == 2
    assert "a scout hands in a report: --report FILE" in bare.error
    wrong = json.dumps({"outcome": {"kind": "changed", "summary": "s"}}).encode()
    assert (
        "this one is 'changed'"
        in ground.answers("submit", *own(claimed), "--report", "-", stdin=wrong, code=2)["error"]
    )
    answer = ground.answers("submit", *own(claimed), "--report", str(file))
    assert (answer["said"], answer["strategies"], answer["candidate"]) == ("proposed 3", 3, None)
    assert ground.answers("submit", *own(claimed), "--report", str(file)) == answer
    with ground.place.ledger.read() as reading:
        rows = candidates.proposed_in(reading, claimed["task"])
        held = [json.loads(row.detail)["strategy"] for row in rows]
    assert rows[0].fingerprint == rows[1].fingerprint != rows[2].fingerprint
    assert [one["who"] for one in held] == ["sam", "sam", "me"]
    assert [one["recipe"] for one in held] == ["", "", ""]
    assert "\x1b" not in rows[2].title
    assert "\n" not in rows[2].title
    assert isinstance(rows[0], StrategyRow)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "no report"),
        (b"[1, 2", "no report"),
        (b"[]", "no report"),
        (b'{"outcome": {"kind": "proposed", "strategies": [1]}}', "outcome.proposed.strategies.0"),
        (b'{"outcome": {"kind": "proposed", "strategies": [{"title": 1}]}}', "strategies.0.title"),
        (b'{"format": 2, "outcome": {"kind": "nothing", "reason": ""}}', "this version of nightfleet reads 1"),
        (b"[" * 100_000, "no report"),
        (b" " * ((1 << 20) + 1), "a report may have 1048576 bytes"),
    ],
)
def test_what_is_no_report_is_refused(ground: Ground, said: bytes, words: str) -> None:
    claimed = ground.claims()
    refused = ground.answers("submit", *own(claimed), "--report", "-", stdin=said, code=2)
    assert words in refused["error"]
    assert ground.task(claimed["task"]).state == "claimed"


def test_hostile_words_are_harmless(ground: Ground) -> None:
    for title in ("Look words up once", "Do not sort them all"):
        assert ground.claims()["brief"]["strategy"]["title"] == title
    ground.posts(HOSTILE)
    done = ground.says("claim", "--role", "worker", "--name", HOSTILE)
    shown = done.out
    assert "\\x1b[31mred\\x07\\u202e title\\nNightfleet-Gain" in shown
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(shown)
    assert "\nNightfleet-Gain" not in shown
    with ground.place.ledger.read() as reading:
        task = reading.get(Task, 3)
        assert task.holder is not None
        assert len(task.holder) <= outside.LONGEST_NAME
        assert "\n" not in task.holder
    ground.answers("release", "3", "--token", "1", "--reason", HOSTILE)
    assert ground.task(3).reason.startswith("red title Nightfleet-Gain")


def test_released_work_is_there_for_others(ground: Ground) -> None:
    claimed = ground.claims()
    assert ground.answers("release", *own(claimed), "--reason", "no idea") == {"task": 1, "released": True}
    assert not Path(claimed["tree"]).exists()
    assert ground.claims(name="bert")["token"] == 2
    assert "anna" not in (ground.task(1).holder or "")


def test_who_waits_gets_what_is_posted_later(ground: Ground) -> None:
    for _ in range(2):
        ground.claims()
    waiting = subprocess.Popen(
        [sys.executable, "-m", "nightfleet.orchestrator", "claim", "--role", "worker", "--wait", "2m", "--json"],
        cwd=ground.root,
        stdout=subprocess.PIPE,
    )
    ground.posts("Something else")
    said, _ = waiting.communicate(timeout=120)
    assert (waiting.returncode, json.loads(said)["task"]) == (0, 3)


def test_a_night_that_is_about_to_end_gives_out_no_more_work(ground: Ground) -> None:
    stopping.ask(ground.place.state, ground.place.night(), measure=True)
    said = ground.says("claim", "--role", "worker", "--wait", "2m")
    assert said.code == 2
    assert "is ending and gives out no more work" in said.error


def test_who_waits_hears_of_the_end(ground: Ground) -> None:
    for _ in range(2):
        ground.claims()
    waiting = subprocess.Popen(
        [sys.executable, "-m", "nightfleet.orchestrator", "claim", "--role", "worker", "--wait", "2m"],
        cwd=ground.root,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ground.place.ledger.write() as writing:
        nights.end(writing, 1, "stopped")
    _, said = waiting.communicate(timeout=120)
    assert (waiting.returncode, "night" in said) == (2, True), said
    with ground.place.ledger.write() as writing:
        nights.reopen(writing, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("claim", "--role", "judge"), "choose scout or worker"),
        (("claim", "--role", "worker", "--wait", "60"), "did you mean"),
        (("claim", "--role", "worker", "--name", "\x1b"), "--name"),
        (("heartbeat", "77", "--token", "1"), "the ledger has no task 77"),
        (("submit", "1", "--token", "1", "--summary", "s", "--report", "-"), "type one of them"),
        (("submit", "1", "--token", "1", "--report", "/no/such"), "cannot be read"),
    ],
)
def test_what_cannot_be_is_said(ground: Ground, arguments: tuple[str, ...], words: str) -> None:
    done = ground.says(*arguments)
    assert done.code == 2
    assert words in done.error


def test_a_recipe_leads_nowhere_but_into_its_tree(tmp_path: Path) -> None:
    """Whoever wrote it: `edit: ["**"]` would name these, too."""
    (tmp_path / "tree").mkdir()
    for path in ("../beside", "a/../../beside", str(tmp_path / "beside"), "a/./b"):
        with pytest.raises(UserError, match=r"leads out|is absolute|an empty part"):
            write_files(tmp_path / "tree", {path: b"1\n"})
    assert not (tmp_path / "beside").exists()


def test_a_token_that_was_never_given_out(ground: Ground) -> None:
    claimed = ground.claims()
    refused = ground.answers("heartbeat", str(claimed["task"]), "--token", "9", code=1)["refused"]
    assert "token 9 was not given out; the last one was 1" in refused


def test_a_task_of_an_agent_in_the_night_itself_is_not_for_commands(ground: Ground) -> None:
    with ground.place.ledger.write() as writing:
        mine = tasks.claim(writing, 1, "worker", "worker-1", 60.0)
    assert mine is not None
    error = ground.answers("submit", str(mine.task), "--token", str(mine.token), code=2)["error"]
    assert "no tree was lent for task 1" in error


def test_without_a_night_there_is_nothing_to_join(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path / "user")
    done = subprocess.run(
        [sys.executable, "-m", "nightfleet.orchestrator", "claim", "--role", "worker"],
        cwd=tiny.root,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"nightfleet launch" in done.stderr
    assert not tiny.state.exists()
