"""The field's rules keep to their theory, all rules judge the same candidates, and the page says what was found."""

import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import decision_rules
import field_rules
import numpy as np
import pytest
import rule_figures
import verdict_path
from decision_rules import Stage
from field_rules import NIGHT_RULES, RULES, Bools, Floats, Rule, through_the_night
from rule_figures import PAGE, PLOT, TABLES, Figures
from scipy.stats import binom, norm, t
from streams import BLOCKS, arenas_of, load

from nightfleet.harness import evalue, track
from nightfleet.harness.reading import BothSides, Pair
from nightfleet.harness.rules import SPEED_CAP
from nightfleet.harness.verdict import Step

CANDIDATES = 4000
SD = 0.02
BY_NAME = {rule.name: rule for rule in RULES}
RECORD, MAD = NIGHT_RULES
# One-sided: what theory says of two equal programs under independent normal noise.
EQUAL = {
    "keep if lower": 0.5,
    "single run, 5%": float(norm.cdf(math.log(0.95) / (SD * math.sqrt(2)))),
    "min of 10": 0.5,
    "Welch 10 + 10": 0.025,
    # Exact ranks: the largest attainable level below 2.5%; 10 + 10 have C(20, 10) orders.
    "Mann-Whitney 10 + 10": 0.0216,
    "paired t, 10": 0.025,
    "paired t, 20": 0.025,
    "paired t, 30": 0.025,
    "tango z": float(t.sf(2.6, 29)),
}


def noise(rule: Rule, gain: float = 0.0, seed: int = 1, sd: float = SD) -> tuple[Floats, Floats]:
    """Both sides of many candidates under independent noise, in ns."""
    rng = np.random.default_rng(seed)
    baseline, candidate = 5e7 * np.exp(rng.normal(0, sd, (2, CANDIDATES, rule.runs)))
    return baseline, candidate * (1 - gain)


def within(count: int, share: float) -> bool:
    """Whether a count of 4000 is no rarer than 1 in 10,000 under that share."""
    return bool(binom.ppf(5e-5, CANDIDATES, share) <= count <= binom.ppf(1 - 5e-5, CANDIDATES, share))


@pytest.mark.parametrize("name", EQUAL)
def test_two_equal_programs_are_promoted_as_often_as_theory_says(name: str) -> None:
    promoted = BY_NAME[name].decide(*noise(BY_NAME[name])).promoted.sum()
    assert within(promoted, EQUAL[name]), promoted / CANDIDATES


def test_gsprt_keeps_its_error_rates_at_both_of_its_hypotheses() -> None:
    rule = BY_NAME["GSPRT"]
    nothing, something = (rule.decide(*noise(rule, gain)).promoted.mean() for gain in field_rules.GSPRT_GAINS)
    assert nothing <= field_rules.GSPRT_ERROR
    assert something >= 1 - field_rules.GSPRT_ERROR


def test_every_rule_has_its_error_rate_checked() -> None:
    assert {*EQUAL, "GSPRT"} == set(BY_NAME)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_half_the_time_is_found_and_twice_the_time_is_not(rule: Rule) -> None:
    assert rule.decide(*noise(rule, 0.5)).promoted.all()
    assert not rule.decide(*noise(rule, -1.0)).promoted.any()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_claims_what_is_there_and_counts_what_it_ran(rule: Rule) -> None:
    ruling = rule.decide(*noise(rule, 0.1, sd=1e-5))
    assert ruling.promoted.all()
    assert np.allclose(ruling.claimed, 0.1, atol=1e-4)
    # Without noise each pair adds the same to GSPRT's ratio: 10% lies that much nearer to 2% than to 0.
    steps = math.log(math.log(0.9) / (math.log(0.9) - math.log(0.98)))
    pairs = math.ceil(math.log(19) / steps) if rule.name == "GSPRT" else rule.runs
    assert set(ruling.runs.tolist()) == {2 * pairs}


def test_gsprt_agrees_with_a_slow_twin() -> None:
    rule = BY_NAME["GSPRT"]
    baseline, candidate = noise(rule, 0.01, seed=2, sd=0.05)
    ruling = rule.decide(baseline, candidate)
    for row in range(60):
        gains = [math.log(b / c) for b, c in zip(baseline[row], candidate[row], strict=True)]
        promoted, pairs = slow_gsprt(gains)
        assert (bool(ruling.promoted[row]), int(ruling.runs[row])) == (promoted, 2 * pairs)
        assert math.isclose(ruling.claimed[row], 1 - math.exp(-sum(gains[:pairs]) / pairs), abs_tol=1e-12)


