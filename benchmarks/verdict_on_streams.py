"""The verdict on recorded noise: planted truths, resampled from real A/A timings, and real planted work.

The first 200 pairs of a stream calibrate, the others are resampled in stretches of consecutive pairs. Prints Markdown;
exits with an error if a rate that is promised does not hold. `--nulls 50000` for the long version.
"""

import argparse
import random
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

from scipy.stats import binom
from streams import STREAMS, Change, arenas, arm, arm_pair, judged, two_armed

from nightfleet.harness.calibration import Calibration
from nightfleet.harness.noise import calibrate
from nightfleet.harness.power import planted
from nightfleet.harness.reading import Pair
from nightfleet.harness.rules import ErrorBudget, Rules, to_log
from nightfleet.harness.track import Totals
from nightfleet.harness.verdict import Decision, Step

# The first test of a night of 200 experiments, with 0.1 false promotions in all.
NIGHT = ErrorBudget(0.1, 200).of(0)
# A promised rate is broken when its count would be this rare.
RARE = 1e-3


def spent(decision: Decision) -> int:
    """Pairs up to the stop, without the confirmation."""
    return (decision.stopping or decision).pairs


def share(decisions: list[Decision], step: Step) -> float:
    """How many of them ended so."""
    return sum(decision.step is step for decision in decisions) / len(decisions)


def gain_of(gain: float) -> Change:
    """A candidate that takes 1 - gain of the time."""
    return lambda pair: planted(pair, gain)


