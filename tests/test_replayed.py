"""A replay from its branch to its table, with everything real but the judge."""

import io
import json
import subprocess
from pathlib import Path

import pytest
import scripted
import staged
from rich.console import Console
from scripted import Silent, git, holding_in, new_repository
from sqlalchemy import func, select

from nightfleet.native import UserError
from nightfleet.orchestrator import replaying
from nightfleet.orchestrator.commands import edge
from nightfleet.orchestrator.commands.launch import Held, end_of
from nightfleet.orchestrator.holding import Holding, Wishes
from nightfleet.orchestrator.ledger import nights, queries
from nightfleet.orchestrator.ledger.tables import Night, Task
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.replaying import commits_of
from nightfleet.orchestrator.views import replayed
from nightfleet.orchestrator.views.figures import columns
from nightfleet.orchestrator.views.replayed import Row

THEIRS = "theirs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    folder = new_repository(tmp_path / "repository")
    git(folder, "branch", THEIRS)
    return folder


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, words: str) -> None:
        self.said.append(words)


def commit(folder: Path, files: dict[str, str | bytes | None], message: str | bytes, *options: str) -> str:
    """One more commit on the branch; main is checked out again afterwards."""
    git(folder, "switch", "--quiet", THEIRS)
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.unlink()
        else:
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
    git(folder, "add", "--all", "src", *[path for path in files if not path.startswith("src") and files[path]])
    identity = ("-c", "user.name=Them", "-c", "user.email=them@example.org", "-c", "i18n.commitEncoding=UTF-8")
    said = message if isinstance(message, bytes) else message.encode()
    command = ["git", "-C", str(folder), *identity, "commit", "--quiet", "--allow-empty", "--file=-", *options]
    subprocess.run([*command, "--cleanup=verbatim"], input=said, check=True, capture_output=True)
    made = git(folder, "rev-parse", "HEAD").strip()
    git(folder, "switch", "--quiet", "main")
    return made


def change(folder: Path, number: int, message: str | bytes, becomes: str = "fast\n", *options: str) -> str:
    return commit(folder, {f"src/{number}.txt": becomes}, message, *options)


def not_utf8(folder: Path) -> None:
    """The branch's last commit as one who does not care writes it: in Latin-1, and without saying so."""
    last = git(folder, "cat-file", "commit", THEIRS)
    command = ["git", "-C", str(folder), "hash-object", "-t", "commit", "-w", "--stdin"]
    made = subprocess.run(command, input=last.encode("latin-1"), capture_output=True, check=True).stdout
    git(folder, "branch", "--force", THEIRS, made.decode().strip())


def replay(folder: Path, **changes: object) -> tuple[Night, list[Row], Holding]:
    held = holding_in(folder, Wishes(replay=THEIRS), **changes)  # type: ignore[arg-type]
    night = held.hold()
    return night, replayed.rows(held.place.ledger, night.number, held.replayed), held


def told(rows: list[Row]) -> list[str]:
    paper = io.StringIO()
    replayed.tell(rows, Console(file=paper, width=80))
    return paper.getvalue().splitlines()


def tasks_given(held: Holding, night: Night) -> int:
    with held.place.ledger.read() as reading:
        given = select(func.count()).where(Task.night == night.number, Task.role == "worker")
        return reading.session.scalar(given) or 0


def test_a_row_for_each_commit_the_oldest_first(folder: Path) -> None:
    made = [
        change(folder, 1, "Unroll by hand: 12% faster"),
        change(folder, 0, "Hoist\n\nMeasured: 1.25x"),
        change(folder, 2, "Reserve once"),
        change(folder, 3, "Copy less (-8% time)"),
        change(folder, 4, "Skip the check"),
        change(folder, 5, "Guess"),
    ]
    night, rows, _ = replay(folder)
    assert [row.commit for row in rows] == made
    assert [row.verdict for row in rows] == ["reject", "promote", "incremental", "promote", "incorrect", "undecided"]
    assert [row.claim for row in rows] == [
        pytest.approx(0.12),
        pytest.approx(0.2),
        None,
        pytest.approx(0.08),
        None,
        None,
    ]
    assert [row.promoted for row in rows] == [False, True, False, True, False, False]
    assert [row.pairs for row in rows] == [12, 12, 12, 12, 0, 12]
    assert [rows[1].gain, rows[1].low, rows[1].high] == pytest.approx([0.08, 0.07, 0.09])
    assert rows[4].gain is None
    assert {row.author for row in rows} == {"Them"}
    # Number 3 was near, and was run again on the champion that the fourth commit made.
    assert (rows[2].candidate, rows[3].candidate) == (5, 4)
    assert night.ending == "nothing is left to try"