def slow_gsprt(gains: list[float]) -> tuple[bool, int]:
    ratio = 0.0
    for pairs in range(10, len(gains) + 1):
        nothing = sum(g * g for g in gains[:pairs]) / pairs
        two_percent = sum((g + math.log(0.98)) ** 2 for g in gains[:pairs]) / pairs
        ratio = pairs / 2 * math.log(nothing / two_percent)
        if abs(ratio) >= math.log(19):
            break
    return ratio >= math.log(19), pairs


def test_tango_asks_for_more_than_its_noise_threshold() -> None:
    rule = BY_NAME["tango z"]
    assert not rule.decide(*noise(rule, 0.009, sd=1e-5)).promoted.any()
    assert rule.decide(*noise(rule, 0.011, sd=1e-5)).promoted.all()


def night(times: list[float], gains: list[float], rule: field_rules.NightRule) -> list[bool]:
    kept: list[bool] = through_the_night(rule, np.array([times]), np.array([gains])).promoted[0].tolist()
    return kept


def test_the_record_is_the_best_run_ever_kept() -> None:
    assert night([100, 101, 99, 99.5, 98], [0, 0, 0, 0], RECORD) == [False, True, False, True]
    # A candidate that was kept is what the next ones start from: 98, then 98 again, then 98 and 1% less.
    assert night([100, 100, 100, 100], [0.02, 0.0, 0.01], RECORD) == [True, False, True]


def test_a_mad_score_counts_from_the_first_run_in_units_of_all_runs() -> None:
    # Of 100, 101, 99, 98, 97 the median is 99; it is 1, 2, 0, 1 and 2 away: 1 in the median. The score is 3 / 1.
    assert night([100, 101, 99, 98, 97], [0, 0, 0, 0], MAD) == [False, False, True, True]
    # Of 100, 101, 99 it is 1 about 100: a score of exactly 1. Of two runs there is no score.
    assert night([100, 101, 99], [0, 0], MAD) == [False, False]
    assert night([100, 50], [0], MAD) == [False]
    assert night([100, 100, 100, 100, 99], [0, 0, 0, 0], MAD) == [False] * 4


def test_asking_about_a_gain_changes_nothing() -> None:
    times = np.exp(np.random.default_rng(3).normal(0, 0.05, (8, 41)))
    for rule in NIGHT_RULES:
        alone = through_the_night(rule, times, np.zeros((8, 40)))
        asked = through_the_night(rule, times, np.zeros((8, 40)), [0.0, 0.5])
        assert (alone.promoted == asked.promoted).all()
        assert (asked.would[0.0] == asked.promoted).all()
        assert asked.would[0.5].mean() > asked.promoted.mean()
        assert np.allclose(asked.would_claim[0.0], asked.claimed)


def test_a_night_that_ends_likely_real() -> None:
    nights = np.array([[100.0, 99, 101, 100, 97], [100, 101, 102, 103, 104], [100, 99, 101, 98.5, 103]])
    assert field_rules.mad_nights(nights).tolist() == [True, False, False]


@pytest.fixture(scope="module")
def stage() -> Stage:
    wall = arenas_of("aa_mix_p", load("aa_mix_p"), decision_rules.ALPHA)[1]
    return Stage(wall)


def drawn(stage: Stage, count: int) -> tuple[decision_rules.Ints, Bools]:
    return decision_rules.drawn(stage, count, np.random.default_rng(5))


def test_ours_and_its_rivals_judge_the_same_runs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Pair]] = []

    before: list[list[BothSides]] = []

    def look(_rules: object, _calibration: object, pairs: Iterator[Pair], blocks: list[BothSides]) -> None:
        before.append(blocks)
        seen.append([next(pairs) for _ in range(30)])

    monkeypatch.setattr(decision_rules, "judged", look)
    starts, coins = drawn(stage, 6)
    gains = np.array([0.0, 0.0, 0.02, 0.02, 0.08, -0.03])
    stage.verdicts(starts, coins, gains)
    baseline, candidate = stage.sides(BY_NAME["paired t, 30"], starts, coins, gains)
    assert np.array_equal(baseline, [[pair.baseline.wall_ns for pair in pairs] for pairs in seen])
    assert np.allclose(candidate, [[pair.candidate.wall_ns for pair in pairs] for pairs in seen], atol=1)
    assert np.array_equal(coins[:, :30], [[pair.candidate_first for pair in pairs] for pairs in seen])
    # The behaviour gate's blocks are the pairs before; the first candidate gains nothing: its runs are as recorded.
    recorded = [stage.pairs[(int(starts[0]) - BLOCKS + place) % len(stage.pairs)] for place in range(BLOCKS)]
    assert [{p.baseline.wall_ns, p.candidate.wall_ns} for p in recorded] == [
        {block.baseline.wall_ns, block.candidate.wall_ns} for block in before[0]
    ]


