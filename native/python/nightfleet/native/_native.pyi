# The extension's own docstrings are one line each; editors show these.
# ruff: noqa: PYI021

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

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
    "_provoke",
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

__version__: Final[str]

class UserError(ValueError):
    """Something impossible was asked for; the message names the limit, the value and what to type instead."""

class MachineError(RuntimeError):
    """The kernel or the machine could not do what it should, or this library has a defect."""

class BusyError(MachineError):
    """The machine could do it, but others keep it busy now."""

def hash_records(
    data: Buffer,
    *,
    seed: int,
    record: Literal["line", "output", "length"] = "line",
    canonical: Literal["exact", "json"] = "exact",
    ignore: str | None = None,
    threads: int = 1,
) -> NDArray[np.uint64]:
    """XXH3-128 of each record of `data`: uint64 of shape (records, 2), each row [high, low].

    `data` is any contiguous buffer of bytes; it is not copied and must not be written to meanwhile. `seed` is in [0,
    2**64).

    `record` says how the output is cut: "line" (up to and including each newline; an unterminated last line is a
    record of its own, and differs from a terminated one), "output" (one record, also when empty) or "length" (a u32
    little-endian length, then that many bytes, which are the record).

    `ignore` is a regular expression over bytes (Rust's syntax, no Unicode classes, `^` and `$` match at lines) whose
    matches are removed first. `canonical="json"` then replaces a record by b"j" and its `canonical_json`; a record
    that is not JSON by b"!" and its raw bytes. Whitespace around a JSON value, also the newline, does not count.

    `threads` is in [1, 256]; the result does not depend on it.

    Raises UserError for impossible arguments, for data that is not framed as `record` says, and for a record of more
    than 64 MiB that is to be canonicalised; MachineError when a thread cannot be started.
    """

def hash_files(
    files: Sequence[tuple[bytes, Buffer]],
    *,
    seed: int,
    canonical: Literal["exact", "json"] = "exact",
    ignore: str | None = None,
) -> NDArray[np.uint64]:
    """One digest for (relative path, contents) pairs: uint64 of shape (1, 2), [high, low].

    What is hashed: for each file the u32 LE length of its path, the path, the u64 LE length of its contents, the
    contents (in their canonical form, see `hash_records`).

    Raises UserError when paths repeat or are not sorted by their bytes, and as `hash_records`.
    """

def canonical_json(record: Buffer, /) -> bytes | None:
    """The bytes by which JSON texts are compared, or None when `record` is not one (in UTF-8).

    Equal for equal values and different for different ones: members in the order of their keys' UTF-8 bytes, integers
    as text (-0 is 0), numbers with a fraction or exponent as the bits of their f64. Not JSON: duplicate keys, lone
    surrogates, NaN and infinities, numbers beyond f64, more than 4300 digits before a fraction, more than 128 nested
    containers.
    """

def write_digests(
    path: str | PathLike[str],
    cases: NDArray[np.int64],
    digests: NDArray[np.uint64],
    metadata: Buffer,
) -> str:
    """Writes `digests[i]` for `cases[i]` as the file `path`, at once or not at all; returns its root digest.

    `cases` has shape (n,), is in any order, distinct and in [0, 2**31); `digests` has shape (n, 2); both contiguous.
    The file is a `.npy` (format 1.0) with dtype [('case', '<i8'), ('high', '<u8'), ('low', '<u8')], sorted by case:
    read it with `numpy.load(path, allow_pickle=False)`.

    Raises UserError for other arrays and for a path that cannot be written; MachineError when the disk fails or is
    full. Then no temporary file stays, and the old file does.
    """

def root_digest(path: str | PathLike[str], metadata: Buffer) -> str:
    r"""SHA-256 (64 lowercase hex digits) over metadata and rows; header and order are checked on the way.

    The bytes: b"nightfleet digests 1\n", the length of the metadata as u64 LE, the metadata, the rows as in the file.

    Raises UserError when the file is missing, cut, too long, or not as `write_digests` makes it.
    """

