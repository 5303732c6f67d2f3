"""`events.jsonl`: nothing lost and nothing twice, whenever the process that writes it is killed."""

import fcntl
import hashlib
import json
from pathlib import Path
from typing import Any

import nightwork
import pytest
import staged
from hypothesis import given
from hypothesis import strategies as st
from nightwork import Hands

from nightfleet.orchestrator.ledger import Ledger, candidates, nights, promotions, queries, tasks
from nightfleet.orchestrator.views import events
from nightfleet.orchestrator.views.events import append_events


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="ascii").splitlines()]


def sequences(folder: Path) -> list[int]:
    return [line["sequence"] for line in lines(folder)]


def test_a_line_for_each_entry_as_it_comes(ledger: Ledger, hands: Hands, tmp_path: Path) -> None:
    night = staged.begin(ledger)
    assert append_events(ledger, night, tmp_path / "runs") == 2
    assert append_events(ledger, night, tmp_path / "runs") == 0
    staged.a_night_goes_on(ledger, hands, night)
    append_events(ledger, night, tmp_path / "runs")
    with ledger.read() as reading:
        entries = queries.entries_after(reading, 0, 10_000)
    found = lines(tmp_path / "runs")
    assert [line["sequence"] for line in found] == [entry.sequence for entry in entries]
    assert [line["kind"] for line in found] == [entry.kind for entry in entries]
    assert found[0]["at"] == "2026-11-20T22:00:00.000000Z"
    assert found[0]["payload"]["name"] == "n1"
    assert found[-1]["payload"] == json.loads(entries[-1].payload)


def test_while_another_writes_there_nobody_else_does(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = staged.begin(ledger)
    append_events(ledger, night, tmp_path)
    staged.promoted(ledger, 0.1)
    monkeypatch.setattr(events, "PATIENCE_S", 0.0)
    with (tmp_path / events.FILE).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b'{"sequence"')
        other.flush()
        assert append_events(ledger, night, tmp_path) == 0
        assert (tmp_path / events.FILE).read_bytes().endswith(b'{"sequence"')
    assert append_events(ledger, night, tmp_path) > 0
    assert sequences(tmp_path) == list(range(1, len(sequences(tmp_path)) + 1))