def test_the_table(folder: Path) -> None:
    made = [change(folder, 0, "Hoist: 12% faster"), change(folder, 1, "Unroll by hand")]
    said = told(replay(folder)[1])
    assert said == [
        "commit     author  claims  verdict   gain         interval  pairs            subject            why",
        made[0][:9]
        + "  Them    +12.0%  promote  +8.0%   (7.0% to 9.0%)     12  promoted  Hoist: 12% faster  as scripted",
        made[1][:9]
        + "  Them         -  reject   +0.0%  (-1.0% to 1.0%)     12            Unroll by hand     as scripted",
        "1 of 2 commits are in the champion; 1 claimed a gain, and of those 1 were measured to have one",
    ]


def test_what_no_judge_saw_has_a_word_of_its_own(folder: Path) -> None:
    git(folder, "switch", "--quiet", "main")
    (folder / "src/11.txt").write_text("fast\n")
    git(folder, "commit", "--quiet", "--all", "--message=mine")
    change(folder, 1, "Rejected", "quick\n")
    change(folder, 1, "Builds on what was rejected", "fast\n")
    commit(folder, {"notes.md": "words\n"}, "Only words")
    commit(folder, {}, "Nothing at all")
    change(folder, 11, "What main has by now")
    change(folder, 7, "Once")
    change(folder, 7, "Taken back", "slow\n")
    change(folder, 7, "And again")
    _, rows, _ = replay(folder)
    assert [(row.verdict, row.candidate) for row in rows] == [
        ("reject", 1),
        ("conflict", None),
        ("outside edit", None),
        ("outside edit", None),
        ("nothing left", None),
        ("reject", 2),
        ("nothing left", None),
        ("same tree", None),
    ]
    assert rows[1].why == "conflicts with the baseline in src/1.txt"
    assert rows[2].why == "nothing that `edit` names: notes.md"
    assert rows[3].why == "nothing that `edit` names: no file at all"
    assert rows[7].why == "the same tree as candidate 2"


def test_what_was_left_out_of_a_commit_is_said(folder: Path) -> None:
    commit(folder, {"src/0.txt": "fast\n", "notes.md": "words\n"}, "Both")
    night, rows, _ = replay(folder)
    assert rows[0].promoted
    assert rows[0].why == "as scripted; left out, because edit does not name them: notes.md"
    assert git(folder, "ls-tree", "--name-only", night.champion_branch).split() == ["program.md", "src"]


def test_a_near_miss_that_conflicts_later_keeps_its_verdict_and_says_why(folder: Path) -> None:
    def both(number: int, before: str, after: str) -> dict[str, str | bytes | None]:
        return {f"src/{number}.txt": "fast\n", "src/11.txt": f"{before}{after}"}

    commit(folder, {"src/2.txt": "fast\n", "src/11.txt": "near\n"}, "Near")
    commit(folder, {"src/2.txt": "slow\n", "src/11.txt": "slow\n"}, "Back")
    commit(folder, both(0, "better", "\n"), "Better in the same line")
    _, rows, _ = replay(folder)
    assert [row.verdict for row in rows] == ["incremental", "nothing left", "promote"]
    assert rows[0].gain == 0.03
    assert rows[0].why == "as scripted; then it conflicts with the new baseline in src/11.txt"


@pytest.mark.parametrize("step", ["prepare", "time", "report"])
def test_what_was_tried_is_not_tried_again_after_an_interruption(folder: Path, step: str) -> None:
    for number in (1, 0, 4, 3):
        change(folder, number, f"Change {number}")
    once = [True]

    def interrupt(now: str, number: int) -> None:
        if (now, number) == (step, 2) and once:
            once.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(folder, before=interrupt)
    night, rows, held = replay(folder)
    assert night.number == 1
    assert [row.verdict for row in rows] == ["reject", "promote", "incorrect", "promote"]
    assert [row.candidate for row in rows] == [1, 2, 3, 4]
    assert tasks_given(held, night) == 4


