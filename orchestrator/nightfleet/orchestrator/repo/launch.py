"""Every git that the orchestrator starts for writing or for asking about the user's work tree starts here.

GitPython launches it. Of GitPython only the launcher is used: its `Repo` reads the configuration of system, user and
repository and keeps `git cat-file` processes, and its objects know SHA-1 alone. Its launcher hands on the caller's
environment, in which one GIT_DIR is enough to write elsewhere, so `env -i` stands in front of every git: nothing is
inherited but PATH.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nightfleet.harness.repository import CLOSED, ENVIRONMENT
from nightfleet.harness.tree import printable
from nightfleet.native import MachineError

# Fixed: only a very large tree on a slow disk takes long.
TIMEOUT_S = 300
# Beside what reading needs: settings under which writing commands would run programs, ask, or work on when we are done.
CLOSED_FOR_WRITING = (
    *CLOSED,
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "commit.gpgSign=false"),
    *("-c", "tag.gpgSign=false"),
    *("-c", "gpg.program=false"),
    *("-c", "log.showSignature=false"),
    *("-c", "diff.external="),
    *("-c", "core.editor=false"),
    *("-c", "core.askPass=false"),
    *("-c", "core.sshCommand=false"),
    *("-c", "core.alternateRefsCommand=false"),
    *("-c", "credential.helper="),
    *("-c", "core.untrackedCache=false"),
    *("-c", "submodule.recurse=false"),
)


@dataclass(frozen=True)
class Answer:
    """What one git said.

    Attributes:
        status: its exit status; negative if a signal ended it.
        output: its standard output.
        complaint: its standard error, for people: escaped, at most its last 2000 characters.
    """

    status: int
    output: bytes
    complaint: str


def ask_git(
    git_dir: Path,
    *arguments: str,
    stdin: bytes = b"",
    options: tuple[str, ...] = (),
    environment: Mapping[str, str | None] = {},
) -> Answer:
    """Run one git to its end.

    Args:
        git_dir: given to git explicitly, so that it looks for no repository of its own.
        arguments: the command and its own.
        stdin: all that it can read.
        options: further options in front of the command.
        environment: further variables; None takes one away.

    Raises:
        MachineError: there is no git, or it takes too long.
    """
    variables: dict[str, str | None] = {"PATH": os.environ.get("PATH", os.defpath), **ENVIRONMENT, **environment}
    inherits_nothing = ("env", "-i", *(f"{name}={value}" for name, value in variables.items() if value is not None))
    command = (*inherits_nothing, "git", f"--git-dir={git_dir}", *CLOSED_FOR_WRITING, *options, *arguments)
    try:
        from git import Git
    except ImportError as error:
        raise MachineError(f"git cannot be started: {str(error).splitlines()[0]}; install git") from None
    # A session of its own: Ctrl-C ends the night in good order, not git in the middle of a write.
    started = Git(git_dir).execute(command, as_process=True, istream=subprocess.PIPE, start_new_session=True)
    process = started.proc
    if process is None:  # only once GitPython has closed it
        raise MachineError("git ended before it was asked")
    try:
        output, errors = process.communicate(stdin, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise MachineError(f"git {arguments[0]} took longer than {TIMEOUT_S} s in {git_dir}") from None
    finally:
        # Does nothing to one that has ended; also closes the pipes.
        process.kill()
        with process:
            pass
    return Answer(process.returncode, output, printable(errors.decode("utf-8", "replace").strip()[-2000:]))


def tell_git(
    git_dir: Path,
    *arguments: str,
    stdin: bytes = b"",
    options: tuple[str, ...] = (),
    environment: Mapping[str, str | None] = {},
) -> bytes:
    """The standard output of a git that must succeed; arguments as in `ask_git`.

    Raises:
        MachineError: it did not; the message holds what it said.
    """
    answer = ask_git(git_dir, *arguments, stdin=stdin, options=options, environment=environment)
    if answer.status != 0:
        raise MachineError(f"git {arguments[0]} failed in {git_dir} with status {answer.status}: {answer.complaint}")
    return answer.output
