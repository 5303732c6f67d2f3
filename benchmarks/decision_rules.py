"""The field's ways to decide "is it faster?" beside nightfleet's, on recorded noise: false promotions, power, cost.

Every rule judges the same candidates: each begins at a random place of a recording and takes as many consecutive runs
as it asks for, so no seam and no made-up noise comes in. A gain of g is planted by multiplying a candidate's times by
1 - g. The first 200 pairs of each recording calibrate nightfleet's verdict and are judged by nobody.

    python benchmarks/decision_rules.py --quick            # a minute, to see that it runs
    python benchmarks/decision_rules.py --write            # the committed figures: about ten minutes of one core
    python benchmarks/decision_rules.py --fresh 600        # on this machine too: three minutes more, when it is calm

Prints Markdown; exits with 1 if something that is promised does not hold.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import mock

import fresh
import numpy as np
import rule_figures
from field_rules import NIGHT_RULES, RULES, Bools, Floats, Night, Rule, Ruling, mad_nights, through_the_night
from numpy.typing import NDArray
from rule_figures import NIGHT, Cell, Figures, Hardening, NightRow, Recording
from streams import BLOCKS, CALIBRATION_PAIRS, Arena, arenas, arenas_of, both_sides, judged, read

from nightfleet.harness import evalue, noise, track
from nightfleet.harness.power import longer_block, planted
from nightfleet.harness.reading import Observation, Pair, Reading, observe
from nightfleet.harness.rules import STUDENT, ErrorBudget, Rules
from nightfleet.harness.track import Totals
from nightfleet.harness.verdict import Decision, Step
from nightfleet.native import MachineError, UserError

FRESH = Path(__file__).parent / "data" / "fresh" / "aa_sim_f.csv"
# The first test of a night of 700 experiments, with 0.1 false promotions in all.
ALPHA = ErrorBudget(0.1, sum(NIGHT.values())).of(0)
GAINS = (0.02, 0.03, 0.05, 0.08)
HARDENING_GAINS = (0.06, 0.08)
# Enough for the longest rule; ours needs 80 at most, and the rest order the blocks of its behaviour gate.
COINS = 200
# Nights of 30 experiments, to see how many end with "likely real".
SHORT_NIGHT = 30
SHORT_NIGHTS = 1000
# Sums are kept to this many digits after the point: no table shows more.
DIGITS = 6

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stage:
    """One recording by one clock, ready for every rule."""

    arena: Arena

    @cached_property
    def pairs(self) -> list[Pair]:
        """The pairs that are judged, in the order they ran; nobody's coin yet."""
        return [pair for round_ in self.arena.rounds for pair in round_]

    @cached_property
    def times(self) -> Floats:
        """The runs of those pairs in the order they ran, in ns."""
        clock = self.arena.rules.quantity
        return np.array([trial.of(clock) for pair in self.pairs for trial in (pair.baseline, pair.candidate)], float)

    def runs(self, starts: Ints, count: int) -> Floats:
        """Consecutive runs from the pair at each start, shape (starts, count); past the end it goes on at the front."""
        return np.asarray(self.times[(2 * starts[:, None] + np.arange(count)) % len(self.times)])

    def sides(self, rule: Rule, starts: Ints, coins: Bools, gains: Floats) -> tuple[Floats, Floats]:
        """What a rule gets to see of both sides, shape (starts, rule.runs) each."""
        runs, share = self.runs(starts, 2 * rule.runs), (1 - gains)[:, None]
        if rule.order == "in a row":
            return runs[:, : rule.runs], runs[:, rule.runs :] * share
        first, second, coin = runs[:, ::2], runs[:, 1::2], coins[:, : rule.runs]
        return np.where(coin, second, first), np.where(coin, first, second) * share

    def verdicts(self, starts: Ints, coins: Bools, gains: Floats) -> list[Decision]:
        """Our verdict on each candidate; the blocks of its behaviour gate are the pairs before its first."""
        work = {gain: self._faster(gain) for gain in {float(gain) for gain in gains}}
        return [
            self._verdict(work[float(gain)], int(start), toss.tolist())
            for start, toss, gain in zip(starts, coins, gains, strict=True)
        ]

    def _verdict(self, faster: Sequence[tuple[Reading, Reading]], start: int, coins: list[bool]) -> Decision:
        before = self._tossed(faster, start - BLOCKS, coins[-BLOCKS:])
        blocks = [both_sides(pair) for pair in before]
        return judged(self.arena.rules, self.arena.calibration, self._tossed(faster, start, coins), blocks)

    def _tossed(self, faster: Sequence[tuple[Reading, Reading]], at: int, coins: list[bool]) -> Iterator[Pair]:
        for place, coin in enumerate(coins, at):
            pair, ours = self.pairs[place % len(self.pairs)], faster[place % len(self.pairs)]
            yield Pair(coin, pair.candidate if coin else pair.baseline, ours[0] if coin else ours[1])

    def _faster(self, gain: float) -> list[tuple[Reading, Reading]]:
        """Each pair's first and second run, as a candidate of that gain would have taken them."""
        swapped = [Pair(candidate_first=True, baseline=p.candidate, candidate=p.baseline) for p in self.pairs]
        first, second = ([planted(pair, gain).candidate for pair in pairs] for pairs in (swapped, self.pairs))
        return list(zip(first, second, strict=True))


