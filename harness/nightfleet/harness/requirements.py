"""What a night asks of an arena, as rows with evidence: the five requirements first, then what they rest on."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from nightfleet.harness import power
from nightfleet.harness.arena import CASES_FOR_VERIFICATION, Arena, Manifest
from nightfleet.harness.calibrate import Calibrated, NoiseFigures
from nightfleet.harness.determinism import Determinism
from nightfleet.harness.response import GOOD_SHARE, Response
from nightfleet.harness.tree import printable

# A night of eight hours should judge a hundred candidates; below two an hour it is hardly a night.
GOOD_VERDICTS_PER_HOUR = 12.0
FEWEST_VERDICTS_PER_HOUR = 2.0
# Below this share of gains of threshold + 1% that are found, a night looks for nothing.
LEAST_POWER = 0.50

# "doubtful": it holds and could be better.
Answer: TypeAlias = Literal["yes", "doubtful", "no"]


@dataclass(frozen=True)
class Row:
    """One requirement; `advice`: what to type where the answer is not yes."""

    name: str
    answer: Answer
    evidence: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Findings:
    """What an examination has seen so far; None where it did not get there.

    Attributes:
        editable: files of the baseline that `edit` matches.
        files: of the baseline.
        commit: that the code is from; None for a folder.
        facts: promises of a trial's sandbox; see `Sandbox.facts`.
        build_s: the baseline's build from nothing.
        obstacle: why there is no calibration.
        pair_s: elapsed time of one pair, with everything around it.
        neutral_pairs: mean pairs that a candidate that changes nothing takes in a night.
        found: the share of gains of `thresholds.promote` + 1% that are promoted.
    """

    arena: Arena
    editable: int
    files: int
    tree: str
    commit: str | None
    facts: Mapping[str, str] = field(default_factory=dict)
    build_s: float | None = None
    responses: Sequence[Response] = ()
    determinism: Determinism | None = None
    calibrated: Calibrated | None = None
    obstacle: str = ""
    pair_s: float = 0.0
    neutral_pairs: float = 0.0
    found: float = 0.0

    @property
    def cases(self) -> int | None:
        """How many the behaviour gate compares; None where a manifest says."""
        given = [one.cases for one in self.arena.workloads]
        return (
            None
            if any(isinstance(one, Manifest) for one in given)
            else sum(one for one in given if isinstance(one, int))
        )

    @property
    def behaviour_s(self) -> float | None:
        """How long the behaviour gate takes over all cases."""
        seen = self.determinism
        if seen is None or not seen.cases or seen.unsteady:
            return None
        return seen.seconds * ((self.cases or seen.cases) / seen.cases)

    @property
    def verdict_s(self) -> float | None:
        """How long a candidate that changes nothing takes: two builds, behaviour, pairs. Tests are not counted."""
        if self.calibrated is None or self.behaviour_s is None or self.build_s is None:
            return None
        return 2 * self.build_s + self.behaviour_s + self.neutral_pairs * self.pair_s


def rows(findings: Findings) -> tuple[Row, ...]:
    """Every requirement, in the order in which people read them."""
    makers: tuple[Callable[[Findings], Row], ...] = (
        _objective,
        _fast,
        _bounded,
        _cheap_failure,
        _traceable,
        _determinism,
        _response,
        _noise,
        _layout,
        _clock,
        _power,
    )
    return tuple(make(findings) for make in makers)


def _objective(f: Findings) -> Row:
    metric, count = f.arena.metric, len(f.arena.workloads)
    sure = [f.determinism is None or f.determinism.holds, all(one.responds for one in f.responses)]
    over = f", {metric.over} of {count} workloads" if count > 1 else ""
    return Row(
        "objective score",
        "yes" if all(sure) else "no",
        f"{metric.kind}{over}, measured from outside; {f.arena.behaviour.form} records decide what is the same",
        "" if all(sure) else "see determinism and response",
    )


def _fast(f: Findings) -> Row:
    name = "fast and cheap iteration"
    if f.verdict_s is None or f.behaviour_s is None or f.build_s is None:
        return Row(name, "no", "not known: there is no calibration")
    hourly = 3600 / max(0.001, f.verdict_s)
    parts = f"builds {2 * f.build_s:.1f} s, behaviour {f.behaviour_s:.1f} s, {f.neutral_pairs:.0f} pairs "
    words = f"about {hourly:.0f} verdicts an hour ({parts}{f.neutral_pairs * f.pair_s:.1f} s"
    words += "; tests are not counted)" if f.arena.tests else ")"
    facts = {"verdicts_per_hour": hourly, "build_s": f.build_s, "behaviour_s": f.behaviour_s, "pair_s": f.pair_s}
    good = hourly >= GOOD_VERDICTS_PER_HOUR
    advice = "" if good else "a shorter block, fewer cases, or an incremental build would judge more candidates"
    answer: Answer = "yes" if good else "doubtful" if hourly >= FEWEST_VERDICTS_PER_HOUR else "no"
    return Row(name, answer, words, advice, facts)


def _bounded(f: Findings) -> Row:
    lost = {name: words for name, words in f.facts.items() if words.startswith("lost")}
    # `cpu_source` and the like say where a figure comes from, and promise nothing.
    held = sum(not words.startswith("lost") for name, words in f.facts.items() if not name.endswith("_source"))
    words = f"edit matches {f.editable} of {f.files} files; {held} sandbox promises hold here"
    if lost:
        words += "; lost: " + ", ".join(f"{name} ({why.removeprefix('lost: ')})" for name, why in lost.items())
    advice = "`nightfleet probe` shows what this machine withholds" if lost else ""
    facts = {"editable": f.editable, "files": f.files, "lost": lost, "promises": dict(f.facts)}
    return Row("bounded environment", "doubtful" if lost else "yes", words, advice, facts)


def _cheap_failure(f: Findings) -> Row:
    limits = f.arena.limits
    smoke_s = sum(one.trial_ns for one in f.responses) * 2 / 1e9
    words = (
        f"a candidate that fails ends after its build and one block ({smoke_s:.2f} s); a trial that hangs is killed "
    )
    words += f"after {limits.trial_s:g} s, or at {limits.memory_bytes >> 20} MiB; your files are never written to"
    slow = max((one.trial_ns / 1e9 for one in f.responses), default=0.0)
    if slow > limits.trial_s / 3:
        advice = f"a trial takes {slow:.1f} s: type 'limits: {{trial: {math.ceil(slow * 5)}s}}' or a shorter block"
        return Row("low cost of failure", "doubtful", words, advice)
    return Row("low cost of failure", "yes", words)


def _traceable(f: Findings) -> Row:
    where = f"commit {f.commit[:12]}" if f.commit else f"folder {printable(f.tree)}, which is no commit"
    compared = f.cases if f.cases is not None else (f.determinism.cases if f.determinism else 0)
    words = f"{where}; every record of {compared} cases is hashed, and pairs are kept, in .nightfleet/reports"
    if not f.commit:
        return Row("traceable output", "doubtful", words, "commit it: a night's baseline is a commit")
    if f.cases is not None and f.cases < CASES_FOR_VERIFICATION:
        advice = f"'cases: {CASES_FOR_VERIFICATION}': behaviour rarer than one in {f.cases} may change unseen"
        return Row("traceable output", "doubtful", words, advice)
    return Row("traceable output", "yes", words)


def _determinism(f: Findings) -> Row:
    seen = f.determinism
    if seen is None:
        return Row("determinism", "no", f"not looked at: {f.obstacle}")
    facts = {"cases": seen.cases, "differing": seen.differing, "unsteady": dict(seen.unsteady)}
    if seen.failed:
        return Row("determinism", "no", seen.failed, "mend the baseline first", facts)
    if seen.holds:
        part = "" if f.cases in {None, seen.cases} else f" of {f.cases}"
        return Row("determinism", "yes", f"{seen.cases}{part} cases run twice, every record identical", "", facts)
    name, cases = next(iter(seen.unsteady.items()))
    words = f"workload {name} disagrees with itself on {seen.differing or len(cases)} of {seen.cases} cases, "
    words += f"such as {', '.join(map(str, cases[:3]))}"
    if shown := next((one for one in seen.shown if one.baseline and one.candidate), None):
        first, second = (record.text.strip()[:80] for record in (shown.baseline, shown.candidate) if record)
        words += f"; case {shown.case} gave {first!r}, then {second!r}"
    return Row("determinism", "no", words, _remedy(f, name), {**facts, "remedy": _typed(seen, name)})


def _typed(seen: Determinism, name: str) -> str | None:
    found = seen.remedies.get(name)
    return found[0].typed if found else None


def _remedy(f: Findings, name: str) -> str:
    found = f.determinism.remedies.get(name) if f.determinism else None
    if not found:
        return (
            "make it deterministic (seeds, clocks, addresses, orders of hash tables, threads), or filter what differs"
        )
    remedy, cases = found
    return f"type '{remedy.typed}' ({remedy.what}; {cases} cases agree then), or better, make it deterministic"


def _response(f: Findings) -> Row:
    if not f.responses:
        return Row("response", "no", f"not measured: {f.obstacle}")
    facts = {one.workload: {**asdict(one), "share": one.share} for one in f.responses}
    worst = min(f.responses, key=lambda one: (one.responds, one.share))
    before, after = (f"{ns / 1e6:.1f} ms" for ns in (worst.short_ns, worst.long_ns))
    words = f"{worst.planted}: {before} became {after}" if worst.planted == "two at once" else ""
    words = words or f"half a block takes {before}, a whole one {after}"
    words = f"workload {worst.workload}: {words}; {worst.share:.0%} of a trial's time answers to its work"
    if not all(one.responds for one in f.responses):
        advice = "a workload must do a fixed amount of work: no fixed time, no answers from a cache, no idle waiting"
        return Row("response", "no", words, advice, facts)
    # Of two at once a busy machine makes less than twice the time: there it only tells fixed work from fixed time.
    if worst.share < GOOD_SHARE and worst.planted == "half a block":
        return Row("response", "doubtful", words, "the rest is the program starting: a longer block dilutes it", facts)
    return Row("response", "yes", words, "", facts)


def _noise(f: Findings) -> Row:
    if f.calibrated is None:
        return Row("noise", "no", f"not measured: {f.obstacle}")
    summary = f.calibrated.summary
    judged = [one for one in summary.noise if one.quantity == summary.clock]
    worst = max(judged, key=lambda one: one.median)
    words = f"{worst.median:.2%} for a pair ({worst.lowest:.2%} when calm, {worst.highest:.2%} at worst) over "
    words += f"{summary.pairs} pairs in {summary.seconds:.0f} s, {summary.void} void"
    words += ", each with a reference run of its block" if summary.per_block else ""
    facts = {"figures": [_plain(one) for one in summary.noise], "pairs": summary.pairs, "stable": summary.stable}
    if not summary.stable:
        return Row(
            "noise", "doubtful", f"{words}; not stable yet", "type `nightfleet check` again on a calmer machine", facts
        )
    return Row("noise", "yes", words, "", facts)


def _layout(f: Findings) -> Row:
    """Nothing of it has to hold: where the layout moves time, the nulls are that much further away."""
    if f.calibrated is None:
        return Row("layout", "no", f"not measured: {f.obstacle}")
    found, rules = f.calibrated.summary.layout, f.calibrated.rules
    if found.why:
        words = f"not measured: {found.why}; a gain of a percent or two may be the layout's alone"
        return Row("layout", "yes", words, "", found.to_dict())
    words = (
        f"{found.sd:.2%} (sd of {len(found.gains)} relinks, from {min(found.gains):+.2%} to {max(found.gains):+.2%})"
    )
    words += f"; gains up to {rules.promote_null(found.sd):.2%} are not believed"
    return Row("layout", "yes", words, "", found.to_dict())


def _plain(figures: NoiseFigures) -> dict[str, Any]:
    return asdict(figures)


def _clock(f: Findings) -> Row:
    if f.calibrated is None:
        return Row("clock", "no", f"not chosen: {f.obstacle}")
    summary = f.calibrated.summary
    return Row("clock", "yes", f"{summary.clock}: {_why(summary.why)}", "", {"clock": summary.clock})


def _why(why: str) -> str:
    return why.removeprefix("wall, because ").removeprefix("CPU time: ")


def _power(f: Findings) -> Row:
    if f.calibrated is None:
        return Row("power", "no", f"not known: {f.obstacle}")
    table, at = f.calibrated.summary.power, f.calibrated.rules.promote + power.ABOVE_THRESHOLD
    found = ", ".join(f"{gain:.0%}: {share:.0%} in {pairs:.0f} pairs" for gain, share, pairs in table)
    words = f"promoted of gains of {found}; of {at:.0%} (threshold + 1%): {f.found:.0%}"
    facts = {"table": [list(row) for row in table], "at_threshold": f.found, "longer": f.calibrated.summary.longer}
    if f.found >= power.ENOUGH_POWER:
        return Row("power", "yes", words, "", facts)
    advice = " and ".join(_longer(f)) or "a calmer machine, a longer block or a higher threshold"
    return Row("power", "doubtful" if f.found >= LEAST_POWER else "no", words, advice, facts)


def _longer(f: Findings) -> Iterator[str]:
    if f.calibrated and f.calibrated.summary.longer:
        yield f"a block {f.calibrated.summary.longer} times as long would do; `--fix` writes it"
