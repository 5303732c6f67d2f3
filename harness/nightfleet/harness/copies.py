"""Copies of built directories: shared blocks to start another build from, pages of their own to time.

Byte-identical copies of one program differ in time by up to 1.7% for as long as they exist, because of the pages that
they happen to lie on. Fresh copies for every pair turn that bias into noise that the pairs already count with.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nightfleet.harness.inventory import walk
from nightfleet.native import MachineError

# linux/fs.h, _IOW(0x94, 9, int): make a file share another's blocks until either is written to.
FICLONE = 0x40049409
_CHUNK = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: Path, target: Path, *, share: bool) -> None:
    """Copy files, links and folders with their modes and times; what the target already has stays as it is.

    Args:
        source: of the harness's own; nobody writes to it.
        target: below it there is no link that was not copied by us.
        share: blocks may be shared where the file system can; otherwise every byte is written anew.
    """
    target.mkdir(parents=True, exist_ok=True)
    folders: list[tuple[Path, int]] = [(target, source.lstat().st_mtime_ns)]
    for path, found in walk(source):
        place = target / path
        if not _is_folder(place.parent) or (os.path.lexists(place) and not stat.S_ISDIR(found.st_mode)):
            continue
        if stat.S_ISDIR(found.st_mode):
            if not os.path.lexists(place):
                place.mkdir(0o755)
                folders.append((place, found.st_mtime_ns))
        elif stat.S_ISLNK(found.st_mode):
            place.symlink_to((source / path).readlink())
            os.utime(place, ns=(found.st_mtime_ns, found.st_mtime_ns), follow_symlinks=False)
        else:
            copy_file(source / path, place, share=share)
    for place, mtime_ns in reversed(folders):
        os.utime(place, ns=(mtime_ns, mtime_ns))


def copy_file(source: Path, target: Path, *, share: bool) -> int:
    """Copy one regular file to a name that is free, with mode and time.

    Returns:
        Its size in bytes.
    """
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(reading)
        writing = os.open(target, _NEW, 0o600)
        try:
            if not (share and _cloned(reading, writing)):
                while chunk := os.read(reading, _CHUNK):
                    _write(writing, chunk)
            os.fchmod(writing, stat.S_IMODE(found.st_mode))
            os.utime(writing, ns=(found.st_mtime_ns, found.st_mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return found.st_size


def put(root: Path, path: str, data: bytes, mode: int, mtime_s: int) -> None:
    """Write one file below `root`, whatever lies in its way; its folder gets the same time."""
    folder = _folders(root, path.split("/")[:-1])
    place = root / path
    remove(place)
    writing = os.open(place, _NEW, 0o600)
    try:
        _write(writing, data)
        os.fchmod(writing, mode)
        os.utime(writing, (mtime_s, mtime_s))
    finally:
        os.close(writing)
    os.utime(folder, (mtime_s, mtime_s))


def clear_folder(root: Path, path: str, mtime_s: int) -> None:
    """Make one empty folder below `root`, whatever lies in its way."""
    # Folders first: until they are real ones, a link among them would lead the removal out of `root`.
    place = _folders(root, path.split("/")[:-1]) / path.rpartition("/")[2]
    remove(place)
    place.mkdir(0o755)
    os.utime(place, (mtime_s, mtime_s))


def take_away(root: Path, path: str, mtime_s: int) -> None:
    """Remove one file below `root`, if it is there, and the folders that this leaves empty."""
    parts = path.split("/")
    if _leads_below(root, path):
        remove(root / path)
        for end in range(len(parts) - 1, -1, -1):
            folder = root.joinpath(*parts[:end])
            if end == 0 or any(folder.iterdir()):
                os.utime(folder, (mtime_s, mtime_s))
                return
            folder.rmdir()


def refresh(copy: Path, tree: Path) -> int:
    """Give every file of a copy new pages: it is written anew from `tree` and put in the old one's place.

    Sandboxes over the copy see it at once, since its folders stay, and see nothing of the writing. Nothing may run in
    them meanwhile.

    Args:
        copy: made by `copy_tree` from `tree`; there may be another file beside it for a moment.
        tree: where names and contents come from.

    Returns:
        Bytes written.

    Raises:
        OSError: it is no longer a copy.
    """
    owner, fresh = copy.lstat(), copy.with_name(f".{secrets.token_hex(8)}")
    done = 0
    try:
        for folder, names in _by_folder(tree).items():
            if not _leads_below(copy, f"{folder}."):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), copy / folder)
            place = copy / folder
            before = place.lstat()
            for name in names:
                done += copy_file(tree / folder / name, fresh, share=False)
                if os.geteuid() == 0:
                    os.lchown(fresh, owner.st_uid, owner.st_gid)
                fresh.replace(place / name)
            os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        fresh.unlink(missing_ok=True)
    return done


def remove(place: Path) -> None:
    """Remove whatever a name stands for, however deep a hostile build nested it; nothing happens if it is not there."""
    if not _is_folder(place):
        place.unlink(missing_ok=True)
        return
    # Coreutils walk by descriptors, without recursion: Python's own removal ends at its recursion limit.
    for command in (["rm", "-rf", "--"], ["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
        subprocess.run([*command, place], check=False, stdin=subprocess.DEVNULL, capture_output=True)
        if not os.path.lexists(place):
            return
    raise OSError(f"{place} could not be removed")


@contextmanager
def disk() -> Iterator[None]:
    """Whatever the disk refuses is the machine's failure: OSErrors become MachineErrors."""
    try:
        yield
    except OSError as error:
        raise MachineError(f"{error.filename or 'a file'} could not be used: {error.strerror or error}") from error


def _by_folder(tree: Path) -> dict[str, list[str]]:
    """The names of a tree's regular files by their folder: "" for its own, else ending in a slash."""
    found: dict[str, list[str]] = {}
    for path, status in walk(tree):
        if stat.S_ISREG(status.st_mode):
            folder, slash, name = path.rpartition("/")
            found.setdefault(folder + slash, []).append(name)
    return found


def _folders(root: Path, parts: Iterable[str]) -> Path:
    """The folder of these parts below `root`, made where it is missing or something else."""
    folder = root
    for part in parts:
        folder /= part
        if not _is_folder(folder):
            folder.unlink(missing_ok=True)
            folder.mkdir(0o755)
    return folder


def _leads_below(root: Path, path: str) -> bool:
    """Whether everything between `root` and a name below it is a folder, and no link."""
    parts = path.split("/")
    return all(_is_folder(root.joinpath(*parts[:end])) for end in range(1, len(parts)))


def _is_folder(place: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return stat.S_ISDIR(place.lstat().st_mode)
    return False


def _cloned(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, FICLONE, reading)
    except OSError:
        return False
    return True


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