def verify_digests(path: str | PathLike[str], metadata: Buffer, root: str) -> None:
    """Raises UserError, saying what was found, unless `root_digest(path, metadata)` is `root`; otherwise as that."""

def read_digests(path: str | PathLike[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Cases, ascending, of shape (n,), and digests of shape (n, 2), [high, low]. Raises as `root_digest`."""

def diff_digests(a: str | PathLike[str], b: str | PathLike[str], *, limit: int = ...) -> DigestDiff:
    """Compares two files case by case, in one pass over each; lists `limit` (100) cases. Raises as `root_digest`."""

@final
class DigestDiff:
    """How two digest files differ. All counts are complete, however many cases are listed."""

    @property
    def differing(self) -> int:
        """Cases in both files whose digests differ."""

    @property
    def only_a(self) -> int:
        """Cases that only the first file has."""

    @property
    def only_b(self) -> int:
        """Cases that only the second file has."""

    @property
    def cases(self) -> NDArray[np.int64]:
        """The first `limit` differing cases, ascending."""

_Path: TypeAlias = str | PathLike[str]
_Place: TypeAlias = _Path | tuple[_Path, _Path]
_Block: TypeAlias = Sequence[int] | NDArray[np.int64]
_Outcome: TypeAlias = Literal[
    "ok", "exit", "signal", "timeout", "output", "memory", "pids", "file-size", "records", "start"
]

@final
class Sandbox:
    """One sandbox around one tree: a small spawner process that runs one program at a time in it.

    Inside: the tree at /tree (the working directory), HOME=/home/nightfleet, /tmp, /dev/shm and /out fresh for every
    program (NIGHTFLEET_OUT=/out), user and group 1000, host name "nightfleet", the system's /usr read-only, its own
    /proc, nothing else of the host. The environment is clean: PATH, HOME, TMPDIR, USER, LANG, NIGHTFLEET_OUT and `env`.

    A context manager; closing it ends whatever runs in it. When the harness dies, so does everything inside.
    """

    def __new__(
        cls,
        tree: _Path,
        *,
        profile: Literal["trial", "build", "setup", "test", "scorer", "agent"] = "trial",
        read: Sequence[_Place] = ...,
        write: Sequence[_Place] = ...,
        env: Mapping[str, str] = ...,
        cores: Sequence[int] = ...,
        network: Literal["none", "loopback", "host"] | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        file_bytes: int | None = None,
        scratch_bytes: int | None = None,
        unsafe_no_sandbox: bool = False,
    ) -> Self:
        """Builds the sandbox and waits until it stands.

        `profile` sets what is not given: "trial" and "scorer" see the tree read-only and have no network (4 GiB of
        memory, 512 tasks, files to 1 GiB, scratch of 256 MiB); "build", "setup", "test" and "agent"
        may write to it and make UNIX sockets (16 GiB, 4096 tasks, files to 16 GiB, scratch of 4 GiB); "setup" has the
        host's network, "test" TCP over a loopback of its own.

        `read` and `write` make further host paths visible at the same place, or, as pairs (host path, path inside),
        elsewhere; well-known credential files at their top are hidden. `cores` pins programs (and forbids them to
        leave); empty means all. `memory_bytes` and `pids` bound all of a program's processes together, `file_bytes`
        each file, `scratch_bytes` all scratch together (by default at most a quarter of the memory). Without a
        writable control group memory and tasks are counted by looking every 20 ms, so a short overshoot goes unseen.

        As root, programs run under a host id of their own, which must be able to read the tree: see `give_tree`.

        `unsafe_no_sandbox` keeps limits and clean-up and gives up isolation: only for trusted code.

        Raises UserError for paths that are not there and impossible values; MachineError when the kernel withholds
        namespaces or seccomp (the message says which and what to do). Nothing falls back to less silently: see `facts`.
        """

    @property
    def facts(self) -> dict[str, str]:
        """Each promise with the mechanism that keeps it, or "lost: why"; and `cpu_source`, `memory_source`."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Buffer | None = None,
        cwd: str = "/tree",
        timeout_s: float = 60.0,
        output_bytes: int = ...,
    ) -> Completed:
        """Runs one program to its end. A program that misbehaves is an `outcome`, never an exception.

        Threads that share a sandbox take turns. A forked child has to make its own. A name without a slash is looked
        up on the PATH inside. `output_bytes` (64 MiB) bounds standard output and standard error each.

        Raises UserError for an impossible command, MachineError when the sandbox itself fails.
        """

    def close(self) -> None:
        """Ends the spawner; a run in another thread goes on to its end first. May be called twice."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class Completed:
    """What one program did. Times in nanoseconds, sizes in bytes, -1 where unknown."""

    @property
    def outcome(self) -> _Outcome:
        """How it ended.

        "ok" (status 0), "exit" (another status), "signal" (of its own doing), a limit that it broke ("timeout",
        "output", "memory", "pids", "file-size"), "records" (wrong in number or form), or "start" (it could not be
        executed). A program that ignores SIGXFSZ sees EFBIG instead and ends as it likes.
        """

    @property
    def status(self) -> int:
        """Exit status, signal number ("signal", "file-size") or error number ("start"); else 0."""

    @property
    def stdout(self) -> bytes:
        """Standard output; empty in pairs, where it is hashed instead."""

    @property
    def stderr(self) -> bytes:
        """The last 64 KiB of standard error, and the harness's own remark where there is one."""

    @property
    def wall_ns(self) -> int:
        """From just before `execve` to the exit."""

    @property
    def cpu_ns(self) -> int:
        """User + system time of the whole tree; from where, `Sandbox.facts["cpu_source"]` says."""

    @property
    def peak_bytes(self) -> int:
        """Peak memory of the whole tree; from where, `Sandbox.facts["memory_source"]` says."""

    @property
    def switches(self) -> int:
        """Involuntary context switches of the reaped tree."""

    @property
    def tasks(self) -> int:
        """Threads and child processes created (or tried) beyond the program itself."""

    @property
    def denied(self) -> list[str]:
        """System calls that were refused, each with the setting that would allow it, if one does."""

@final
class Workload:
    """How cases go into a program and how its records come out."""

    def __new__(
        cls,
        argv: Sequence[str],
        *,
        feed: Literal["stdin", "argument"] = "stdin",
        record: Literal["line", "output", "length", "files"] = "line",
        files: str = "*",
        canonical: Literal["exact", "json"] = "exact",
        ignore: str | None = None,
        filter: Sequence[str] | None = None,
        manifest: Sequence[str] | None = None,
    ) -> Self:
        """`feed`: the block's cases one a line on standard input, or one process a case with `{case}` in `argv`.

        `record`: see `hash_records`; "files" hashes the files under /out that match the glob `files` as one record.
        "output" and "files" need blocks of one case. `canonical` and `ignore`: see `hash_records`; a record that is
        not JSON makes the outcome "records". `filter` is a frozen command, run in a sandbox of its own, that standard
        output goes through first. `manifest` names the cases 0, 1, 2, …: their lines are fed instead of numbers.

        Raises UserError.
        """

    @property
    def filtered(self) -> bool:
        """Whether output goes through a filter, so that runs need sandboxes for it."""

def run_trials(
    sides: Sequence[Sequence[Sandbox]],
    workload: Workload,
    blocks: Sequence[_Block],
    *,
    seed: int,
    timeout_s: float = 60.0,
    output_bytes: int = ...,
    filters: Sequence[Sandbox] = ...,
    stop_after: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trials:
    """Runs every block once on every side and hashes each record under `seed`.

    `sides[s][k]` is side s's sandbox on slot k: slots work in parallel, the sides of one block run one after the other
    on one slot, in random order. `filters[k]` is slot k's sandbox for the workload's filter. After `stop_after` blocks
    that differ between sides or did not end well, no more are begun. `progress(done, all)` is called about every 50 ms
    and at the end. Memory stays flat: only digests and figures are kept.

    Raises UserError, MachineError, KeyboardInterrupt within 0.2 s (every process is gone then).
    """

@final
class Trials:
    """Results of S sides, B blocks, C cases (blocks concatenated). Times in ns, sizes in bytes, -1 unknown."""

    @property
    def digests(self) -> NDArray[np.uint64]:
        """Shape (S, C, 2), [high, low]; zeros where a record is missing (see `outcome` and `done`)."""

    @property
    def outcome(self) -> list[list[_Outcome]]:
        """[side][block]; "ok" also for blocks that are not `done`."""

    @property
    def status(self) -> NDArray[np.int64]:
        """Shape (S, B): see `Completed.status`."""

    @property
    def wall_ns(self) -> NDArray[np.int64]:
        """Shape (S, B)."""

    @property
    def cpu_ns(self) -> NDArray[np.int64]:
        """Shape (S, B)."""

    @property
    def peak_bytes(self) -> NDArray[np.int64]:
        """Shape (S, B)."""

    @property
    def switches(self) -> NDArray[np.int64]:
        """Shape (S, B)."""

    @property
    def tasks(self) -> NDArray[np.int64]:
        """Shape (S, B)."""

    @property
    def done(self) -> list[bool]:
        """[block]: whether it ran on every side."""

    @property
    def denied(self) -> dict[str, int]:
        """Refused system calls over all trials, with how often."""

    @property
    def stderr(self) -> list[list[bytes]]:
        """[side][block]: the end of standard error of blocks that did not end well, 8 MiB over all of them."""

@final
class Lease:
    """The machine's one timing lease: while it is held, no other harness of this user times anything."""

    @staticmethod
    def acquire(
        *,
        cores: int = ...,
        purpose: str = "timing",
        wait_s: float | None = None,
        on_wait: Callable[[str, float], None] | None = None,
        runtime_dir: _Path | None = None,
    ) -> Lease:
        """Waits for the lease (without end, or `wait_s` seconds) and chooses `cores` (1) quiet physical cores.

        `on_wait(holder, seconds)` is called about every 50 ms while another holds it. Raises UserError for more cores
        than there are; MachineError when `wait_s` has passed or the runtime directory is not private.
        """

    @property
    def cores(self) -> list[int]:
        """The leased cores."""

    @property
    def siblings(self) -> list[int]:
        """Their SMT siblings, which stay idle."""

    @property
    def harness_cores(self) -> list[int]:
        """Where the harness works meanwhile; the leased ones too if it has no other."""

    @property
    def shared_with_harness(self) -> bool:
        """Whether the harness has no core left for itself and shares the leased ones."""

    def release(self) -> None:
        """Gives the lease back. May be called twice; a dead process gives it back by itself."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class PairRunner:
    """Times pairs of trials on the same block, baseline and candidate, in an order drawn by coin."""

    def __new__(
        cls,
        baseline: Sequence[Sandbox],
        candidate: Sequence[Sandbox],
        workload: Workload,
        lease: Lease,
        *,
        seed: int,
        timeout_s: float = 60.0,
        output_bytes: int = ...,
        filters: Sequence[Sandbox] = ...,
        trim: float = 0.0,
    ) -> Self:
        """Each side needs at least 4 sandboxes over fresh copies of its tree, pinned to the leased cores.

        `filters` are two where the workload has a filter, pinned to the harness's cores: for the baseline's output and
        for the candidate's. A pair's outputs go through them when both of its trials have ended, so that a filter is
        in no trial's time or memory. A filter that fails on an output makes that side's outcome "records".

        `trim`, in [0, 1), is for tests of the judge and 0 for everything else: the share of a block's cases, its last
        ones, that the candidate does not get (rounded, 1 is kept), so that a gain of known size can be made of any
        program. The records of the cases that both got are compared. It needs `feed` "stdin" and `record` "line" or
        "length".

        Raises UserError.
        """

    def warm_up(self, block: _Block) -> Pair:
        """Runs a pair that must not be counted; its draw has no index of its own."""

    def draw(self, block: _Block, *, wait_s: float = 60.0) -> Draw:
        """Waits until the leased cores are calm, then draws coin and copies from the system's entropy.

        Record the draw before `run`. Raises BusyError ("machine too loaded to time") after `wait_s` seconds,
        UserError when the lease was released, MachineError when its file was removed.
        """

    def run(self, draw: Draw) -> Pair:
        """Runs the drawn pair; a pair that was broken off is run again with the same draw.

        Its block must be the one that was drawn or taken up under its index here (or its index that of a warm-up pair).
        """

    def resume(self, draws: Sequence[Draw]) -> None:
        """Takes up draws that were recorded before this runner was made, all or none.

        Each may be run again, and the indices of further draws go on behind them. Raises UserError for a block, a copy
        or an index that cannot be, and where an index stands for another block already.
        """

@final
class Draw:
    """What is fixed for one pair before it runs."""

    def __new__(
        cls,
        *,
        index: int,
        block: _Block,
        candidate_first: bool,
        baseline_copy: int,
        candidate_copy: int,
        candidate_cases: int | None = None,
    ) -> Self:
        """A draw as it was recorded; `candidate_cases` is None for all."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    @property
    def index(self) -> int:
        """Counts the draws of a timing from 0."""

    @property
    def block(self) -> NDArray[np.int64]:
        """The cases, shape (n,)."""

    @property
    def baseline_cases(self) -> int:
        """How many of them the baseline gets: all."""

    @property
    def candidate_cases(self) -> int:
        """How many of them, from the first on, the candidate gets: all, unless its runner trims."""

    @property
    def candidate_first(self) -> bool:
        """The coin."""

    @property
    def baseline_copy(self) -> int:
        """Which of the baseline's sandboxes."""

    @property
    def candidate_copy(self) -> int:
        """Which of the candidate's sandboxes."""

@final
class Pair:
    """A pair that was run."""

    @property
    def draw(self) -> Draw:
        """As it was drawn."""

    @property
    def baseline(self) -> Completed:
        """The baseline's trial."""

    @property
    def candidate(self) -> Completed:
        """The candidate's trial."""

    @property
    def baseline_digests(self) -> NDArray[np.uint64]:
        """Shape (records, 2), [high, low], of the very process that was timed."""

    @property
    def candidate_digests(self) -> NDArray[np.uint64]:
        """Shape (records, 2), [high, low], of the very process that was timed."""

    @property
    def identical(self) -> bool:
        """Whether every case that both sides got has a record on both, and they are equal."""

    @property
    def diverged(self) -> list[int]:
        """The cases that are not, in the block's order."""

    @property
    def void(self) -> str | None:
        """Why the pair does not count (stolen time, a suspend): nothing that a trial can do."""

def give_tree(path: _Path) -> None:
    """Hands a directory that the harness made to the id that sandboxed programs run under when we are root.

    Only for trees of the harness's own making: as root it changes the owner of everything below, links not followed.
    As an ordinary user it does nothing. Raises UserError when `path` is no directory, MachineError.
    """

class _Probed(TypedDict):
    kernel: dict[str, str]
    promises: dict[str, str]
    below_minimum: str | None

def probe() -> _Probed:
    """What this machine grants.

    "kernel": each feature with "yes", a version, or "no: why". "promises": each promise of a trial's sandbox, built
    here for real, with its mechanism or "lost: why". "below_minimum": why no sandbox can be built, or None.
    """

def _provoke(what: Literal["panic", "wait"], beside: bool) -> None:
    """For tests: a panic, or work that ends only by Ctrl-C, on this thread or beside it."""
