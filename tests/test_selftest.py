"""The judge judged: real builds and behaviour of a tiny program, timed on a simulated clock."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from clocked import Bench, calibrated_before
from simulated import calibrated
from tiny import FILES, Tiny, doing

from nightfleet.harness.calibrate import Calibrated, Summary
from nightfleet.harness.calibrations import Machine
from nightfleet.harness.report import Gate
from nightfleet.harness.request import Nobody
from nightfleet.harness.rules import Rules
from nightfleet.harness.selftest import Asked, Attempt, SelfTest, Truth
from nightfleet.harness.tally import count, tally
from nightfleet.native import UserError
from nightfleet.orchestrator.commands import edge

# A program whose bytes tell its lines: relinks, lines above the code and another order of functions all give others.
LINES = doing('if (number == 2147483649u) { printf("%d", __LINE__); }')
FUNCTIONS = """\
static int one(void) {
    return 1;
}

int two(void) {
    return one() + __LINE__;
}

"""
TWO = LINES.replace("int main", FUNCTIONS + "int main")


@pytest.fixture
def tiny(open_ground: Path) -> Tiny:
    return Tiny(open_ground / "tiny", {**FILES, "tiny.c": TWO})


def on(gain: Callable[[str, float], float], seeds: "itertools.count[int]") -> Callable[..., Bench]:
    """Benches on which a candidate gains what the function says of its name and share."""
    return lambda _one, _other, name, share: Bench(gain=gain(name, share), seed=next(seeds))


def asked(tiny: Tiny, **more: object) -> Asked:
    request = tiny.request("main")
    rules = Rules("wall", workloads=("sums",))
    nothing = Summary("wall", "simulated", (), (), False, (), None, 100, 0, True, 0.0)  # noqa: FBT003
    simulated = Calibrated(rules, calibrated(rules), (), nothing)
    values: dict[str, object] = {
        "nulls": 20,
        "planted": (0.03, 0.08),
        "each": 10,
        "bench": on(lambda _, share: share, itertools.count()),
        "calibrated": simulated,
    }
    return Asked(request.arena, request.baseline, tiny.root, tiny.state, **{**values, **more})  # type: ignore[arg-type]


def test_nulls_are_distinct_programs_that_behave_alike_and_nothing_of_them_is_promoted(tiny: Tiny) -> None:
    test = SelfTest(asked(tiny), Nobody())
    before = tiny.digest()
    test.run()
    usable = [null for null in test.nulls if not null.why]
    assert len(usable) == 10
    assert len({null.artefact for null in usable}) == 10
    assert {null.name.split()[0] for null in usable} >= {"relinked", "reformatted"}
    assert all(null.cases == 400 and len(null.blocks) == 4 for null in usable)
    # Each is timed as often as the others.
    tried = [sum(attempt.of == null.name for attempt in test.attempts) for null in usable]
    assert tried == [2] * 10
    found = tally(test)
    assert (found.nulls.promoted, found.nulls.attempts, found.programs) == (0, 20, 10)
    assert found.holds
    assert test.complete
    small, large = found.planted
    assert large.promotions.promoted == 10
    assert small.promotions.promoted == 0
    assert abs(large.true - 0.08) < 0.003  # type: ignore[operator]
    assert abs(large.claimed_minus_true) < 0.005  # type: ignore[arg-type]
    assert tiny.digest() == before


def test_a_judge_that_promotes_nulls_is_found_out(tiny: Tiny) -> None:
    test = SelfTest(asked(tiny, bench=on(lambda _, share: share or 0.1, itertools.count()), planted=()), Nobody())
    test.run()
    found = tally(test)
    assert found.nulls.promoted == 20
    assert not found.holds


def test_what_is_no_null_is_not_taken_for_one(open_ground: Path) -> None:
    # It says its own line number: further down it is another program.
    files = {**FILES, "tiny.c": LINES.replace("number == 2147483649u", "1")}
    test = SelfTest(asked(Tiny(open_ground / "tiny", files), nulls=4, planted=()), Nobody())
    test.run()
    names = {null.name.split()[0]: null.why for null in test.nulls}
    assert "the behaviour gate says incorrect" in names["reformatted"]
    assert {attempt.of.split()[0] for attempt in test.attempts} == {"relinked"}


def test_it_goes_on_where_it_was_stopped(tiny: Tiny) -> None:
    stopped = SelfTest(asked(tiny, each=2, minutes=0.1), Nobody())
    stopped.asked = replace(stopped.asked, minutes=1e-9)
    stopped.run()
    assert stopped.attempts == []
    assert "goes on from here" in stopped.notes[-1]

    class EnoughError(Exception):
        """Somebody stops it."""

    def enough(_attempt: Attempt) -> None:
        if len(first.attempts) == 7:
            raise EnoughError

    first = SelfTest(asked(tiny, each=2), Nobody(), enough)
    with pytest.raises(EnoughError):
        first.run()
    # Of everything there is some.
    assert {attempt.planted for attempt in first.attempts} == {0.0, 0.03, 0.08}
    with first.kept.open("a") as file:
        file.write('{"attempt": {"of": "8%", "pla')
    second = SelfTest(asked(tiny, each=2), Nobody())
    second.run()
    assert second.resumed == 7
    assert second.attempts[:7] == first.attempts
    assert len(second.attempts) == 24
    assert second.complete
    # The cut-off line is nobody's, and hides nothing that came after it.
    third = SelfTest(asked(tiny, each=2), Nobody())
    third.run()
    assert third.resumed == 24
    assert third.attempts == second.attempts


def tried(test: SelfTest) -> SelfTest:
    test.run()
    return test


def few(tiny: Tiny, **more: object) -> Asked:
    return asked(tiny, **{"nulls": 1, "planted": (), **more})


class Said(Nobody):
    """Hears what is said in lines of its own."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def ends(self, gate: Gate) -> None:
        self.lines.append(gate.reason)


