"""A console for whoever has a night to go on with, whether or not anybody still reads what it prints."""

import contextlib
import os

from rich.console import Console


class Lasting(Console):
    """Falls silent where its reader has gone away; rich's own ends the thread that prints, with "the answer is no"."""

    def on_broken_pipe(self) -> None:
        """Nobody reads any more: what is still buffered goes nowhere as well."""
        self.quiet = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)