def test_a_branch_that_grew_is_gone_on_with(folder: Path) -> None:
    change(folder, 1, "First")

    def interrupt(step: str, _number: int) -> None:
        if step == "time":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(folder, before=interrupt)
    change(folder, 0, "Second")
    night, rows, held = replay(folder)
    assert [row.verdict for row in rows] == ["reject", "promote"]
    assert tasks_given(held, night) == 2


def test_what_there_was_no_time_for_is_not_tried(folder: Path) -> None:
    for number in (1, 0, 3):
        change(folder, number, f"Change {number}")
    held = holding_in(folder, Wishes(replay=THEIRS, experiments=2))
    night = held.hold()
    rows = replayed.rows(held.place.ledger, night.number, held.replayed)
    assert [row.verdict for row in rows] == ["reject", "promote", "not tried"]
    assert rows[2].why == "the night was over before its turn"


@pytest.mark.parametrize(
    ("branch", "most", "words"),
    [
        ("nowhere", 2000, "there is no commit 'nowhere'"),
        ("--all", 2000, "there is no commit '--all'"),
        ("main", 2000, "main has no commit that .* does not have; name another branch"),
        (THEIRS, 1, "has 2 commits beyond .*; 1 are the most"),
    ],
)
def test_a_branch_that_cannot_be_replayed_leaves_no_night_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, branch: str, most: int, words: str
) -> None:
    change(folder, 0, "One")
    change(folder, 1, "Two")
    monkeypatch.setattr(replaying, "MOST_COMMITS", most)
    branches = git(folder, "branch", "--list")
    held = holding_in(folder, Wishes(replay=branch))
    with pytest.raises(UserError, match=words):
        held.hold()
    with held.place.ledger.read() as reading:
        assert nights.latest(reading) is None
    assert git(folder, "branch", "--list") == branches


def test_the_command_refuses_an_unknown_branch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ending:
        edge.main(["launch", "--replay", "nowhere"])
    assert ending.value.code == 2
    assert "there is no commit 'nowhere'" in capsys.readouterr().err


def test_merges_count_by_their_first_parent(folder: Path) -> None:
    git(folder, "switch", "--quiet", "--create", "side", THEIRS)
    for number in (0, 1):
        (folder / f"src/{number}.txt").write_text("fast\n")
        git(folder, "commit", "--quiet", "--all", f"--message=side {number}")
    git(folder, "switch", "--quiet", "main")
    git(folder, "switch", "--quiet", THEIRS)
    git(folder, "merge", "--quiet", "--no-ff", "--message=Merge side", "side")
    git(folder, "switch", "--quiet", "main")
    change(folder, 3, "After")
    _, rows, held = replay(folder)
    assert [(row.subject, row.promoted) for row in rows] == [("Merge side", True), ("After", True)]
    assert sorted(held.replayed[0].files) == ["src/0.txt", "src/1.txt"]


def test_a_branch_without_common_history_is_said_to_be_one(folder: Path) -> None:
    git(folder, "switch", "--quiet", "--orphan", "alone")
    git(folder, "branch", "--force", THEIRS, "main")
    new = folder / "src/0.txt"
    new.parent.mkdir(exist_ok=True)
    new.write_text("other\n")
    git(folder, "add", "src")
    git(folder, "commit", "--quiet", "--message=root")
    new.write_text("fast\n")
    git(folder, "commit", "--quiet", "--all", "--message=next")
    git(folder, "branch", "--force", THEIRS)
    git(folder, "switch", "--quiet", "main")
    heard = Heard()
    _, rows, _ = replay(folder, telling=heard)
    assert any("theirs shares no history" in words for words in heard.said)
    assert [row.verdict for row in rows] == ["conflict", "conflict"]


def test_renames_and_bytes(folder: Path) -> None:
    commit(folder, {"src/0.txt": None, "src/12.txt": "slow\n"}, "Move")
    commit(folder, {"src/6.txt": b"\x00\xff\x00"}, "Not text")
    night, rows, held = replay(folder)
    assert [row.verdict for row in rows] == ["promote", "out_of_scope"] or [row.promoted for row in rows] == [
        True,
        True,
    ]
    assert sorted(held.replayed[0].files) == ["src/0.txt", "src/12.txt"]
    assert "src/0.txt" not in git(folder, "ls-tree", "-r", "--name-only", night.champion_branch).split()