def test_what_was_tried_on_other_grounds_is_not_counted(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tried(SelfTest(few(tiny), Nobody()))
    assert tried(SelfTest(few(tiny), Nobody())).resumed == 1
    arena = first.asked.arena
    looser = replace(few(tiny), arena=replace(arena, thresholds=replace(arena.thresholds, promote_ratio=0.04)))
    other = tried(SelfTest(looser, said := Said()))
    assert (other.resumed, len(other.attempts)) == (0, 1)
    assert said.lines == ["program.md changed since the last test of this baseline: this one begins anew"]
    assert str(first.kept) in other.notes[0]
    here = Machine.here()
    monkeypatch.setattr(Machine, "here", lambda: replace(here, kernel="2.4.20"))
    moved = tried(SelfTest(few(tiny), said := Said()))
    assert moved.resumed == 0
    assert f"machine's kernel ({here.kernel} → 2.4.20)" in said.lines[0]
    monkeypatch.undo()
    assert tried(SelfTest(few(tiny), Nobody())).resumed == 1


def test_one_test_is_made_by_one_process_at_a_time(tiny: Tiny) -> None:
    def meanwhile(_attempt: Attempt) -> None:
        with pytest.raises(UserError, match=r"another selftest is writing .*; wait until it is over, or stop it"):
            SelfTest(few(tiny), Nobody()).run()

    test = SelfTest(few(tiny), Nobody(), meanwhile)
    test.run()
    assert len(test.attempts) == 1


def test_damaged_lines_are_tried_again(tiny: Tiny) -> None:
    first = tried(SelfTest(few(tiny), Nobody()))
    with first.kept.open("a") as file:
        file.write('{}\n[]\n5\n{"attempt": {"of": "8%"}}\n{"null": 3}\n{"truth": {"planted": 0.1}}\n\0\0\n')
    again = tried(SelfTest(few(tiny), Nobody()))
    assert again.attempts == first.attempts


def test_a_share_that_cuts_nothing_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"0\.4% less of a block of 100 cases is none less \(sums\); plant 1% or more"):
        SelfTest(asked(tiny, planted=(0.004,)), Nobody())
    arena = asked(tiny).arena
    alone = replace(arena, workloads=(replace(arena.workloads[0], record="stdout", block=1),))
    with pytest.raises(UserError, match="no block can be cut: type --planted ''"):
        SelfTest(replace(asked(tiny), arena=alone), Nobody())
    assert not tiny.state.exists()


