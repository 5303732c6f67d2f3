"""A tiny arena: a C program, its Makefile and its program.md in a git repository, and the state beside them."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nightfleet.harness.folder import find_tree
from nightfleet.harness.repository import Repository
from nightfleet.harness.request import Request
from nightfleet.orchestrator.program import load_program

PROGRAM = """\
---
name: tiny
edit: ["*.c", "*.h"]
build: make
workloads:
  - {name: sums, run: ./tiny, cases: 400, block: 100}
behaviour: exact
---
# Make it faster
"""
MAKEFILE = "tiny: tiny.c\n\tcc -O1 -o tiny tiny.c\n"
# A case is answered by its own number mixed up; the work in between leaves no trace in the answer. A block takes ~5 ms.
SOURCE = """\
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
enum { ROUNDS = 20000 };
static volatile uint64_t sink;
int main(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        uint64_t number = strtoull(line, NULL, 10), state = number;
        for (int round = 0; round < ROUNDS; round++) state = state * 6364136223846793005u + 1442695040888963407u;
        sink = state;
        /* here */
        printf("%llu %llu\\n", (unsigned long long)number, (unsigned long long)(number * 2654435761u));
    }
    return 0;
}
"""
FILES: Mapping[str, str] = {"program.md": PROGRAM, "Makefile": MAKEFILE, "tiny.c": SOURCE, "README": "tiny\n"}
HALF = SOURCE.replace("20000", "10000")


def doing(statement: str) -> str:
    """The source, doing something more in each case."""
    return SOURCE.replace("/* here */", statement)


class Tiny:
    """A repository whose branch `main` is the baseline."""

    def __init__(self, root: Path, files: Mapping[str, str] = FILES) -> None:
        self.root = root
        self.state = root / ".nightfleet"
        root.mkdir(mode=0o755, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.commit(files)

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.root, check=True, capture_output=True, text=True, env=environment
        )
        return done.stdout

    def commit(self, files: Mapping[str, str]) -> None:
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")

    def branch(self, name: str, files: Mapping[str, str]) -> str:
        """A branch off main with these files changed; the work tree is back on main afterwards."""
        self.git("checkout", "-q", "-b", name)
        self.commit(files)
        self.git("checkout", "-q", "main")
        return name

    def request(self, candidate: str, *, master: bytes = bytes(range(32))) -> Request:
        repository, subfolder = Repository.find(self.root)
        baseline = find_tree("main", repository, subfolder)
        program = load_program(baseline.read("program.md").decode())
        trial = find_tree(candidate, repository, subfolder)
        return Request(program.arena, baseline, trial, self.root, self.state, program.front.text, master)

    def digest(self) -> str:
        """Over names, modes, times and contents of all that is the user's: the work tree and .git."""
        found = hashlib.sha256()
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if name != ".nightfleet")
            for name in sorted(names):
                path = Path(folder) / name
                about = path.lstat()
                found.update(f"{path} {about.st_mode} {about.st_mtime_ns}\0".encode())
                found.update(hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()

    def top(self) -> set[str]:
        """What lies in the folder."""
        return {path.name for path in self.root.iterdir()}
