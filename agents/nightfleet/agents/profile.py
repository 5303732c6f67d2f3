"""Where the baseline spends its work.

Only a baseline is profiled, never a candidate, and only in the sandbox, like everything else that runs. That decides
which profilers can be had: inside, `perf_event_open` and `ptrace` are refused, so perf and py-spy find nothing there,
whatever is installed, and outside we run nobody's program. What works inside needs no more than the program's own
rights: cProfile for a workload that is run by Python, valgrind's callgrind for any other program. Without either there
is no profile, and the remark says so.

Shares count what is called from a function as well: the memory that a function asks for is its own doing.
"""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from nightfleet.agents.contract import MOST_SHARES, UNKNOWN, Profile, Share, WorkloadSummary
from nightfleet.harness.surroundings import SandboxOptions
from nightfleet.native import MachineError, Sandbox, UserError

# Fixed: callgrind is some fifty times slower than the program.
TIMEOUT_S = 300.0
OUTPUT_BYTES = 64 << 20
LEAST_SHARE = 0.002
PYTHON = re.compile(r"^(python|pypy)[0-9.]*$")
# callgrind_annotate: a count, perhaps its share, then file:function and the object.
ANNOTATED = re.compile(r"^\s*([0-9][0-9,]*)(?: \([0-9. ]+%\))?  +(.*?):(.+?)(?: \[[^\]]*\])?$")
TOTAL = re.compile(r"^\s*([0-9][0-9,]*)(?: \([0-9. ]+%\))?  +PROGRAM TOTALS", re.MULTILINE)
DUMP = (
    "import json,pstats,sys;s=pstats.Stats('/out/profile');"
    "json.dump([s.total_tt,[[f,l,n,v[3]] for (f,l,n),v in s.stats.items()]],sys.stdout)"
)


def profile_baseline(
    tree: Path,
    options: SandboxOptions,
    workload: WorkloadSummary,
    cases: Sequence[int],
    *,
    timeout_s: float = TIMEOUT_S,
) -> Profile:
    """Profile one workload of a built baseline.

    Args:
        tree: the built directory; it is shown read-only.
        options: see `Workspace.sandbox_options("trial", built)`.
        workload: whose program to run.
        cases: practice cases; a few hundred are enough.
        timeout_s: for the whole run.

    Returns:
        Shares, the largest first, or none with a remark. A profile is a help and never a reason to stop.
    """
    words = [word.replace("{case}", str(cases[0]) if cases else "0") for word in workload.run]
    by_python = PYTHON.match(PurePosixPath(words[0]).name) and len(words) > 1 and not words[1].startswith("-")
    if not by_python and shutil.which("valgrind", path="/usr/bin:/bin") is None:
        return Profile(source="none", remark="no profiler is at hand; install valgrind for programs like this one")
    command, read = (_cprofile(words), _read_cprofile) if by_python else (_callgrind(words), _read_callgrind)
    source = "cProfile" if by_python else "callgrind"
    stdin = "".join(f"{case}\n" for case in cases).encode()
    try:
        with Sandbox(tree, **options) as sandbox:
            done = sandbox.run(["sh", "-c", command], stdin=stdin, timeout_s=timeout_s, output_bytes=OUTPUT_BYTES)
    except (UserError, MachineError) as error:
        return Profile(source="none", remark=f"{source} could not be run: {error}"[:8_000])
    if done.outcome != "ok":
        said = done.stderr.decode("utf-8", "replace")[-500:]
        return Profile(source="none", remark=f"{source} ended with {done.outcome} {done.status}: {said}")
    return _profile(source, read, done.stdout.decode("utf-8", "replace"), tree)


Reader = Callable[[str, Path], tuple[str, Iterator[Share]]]


def _profile(source: str, read: Reader, text: str, tree: Path) -> Profile:
    try:
        unit, shares = read(text, tree)
        largest: dict[tuple[str, str], Share] = {}
        for one in sorted(shares, key=lambda one: one.share):
            largest[one.path, one.function] = one
        found = sorted(
            (one for one in largest.values() if one.share >= LEAST_SHARE), key=lambda one: (-one.share, one.function)
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return Profile(source="none", remark=f"what {source} said cannot be read: {error}")
    return Profile(source=source, unit=unit, shares=tuple(found[:MOST_SHARES]))


def _cprofile(words: Sequence[str]) -> str:
    program = shlex.join([words[0], "-m", "cProfile", "-o", "/out/profile", *words[1:]])
    return f"{program} >/dev/null && {shlex.join([words[0], '-c', DUMP])}"


def _callgrind(words: Sequence[str]) -> str:
    # Debugging information is not asked for: the baseline is profiled as it is timed.
    program = shlex.join(
        ["/usr/bin/valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=/out/calls", *words]
    )
    return f"{program} >/dev/null && /usr/bin/callgrind_annotate --inclusive=yes --auto=no --threshold=100 /out/calls"


def _read_cprofile(text: str, tree: Path) -> tuple[str, Iterator[Share]]:
    total, rows = json.loads(text)

    def shares() -> Iterator[Share]:
        for file, _, name, cumulative in rows:
            path = str(file).removeprefix("/tree/")
            if total > 0 and (tree / path).is_file() and not path.startswith("/"):
                yield Share(path=path, function=str(name)[:500], share=_bounded(float(cumulative) / float(total)))

    return "seconds of CPU", shares()


def _read_callgrind(text: str, tree: Path) -> tuple[str, Iterator[Share]]:
    totals = TOTAL.search(text)
    if totals is None:
        raise ValueError("no totals")
    total = _count(totals[1])

    def shares() -> Iterator[Share]:
        for line in text.splitlines():
            row = ANNOTATED.match(line)
            if row is not None and total:
                file, function = row[2].removeprefix("/tree/"), _plain(row[3])
                path = file if not file.startswith("/") and (tree / file).is_file() else UNKNOWN
                if function and not function.startswith("0x"):
                    yield Share(path=path, function=function[:500], share=_bounded(_count(row[1]) / total))

    return "instructions", shares()


def _plain(symbol: str) -> str:
    """A symbol without what compilers add to it: hashes, clones' suffixes, recursion levels, arguments."""
    return re.sub(r"(::h[0-9a-f]{16})|('[0-9]+$)|(\(.*\)$)|(\.(constprop|isra|part|cold)\.[0-9]+)", "", symbol)


def _count(text: str) -> int:
    return int(text.replace(",", ""))


def _bounded(share: float) -> float:
    return max(0.0, min(1.0, share))