def test_ctrl_c_before_the_calibration_of_a_resumed_test_is_an_interrupt(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(SelfTest(few(tiny), Nobody()))

    def interrupted(_self: SelfTest) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SelfTest, "_calibrate", interrupted)
    monkeypatch.chdir(tiny.root)
    assert command("--aa", "2", "--planted", "") == 130
    shown = capsys.readouterr()
    assert shown.err.endswith("nightfleet: interrupted\n")
    assert "Traceback" not in shown.err


def test_what_nothing_is_known_of_is_null_and_no_promise(tiny: Tiny) -> None:
    found = tally(tried(SelfTest(few(tiny, nulls=0), Nobody())))
    shown = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (shown["median_pairs"], shown["overhead"]) == (None, None)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_cannot_be_is_refused(tiny: Tiny, share: float) -> None:
    with pytest.raises(UserError, match="impossible"):
        SelfTest(asked(tiny, planted=(share,)), Nobody())
    assert not tiny.state.exists()


def test_the_bound_is_broken_only_by_what_chance_would_hardly_do(tiny: Tiny) -> None:
    one = Attempt("n", 0.0, "promote", "", 0.05, 0.06, 10, 20, 15, 0, 1.0, 2.0)
    other = replace(one, verdict="reject", confirming=0, first=5)
    calibrated_ = asked(tiny).calibrated
    assert calibrated_ is not None
    few = count([one] * 3 + [other] * 197, [], calibrated_, shares=(), bound=0.01)
    many = count([one] * 9 + [other] * 191, [], calibrated_, shares=(), bound=0.01)
    assert (few.holds, many.holds) == (True, False)
    # Known values of the binomial and of the interval of Clopper and Pearson.
    assert few.nulls.high == pytest.approx(0.0432, abs=1e-4)
    assert few.nulls.low == pytest.approx(0.0031, abs=1e-4)
    unfair = count([replace(other, pairs=100, first=20)], [], calibrated_, shares=(), bound=0.01)
    assert not unfair.holds
    assert unfair.first_p < 1e-6


def test_a_gain_below_the_incremental_threshold_must_not_be_promoted_either(tiny: Tiny) -> None:
    test = SelfTest(asked(tiny, nulls=0, planted=(0.01,), each=0), Nobody())
    test.run()
    bench = Bench(gain=0.01, seed=1)
    pairs = [pair for number in range(200) for pair in bench.round({"sums": [number]}).pairs]  # type: ignore[dict-item]
    test.truths.append(Truth(0.01, tuple(pairs)))
    test.attempts += [Attempt("1%", 0.01, "promote", "", 0.05, 0.06, 10, 20, 15, 0, 1.0, 2.0)] * 5
    assert not tally(test).holds
    test.attempts[:] = [replace(one, verdict="incremental") for one in test.attempts]
    assert tally(test).holds


def command(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ending:
        edge.main(["selftest", *arguments])
    return ending.value.code


def test_the_command_draws_a_picture_and_prints_json(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrated_before(monkeypatch)
    seeds = itertools.count()
    bench = on(lambda _, share: share, seeds)
    monkeypatch.setattr(SelfTest, "_bench", lambda _self, *about: bench(*about))
    monkeypatch.chdir(tiny.root)
    picture = tiny.root.parent / "picture.svg"
    assert command("--aa", "4", "--planted", "8", "--each", "2", "--json", "--plot", str(picture)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nulls"]["attempts"] == 4
    assert found["planted"][0]["promotions"]["promoted"] == 2
    assert found["complete"] is True
    assert Path(found["kept"]).exists()
    assert "</svg>" in picture.read_text()
    assert command("--aa", "4", "--planted", "8", "--each", "2") == 0
    said = capsys.readouterr().out
    assert "the judge keeps its promise here" in said
    assert "seen: 0 of 4 nulls" in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--planted", "3,x"], "type percents with commas"),
        (["--planted", "0"], "above 0 and below 100"),
        (["--planted", "3,3"], "stand there once"),
        (["--alpha", "0"], "--alpha 0 is impossible"),
        (["--plot", "picture.xyz"], "a picture ends in .png, .svg, .pdf"),
        (["--plot", "/nowhere/picture.png"], "there is no folder /nowhere"),
        (["nowhere"], "nowhere"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tiny.root)
    assert command(*arguments) == 2
    assert says in capsys.readouterr().err
    assert not (tiny.root / ".nightfleet").exists()