def ours(decisions: Sequence[Decision]) -> dict[str, Ruling]:
    """Our verdicts as two rules: what is promoted, and what is called a real gain at all."""
    claimed = np.array([decision.gain or 0.0 for decision in decisions])
    runs = np.array([2 * taken(decision) for decision in decisions])
    promoted = np.array([decision.step is Step.PROMOTE for decision in decisions])
    lesser = np.array([decision.step is Step.INCREMENTAL for decision in decisions])
    names = rule_figures.OURS
    return {names[0]: Ruling(promoted, claimed, runs), names[1]: Ruling(promoted | lesser, claimed, runs)}


def taken(decision: Decision) -> int:
    """Pairs, those of the confirmation included."""
    return decision.pairs + (decision.stopping.pairs if decision.stopping else 0)


def rulings(stage: Stage, starts: Ints, coins: Bools, gains: Floats) -> tuple[dict[str, Ruling], list[Decision]]:
    """Every rule that takes one candidate by itself, on the same candidates; and our verdicts in full."""
    found = {rule.name: rule.decide(*stage.sides(rule, starts, coins, gains)) for rule in RULES}
    decisions = stage.verdicts(starts, coins, gains)
    return {**found, **ours(decisions)}, decisions


def drawn(stage: Stage, count: int, rng: np.random.Generator) -> tuple[Ints, Bools]:
    """Where candidates start, and their coins."""
    return rng.integers(len(stage.pairs), size=count), rng.random((count, COINS)) < 0.5


def planted_gains(
    stage: Stage, nulls: int, runs: int, rng: np.random.Generator
) -> tuple[list[Cell], dict[float, list[Decision]]]:
    """Candidates of no gain and of each planted one; and by gain our verdicts on them."""
    cells, verdicts = [], {}
    for gain in (0.0, *GAINS):
        count = runs if gain else nulls
        starts, coins = drawn(stage, count, rng)
        found, verdicts[gain] = rulings(stage, starts, coins, np.full(count, gain))
        cells += [_cell(stage, name, gain, ruling) for name, ruling in found.items()]
    return cells + night_cells(stage, nulls, rng), verdicts


def rejected(verdicts: Mapping[float, Sequence[Decision]]) -> list[float]:
    """The share that is rejected of candidates of no gain, and of those of the least gain that is above our null."""
    steps = ([decision.step for decision in verdicts[gain]] for gain in (0.0, GAINS[1]))
    return [round(of.count(Step.REJECT) / len(of), DIGITS) for of in steps]


def _cell(stage: Stage, rule: str, gain: float, ruling: Ruling) -> Cell:
    excess = round(float((ruling.claimed[ruling.promoted] - gain).sum()), DIGITS)
    count = len(ruling.promoted)
    arena = stage.arena
    return Cell(
        arena.name, arena.rules.quantity, rule, gain, count, int(ruling.promoted.sum()), excess, int(ruling.runs.sum())
    )


