"""A report as one file: a gzipped tar archive that says how to check it, the same bytes for the same report.

Archives come from anywhere, so nothing is ever unpacked: members are read into memory, under a limit, and only those
that a bundle of ours could hold.
"""

import gzip
import io
import json
import re
import tarfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nightfleet.harness.audit.papers import ARRAY, REPORT, ContradictionError, Papers
from nightfleet.harness.audit.readme import README
from nightfleet.native import UserError

README_NAME, PROGRAM, TREES, PATCH = "README.txt", "program.md", "trees.txt", "change.patch"
# Fixed: of a whole archive, so much is read. 20 workloads of a million cases fit.
MOST_BYTES = 1 << 30
MOST_MEMBERS = 128
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
GZIP = b"\x1f\x8b"


def pack(papers: Papers) -> bytes:
    """A bundle of papers that hold. Raises as `Papers.content`."""
    members = {**_derived(papers.content), **papers.files}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(members.items()):
            about = tarfile.TarInfo(f"{papers.name}/{name}")
            about.size, about.mode = len(data), 0o644
            archive.addfile(about, io.BytesIO(data))
    return gzip.compress(file.getvalue(), mtime=0)


def papers_of(path: Path) -> Papers:
    """The report in a bundle; what comes along for people is held against it first.

    Raises:
        UserError: it is no gzipped archive.
        ContradictionError: it holds what no bundle of ours does, or something that does not follow from its report.
        UnknownFormatError: its report is of another format.
    """
    name, members = _members(path)
    papers = Papers(
        name, {member: data for member, data in members.items() if member == REPORT or ARRAY.fullmatch(member)}
    )
    for member, expected in _derived(papers.content).items():
        found = members.get(member)
        if found != expected:
            raise ContradictionError(f"{member} {'is missing' if found is None else 'is not what the report says'}")
    more = sorted(set(members) - set(papers.files) - set(_derived(papers.content)))
    if more:
        raise ContradictionError(f"{more[0]} is no part of the report")
    return papers


def _derived(content: Mapping[str, Any]) -> dict[str, bytes]:
    """What a bundle holds beside the report, and follows from it."""
    try:
        subject, patch = content["subject"], content["patch"]
        trees = {side: subject[side] for side in ("baseline", "candidate")}
        derived = {README_NAME: README, PROGRAM: subject["program_text"], TREES: json.dumps(trees, indent=1) + "\n"}
        if patch is not None:
            derived[PATCH] = patch
        return {name: text.encode("utf-8") for name, text in derived.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ContradictionError(f"{REPORT} is malformed: {type(error).__name__}: {error}") from None


def _members(path: Path) -> tuple[str, dict[str, bytes]]:
    """The name of the one folder, and the files in it."""
    found: dict[str, bytes] = {}
    folders: set[str] = set()
    unzipped = io.BytesIO(_unzipped(path))
    try:
        with tarfile.open(fileobj=unzipped, mode="r:") as archive:
            for member in archive:
                folder, _, name = member.name.partition("/")
                _check_member(member, folder, name, found)
                file = archive.extractfile(member)
                found[name] = b"" if file is None else file.read()
                folders.add(folder)
    except ContradictionError:
        raise
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise ContradictionError(f"the archive is cut or damaged: {error}") from None
    if len(folders) != 1:
        raise ContradictionError(f"the archive holds {len(folders)} folders; a bundle is one")
    return folders.pop(), found


def _check_member(member: tarfile.TarInfo, folder: str, name: str, before: Collection[str]) -> None:
    shown = ascii(member.name)[:200]
    # A sparse file of a few bytes may claim to hold terabytes of zeros.
    if member.type != tarfile.REGTYPE or member.linkname or member.issparse():
        raise ContradictionError(f"the archive holds {shown}, which is no plain file")
    known = name in {REPORT, README_NAME, PROGRAM, TREES, PATCH} or ARRAY.fullmatch(name)
    if not ID.fullmatch(folder) or not known:
        raise ContradictionError(f"the archive holds {shown}, which no bundle does")
    if name in before:
        raise ContradictionError(f"the archive holds {name} twice")
    if len(before) == MOST_MEMBERS:
        raise ContradictionError(f"the archive holds more than {MOST_MEMBERS} files")


def _unzipped(path: Path) -> bytes:
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            raise UserError(f"{path} is no bundle: not a gzipped archive; `nightfleet audit export ID` makes one")
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                data = unzipped.read(MOST_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ContradictionError(f"the archive is cut or damaged: {error}") from None
    if len(data) > MOST_BYTES:
        raise ContradictionError(f"the archive has more than {MOST_BYTES} bytes; no bundle has")
    return data
