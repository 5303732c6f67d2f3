"""What a sandboxed trial costs beyond a plain spawn, beside bubblewrap with the same promises."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench_records import resident_mib
from table import Figure, report

from nightfleet.native import Sandbox, Workload, give_tree, hash_records, run_trials

ROUNDS = 30
BATCH = 20
TRIALS = 20_000
TRIVIAL = "int main(void) { return 0; }\n"


def build(tree: Path) -> str:
    """A static program that does nothing: all that is left is what starting it costs."""
    source = tree / "trivial.c"
    source.write_text(TRIVIAL)
    program = tree / "trivial"
    subprocess.run(["cc", "-O2", "-static", "-o", program, source], check=True)
    give_tree(tree)
    tree.chmod(0o755)
    return str(program)


def plain(argv: list[str]) -> int:
    """posix_spawn and wait."""
    _, status = os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)
    return status


def bubblewrap(tree: Path) -> list[str]:
    """The same promises: namespaces, ids, capabilities, minimal root, fresh /proc, /dev and scratch, clean environment.

    (It has neither Landlock, nor a system-call filter, nor a control group, nor a count of tasks.)
    """
    words = "--unshare-all --uid 1000 --gid 1000 --cap-drop ALL --die-with-parent --new-session --clearenv"
    words += " --hostname nightfleet --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib"
    words += " --symlink usr/lib64 /lib64 --ro-bind /etc/alternatives /etc/alternatives --ro-bind /etc/ssl /etc/ssl"
    words += " --proc /proc --dev /dev --tmpfs /tmp --tmpfs /home/nightfleet --tmpfs /dev/shm --tmpfs /out"
    return [
        "/usr/bin/bwrap",
        *words.split(),
        "--ro-bind",
        str(tree),
        "/tree",
        "--chdir",
        "/tree",
        "--",
        "/tree/trivial",
    ]


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def side_by_side(tree: Path, program: str) -> tuple[list[Figure], str]:
    """Batches of plain, sandboxed and bubblewrapped runs on one core, interleaved."""
    wrap = bubblewrap(tree) if shutil.which("bwrap") else None
    if wrap is not None and plain(wrap) != 0:
        wrap = None
    core = max(os.sched_getaffinity(0))
    workload = Workload(["./trivial"], record="output")
    blocks = [[case] for case in range(BATCH)]
    rounds = []
    with Sandbox(tree, cores=[core]) as sandbox:
        check(run_trials([[sandbox]], workload, blocks, seed=1))
        for _ in range(ROUNDS):
            spawn = on(core, lambda: [plain([program]) for _ in blocks])
            ours = timed(lambda: check(run_trials([[sandbox]], workload, blocks, seed=1)))
            theirs = on(core, lambda: [plain(wrap) for _ in blocks]) if wrap else float("nan")
            rounds.append((spawn, ours, theirs))
        facts = sandbox.facts
    spawn, ours, theirs = (statistics.median(column) / BATCH for column in zip(*rounds, strict=True))
    figures = [
        Figure("plain posix_spawn of a static program", spawn, "ms"),
        Figure("the same as a trial: sandboxed, fed, read, hashed, measured", ours, "ms"),
    ]
    remark = f"{ROUNDS} interleaved rounds of {BATCH} runs each, all on one core; medians. CPU time from "
    remark += f"{facts['cpu_source']}: joined once a sandbox; its eight reads a trial are in the figures."
    if wrap is None:
        return figures, remark + " bubblewrap is not installed here, so there is no ratio."
    figures += [
        Figure("the same in bubblewrap", theirs, "ms"),
        Figure("our overhead over bubblewrap's", (ours - spawn) / (theirs - spawn), "x", most=0.3),
    ]
    return figures, remark


def on(core: int, work: Callable[[], object]) -> float:
    """Milliseconds of a call whose child processes are to run on one core, as a trial's do."""
    free = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return timed(work)
    finally:
        os.sched_setaffinity(0, free)


def many(tree: Path) -> list[Figure]:
    """20,000 trials on two slots, in four parts: what this process holds must not grow from the first to the last."""
    workload = Workload(["./trivial"], record="output")
    cores = sorted(os.sched_getaffinity(0))[:2]
    making = timed(lambda: Sandbox(tree).close())
    slots = [Sandbox(tree, cores=[core]) for core in cores]
    part = [[case] for case in range(TRIALS // 4)]
    held, milliseconds = [], 0.0
    for _ in range(4):
        milliseconds += timed(lambda: check(run_trials([slots], workload, part, seed=1)))
        held.append(resident_bytes())
    for slot in slots:
        slot.close()
    return [
        Figure("making and ending a sandbox: namespaces, root, control group joined once", making, "ms"),
        Figure(f"{TRIALS} trials on {len(slots)} slots", milliseconds / 1e3, "s"),
        Figure(
            f"resident memory grew from {TRIALS // 4} to {TRIALS} trials by",
            (held[-1] - held[0]) / 2**20,
            "MiB",
            most=8,
        ),
    ]


def endless(tree: Path) -> list[Figure]:
    """A gigabyte of output as one record: it is hashed as it streams and never held."""
    workload = Workload(["head", "-c", "1000000000", "/dev/zero"], record="output")
    with Sandbox(tree) as sandbox:
        run_trials([[sandbox]], workload, [[0]], seed=1, output_bytes=2 << 30)
        before = resident_mib(restart_peak=True)
        trials = run_trials([[sandbox]], workload, [[0]], seed=1, output_bytes=2 << 30)
    grown = resident_mib() - before
    check(trials)
    assert trials.digests[0, 0].tolist() == hash_records(bytes(10**9), seed=1, record="output")[0].tolist()
    return [Figure("resident memory grew while a record of 1 GB was hashed by", grown, "MiB", most=8)]


def check(trials: object) -> None:
    """Every trial ended well."""
    outcomes = {outcome for side in trials.outcome for outcome in side}  # type: ignore[attr-defined]
    assert outcomes == {"ok"}, outcomes


def resident_bytes() -> int:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        program = build(tree)
        figures, remark = side_by_side(tree, program)
        return report("A sandboxed trial", remark, figures + many(tree) + endless(tree))


if __name__ == "__main__":
    sys.exit(main())
