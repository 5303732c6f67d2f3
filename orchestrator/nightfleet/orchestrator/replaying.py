"""The commits of a branch as plain data for the replay backend, which never reads the user's repository itself."""

from collections.abc import Mapping

from nightfleet.agents.replay import Commit, Versions
from nightfleet.harness.tree import Entry, Tree, contents, printable
from nightfleet.native import UserError
from nightfleet.orchestrator.place import Place

# Fixed: a branch of more commits than this is nobody's night.
MOST_COMMITS = 2000
NOTHING = Tree("nothing", {})


def commits_of(place: Place, branch: str, root: str) -> list[Commit]:
    """The commits of a branch that the root does not have, the oldest first; merges count by their first parent.

    Raises:
        UserError: there is no such branch, it has nothing that the root lacks, or too much.
        nightfleet.native.MachineError: git failed.
    """
    tip = place.checkout.reading.resolve(branch)
    listed = place.door.tell("log", "--first-parent", "--reverse", "--format=%H", "--end-of-options", tip, f"^{root}")
    ids = listed.decode("ascii").split()
    if not ids:
        raise UserError(f"--replay: {branch} has no commit that {root[:12]} does not have; name another branch")
    if len(ids) > MOST_COMMITS:
        raise UserError(f"--replay: {branch} has {len(ids)} commits beyond {root[:12]}; {MOST_COMMITS} are the most")
    return [_commit(place, one) for one in ids]


def remarks(place: Place, branch: str, commits: list[Commit]) -> list[str]:
    """What a person should know of a branch before its commits are tried; nothing of an ordinary one."""
    if _parents(place, commits[0].id):
        return []
    name = printable(branch)
    return [f"{name} shares no history with where the night begins: its first commit counts as making every file"]


def _parents(place: Place, commit: str) -> list[str]:
    return place.door.tell("show", "--no-patch", "--format=%P", commit).decode("ascii").split()


def _commit(place: Place, commit: str) -> Commit:
    said = place.door.tell("show", "--no-patch", "--format=%P%n%an%n%B", commit).decode("utf-8", "replace")
    parents, author, message = said.split("\n", 2)
    before = _tree(place, parents.split()[0]) if parents else NOTHING
    return Commit(commit, message.strip(), _versions(before, _tree(place, commit)), author)


def _versions(before: Tree, after: Tree) -> dict[str, Versions]:
    """Every regular file that is not the same in both."""
    old, new = before.files, after.files
    paths = [
        path for path in sorted({*old, *new}) if path not in old or path not in new or old[path].id != new[path].id
    ]
    was, becomes = _read(old, paths), _read(new, paths)
    return {path: Versions(was.get(path), becomes.get(path)) for path in paths}


def _read(files: Mapping[str, Entry], paths: list[str]) -> dict[str, bytes]:
    """What those of the paths hold that are there, by one git for all."""
    there = [path for path in paths if path in files]
    return dict(zip(there, contents(files[path] for path in there), strict=True))


def _tree(place: Place, commit: str) -> Tree:
    """The arena in a commit; nothing where its folder was not made yet."""
    folder = place.checkout.subfolder
    if folder and not place.door.tell("ls-tree", "-d", "--full-tree", commit, "--", folder):
        return NOTHING
    return place.door.tree(commit)
