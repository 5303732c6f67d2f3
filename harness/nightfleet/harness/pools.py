"""The cases of every workload of one verification: practice, behaviour, timing, calibration and escalation."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nightfleet.harness.arena import Arena, Manifest, Workload
from nightfleet.harness.cases import (
    Cases,
    ManifestPools,
    Pools,
    manifest_lines,
    practice_cases,
    practice_salt,
    verification_salt,
)
from nightfleet.harness.comparison import Span
from nightfleet.harness.rounds import Blocks
from nightfleet.harness.tree import Tree
from nightfleet.native import UserError

# Cases that agents may see, of each workload; the smoke gate runs one block of them.
PRACTICE_CASES = 1000
# How much further an extraordinary claim is looked into (design: four times the cases).
ESCALATION = 4


class CasePools:
    """The cases of all workloads under the salt of one verification.

    Args:
        arena: whose workloads.
        baseline: where the manifests of cases lie.
        master: 32 secret bytes.
        index: the verification's own number.
        times: how many times the arena's cases the behaviour gate compares; manifests have no further ones.

    Raises:
        UserError: a manifest is missing, empty or malformed.
    """

    def __init__(self, arena: Arena, baseline: Tree, master: bytes, index: int, *, times: int = 1) -> None:
        self._draw(arena, baseline, (verification_salt(master, index), practice_salt(master)), times)

    @classmethod
    def revealed(cls, arena: Arena, baseline: Tree, salt: bytes, practice: bytes, *, times: int = 1) -> "CasePools":
        """The same cases again, from the two salts that a report holds. Raises as the class itself."""
        pools = cls.__new__(cls)
        pools._draw(arena, baseline, (salt, practice), times)  # noqa: SLF001 - its own, of an instance in the making
        return pools

    def _draw(self, arena: Arena, baseline: Tree, salts: tuple[bytes, bytes], times: int) -> None:
        self.arena, self.times = arena, times
        self.salt, self.practice_salt = salts
        # Calibration has cases of its own: a candidate is never timed on a block that the baseline was fitted to.
        self._aside = hashlib.sha256(b"nightfleet calibration 1\n" + self.salt).digest()
        self._pools = {one.name: self._pool(one, baseline) for one in arena.workloads}

    def practice(self) -> list[Span]:
        """One block of each workload, of cases that agents may see."""
        return [self._span(pool, pool.practice[: pool.workload.block]) for pool in self._each()]

    def behaviour(self) -> list[Span]:
        """Every case of each workload."""
        return [self._span(pool, pool.own.behaviour) for pool in self._each()]

    def empty(self) -> Mapping[str, Span]:
        """How each workload is run, without a case."""
        return {name: self._span(pool, pool.own.behaviour[:0]) for name, pool in self._pools.items()}

    def escalation(self, pairs: int) -> list[Span]:
        """Four times as many cases as were compared, none of them seen; manifests have no further ones.

        Args:
            pairs: blocks that the timing has used.
        """
        return [
            self._span(pool, pool.own.escalation(ESCALATION * len(pool.own.behaviour), pairs=pairs))
            for pool in self._each()
            if isinstance(pool.own, Pools)
        ]

    def timing(self, number: int) -> Blocks:
        """The blocks of a round, by its number."""
        return {name: pool.own.timing(number) for name, pool in self._pools.items()}

    def calibration(self, number: int) -> Blocks:
        """The blocks of a round of calibration."""
        return {name: pool.aside.timing(number) for name, pool in self._pools.items()}

    def reused(self, rounds: int) -> dict[str, int]:
        """How often the most used case of each manifest was run again on each side, after its first time.

        Args:
            rounds: blocks that the timing has used, warm-ups and void ones included.
        """
        # A case of the smoke gate's block has its first time there, and comes once more for behaviour.
        return {name: pool.own.reused(rounds) for name, pool in self._pools.items() if not isinstance(pool.own, Pools)}

    @property
    def by_name(self) -> Mapping[str, "Pool"]:
        """The cases of each workload."""
        return self._pools

    def span(self, name: str, cases: Cases) -> Span:
        """These cases of a workload, as the behaviour gate takes them."""
        return self._span(self._pools[name], cases)

    def _each(self) -> Iterator["Pool"]:
        return iter(self._pools.values())

    def _span(self, pool: "Pool", cases: Cases) -> Span:
        return Span(pool.workload, self.arena.behaviour, cases, pool.lines)

    def _pool(self, workload: Workload, baseline: Tree) -> "Pool":
        salts = (self.salt, self._aside)
        if isinstance(workload.cases, Manifest):
            path = workload.cases.path
            if path not in baseline.files:
                raise UserError(f"workload {workload.name}: its manifest {path} is not in {baseline.name}; commit it")
            lines = tuple(manifest_lines(baseline.read(path), path))
            own, aside = (
                ManifestPools(salt, lines=len(lines), block=workload.block, workload=workload.name) for salt in salts
            )
            return Pool(workload, own.behaviour, lines, own, aside)
        seen = practice_cases(self.practice_salt, max(PRACTICE_CASES, workload.block), workload.name)
        count = self.times * workload.cases
        numbers, others = (
            Pools(salt, seen, behaviour=count, block=workload.block, workload=workload.name) for salt in salts
        )
        return Pool(workload, seen, None, numbers, others)


@dataclass(frozen=True)
class Pool:
    """One workload's cases: numbers, or lines of a manifest."""

    workload: Workload
    practice: Cases
    lines: tuple[str, ...] | None
    own: Pools | ManifestPools
    aside: Pools | ManifestPools

    @property
    def behaviour(self) -> Cases:
        """The cases of the behaviour gate, of shape (n,)."""
        return self.own.behaviour

    @property
    def finite(self) -> bool:
        """Whether there are no further cases than those of a manifest."""
        return self.lines is not None
