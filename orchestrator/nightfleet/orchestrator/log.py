"""The one place that sets structlog up.

Every room calls `structlog.get_logger()` and says nothing about where its events go. The commands print answers on
standard output; events go to standard error, so that `nightfleet ... | jq` always reads a clean answer.
"""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

QUIET_LEVEL = logging.WARNING
# What each further -v adds.
VERBOSE_LEVELS = (QUIET_LEVEL, logging.INFO, logging.DEBUG)


class _StandardError:
    """Standard error as it is at the moment of the event; an event that nobody can read any more is dropped.

    A night outlives the terminal or the pipe that it was launched from, and must not end over a line of its log.
    """

    def write(self, text: str) -> None:
        # ValueError: the file was closed in this process.
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def set_up_log(verbosity: int = 0) -> None:
    """Send events to standard error, warnings and worse unless asked for more.

    Args:
        verbosity: how often `-v` was typed: 0 shows warnings, 1 adds events of interest, 2 or more adds everything.
    """
    level = VERBOSE_LEVELS[min(verbosity, len(VERBOSE_LEVELS) - 1)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _StandardError())),
        cache_logger_on_first_use=False,
    )
