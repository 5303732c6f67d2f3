"""The cases of one workload under one salt: what agents may see, what behaviour compares, what pairs are timed on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightfleet.harness.arena import Manifest, Workload
from nightfleet.harness.cases import ManifestPools, Pools, manifest_lines, practice_cases
from nightfleet.harness.rounds import Blocks
from nightfleet.harness.tree import Tree
from nightfleet.native import UserError

# Cases that agents may see, of each workload; the smoke gate runs one block of them.
PRACTICE_CASES = 1000


@dataclass(frozen=True)
class TimingBlocks:
    """The blocks of a round of every workload, by its number; `aside`: a calibration's."""

    pools: Mapping[str, "Pool"]
    aside: bool

    def __call__(self, number: int) -> Blocks:
        """One block of each workload."""
        return {name: pool.timing(number, aside=self.aside) for name, pool in self.pools.items()}


@dataclass(frozen=True)
class Pool:
    """One workload's cases, numbers or lines of a manifest."""

    workload: Workload
    practice: Any
    lines: tuple[str, ...] | None
    own: Pools | ManifestPools
    aside: Pools | ManifestPools

    @classmethod
    def of(cls, workload: Workload, salt: bytes, practice: bytes, baseline: Tree) -> "Pool":
        """The pools of a workload under one salt. Calibration has cases of its own, from a salt derived of it."""
        aside = hashlib.sha256(b"nightfleet calibration 1\n" + salt).digest()
        if isinstance(workload.cases, Manifest):
            lines = tuple(manifest_lines(baseline.read(workload.cases.path), workload.cases.path))
            pools = [
                ManifestPools(one, lines=len(lines), block=workload.block, workload=workload.name)
                for one in (salt, aside)
            ]
            return cls(workload, pools[0].behaviour, lines, pools[0], pools[1])
        seen = practice_cases(practice, max(PRACTICE_CASES, workload.block), workload.name)
        many = [
            Pools(one, seen, behaviour=workload.cases, block=workload.block, workload=workload.name)
            for one in (salt, aside)
        ]
        return cls(workload, seen, None, many[0], many[1])

    @property
    def finite(self) -> bool:
        """Whether there are no further cases than those of the manifest."""
        return self.lines is not None

    @property
    def behaviour(self) -> Any:
        """All that are compared, in random order."""
        return self.own.behaviour

    def timing(self, number: int, *, aside: bool = False) -> Any:
        """The block of one pair; `aside`: of a calibration."""
        return (self.aside if aside else self.own).timing(number)

    def escalation(self, count: int, *, pairs: int) -> Any:
        """Cases for an extraordinary claim; see `cases.Pools`."""
        if isinstance(self.own, ManifestPools):
            raise UserError("a manifest has no further cases")
        return self.own.escalation(count, pairs=pairs)