def test_more_than_are_read_at_a_time(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = staged.begin(ledger)
    staged.promoted(ledger, 0.1)
    with ledger.read() as reading:
        last = reading.last_entry()[0]
    for at_a_time in (1, 2, 3, last, last + 1):
        monkeypatch.setattr(events, "AT_A_TIME", at_a_time)
        folder = tmp_path / str(at_a_time)
        assert append_events(ledger, night, folder) == last
        assert sequences(folder) == list(range(1, last + 1))


@given(data=st.data())
def test_a_writer_that_was_killed_is_gone_on_from(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    with nightwork.opened(folder / "ledger.sqlite") as ledger:
        night = staged.begin(ledger)
        staged.promoted(ledger, 0.1, staged.HOSTILE)
        append_events(ledger, night, folder)
        whole = (folder / "events.jsonl").read_bytes()
        left = data.draw(st.integers(0, len(whole)))
        (folder / "events.jsonl").write_bytes(whole[:left])
        append_events(ledger, night, folder)
        assert (folder / "events.jsonl").read_bytes() == whole


@pytest.mark.parametrize("rest", [b"\0" * 5000, b"not ours\n", b'{"sequence":"x"}\n', b"[]\n", b"\xff\xfe\n"])
def test_a_file_that_is_not_ours_any_more_is_drawn_again(ledger: Ledger, tmp_path: Path, rest: bytes) -> None:
    night = staged.begin(ledger)
    append_events(ledger, night, tmp_path)
    whole = (tmp_path / "events.jsonl").read_bytes()
    (tmp_path / "events.jsonl").write_bytes(whole + rest)
    append_events(ledger, night, tmp_path)
    assert (tmp_path / "events.jsonl").read_bytes() == whole


def test_large_texts_are_told_by_their_digest(ledger: Ledger, tmp_path: Path) -> None:
    night = staged.begin(ledger)
    with ledger.write() as writing:
        nights.read_program(writing, night, "# faster\n")
        task = tasks.post(writing, night, "scout", {"goal": "x"})
        claim = tasks.claim(writing, night, "scout", "s1", 60.0)
        assert claim is not None
        tasks.submit(writing, task.id, claim.token, "k", {"kind": "nothing"})
        candidates.propose(writing, night, title="hoist", made_by="s1", detail={"recipe": "y" * 3000, "files": ["a"]})
        text = tasks.brief_of(writing, task)
    append_events(ledger, night, tmp_path)
    found = {line["kind"]: line["payload"] for line in lines(tmp_path)}
    assert found["program read"]["text"] == {"bytes": 9, "sha256": hashlib.sha256(b"# faster\n").hexdigest()}
    brief = {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    assert found["task posted"]["brief"] == brief
    assert set(found["report submitted"]["report"]) == {"bytes", "sha256"}
    assert found["strategy proposed"]["detail"] == {
        "recipe": {"bytes": 3000, "sha256": hashlib.sha256(b"y" * 3000).hexdigest()},
        "files": ["a"],
    }


def test_a_nights_own_entries_and_no_other_nights(ledger: Ledger, hands: Hands, tmp_path: Path) -> None:
    with ledger.drive():
        hands.pass_s(1)
        first = staged.a_night(ledger, hands)
        with ledger.write() as writing:
            agent = nights.agent_joins(writing, first, name="w1", role="worker", backend="search")
            nights.agent_leaves(writing, agent.id)
            task = tasks.post(writing, first, "scout", {})
            claim = tasks.claim(writing, first, "scout", "s1", 60.0)
            assert claim is not None
            tasks.release(writing, task.id, claim.token)
            tasks.cancel(writing, task.id, "enough")
            nights.end(writing, first, "enough")
        hands.pass_s(1)
    hands.pass_s(1)
    with ledger.read() as reading:
        last_of_first = reading.last_entry()[0] - 1
    second = staged.begin(ledger, name="n2")
    staged.judged(ledger, "broken")
    staged.spent(ledger, second, tokens=1)
    with ledger.write() as writing:
        (awaits,) = promotions.awaiting_sign_off(writing, first)
        promotions.sign_off(writing, awaits.id, accepted=True, said_by="me")
        signed = writing.last_entry()[0]
    for night in (first, second):
        append_events(ledger, night, tmp_path / str(night))
    # The drive began before the night did, and ended after it.
    assert sequences(tmp_path / "1") == [*range(2, last_of_first + 1), signed]
    assert sequences(tmp_path / "2") == list(range(last_of_first + 2, signed))


def test_what_a_stranger_wrote_is_escaped(ledger: Ledger, tmp_path: Path) -> None:
    night = staged.begin(ledger)
    staged.judged(ledger, "broken", None, staged.HOSTILE)
    append_events(ledger, night, tmp_path)
    text = (tmp_path / "events.jsonl").read_text(encoding="ascii")
    assert not any(poison in text for poison in staged.POISON)
    assert [line["payload"]["description"] for line in lines(tmp_path) if line["kind"] == "candidate submitted"] == [
        staged.HOSTILE
    ]


def test_what_is_there_is_not_read_again(ledger: Ledger, tmp_path: Path) -> None:
    night = staged.begin(ledger)
    for _ in range(200):
        with ledger.write() as writing:
            nightwork.submit(writing)
    with staged.counted(ledger) as first:
        append_events(ledger, night, tmp_path)
    assert len(first) < 20
    staged.judged(ledger, "broken")
    with staged.counted(ledger) as later:
        assert append_events(ledger, night, tmp_path) == 3
    # A look at what is new and one at whether there is more, each BEGIN and SELECT; whose it is: night and candidates.
    assert len(later) <= 7