def test_runs_in_a_row_are_consecutive(stage: Stage) -> None:
    runs = [reading.wall_ns for _, reading in load("aa_mix_p")][400:]
    starts, coins = np.array([0, 7, len(stage.pairs) - 1]), np.zeros((3, 200), dtype=np.bool_)
    baseline, candidate = stage.sides(BY_NAME["Welch 10 + 10"], starts, coins, np.array([0.0, 0.5, 0.0]))
    assert baseline[1].tolist() == runs[14:24]
    assert (2 * candidate[1]).tolist() == runs[24:34]
    assert [*baseline[2], *candidate[2]] == [*runs[-2:], *runs[:18]]


def test_no_run_calibrates_and_is_judged(stage: Stage) -> None:
    assert len(stage.arena.calibrating) == 200
    assert len(stage.pairs) == len(load("aa_mix_p")) // 2 - 200


def test_our_verdict_is_the_real_one_with_its_confirmation(stage: Stage) -> None:
    starts, coins = drawn(stage, 12)
    won = stage.verdicts(starts, coins, np.full(12, 0.5))
    assert {decision.step for decision in won} == {Step.PROMOTE}
    assert all(decision.stopping and decision.stopping.pairs <= SPEED_CAP for decision in won)
    rulings = decision_rules.ours(won)
    promoted = rulings[rule_figures.OURS[0]]
    expected = [2 * (20 + decision.stopping.pairs) for decision in won if decision.stopping]
    assert promoted.runs.tolist() == expected
    assert np.allclose(promoted.claimed, 0.5, atol=0.01)
    nothing = decision_rules.ours(stage.verdicts(starts, coins, np.zeros(12)))
    assert not any(ruling.promoted.any() for ruling in nothing.values())


def test_a_softened_verdict_is_softer_only_inside() -> None:
    hard = evalue.log_factor(0.5, 0.01, 0.01)
    totals = track.Totals(-1.0, -1.0)
    with decision_rules.softened("clip", "totals", "symmetric u"):
        assert evalue.log_factor(0.5, 0.01, 0.01) < hard
        assert math.isclose(evalue.log_factor(0.01, 0.01, 0.01), decision_rules.without_clip(0.01, 0.01, 0.01))
        assert totals.exceed(0.0)
        assert vars(track)["observe"] is decision_rules.by_the_baseline
    assert evalue.log_factor(0.5, 0.01, 0.01) == hard
    assert not totals.exceed(0.0)
    # Within the clip nothing was changed.
    assert math.isclose(evalue.log_factor(0.01, 0.01, 0.01), decision_rules.without_clip(0.01, 0.01, 0.01))


@pytest.fixture(scope="module")
def small(stage: Stage) -> Figures:
    """Figures of a few candidates on one stream, pinned and busy by name."""
    rng = np.random.default_rng(7)
    cells, verdicts = decision_rules.planted_gains(stage, 20, 10, rng)
    nights = decision_rules.mixed_nights(stage, 1, rng)
    hardening = decision_rules.hardening(stage, 4, rng)
    place = "aa_mix_p by wall"
    return Figures(
        7,
        20,
        10,
        1,
        1e-4,
        "Fresh.",
        cells,
        nights,
        hardening,
        [decision_rules.recording_of(stage.arena)],
        {place: np.bincount([decision_rules.taken(decision) for decision in verdicts[0.0]]).tolist()},
        {place: 0.5},
        {place: decision_rules.rejected(verdicts)},
    )


def test_figures_come_back_from_json_and_fill_every_table(small: Figures) -> None:
    assert Figures.from_dict(small.to_dict()) == small
    text = rule_figures.markdown(small)
    for rule in rule_figures.ORDER:
        assert text.count(f"\n| {rule} |") == 5, rule
    assert "nan" not in text


def test_a_night_adds_up(small: Figures) -> None:
    runs = {row.rule: row.runs for row in small.nights}
    assert sum(rule_figures.NIGHT.values()) == 700
    assert (runs["below the record"], runs["keep if lower"], runs["paired t, 30"]) == (700, 1400, 42000)
    row = next(row for row in small.nights if row.rule == "keep if lower")
    assert row.promoted >= row.false + row.small
    assert row.claimed_log > row.true_log


