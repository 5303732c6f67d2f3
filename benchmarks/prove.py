"""Run every `bench_*.py` beside this file and write `RESULTS.md` from what they print.

A benchmark is a script that prints one piece of Markdown on standard output: what was compared, that both sides gave
the same results, and ratios against something measured in the same run. It exits with anything but 0 if a result was
wrong.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"


def heading() -> str:
    """Say what the figures below were measured on; ratios travel better than times."""
    return (
        "# Results\n\n"
        "Written by `make prove`; do not edit. Every figure is a ratio against something measured in the same run.\n\n"
        f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}.\n"
    )


def prove() -> int:
    """Run the benchmarks in order of name, keep each piece as soon as it is there, and count those that failed."""
    pieces = [heading()]
    failures = 0
    for script in sorted(HERE.glob("bench_*.py")):
        print(f"{script.name} ...", file=sys.stderr, flush=True)
        run = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            failures += 1
            print(f"{script.name} exited with {run.returncode}", file=sys.stderr)
            pieces.append(f"## {script.stem}\n\nFailed with exit status {run.returncode}.\n")
        else:
            pieces.append(run.stdout)
        RESULTS.write_text("\n".join(piece.strip("\n") + "\n" for piece in pieces), encoding="utf-8")
    return failures


if __name__ == "__main__":
    sys.exit(1 if prove() else 0)
