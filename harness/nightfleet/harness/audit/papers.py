"""A report as it lies there: its files by name, read with JSON and NumPy alone, and nothing in them believed."""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightfleet.harness.twin import HEADER_BYTES, ROWS, array_header

FORMAT = 3
REPORT = "report.json"
ARRAY = re.compile(r"digests-[0-9]{1,4}\.npy")
# Fixed: what is read of a report; an array of all cases there can be has 48 MiB a million.
REPORT_BYTES = 256 << 20
ARRAY_BYTES = 1 << 30


class UnknownFormatError(ValueError):
    """Not a report that this version reads: nobody can say whether it holds."""


class ContradictionError(ValueError):
    """Something in a report is not what the rest of it says; the message names what differs."""


@dataclass(frozen=True)
class Papers:
    """The files of one report.

    Attributes:
        name: of the folder they lie in, which is the report's id.
        place: that folder; None for those of a bundle.
    """

    name: str
    files: Mapping[str, bytes]
    place: Path | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> "Papers":
        """The papers in a folder; links and everything but files are not followed.

        Raises:
            ContradictionError: something lies there that is no file, or is larger than any report.
            OSError: it cannot be read.
        """
        place = folder.resolve()
        return cls(place.name, {path.name: _content(path) for path in sorted(place.iterdir())}, place)

    @cached_property
    def content(self) -> dict[str, Any]:
        """What report.json says.

        Raises:
            UnknownFormatError: it is of another format, or no report.
            ContradictionError: it is not there, not whole, or says something twice.
        """
        if REPORT not in self.files:
            raise ContradictionError(f"{REPORT} is missing: no report, or one whose writing was cut short")
        try:
            found: Any = json.loads(
                self.files[REPORT].decode("utf-8"), object_pairs_hook=_once, parse_constant=no_constant
            )
        except json.JSONDecodeError as error:
            raise ContradictionError(f"{REPORT} is cut or damaged at line {error.lineno}: {error.msg}") from None
        except UnicodeDecodeError as error:
            raise ContradictionError(f"{REPORT} is damaged at byte {error.start}: not UTF-8") from None
        except ContradictionError:
            raise
        except (ValueError, RecursionError) as error:
            # A number of thousands of digits, or brackets without end.
            raise ContradictionError(f"{REPORT} is no report: {error}") from None
        version = found.get("format") if isinstance(found, dict) else None
        if not isinstance(found, dict) or type(version) is not int or version != FORMAT:
            raise UnknownFormatError(
                f"{self.name}/{REPORT} has format {version!r}; this version reads {FORMAT}: read it with the version "
                "that wrote it, or judge the change again with `nightfleet verify`"
            )
        return found

    def rows(self, name: str) -> bytes:
        """The rows of a digest array, as bytes. ContradictionError unless it is there and has an array's form."""
        if name not in self.files:
            raise ContradictionError("it is missing")
        data = self.files[name]
        rows = data[HEADER_BYTES:]
        count, rest = divmod(len(rows), ROWS.itemsize)
        expected = array_header(count)
        if len(data) < HEADER_BYTES or rest:
            raise ContradictionError(f"it is cut or has been added to: {len(data)} bytes are no whole number of rows")
        if data[:HEADER_BYTES] != expected:
            at = next(i for i in range(HEADER_BYTES) if data[i] != expected[i])
            found, right = data[at], expected[at]
            raise ContradictionError(
                f"its header does not fit its {count} rows: byte {at} is 0x{found:02x} and should be 0x{right:02x}"
            )
        return rows

    def table(self, name: str) -> NDArray[np.void]:
        """The rows of a digest array: fields `case`, `high`, `low`. Raises as `rows`."""
        return np.frombuffer(self.rows(name), ROWS)


def gate_of(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a gate found. ContradictionError unless it stands there once."""
    found = [gate for gate in content["verification"]["gates"] if gate["name"] == name]
    if len(found) != 1:
        raise ContradictionError(f"gate {name} stands there {len(found)} times")
    gate: Mapping[str, Any] = found[0]
    return gate


def hold_equal(name: str, said: object, found: object) -> None:
    """ContradictionError unless what a report says is what its evidence gives."""
    # True is 1 to Python, and another fact.
    if said != found or type(said) is not type(found):
        raise ContradictionError(f"{name}: it says {said!r}; the evidence gives {found!r}")


def _content(path: Path) -> bytes:
    most = REPORT_BYTES if path.name == REPORT else ARRAY_BYTES
    # O_NONBLOCK: opening a pipe that nobody writes to must not wait.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise ContradictionError(f"{path.name} is a link, and no report has one") from error
        raise
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ContradictionError(f"{path.name} is no file, and a report holds nothing else")
        if about.st_size > most:
            raise ContradictionError(f"{path.name} has {about.st_size} bytes; the limit is {most}")
        return file.read(most + 1)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are distinct: readers differ in which of two they take."""
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ContradictionError(f"{REPORT} says {twice!r} twice")
    return members


def no_constant(name: str) -> Any:
    """Refuse NaN and infinities, which Python reads and JSON has not."""
    raise ContradictionError(f"{REPORT} holds {name}, which is not JSON")
