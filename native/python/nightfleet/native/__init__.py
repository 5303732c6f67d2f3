"""Rust's part of nightfleet: what must be fast, and what must be close to the kernel.

Record digests (pure functions):

- `hash_records` cuts an output into records and hashes each with XXH3-128; `hash_files` makes one record of files;
  `canonical_json` shows the bytes by which JSON records are compared.
- `write_digests`, `read_digests`, `root_digest`, `verify_digests` and `diff_digests` keep one digest a case in a plain
  `.npy` file.

Untrusted programs (the kernel's part):

- `Sandbox` builds a sandbox around a tree; `Sandbox.run` runs one program in it and says how it ended.
- `Workload` says how cases go in and records come out; `run_trials` runs many blocks over many slots.
- `Lease` and `PairRunner` time two versions of a program against each other, in an order drawn by coin.
- `probe` says what this machine grants; `give_tree` hands a tree to the sandbox's user.

Every function releases the GIL, answers Ctrl-C within about a tenth of a second when it works long, and raises
`UserError` (a ValueError: something impossible was asked for) or `MachineError` (a RuntimeError: the machine could not
do it). Arguments of the wrong kind may also raise TypeError. Never a Rust panic.
"""

from nightfleet.native._native import (
    BusyError,
    Completed,
    DigestDiff,
    Draw,
    Lease,
    MachineError,
    Pair,
    PairRunner,
    Sandbox,
    Trials,
    UserError,
    Workload,
    __version__,
    canonical_json,
    diff_digests,
    give_tree,
    hash_files,
    hash_records,
    probe,
    read_digests,
    root_digest,
    run_trials,
    verify_digests,
    write_digests,
)

__all__ = [
    "BusyError",
    "Completed",
    "DigestDiff",
    "Draw",
    "Lease",
    "MachineError",
    "Pair",
    "PairRunner",
    "Sandbox",
    "Trials",
    "UserError",
    "Workload",
    "__version__",
    "canonical_json",
    "diff_digests",
    "give_tree",
    "hash_files",
    "hash_records",
    "probe",
    "read_digests",
    "root_digest",
    "run_trials",
    "verify_digests",
    "write_digests",
]
