"""Noise and silence: who waits for whom, and that nobody waits for ever."""

import threading
from pathlib import Path

import pytest
from scripted import Scripts, holding_in, new_repository

from nightfleet.agents.contract import Brief, Desk, Report
from nightfleet.orchestrator.holding import Wishes
from nightfleet.orchestrator.quiet import Quiet

# Longer than anything here takes, and shorter than anybody wants to wait for a test that hangs.
PATIENCE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTFLEET_TREES", str(tmp_path / "trees"))
    return new_repository(tmp_path / "repository")


def test_silence_waits_for_noise_and_keeps_new_noise_out(tmp_path: Path) -> None:
    quiet, order = Quiet(tmp_path), []
    silent, may_end = threading.Event(), threading.Event()

    def time() -> None:
        with quiet.silence():
            order.append("silence")
            silent.set()
            may_end.wait(PATIENCE_S)

    def build() -> None:
        with quiet.noise():
            order.append("noise")

    with quiet.noise():
        timing = threading.Thread(target=time)
        timing.start()
        assert not silent.wait(0.2)
        order.append("first noise ends")
    assert silent.wait(PATIENCE_S)
    building = threading.Thread(target=build)
    building.start()
    building.join(0.2)
    order.append("silence ends")
    may_end.set()
    for thread in (timing, building):
        thread.join(PATIENCE_S)
    assert order == ["first noise ends", "silence", "silence ends", "noise"]


def test_who_makes_noise_may_make_more_while_silence_is_waited_for(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path)
    made, waiting = threading.Event(), threading.Event()

    def agent() -> None:
        with quiet.noise():
            waiting.wait(PATIENCE_S)
            with quiet.noise():
                made.set()
        with quiet.noise():
            pass

    def time() -> None:
        with quiet.silence():
            pass

    threads = [threading.Thread(target=what, daemon=True) for what in (agent, time)]
    for thread in threads:
        thread.start()
    # By then silence holds the door.
    threads[1].join(0.2)
    waiting.set()
    assert made.wait(PATIENCE_S)
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("busy", [False, True])
def test_an_agent_that_waits_for_answers_is_not_waited_for(folder: Path, busy: bool) -> None:
    thinking, silence, answered = threading.Event(), threading.Event(), []

    class Thinking(Scripts):
        def worker(self, brief: Brief, desk: Desk) -> Report:
            thinking.set()
            answered.append(silence.wait(2.0 if busy else PATIENCE_S))
            return super().worker(brief, desk)

    agent = Thinking()
    agent.busy = busy
    held = holding_in(folder, Wishes(experiments=1, workers=1), agent=agent)

    def time() -> None:
        thinking.wait(PATIENCE_S)
        with held.place.quiet.silence():
            silence.set()

    timing = threading.Thread(target=time)
    timing.start()
    held.hold()
    timing.join(PATIENCE_S)
    assert answered[0] is not busy
