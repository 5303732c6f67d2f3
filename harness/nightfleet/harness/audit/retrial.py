"""Cases of a report, run again: both trees are built once more, and a sample of digests is held against the recorded.

The salts stand in the report, and all cases and the seed of the hashes follow from them; the trees come from where the
user says, and must have the digests that the report names. Nothing is timed.
"""

import os
import random
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightfleet.harness import behaviour
from nightfleet.harness.audit import draws
from nightfleet.harness.audit.contract import arena_of, refuse_strange_names, refuse_strange_program
from nightfleet.harness.audit.examination import tables_of
from nightfleet.harness.audit.papers import Papers
from nightfleet.harness.behaviour import Span, Work
from nightfleet.harness.built import Built
from nightfleet.harness.calibrations import Machine
from nightfleet.harness.cases import Cases, hash_seed
from nightfleet.harness.divergence import Divergence, Look
from nightfleet.harness.overlay import overlay
from nightfleet.harness.pools import CasePools, Pool
from nightfleet.harness.sides import Side, fresh_copy
from nightfleet.harness.tree import Tree
from nightfleet.harness.workspace import BuildFailedError, Workspace
from nightfleet.native import Sandbox, UserError

SIDES = ("baseline", "candidate")
# Fixed: of digests that are not given again, so many are looked at in the block that they came from.
MOST_LOOKED_AT = 3
# Rounds of a timing beyond those that count: the warm-ups, and those that were void.
ROUNDS_BEYOND = 40
NO_RECORD = "no record"

Tell = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Digest:
    """One record that was not given again: hex digits, or "no record"."""

    workload: str
    case: int
    side: str
    recorded: str
    now: str


@dataclass(frozen=True)
class Rerun:
    """What came out of running a sample again.

    Attributes:
        seed: of the sample.
        cases: that were run again, by workload.
        same: records on either side that have the recorded digest.
        differing: the first that have not.
        in_block: how many had it only among the cases of the block in which they were run.
        changed: what is not as it was: machine, toolchain, builds.
    """

    seed: int
    cases: Mapping[str, int]
    same: int
    records: int
    differing: tuple[Digest, ...]
    in_block: int
    changed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every record was given again."""
        return self.same == self.records

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"holds": self.holds, **asdict(self)}


@dataclass(frozen=True)
class SideBySide:
    """One case on both sides, now: the records, their digests and the recorded ones (None: none was)."""

    shown: Divergence
    now: tuple[str, str]
    recorded: tuple[str, str] | None
    changed: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both sides give the same record."""
        return self.now[0] == self.now[1]

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        recorded = None if self.recorded is None else dict(zip(SIDES, self.recorded, strict=True))
        digests = {"now": dict(zip(SIDES, self.now, strict=True)), "recorded": recorded}
        return {"same": self.same, **self.shown.to_dict(), "digests": digests, "changed": self.changed}


