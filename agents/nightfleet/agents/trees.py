"""Writing into an agent's tree."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from nightfleet.harness.copies import put
from nightfleet.harness.scope import path_problem
from nightfleet.harness.tree import printable
from nightfleet.native import UserError


def write_files(tree: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a tree, whatever lies in their way, never through a link; executables stay executable.

    Raises:
        UserError: a path is no plain one below the tree.
    """
    now_s = int(time.time())
    for path, data in files.items():
        problem = path_problem(path)
        if problem is not None:
            raise UserError(f"{printable(path)} {problem}")
        place = tree / path
        executable = place.is_file() and not place.is_symlink() and os.access(place, os.X_OK)
        put(tree, path, data, 0o755 if executable else 0o644, now_s)
