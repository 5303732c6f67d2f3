"""The contract between the night and its agents: what survives the way through JSON, and what does not get in."""

import json
from pathlib import Path

import pytest
from deskless import ALONE, brief_for, brief_of

from nightfleet.agents.contract import (
    REPORT_BYTES,
    Backend,
    Brief,
    Changed,
    Desk,
    Evidence,
    Failed,
    Knob,
    Nothing,
    Outcome,
    Profile,
    Proposed,
    Report,
    Share,
    Spend,
    Strategy,
    Tried,
    fit,
    read_brief,
    read_report,
    write_brief,
    write_report,
)
from nightfleet.agents.replay import ReplayBackend
from nightfleet.agents.search.backend import SearchBackend
from nightfleet.native import UserError

ROOT = Path(__file__).parents[1]
STRATEGY = Strategy(
    title="Do less",
    hypothesis="Less is faster.",
    files=("src/a.rs",),
    functions=("run",),
    evidence=(Evidence(path="src/a.rs", line=3, shows="a loop"),),
    expected_gain=0.05,
    fingerprint="0" * 32,
    who="test",
    knob=Knob(name="n", before="1", after="2"),
    recipe="{}",
)
TRIED = Tried(fingerprint="1" * 32, title="Do more", verdict="reject", gain=-0.5, files=("src/b.rs",))


def test_a_brief_comes_back_as_it_went(tmp_path: Path) -> None:
    profile = Profile(source="callgrind", unit="instructions", shares=(Share(path="?", function="a::b", share=0.5),))
    for brief in (
        brief_for(tmp_path, "scout", tried=[TRIED], profile=profile, seed=2**64 - 1),
        brief_for(tmp_path, "worker", strategy=STRATEGY),
        brief_of(ROOT / "examples" / "grid-simulator", "scout"),
    ):
        assert read_brief(write_brief(brief)) == brief


@pytest.mark.parametrize(
    "outcome",
    [
        Proposed(strategies=(STRATEGY,)),
        Changed(summary="Did less."),
        Nothing(reason="All is well."),
        Failed(cause="no key"),
    ],
)
def test_a_report_comes_back_as_it_went(outcome: Outcome) -> None:
    report = Report(outcome=outcome, spend=Spend(tokens=3, micro_dollars=None, seconds=0.5), notes=("a", "b"))
    assert read_report(write_report(report)) == report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format '2'"),
        ({"outcome": {"kind": "promoted"}}, "outcome"),
        ({"outcome": {"kind": "changed", "summary": "x" * 501}}, "summary"),
        ({"outcome": {"kind": "changed"}}, "summary"),
        ({"spend": {"tokens": -1}}, "tokens"),
        ({"spend": {"seconds": "3"}}, "seconds"),
        ({"verdict": "promote"}, "verdict"),
        ({"notes": ["x"] * 101}, "notes"),
        ({"outcome": {"kind": "proposed", "strategies": []}}, "strategies"),
        (
            {"outcome": {"kind": "proposed", "strategies": [{**STRATEGY.model_dump(), "fingerprint": "no"}]}},
            "fingerprint",
        ),
    ],
)
def test_what_is_no_report_is_refused_with_the_key(change: dict[str, object], said: str) -> None:
    good = json.loads(write_report(Report(outcome=Changed(summary="Did less."))))
    read_report(json.dumps(good))
    with pytest.raises(UserError, match=said):
        read_report(json.dumps({**good, **change}))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "\0", '{"outcome": 3}', "[" * 100_000, b"\xff"])
def test_rubbish_is_refused(text: str | bytes) -> None:
    with pytest.raises(UserError):
        read_report(text)


def test_a_report_has_a_size() -> None:
    with pytest.raises(UserError, match=str(REPORT_BYTES)):
        read_report(" " * (REPORT_BYTES + 1))


def test_strategies_are_kept_as_far_as_they_fit() -> None:
    large = STRATEGY.model_copy(update={"recipe": "x" * 300_000})
    kept = fit([large] * 10, 10)
    assert len(kept) == 3
    write_report(Report(outcome=Proposed(strategies=kept)))
    assert len(fit([STRATEGY] * 10, 4)) == 4


def test_the_backends_keep_the_protocol(tmp_path: Path) -> None:
    """Statically by mypy; here each answers a task that it cannot do with a report."""
    desk: Desk = ALONE
    backends: list[Backend] = [SearchBackend(), ReplayBackend([])]
    for backend in backends:
        for report in (
            backend.worker(brief_for(tmp_path, "worker"), desk),
            backend.worker(brief_for(tmp_path, "worker", strategy=STRATEGY), desk),
            backend.worker(brief_for(tmp_path / "none", "worker", strategy=STRATEGY), desk),
        ):
            assert isinstance(report.outcome, Failed), backend.name
        assert isinstance(backend.scout(brief_for(tmp_path, "scout"), desk).outcome, Nothing)


def test_a_brief_names_a_role_that_there_is(tmp_path: Path) -> None:
    content = brief_for(tmp_path, "scout").model_dump(mode="json")
    with pytest.raises(UserError, match="role"):
        read_brief(json.dumps({**content, "role": "king"}))
    assert isinstance(read_brief(json.dumps(content)), Brief)