def test_messages_of_strangers_are_harmless(folder: Path) -> None:
    change(folder, 1, staged.HOSTILE + "\n\n1.3x")
    change(folder, 0, "caf\xe9: 8% faster\n")
    not_utf8(folder)
    change(folder, 3, "\n\n")
    change(folder, 7, "x" * 100_000, "fast\n", "--author=\x1b[31mred\u202e <r@example.org>")
    _, rows, held = replay(folder)
    lines = told(rows)
    assert len(lines) == 1 + len(rows) + 1
    assert not any(poison in "\n".join(lines) for poison in staged.POISON)
    assert rows[0].subject == "red gnp.exe of"
    assert (rows[1].subject, rows[1].claim, rows[1].promoted) == ("caf\ufffd: 8% faster", 0.08, True)
    assert (rows[2].subject, rows[2].promoted) == ("", True)
    # Git takes the escape itself.
    assert rows[3].author == "[31mred"
    with held.place.ledger.read() as reading:
        assert queries.attempts(reading, 1).keys() == {one.fingerprint for one in held.replayed}


def test_a_folder_that_older_commits_do_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    whole = tmp_path / "whole"
    new_repository(whole / "arena")
    (whole / "arena/.git").rename(whole / ".git")
    git(whole, "switch", "--quiet", "--orphan", "early")
    git(whole, "commit", "--quiet", "--allow-empty", "--message=before there was an arena")
    git(whole, "branch", THEIRS)
    git(whole, "switch", "--quiet", "--orphan", "late")
    new = whole / "arena/src/0.txt"
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_text("slow\n")
    (whole / "arena/program.md").write_text(scripted.PROGRAM)
    git(whole, "add", "--all")
    git(whole, "commit", "--quiet", "--message=arena")
    place = Place.open(whole / "arena", make=True)
    (found,) = commits_of(place, THEIRS, git(whole, "rev-parse", "late").strip())
    assert found.files == {}


def test_json_has_the_whole_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = change(folder, 0, "Hoist: 12% faster")
    night, rows, held = replay(folder)
    end_of(held.place, Held(night.number, held.replayed), Console(file=io.StringIO()), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["replay"] == [row._asdict() for row in rows]
    assert found["replay"][0] | {"report": ""} == {
        "commit": made,
        "subject": "Hoist: 12% faster",
        "author": "Them",
        "claim": 0.12,
        "verdict": "promote",
        "gain": 0.08,
        "low": pytest.approx(0.07),
        "high": pytest.approx(0.09),
        "pairs": 12,
        "why": "as scripted",
        "promoted": True,
        "candidate": 1,
        "report": "",
    }
    end_of(held.place, Held(night.number), Console(file=io.StringIO()), as_json=True)
    assert "replay" not in json.loads(capsys.readouterr().out)


def test_as_many_questions_for_a_long_branch_as_for_a_short_one(folder: Path) -> None:
    for number in range(6):
        change(folder, number, f"Change {number}")
    night, _, held = replay(folder)
    asked = []
    for most in (1, 6):
        with staged.counted(held.place.ledger) as statements:
            replayed.rows(held.place.ledger, night.number, held.replayed[:most])
        asked.append(len(statements))
    assert asked[0] == asked[1]


def test_commits_beyond_one_report_keep_their_order(folder: Path) -> None:
    made = [commit(folder, {"src/1.txt": "quick\n" * (1 + number)}, f"Change {number}") for number in range(25)]
    _, rows, held = replay(folder)
    assert [row.commit for row in rows] == made
    with held.place.ledger.read() as reading:
        given = reading.session.scalars(select(Task).where(Task.role == "worker").order_by(Task.id))
        strategies = [task.strategy for task in given]
    assert strategies == sorted(strategies)  # type: ignore[type-var]
    assert len(strategies) == 25


def test_a_strategy_holds_any_commit(folder: Path) -> None:
    commit(folder, {f"src/{'d' * 200}/{'e' * 200}/{'f' * 200}/{'g' * 200}/{'h' * 240}/1.txt": "x\n"}, "Deep")
    _, rows, _ = replay(folder)
    assert rows[0].verdict == "outside edit"


def test_columns_keep_wide_letters_in_line() -> None:
    assert list(columns([("a", "bb", "c"), ("速い", "b", "long")], left={0})) == ["a     bb  c", "速い   b  long"]