def night_cells(stage: Stage, nulls: int, rng: np.random.Generator) -> list[Cell]:
    """The rules that go by a whole night, in nights of candidates without any gain but the one that is asked about."""
    size = sum(NIGHT.values())
    nights = -(-nulls // size)
    times = stage.runs(drawn(stage, nights, rng)[0], size + 1)
    cells = []
    for rule in NIGHT_RULES:
        night = through_the_night(rule, times, np.zeros((nights, size)), GAINS)
        kept = {0.0: night.promoted, **night.would}
        claims = {0.0: night.claimed, **night.would_claim}
        for gain, promoted in kept.items():
            runs = np.ones(promoted.size, dtype=np.int64)
            cells.append(_cell(stage, rule.name, gain, Ruling(promoted.ravel(), claims[gain].ravel(), runs)))
    return cells


def mixed_nights(stage: Stage, nights: int, rng: np.random.Generator) -> list[NightRow]:
    """Nights of 700 candidates of which few gain: what the champion is made of in the morning."""
    rows = []
    for _ in range(nights):
        gains = rng.permutation(np.repeat(list(NIGHT), list(NIGHT.values())))
        starts, coins = drawn(stage, len(gains), rng)
        found, _ = rulings(stage, starts, coins, gains)
        times = stage.runs(starts[:1], len(gains) + 1)
        for rule in NIGHT_RULES:
            night: Night = through_the_night(rule, times, gains[None])
            found[rule.name] = Ruling(night.promoted[0], night.claimed[0], np.ones(len(gains), dtype=np.int64))
        rows += [_morning(stage, name, gains, ruling) for name, ruling in found.items()]
    return rows


def _morning(stage: Stage, rule: str, gains: Floats, ruling: Ruling) -> NightRow:
    kept = gains[ruling.promoted]
    calibrating = 2 * CALIBRATION_PAIRS if rule in rule_figures.OURS else 0
    return NightRow(
        stage.arena.name,
        stage.arena.rules.quantity,
        rule,
        promoted=len(kept),
        false=int((kept <= 0).sum()),
        small=int(((kept > 0) & (kept <= 0.02)).sum()),
        claimed_log=round(float(-np.log1p(-ruling.claimed[ruling.promoted]).sum()), DIGITS),
        true_log=round(float(-np.log1p(-kept).sum()), DIGITS),
        runs=int(ruling.runs.sum()) + calibrating,
    )


def short_nights(stage: Stage, rng: np.random.Generator) -> float:
    """The share of nights of 30 experiments without any gain that a MAD score calls "likely real" in the morning."""
    starts, _ = drawn(stage, SHORT_NIGHTS, rng)
    return float(mad_nights(stage.runs(starts, SHORT_NIGHT + 1)).mean())


def without_clip(d: float, shift: float, scale: float) -> float:
    """The bet before it was hardened: it falls again for large d."""
    variance = STUDENT * scale * scale
    log_odds = (STUDENT + 1) / 2 * np.log((variance + (d + shift) ** 2) / (variance + (d - shift) ** 2))
    return float(np.log(2.0) - np.logaddexp(0.0, -log_odds))


def by_the_baseline(round_: Sequence[Pair], quantity: str, over: str, *, per_block: bool) -> Observation:
    """An observation before u was made symmetric: the level is the baseline's."""
    seen = observe(round_, quantity, over, per_block=per_block)  # type: ignore[arg-type]
    return Observation(seen.gain, seen.level + seen.gain / 2)


@contextmanager
def softened(*clauses: str) -> Iterator[None]:
    """The verdict without some of the clauses that were added against cheats."""
    patches: Mapping[str, list[AbstractContextManager[object]]] = {
        "clip": [mock.patch.object(evalue, "log_factor", without_clip)],
        "symmetric u": [mock.patch.object(room, "observe", by_the_baseline) for room in (noise, track)],
        "totals": [mock.patch.object(Totals, "exceed", return_value=True)],
        "confirmation": [],
    }
    with ExitStack() as stack:
        for clause in clauses:
            for patch in patches[clause]:
                stack.enter_context(patch)
        yield


def hardening(stage: Stage, runs: int, rng: np.random.Generator) -> list[Hardening]:
    """Power with each clause taken out, on the same candidates: what it costs."""
    rows = []
    starts, coins = drawn(stage, runs, rng)
    every = ("clip", "symmetric u", "totals", "confirmation")
    for out in ((), *((clause,) for clause in every), every):
        with softened(*out):
            softer = Stage(_again(stage.arena))
            for gain in HARDENING_GAINS:
                decisions = softer.verdicts(starts, coins, np.full(runs, gain))
                asked = sum(decision.stopping is not None for decision in decisions)
                promoted = sum(decision.step is Step.PROMOTE for decision in decisions)
                won = asked if "confirmation" in out else promoted
                label = "nothing" if not out else "all four" if out == every else out[0]
                rows.append(Hardening(stage.arena.name, stage.arena.rules.quantity, label, gain, runs, won))
    return rows


def _again(arena: Arena) -> Arena:
    """The arena, calibrated as things are now."""
    calibration = noise.calibrate(arena.calibrating, arena.rules)
    return Arena(arena.name, arena.rules, calibration, arena.rounds, arena.calibrating)


def recording_of(arena: Arena) -> Recording:
    """How noisy it is, and whether `nightfleet check` would be content, by the pairs that calibrate."""
    gains = [
        observe([pair], arena.rules.quantity, arena.rules.over, per_block=False).gain for pair in arena.calibrating
    ]
    spread = noise.MAD_TO_SD * float(np.median(np.abs(gains)))
    asked = longer_block(arena.calibrating, Rules(arena.rules.quantity))
    return Recording(arena.name, arena.rules.quantity, round(spread, DIGITS), asked)


def evaluate(options: argparse.Namespace, recording: Path, remark: str) -> Figures:
    """Everything, stream by stream, with progress on standard error."""
    everything = [*arenas(ALPHA), *arenas_of(FRESH.stem, read(recording), ALPHA)]
    if options.quick:
        everything = [arena for arena in everything if arena.name in {"aa_alu_p", "aa_py_q", FRESH.stem}]
    figures = Figures(
        options.seed, options.nulls, options.runs, options.nights, ALPHA, remark, [], [], [], [], {}, {}, {}
    )
    for at, arena in enumerate(everything):
        place = f"{arena.name} by {arena.rules.quantity}"
        print(f"{at + 1} of {len(everything)}: {place}", file=sys.stderr, flush=True)
        rng = np.random.default_rng([options.seed, at])
        stage = Stage(arena)
        cells, verdicts = planted_gains(stage, options.nulls, options.runs, rng)
        figures.cells.extend(cells)
        figures.nights.extend(mixed_nights(stage, options.nights, rng))
        figures.hardening.extend(hardening(stage, options.runs // 4, rng))
        figures.recordings.append(recording_of(arena))
        figures.neutral_pairs[place] = np.bincount([taken(decision) for decision in verdicts[0.0]]).tolist()
        figures.rejected[place] = rejected(verdicts)
        figures.likely_real[place] = short_nights(stage, rng)
    return figures


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nulls", type=int, help="candidates without gain per stream and clock (default: 3600)")
    parser.add_argument("--runs", type=int, help="candidates of each planted gain per stream and clock (default: 160)")
    parser.add_argument("--nights", type=int, help="mixed nights per stream and clock (default: 1)")
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--quick", action="store_true", help="three streams, few candidates")
    parser.add_argument("--fresh", type=int, metavar="N", help="record N pairs of the example here and now")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where --fresh writes them (default: nowhere)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--write", action="store_true", help="write the committed figures, the plot, the page's tables")
    options = parser.parse_args(arguments)
    few: Mapping[str, int] = {"nulls": 140, "runs": 40, "nights": 1} if options.quick else {}
    for name, usual in (("nulls", 3600), ("runs", 160), ("nights", 1)):
        if getattr(options, name) is None:
            setattr(options, name, few.get(name, usual))
    if min(options.nulls, options.runs, options.nights) < 1:
        parser.error("--nulls, --runs and --nights are at least 1")
    if options.fresh is not None and options.fresh <= CALIBRATION_PAIRS + COINS:
        parser.error(f"--fresh needs more than {CALIBRATION_PAIRS + COINS} pairs: {CALIBRATION_PAIRS} calibrate")
    if options.write and options.quick:
        parser.error("--write is for the whole figures: leave --quick out")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, print, and write if asked to."""
    options = read_options(arguments)
    remark = (FRESH.parent / "README.md").read_text(encoding="utf-8").split("\n\n")[1].replace("\n", " ")
    with tempfile.TemporaryDirectory() as scratch:
        recording = FRESH
        if options.fresh:
            recording = options.keep or Path(scratch) / FRESH.name
            try:
                remark = fresh.record(options.fresh, recording, options.seed)
            except (MachineError, UserError) as error:
                print(error, file=sys.stderr)
                return 2
        figures = evaluate(options, recording, remark)
    print(json.dumps(figures.to_dict()) if options.json else rule_figures.markdown(figures), end="")
    if options.write:
        rule_figures.write(figures)
    return 0 if rule_figures.kept(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