def neutral(nulls: int, rng: random.Random) -> int:
    """Candidates that change nothing; returns the false promotions."""
    print(f"### Candidates that change nothing: {nulls}, bar {1 / NIGHT:.0f}\n")
    print("| stream | clock | timings | promoted | asked to confirm | incremental | rejected | undecided | pairs |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    promoted = 0
    each = -(-nulls // (2 * len(STREAMS)))
    for arena in arenas(NIGHT):
        ended = [arena.timing(gain_of(0.0), rng) for _ in range(each)]
        steps = Counter(decision.step for decision in ended)
        promoted += steps[Step.PROMOTE]
        print(
            f"| {arena.name} | {arena.rules.quantity} | {each} | {steps[Step.PROMOTE]} "
            f"| {sum(d.stopping is not None for d in ended)} | {steps[Step.INCREMENTAL]} "
            f"| {share(ended, Step.REJECT):.1%} | {share(ended, Step.UNDECIDED):.1%} "
            f"| {statistics.mean(map(spent, ended)):.1f} |"
        )
    total = each * 2 * len(STREAMS)
    allowed = int(binom.ppf(1 - RARE, total, NIGHT))
    print(f"\nFalse promotions: {promoted} in {total}; the bound allows {NIGHT * total:.1f} on average.\n")
    assert promoted <= allowed, f"{promoted} false promotions, {allowed} would be rare"
    return promoted


def boundary(runs: int, rng: random.Random) -> None:
    """Gains of exactly 2%, the hardest null: how often the evidence alone, at bar 100, is fooled."""
    print(f"### Gain exactly 2%, bar 100: asked to confirm (promised: at most 1%), {runs} timings each\n")
    print("| stream | cpu | wall |\n|---|--:|--:|")
    fooled: dict[str, list[int]] = {}
    for arena in arenas(0.01):
        ended = [arena.timing(gain_of(0.02), rng) for _ in range(runs)]
        fooled.setdefault(arena.name, []).append(sum(decision.stopping is not None for decision in ended))
    for name, (cpu, wall) in fooled.items():
        print(f"| {name} | {cpu / runs:.2%} | {wall / runs:.2%} |")
        assert max(cpu, wall) <= binom.ppf(1 - RARE, runs, 0.01), f"{name}: {cpu}, {wall} of {runs} fooled"
    print()


def gaining(runs: int, rng: random.Random) -> None:
    """Planted gains: what they end as, after how many pairs, and how honest the figures are."""
    print(f"### Planted gains, bar {1 / NIGHT:.0f}, {runs} timings each\n")
    print("Pairs are those up to the stop. Claimed minus true gain, in points, of those promoted.\n")
    print("| stream | clock | gain | promoted | incremental | rejected | undecided | suspicious | pairs", end=" ")
    print("| when stopping | when confirmed |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for arena in arenas(NIGHT):
        for gain in (0.02, 0.03, 0.05, 0.08):
            ended = [arena.timing(gain_of(gain), rng) for _ in range(runs)]
            won = [decision for decision in ended if decision.step is Step.PROMOTE]
            print(
                f"| {arena.name} | {arena.rules.quantity} | {gain:.0%} | {share(ended, Step.PROMOTE):.0%} "
                f"| {share(ended, Step.INCREMENTAL):.0%} | {share(ended, Step.REJECT):.0%} "
                f"| {share(ended, Step.UNDECIDED):.0%} | {share(ended, Step.SUSPICIOUS):.0%} "
                f"| {statistics.mean(map(spent, ended)):.1f} | {bias([d.stopping for d in won], gain)} "
                f"| {bias([*won], gain)} |"
            )
            if gain == 0.08 and arena.name in {"aa_alu_p", "aa_mix_p"}:
                assert share(ended, Step.PROMOTE) > 0.9, "a quiet machine has to find 8%"
    print()


def bias(decisions: list[Decision | None], gain: float) -> str:
    """The mean of claimed minus true."""
    claimed = [d.gain for d in decisions if d is not None and d.gain is not None]
    return f"{100 * (statistics.mean(claimed) - gain):+.2f}" if len(claimed) > 10 else ""


def minority(rng: random.Random) -> Change:
    """A candidate that is 7% faster on 75% of trials and ten times slower on the others."""
    return lambda pair: planted(pair, 0.07 if rng.random() < 0.75 else -9.0)


def wake(pair: Pair) -> Pair:
    """A candidate that gains 1.5%, and leaves the machine so that what runs after it takes 8% longer."""
    if pair.candidate_first:
        pair = replace(pair, baseline=planted(replace(pair, candidate=pair.baseline), -0.08).candidate)
    return planted(pair, 0.015)


def cheating(runs: int, rng: random.Random) -> None:
    """Two cheats, with the clause that stops them and without it."""
    print(f"### Cheats, bar {1 / NIGHT:.0f}, {runs} timings each: promoted\n")
    print("| stream | clock | 7% faster on 75%, 10 times slower on 25% | without the totals gate", end=" ")
    print("| gains 1.5%, slows whoever runs next by 8% | without confirmation | called suspicious |")
    print("|---|---|--:|--:|--:|--:|--:|")
    naive = 0.0
    for arena in arenas(NIGHT):
        caught = [arena.timing(minority(rng), rng) for _ in range(runs)]
        with mock.patch.object(Totals, "exceed", return_value=True):
            uncaught = [arena.timing(minority(rng), rng) for _ in range(runs)]
        after = [arena.timing(wake, rng) for _ in range(runs)]
        naive = max(naive, share(uncaught, Step.PROMOTE))
        stopped = sum(decision.stopping is not None for decision in after) / runs
        print(
            f"| {arena.name} | {arena.rules.quantity} | {share(caught, Step.PROMOTE):.0%} "
            f"| {share(uncaught, Step.PROMOTE):.0%} | {share(after, Step.PROMOTE):.0%} "
            f"| {stopped:.0%} | {share(after, Step.SUSPICIOUS):.0%} |"
        )
        assert not share(caught, Step.PROMOTE), "the totals gate let a minority of slow trials through"
    assert naive > 0.3, "the cheat no longer works without the gate: it proves nothing"
    print()


def real_work(runs: int, rng: random.Random) -> None:
    """Arms that really do less work, each pair recorded as baseline and arm in random order."""
    both = two_armed("pw_alu_q")
    print(f"### Real work left out (pw_alu_q), bar {1 / NIGHT:.0f}, {runs} timings each\n")
    print("| true gain | clock | promoted | incremental | rejected | undecided | pairs | mean claimed, all |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    for clock in ("cpu", "wall"):
        rules = Rules("cpu" if clock == "cpu" else "wall", alpha=NIGHT)
        calibration = calibrate([arm_pair(*pair) for pair in both if arm(pair) in {0, 1}], rules)
        for k, gain in ((1, 0.0), (2, 0.02), (3, 0.03), (4, 0.05), (5, 0.08)):
            rounds = [[arm_pair(*pair)] for pair in both if arm(pair) == k]
            ended = [as_recorded(rounds, calibration, rules, rng) for _ in range(runs)]
            claimed = statistics.mean(d.gain for d in ended if d.gain is not None)
            print(
                f"| {gain:.0%} | {clock} | {share(ended, Step.PROMOTE):.0%} | {share(ended, Step.INCREMENTAL):.0%} "
                f"| {share(ended, Step.REJECT):.0%} | {share(ended, Step.UNDECIDED):.0%} "
                f"| {statistics.mean(map(spent, ended)):.1f} | {claimed:.1%} |"
            )
            if k <= 2:
                assert not share(ended, Step.PROMOTE), "a gain of at most 2% was promoted"
    print()


def as_recorded(rounds: list[list[Pair]], calibration: Calibration, rules: Rules, rng: random.Random) -> Decision:
    """A timing of stretches of recorded pairs, with the coins that they had."""

    def recorded() -> Iterator[Pair]:
        while True:
            at = rng.randrange(len(rounds) - 9)
            for round_ in rounds[at : at + 10]:
                yield from round_

    return judged(rules, calibration, recorded())


def main() -> None:
    """Every table, most important first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nulls", type=int, default=2800)
    parser.add_argument("--runs", type=int, default=40)
    asked = parser.parse_args()
    rng = random.Random(1)  # noqa: S311 - a simulation that has to be repeatable
    print("## The verdict on recorded noise\n")
    neutral(asked.nulls, rng)
    boundary(4 * asked.runs, rng)
    gaining(asked.runs, rng)
    cheating(asked.runs, rng)
    real_work(asked.runs, rng)
    print(f"Thresholds: promote {Rules('cpu').promote:.0%} ({to_log(0.05):.4f} in log units), incremental 2%.")


if __name__ == "__main__":
    main()
