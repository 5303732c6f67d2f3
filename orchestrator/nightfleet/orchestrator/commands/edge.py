"""Where a person comes in, and the one place where errors become exit codes.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the answer is no |
| 2 | the tool could not do its job: an impossible request, a machine that cannot, a defect in nightfleet |
| 130 | interrupted by Ctrl-C or SIGTERM |

Below this file nothing prints an error: a command returns, answers no with `typer.Exit(ANSWER_IS_NO)`, or raises.
"""

import errno
import importlib.metadata
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from nightfleet.orchestrator.commands.answer import COULD_NOT, DONE, INTERRUPTED
from nightfleet.orchestrator.commands.audit import audit
from nightfleet.orchestrator.commands.check import check
from nightfleet.orchestrator.commands.demo import demo
from nightfleet.orchestrator.commands.launch import launch
from nightfleet.orchestrator.commands.outside import claim, heartbeat, practice, release, submit
from nightfleet.orchestrator.commands.probe import probe
from nightfleet.orchestrator.commands.selftest import selftest
from nightfleet.orchestrator.commands.status import status
from nightfleet.orchestrator.commands.verify import verify
from nightfleet.orchestrator.commands.watch import watch
from nightfleet.orchestrator.commands.words import branch, signoff, stop
from nightfleet.orchestrator.log import set_up_log

# What a disk or a kernel refuses; any other OSError is a path that nightfleet should have looked at before.
MACHINE_ERRNOS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}

app = typer.Typer(
    name="nightfleet",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    # Errors are told below, in one place; typer's own tracebacks print local variables, which may hold a key.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(audit, name="audit")
app.command()(branch)
app.command()(check)
app.command()(claim)
app.command()(demo)
app.command()(heartbeat)
app.command()(launch)
app.command()(practice)
app.command()(probe)
app.command()(release)
app.command()(selftest)
app.command()(status)
app.command()(signoff)
app.command()(stop)
app.command()(submit)
app.command()(verify)
app.command()(watch)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nightfleet {importlib.metadata.version('nightfleet')}")
        raise typer.Exit(DONE)


@app.callback()
def nightfleet(
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more on standard error; -vv says everything.")
    ] = 0,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Put a fleet to work on your code overnight; wake up to changes that are proven faster and proven the same.

    Exit codes: 0 done, 1 the answer is no, 2 the tool could not do its job.

    Example: `nightfleet probe`
    """
    set_up_log(verbose)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: what follows `nightfleet` on the command line; `sys.argv[1:]` if None.

    Raises:
        SystemExit: always, with one of the codes above.
    """
    # Who ends a job politely gets what Ctrl-C gets: every process ended, and what was measured kept.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(arguments, prog_name="nightfleet")
    except SystemExit as ending:
        # typer catches Ctrl-C first and exits without a word.
        if ending.code == INTERRUPTED:
            typer.echo("nightfleet: interrupted", err=True)
        raise
    # Left to Python, a defect would exit with 1 and so claim that the answer is no.
    except Exception as error:  # noqa: BLE001
        _tell(error)
        sys.exit(COULD_NOT)
    sys.exit(DONE)


def _tell(error: Exception) -> None:
    """Say on standard error what went wrong, and whose turn it is: the user's, the machine's or nightfleet's."""
    from nightfleet import native
    from nightfleet.harness.tree import printable

    # An error may quote what a program said.
    said = "\n".join(map(printable, str(error).split("\n")))
    if isinstance(error, native.UserError):
        typer.echo(f"nightfleet: {said}", err=True)
    elif isinstance(error, native.MachineError) or (isinstance(error, OSError) and error.errno in MACHINE_ERRNOS):
        typer.echo(f"nightfleet: this machine could not do it: {said}", err=True)
    else:
        traceback.print_exception(error)
        typer.echo("nightfleet: the above is a defect in nightfleet; please report it with its traceback", err=True)