def test_a_broken_promise_is_seen(small: Figures) -> None:
    worse = [replace(cell, promoted=cell.candidates) if cell.rule == "nightfleet" else cell for cell in small.cells]
    assert rule_figures.promises(small)[0].kept
    assert not rule_figures.kept(replace(small, cells=worse))
    assert "**not kept**" in rule_figures.markdown(replace(small, cells=worse))


def test_the_committed_tables_are_those_of_the_committed_figures() -> None:
    figures = rule_figures.read()
    assert TABLES.read_text(encoding="utf-8") == rule_figures.markdown(figures)
    assert figures.alpha == decision_rules.ALPHA
    nulls = [cell for cell in figures.cells if cell.rule == "nightfleet" and not cell.gain and cell.stream[-1] != "f"]
    assert sum(cell.candidates for cell in nulls) >= 50_000
    assert sum(cell.promoted for cell in nulls) == 0


def test_the_page_shows_the_committed_figures_and_no_others() -> None:
    pieces = rule_figures.sections(rule_figures.read())
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- figures: ") == page.count("<!-- end -->") >= 4
    assert rule_figures.filled(page, pieces) == page
    assert strange_numbers(page) == []


def strange_numbers(page: str) -> list[str]:
    """The numbers of the page that the committed tables do not have."""
    prose = re.sub(r"\]\([^)]*\)|`[^`]*`|^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    known = set(numbers(TABLES.read_text(encoding="utf-8")))
    return [number for number in numbers(prose) if number not in known]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d(?:[\d.,]*\d)?%?", text)


def test_these_checks_fail_when_broken() -> None:
    figures, page = rule_figures.read(), PAGE.read_text(encoding="utf-8")
    first = replace(figures.cells[0], promoted=figures.cells[0].promoted + 500)
    other = replace(figures, cells=[first, *figures.cells[1:]])
    assert rule_figures.markdown(other) != TABLES.read_text(encoding="utf-8")
    assert rule_figures.filled(page, rule_figures.sections(other)) != page
    assert strange_numbers(page + "\nIt is 47.11 times better.") == ["47.11"]
    with pytest.raises(KeyError):
        rule_figures.filled("<!-- figures: nonsense -->\n\n<!-- end -->", {})


def test_the_plot_shows_every_rule_with_its_runs() -> None:
    text = PLOT.read_text(encoding="utf-8")
    for rule, runs in rule_figures.runs_of_a_null(rule_figures.read()).items():
        assert f"{rule}: {runs:.0f} run" in text, rule
    assert len(text) < 150_000


def test_the_plot_of_the_verdict_shows_three_recorded_timings() -> None:
    text = verdict_path.PLOT.read_text(encoding="utf-8")
    followed = verdict_path.courses()
    assert [course.last.step for course in followed] == [Step.REJECT, Step.INCREMENTAL, Step.PROMOTE]
    for course, (_, left_out) in zip(followed, verdict_path.ARMS, strict=True):
        assert f"{left_out:.0%} of the work left out: {course.last.step}" in text
        assert len(course.gains) == len(course.decisions) == course.decisions[-1].pairs
    assert f"20 fresh pairs: {100 * (followed[2].last.gain or 0):.1f}%" in text


def test_impossible_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for asked, why in (
        (["--write", "--quick"], "leave --quick out"),
        (["--fresh", "300"], "more than 400 pairs"),
        (["--nulls", "0"], "at least 1"),
    ):
        with pytest.raises(SystemExit) as refused:
            decision_rules.read_options(asked)
        assert refused.value.code == 2
        assert why in capsys.readouterr().err
    with pytest.raises(SystemExit):
        decision_rules.read_options(["--help"])
    assert "python benchmarks/decision_rules.py --quick" in capsys.readouterr().out


def test_a_recording_that_only_calibrates_is_refused() -> None:
    with pytest.raises(ValueError, match="200 calibrate"):
        arenas_of("short", load("aa_mix_p")[:400], 0.01)


def test_resampling_for_the_other_benchmark_still_works() -> None:
    cpu, _ = arenas_of("aa_mix_p", load("aa_mix_p"), 0.01)
    rng = random.Random(1)  # noqa: S311
    assert cpu.timing(lambda pair: pair, rng).step is Step.REJECT


def test_no_path_of_this_machine_is_in_the_figures() -> None:
    for path in (TABLES, rule_figures.FIGURES, PLOT, PAGE):
        assert str(Path.home()) not in path.read_text(encoding="utf-8")