class Retrial:
    """The two programs of a report, built again.

    Args:
        papers: of a report that holds.
        find: the tree that a name means, as `folder.find_tree`.
        source: the user's folder, for `data` and the toolchain; never written to.
        state: the `.nightfleet` directory.
        names: of baseline and candidate, where they are not to be found under those in the report.
        own: whether the report was written here; what another names is neither read nor run unasked.
        tell: what is being done, how much of it, of how much.

    Raises:
        UserError: the trees are not those of the report, or do not build here; see `contract`.
    """

    def __init__(
        self,
        papers: Papers,
        find: Callable[[str], Tree],
        source: Path,
        state: Path,
        *,
        names: tuple[str | None, str | None] = (None, None),
        own: bool = True,
        tell: Tell = lambda _words, _done, _of: None,
    ) -> None:
        self.papers, self.subject, self._tell = papers, papers.content["subject"], tell
        self.arena = arena_of(self.subject)
        if not own:
            refuse_strange_names(self.subject, dict(zip(SIDES, names, strict=True)))
        self.baseline, candidate = (
            _tree(find, self.subject, side, name) for side, name in zip(SIDES, names, strict=True)
        )
        if not own:
            refuse_strange_program(self.subject, self.baseline, source)
        merged = overlay(self.baseline, candidate, self.arena.scope)
        if merged.tree is None:
            raise UserError(f"the candidate was never run: it is out of scope ({merged.objections[0].text})")
        salts = (bytes.fromhex(self.subject[name]) for name in ("salt", "practice_salt"))
        self.pools = CasePools.revealed(self.arena, self.baseline, *salts, times=draws.times(self.subject))
        self.workspace = Workspace(state, self.arena, source)
        self._built = self._build(merged.tree)

    def _build(self, candidate: Tree) -> tuple[Built, Built]:
        self._tell("building the baseline", 0, None)
        baseline = self.workspace.build(self.baseline)
        self._tell("building the candidate", 0, None)
        try:
            return baseline, self.workspace.build(candidate, baseline=baseline, from_nothing=True)
        except BuildFailedError as failed:
            raise UserError(f"the candidate does not build: {str(failed).splitlines()[0]}") from failed

    @cached_property
    def changed(self) -> tuple[str, ...]:
        """What is not as it was when the report was written."""
        found = []
        machine = Machine.here().since(Machine(**self.subject["machine"]))
        if machine:
            found.append(f"the machine changed since: {machine}")
        if self.workspace.surroundings.identity() != self.subject["toolchain"]:
            found.append("the toolchain changed since: compilers, interpreters or their folders are not those of then")
        found += [
            f"the {side}'s build is another than it was then"
            for side, built in zip(SIDES, self._built, strict=True)
            if built.artefact_digest != self.subject[side]["artefact"]
        ]
        return tuple(found)

    def rerun(self, sample: int, seed: int | None = None) -> Rerun:
        """Run a random sample of the recorded cases again, on both sides, in blocks of their own.

        Args:
            sample: how many cases; all of them if there are no more.
            seed: of the sample; None for one of the system's entropy.
        """
        seed = secrets.randbits(32) if seed is None else seed
        drawn = self._sample(sample, random.Random(seed))  # noqa: S311 - the sample can be drawn again, and should be
        spans = [self.pools.span(name, np.array(cases, np.int64)) for name, cases in drawn.items()]
        differing = list(self._differing(self._compare(spans)))
        in_block = self._in_their_blocks(differing[:MOST_LOOKED_AT]) if differing else []
        records = 2 * sum(len(cases) for cases in drawn.values())
        # All or none: where the first few depend on their block, the others are no evidence of anything.
        explained = bool(in_block) and len(in_block) == len(differing[:MOST_LOOKED_AT])
        return Rerun(
            seed,
            {name: len(cases) for name, cases in drawn.items()},
            same=records if explained else records - len(differing),
            records=records,
            differing=() if explained else tuple(differing[:20]),
            in_block=len(differing) if explained else 0,
            changed=self.changed,
        )

    def case(self, case: int, workload: str | None = None) -> SideBySide:
        """Run one case again, in the block in which it was run.

        Raises:
            UserError: there is no such case, or several workloads have it.
        """
        name, block = self._block_of(case, workload)
        span = self.pools.span(name, block)
        digests = self._compare([span]).digests[name]
        row = digests.cases.tolist().index(case)
        now = _hex(digests.baseline[row]), _hex(digests.candidate[row])
        recorded = self._recorded(name, case)
        limits = self.arena.limits
        look = Look(span.workload, span.form, span.manifest, limits.trial_s, limits.output_bytes)
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightfleet-")))
            sides = self._sides
            copies = [(fresh_copy(side.tree, scratch), side.options) for side in (*sides, sides[0])]
            boxes = [stack.enter_context(Sandbox(copy, **options)) for copy, options in copies]  # type: ignore[arg-type]
            shown = look.at(case, block.tolist(), (boxes[0], boxes[1]), boxes[2] if span.form.filter else None)
        return SideBySide(shown, now, recorded, self.changed)

    @property
    def _sides(self) -> tuple[Side, Side]:
        first, second = (
            Side(built.path, dict(self.workspace.sandbox_options("trial", built))) for built in self._built
        )
        return first, second

    @cached_property
    def _tables(self) -> Mapping[str, Mapping[str, NDArray[np.void]]]:
        return tables_of(self.papers)

    def _sample(self, count: int, chance: random.Random) -> dict[str, list[int]]:
        """Recorded cases, by workload: each of the report's is as likely as any other."""
        sizes = {name: len(sides["baseline"]) for name, sides in self._tables.items()}
        total = sum(sizes.values())
        if not total:
            raise UserError("this report holds no digests: its verdict came before the behaviour gate")
        rows = chance.sample(range(total), min(count, total))
        drawn: dict[str, list[int]] = {}
        start = 0
        for name, size in sizes.items():
            cases = self._tables[name]["baseline"]["case"]
            mine = [int(cases[row - start]) for row in rows if start <= row < start + size]
            drawn |= {name: mine} if mine else {}
            start += size
        return drawn

    def _compare(self, spans: list[Span]) -> behaviour.Behaviour:
        limits = self.arena.limits
        work = Work(hash_seed(self.pools.salt), limits.trial_s, limits.output_bytes, most_bad_blocks=1 << 30)
        if self.arena.cores > 1:
            work = replace(work, cores=sorted(os.sched_getaffinity(0))[:1])
        tell = self._tell
        return behaviour.compare(
            *self._sides, spans, work, on_progress=lambda news: tell("blocks on both sides", news.done, news.blocks)
        )

    def _differing(self, seen: behaviour.Behaviour) -> Iterator[Digest]:
        """The records whose digests are not the recorded ones."""
        for name, digests in seen.digests.items():
            for place, case in enumerate(digests.cases.tolist()):
                now = _hex(digests.baseline[place]), _hex(digests.candidate[place])
                recorded = self._recorded(name, case)
                for side, before, after in zip(SIDES, recorded or now, now, strict=True):
                    if before != after:
                        yield Digest(name, case, side, before, after)

    def _in_their_blocks(self, differing: Sequence[Digest]) -> list[Digest]:
        """Those that are given again in the block that they were run in: their records depend on their neighbours."""
        found = []
        for one in differing:
            _, block = self._block_of(one.case, one.workload)
            seen = self._compare([self.pools.span(one.workload, block)])
            if (one.case, one.side) not in {(other.case, other.side) for other in self._differing(seen)}:
                found.append(one)
        return found

    def _recorded(self, workload: str, case: int) -> tuple[str, str] | None:
        sides = self._tables.get(workload)
        row = 0 if sides is None else int(np.searchsorted(sides["baseline"]["case"], case))
        if sides is None or row == len(sides["baseline"]) or sides["baseline"]["case"][row] != case:
            return None
        first, second = (_hex((sides[side]["high"][row], sides[side]["low"][row])) for side in SIDES)
        return first, second

    def _block_of(self, case: int, workload: str | None) -> tuple[str, Cases]:
        """The workload and the block of a case, in whichever pool it is."""
        pools = self.pools.by_name
        if workload is not None and workload not in pools:
            raise UserError(f"no workload is named {workload!r}; there are {', '.join(pools)}")
        found = [
            (name, block)
            for name, pool in pools.items()
            if workload in {None, name} and (block := self._block_in(name, pool, case)) is not None
        ]
        if not found:
            raise UserError(
                f"there is no case {case} in this report: it was neither compared nor timed; "
                f"`nightfleet audit show {self.papers.name}` names some"
            )
        if len(found) > 1:
            raise UserError(f"case {case} is one of {' and '.join(name for name, _ in found)}; type --workload NAME")
        return found[0]

    def _block_in(self, name: str, pool: Pool, case: int) -> Cases | None:
        size, whole = pool.workload.block, pool.behaviour
        rounds = self.papers.content["verification"]["pairs"] + ROUNDS_BEYOND
        blocks = chain(
            (whole[at : at + size] for at in range(0, len(whole), size)),
            [pool.practice[:size]],
            (pool.own.timing(number) for number in range(rounds)),
        )
        shown = [one["case"] for one in self.papers.content["divergences"] if one["workload"] == name]
        # What an extraordinary claim was held against is in no block that the report could name.
        alone = np.array([case], np.int64) if case in shown else None
        return next((block for block in blocks if case in block), alone)


def _tree(find: Callable[[str], Tree], subject: Mapping[str, Any], side: str, name: str | None) -> Tree:
    said = subject[side]
    try:
        tree = find(said["name"] if name is None else name)
    except UserError as error:
        raise UserError(f"the {side} is not here: {error}; type --{side} REVISION-OR-FOLDER") from None
    if tree.digest != said["tree"]:
        raise UserError(
            f"{tree.name} is not the {side} that was judged: its tree has the digest {tree.digest[:16]}, the report "
            f"says {said['tree'][:16]}; type --{side} REVISION-OR-FOLDER"
        )
    return tree


def _hex(digest: Sequence[Any] | NDArray[np.uint64]) -> str:
    high, low = (int(word) for word in digest)
    return f"{high:016x}{low:016x}" if high or low else NO_RECORD
