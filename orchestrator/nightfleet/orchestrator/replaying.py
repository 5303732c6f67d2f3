"""The commits of a branch as plain data for the replay backend, which never reads the user's repository itself."""

from nightfleet.agents.replay import Commit, Versions
from nightfleet.harness.tree import Tree
from nightfleet.native import UserError
from nightfleet.orchestrator.place import Place

# Fixed: a branch of more commits than this is nobody's night.
MOST_COMMITS = 2000


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


def _commit(place: Place, commit: str) -> Commit:
    said = place.door.tell("show", "--no-patch", "--format=%P%n%an%n%B", commit).decode("utf-8", "replace")
    parents, author, message = said.split("\n", 2)
    after = place.door.tree(commit)
    before = place.door.tree(parents.split()[0]) if parents else Tree("nothing", {})
    return Commit(commit, message.strip(), _versions(before, after), author)


def _versions(before: Tree, after: Tree) -> dict[str, Versions]:
    """Every regular file that is not the same in both."""
    paths = sorted({*before.files, *after.files})
    return {
        path: Versions(_read(before, path), _read(after, path))
        for path in paths
        if path not in before.entries or path not in after.entries or before.entries[path].id != after.entries[path].id
    }


def _read(tree: Tree, path: str) -> bytes | None:
    return tree.read(path) if path in tree.files else None
