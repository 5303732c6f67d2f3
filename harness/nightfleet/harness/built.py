"""A build that is done: where it is, what it made, and whether it is still that."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nightfleet.harness.inventory import ExcessError, Item, inventory_digest, take_inventory
from nightfleet.harness.provision import Provision
from nightfleet.harness.record import LOG, TREE, Record
from nightfleet.harness.store import Hold
from nightfleet.harness.tree import printable
from nightfleet.native import MachineError

# What build tools write for themselves and in no constant order: a rebuild of the same sources changes it.
BOOKKEEPING = re.compile(r"(^|/)(\.fingerprint/|incremental/|\.cargo-lock$|\.ninja_(log|deps)$)|\.d$")


@dataclass(frozen=True)
class Built:
    """A tree after its build. As long as anything refers to this, the build is not removed.

    Attributes:
        path: the built directory, ours; sandboxes may be shown it read-only.
        key: of the build; the same key, the same directory.
        artefact_digest: SHA-256 over what the build made or changed, without tools' `BOOKKEEPING`. Where programs are
            compiled, equal digests mean the same program; where a workload reads its sources, they mean nothing.
        whole_digest: SHA-256 over everything in the directory, sources included.
        build_ns: elapsed time of the build's commands, when it was built.
        build_cpu_ns: their processor time; 0 where the machine cannot tell.
        log: what they printed, control characters escaped.
        tree_digest: of the tree that was built.
        provision: what set-up left, if there was one.
    """

    path: Path
    key: str
    artefact_digest: str
    whole_digest: str
    build_ns: int
    build_cpu_ns: int
    log: Path
    tree_digest: str
    record: Record = field(repr=False)
    provision: Provision | None = field(repr=False)
    _hold: Hold = field(repr=False, compare=False)

    @classmethod
    def of(cls, folder: Path, provision: Provision | None, hold: Hold) -> "Built":
        """The build in a folder of the store."""
        record = Record.read(folder)
        return cls(
            path=folder / TREE,
            key=record.key,
            artefact_digest=_artefact_digest(record.artefacts),
            whole_digest=inventory_digest(record.files),
            build_ns=record.build_ns,
            build_cpu_ns=record.cpu_ns,
            log=folder / LOG,
            tree_digest=record.tree_digest,
            record=record,
            provision=provision,
            _hold=hold,
        )

    def check(self, copy: Path | None = None) -> str:
        """Read everything again: the directory, or a copy of it, must be what was built.

        Returns:
            The artefact digest of what lies there now, which is that of the build.

        Raises:
            MachineError: it is not; the message names the first file that differs.
        """
        place = copy or self.path
        try:
            now = take_inventory(place)
        except (OSError, ExcessError) as error:
            raise MachineError(f"the build in {place} can no longer be read: {error}") from error
        if now != self.record.files:
            paths = sorted(now.keys() | self.record.files.keys())
            first = next(path for path in paths if now.get(path) != self.record.files.get(path))
            raise MachineError(
                f"{place} is no longer what was built: {printable(first)} differs; "
                f"remove {self.path.parent} to build again"
            )
        return _artefact_digest({path: now[path] for path in self.record.artefacts})

    def release(self) -> None:
        """Let `gc` have the build. May be called twice; happens by itself when nothing refers to this any more."""
        self._hold.release()


def slower_build(candidate: Built, baseline: Built) -> tuple[float, int]:
    """How much longer a build takes, as a fraction and in ns: by elapsed or processor time, whichever grew less.

    Others on the machine lengthen the one that they meet, and more cores the other.
    """
    both = [(candidate.build_ns, baseline.build_ns), (candidate.build_cpu_ns, baseline.build_cpu_ns)]
    known = [(mine / theirs - 1, mine - theirs) for mine, theirs in both if mine and theirs]
    return min(known, default=(0.0, 0))


def _artefact_digest(artefacts: Mapping[str, Item]) -> str:
    return inventory_digest({path: item for path, item in artefacts.items() if not BOOKKEEPING.search(path)})
