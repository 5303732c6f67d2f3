"""Commands run one after the other in a sandbox, and what to say when one fails, and whose failure it is."""

import errno
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.command import Command
from nightfleet.harness.surroundings import SandboxOptions
from nightfleet.harness.tree import printable
from nightfleet.native import Completed, Sandbox, UserError

# Fixed.
TAIL_LINES = 40
TAIL_LETTERS = 500
LOG_BYTES = 1 << 20
OUTPUT_BYTES = 64 << 20

NETWORK = re.compile(
    r"could not resolve|name resolution|name or service not known|getaddrinfo|network is unreachable|dial tcp|ENOTFOUND"
    r"|EAI_AGAIN|ENETUNREACH|no route to host|failed to connect|couldn't connect|connection refused|--offline"
    r"|offline mode|module lookup disabled by GOPROXY",
    re.IGNORECASE,
)


class BuildFailedError(Exception):
    """The candidate's build failed: nothing of ours, nothing of the user's.

    Attributes:
        outcome: as in `Completed`, or "size" for a build that leaves too much.
        tail: the last lines of its output, harmless to show.
        log: the file with more of them.
    """

    def __init__(self, message: str, outcome: str, tail: Sequence[str], log: Path) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.tail = tuple(tail)
        self.log = log


class BaselineFailedError(UserError):
    """The user's own code does not build; attributes as of `BuildFailedError`."""

    def __init__(self, message: str, outcome: str, tail: Sequence[str], log: Path) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.tail = tuple(tail)
        self.log = log


class SetupFailedError(BaselineFailedError):
    """The user's `setup` failed; attributes as of `BuildFailedError`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: in one line, as an outcome, and by the last lines of its output."""

    why: str
    outcome: str
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """What became of some commands: elapsed time of all together, cleaned output, the first failure.

    `cpu_ns` is the processor time of all of them and whatever they started; 0 where the machine cannot tell.
    """

    wall_ns: int
    log: str
    failure: Failure | None
    cpu_ns: int = 0


def run_job(
    tree: Path,
    commands: Sequence[Command],
    options: SandboxOptions,
    timeout_s: float,
    *,
    on_output: Callable[[bytes, bytes], None] | None = None,
) -> Job:
    """Run commands in a sandbox until one fails.

    Args:
        tree: appears as /tree.
        commands: each gets a home and scratch space of its own.
        options: of the sandbox.
        timeout_s: of each command.
        on_output: given all that a command wrote, standard output and standard error, when it has ended.

    Raises:
        UserError, MachineError: the sandbox could not be made.
    """
    wall_ns = cpu_ns = 0
    logs: list[str] = []
    with Sandbox(tree, **options) as sandbox:
        for command in commands:
            done = sandbox.run(command, timeout_s=timeout_s, output_bytes=OUTPUT_BYTES)
            wall_ns += max(0, done.wall_ns)
            cpu_ns += max(0, done.cpu_ns)
            if on_output is not None:
                on_output(done.stdout, done.stderr)
            lines = [*_lines(done.stdout), *_lines(done.stderr)]
            ended = f"# {done.outcome} {done.status}, {done.wall_ns / 1e9:.3f} s"
            logs += [f"$ {' '.join(command)}", *lines, ended, ""]
            if done.outcome != "ok":
                why = _why(command, done, options, timeout_s)
                if options["profile"] != "setup" and any(NETWORK.search(line) for line in lines):
                    why += "; there is no network here: what it fetches belongs into 'setup', whose result it is shown"
                tail = tuple(line[:TAIL_LETTERS] for line in lines[-TAIL_LINES:])
                return Job(wall_ns, "\n".join(logs), Failure(why, done.outcome, tail), cpu_ns)
    return Job(wall_ns, "\n".join(logs), None, cpu_ns)


def _lines(output: bytes) -> list[str]:
    # Lines are cut at newlines only: everything else that moves a terminal's cursor is escaped.
    text = output[-LOG_BYTES:].decode("utf-8", "backslashreplace")
    return [printable(line.expandtabs(4)) for line in text.rstrip("\n").split("\n")] if text else []


def _why(command: Command, done: Completed, options: SandboxOptions, timeout_s: float) -> str:
    called = f"'{' '.join(command)}'"
    said = {
        "exit": f"ended with status {done.status}",
        "signal": f"was ended by signal {done.status}",
        "timeout": f"took longer than limits.build, {timeout_s:g} s",
        "memory": f"needed more memory than {options['memory_bytes']} bytes",
        "output": f"printed more than {OUTPUT_BYTES} bytes",
        "pids": "started more processes than a build may have",
        "file-size": f"wrote a file of more than {options.get('file_bytes', 16 << 30)} bytes",
        "start": f"could not be started ({errno.errorcode.get(done.status, done.status)}): is it on PATH?",
    }
    refused = f"; refused: {', '.join(printable(call) for call in done.denied[:5])}" if done.denied else ""
    return f"{called} {said.get(done.outcome, done.outcome)}{refused}"
