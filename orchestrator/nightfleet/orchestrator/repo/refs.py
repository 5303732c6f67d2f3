"""References in the user's repository: made, moved by compare-and-swap, and never taken from under a work tree.

Only two kinds are ever written: `refs/nightfleet/<run>/<number>`, where 0 is what the run began from, and the branches
that a person named or asked for.
"""

import re
from dataclasses import dataclass

from nightfleet.harness.tree import printable
from nightfleet.native import MachineError, UserError
from nightfleet.orchestrator.repo.checkout import Checkout

# Fixed: how long another git may hold a lock that we need.
PATIENCE_MS = 10_000
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NO_RUN = "{!r} cannot name a run: letters, digits, '_' and '-', at most 64"
HELD = re.compile(r"Unable to create '(.+?\.lock)': File exists")
IN_THE_WAY = re.compile(r"'(refs/heads/[^']+)' exists; cannot create")


class MovedError(UserError):
    """A branch is not where it was left, so that nothing was moved.

    Attributes:
        branch: its name.
        was: the commit that was expected.
        found: the one that is there; None if the branch is gone.
    """

    def __init__(self, branch: str, was: str, found: str | None) -> None:
        self.branch, self.was, self.found = branch, was, found
        keep = f"'git branch mine {found}' keeps what is there, " if found else ""
        super().__init__(
            f"branch {branch} was {was} when nightfleet left it and is {found or 'gone'} now; somebody else moved it: "
            f"{keep}'git update-ref refs/heads/{branch} {was}' lets the night go on"
        )


@dataclass(frozen=True)
class Reference:
    """One reference: the object it names, and the other reference that it stands for, if it does."""

    commit: str
    stands_for: str | None


class References:
    """The references of a user's repository.

    Args:
        checkout: the repository.
        patience_ms: how long to wait for locks.
    """

    def __init__(self, checkout: Checkout, *, patience_ms: int = PATIENCE_MS) -> None:
        self._checkout, self._patience_ms = checkout, patience_ms
        self._options = (
            *("-c", f"core.filesRefLockTimeout={patience_ms}"),
            *("-c", f"core.packedRefsTimeout={patience_ms}"),
        )

    def read(self, name: str) -> Reference | None:
        """A reference by its full name; None if there is none."""
        listed = self._checkout.tell("for-each-ref", "--format=%(refname)%00%(objectname)%00%(symref)", name)
        for line in listed.decode("utf-8", "surrogateescape").splitlines():
            found, commit, stands_for = line.split("\0")
            if found == name:
                return Reference(commit, stands_for or None)
        return None

    def take_run(self, run: str, root: str) -> bool:
        """Make `refs/nightfleet/<run>/0`, so that no other night gets this name; False where one has it.

        Raises:
            UserError: the run's name cannot be part of a reference.
            MachineError: git failed.
        """
        if RUN.fullmatch(run) is None:
            raise UserError(NO_RUN.format(run))
        if self._checkout.tell("for-each-ref", "--count=1", f"refs/nightfleet/{run}/"):
            return False
        try:
            self._write(f"refs/nightfleet/{run}/0", root, None)
        except _TakenError:
            return False
        return True

    def keep_candidate(self, run: str, number: int, commit: str) -> str:
        """Make `refs/nightfleet/<run>/<number>`, or find it made.

        Returns:
            Its full name.

        Raises:
            UserError: the run's name cannot be part of a reference.
            MachineError: the reference is another commit's, or cannot be written.
        """
        return self._keep(run, f"{number}", commit)

    def keep_without(self, run: str, number: int, champion: str, commit: str) -> str:
        """Make `refs/nightfleet/<run>/without/<number>-<champion>`, or find it made. Raises as `keep_candidate`."""
        return self._keep(run, f"without/{number}-{champion[:12]}", commit)

    def _keep(self, run: str, what: str, commit: str) -> str:
        if RUN.fullmatch(run) is None or what.startswith("-"):
            raise UserError(NO_RUN.format(run))
        name = f"refs/nightfleet/{run}/{what}"
        try:
            self._write(name, commit, None)
        except _TakenError:
            found = self.read(name)
            if found is None or found.commit != commit:
                raise MachineError(f"{name} is {found}, not {commit}; candidates never change") from None
        return name

    def new_branch(self, branch: str, commit: str) -> None:
        """Make a branch.

        Raises:
            UserError: git accepts no such name, or it is taken.
            MachineError: git failed.
        """
        self.check_name(branch)
        try:
            self._write(f"refs/heads/{branch}", commit, None)
        except _TakenError as error:
            theirs = error.branch or branch
            raise UserError(f"{error.why}; name another, or move yours away: 'git branch -m {theirs} mine'") from None

    def move_branch(self, branch: str, commit: str, was: str) -> None:
        """Move a branch from one commit to another, if it is still there and nobody works on it.

        A branch that is at `commit` already is left alone: we were stopped after the swap and before recording it.

        Raises:
            MovedError: it is at neither.
            UserError: it is checked out somewhere, or stands for another branch.
            MachineError: git failed.
        """
        self.check_name(branch)
        found = self.read(f"refs/heads/{branch}")
        if found is not None and found.stands_for is not None:
            raise UserError(f"branch {branch} only stands for {printable(found.stands_for)}; name one of its own")
        if found is None or found.commit not in {was, commit}:
            raise MovedError(branch, was, None if found is None else found.commit)
        if found.commit == commit:
            return
        self.refuse_checked_out(branch)
        try:
            self._write(f"refs/heads/{branch}", commit, was)
        except _TakenError:
            now = self.read(f"refs/heads/{branch}")
            raise MovedError(branch, was, None if now is None else now.commit) from None

    def check_name(self, branch: str) -> None:
        """Refuse what git would not take for a branch's name.

        Raises:
            UserError: that is what it is.
        """
        # "\n" among others would end a line that git reads.
        good = branch.isprintable() and 0 < len(branch) <= 200 and branch != "HEAD" and not branch.startswith("-")
        if not good or self._checkout.ask("check-ref-format", f"refs/heads/{branch}").status != 0:
            raise UserError(
                f"{printable(branch)!r} cannot be a branch; type a name like nightfleet/2026-01-31/champion"
            )

    def refuse_checked_out(self, branch: str) -> None:
        """UserError if a work tree is on the branch."""
        # The commit under a work tree must not change unseen: everything there would look modified.
        listed = self._checkout.tell("for-each-ref", "--format=%(worktreepath)", f"refs/heads/{branch}")
        place = listed.decode("utf-8", "surrogateescape").rstrip("\n")
        place = place or self._rebased_in(branch)
        if place:
            raise UserError(
                f"branch {branch} is checked out in {printable(place)}, and nightfleet changes no work tree; "
                "type 'git switch --detach' there and start again"
            )

    def _rebased_in(self, branch: str) -> str:
        """The git directory of the work tree where a rebase or a bisection has put the branch aside; "" if none."""
        common = self._checkout.common_dir
        for git_dir in [common, *sorted((common / "worktrees").glob("*"))]:
            for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
                file = git_dir / name
                if file.is_file() and file.read_text(errors="replace").strip() in {branch, f"refs/heads/{branch}"}:
                    return str(git_dir)
        return ""

    def _write(self, name: str, commit: str, was: str | None) -> None:
        """Make a reference, or move it from `was`."""
        # --no-deref: a branch that was made to stand for another in the last moment must not lead us there.
        command = f"create {name}\0{commit}\0" if was is None else f"update {name}\0{commit}\0{was}\0"
        arguments = ("update-ref", "--no-deref", "-m", "nightfleet", "--stdin", "-z")
        answer = self._checkout.ask(*arguments, stdin=command.encode(), options=self._options)
        if answer.status == 0:
            return
        held = HELD.search(answer.complaint)
        if held is not None:
            raise MachineError(
                f"{held[1]} was there for {self._patience_ms / 1000:g} s: another git is at work, or one was killed. "
                "If none runs any more, remove that file and start again"
            )
        in_the_way = IN_THE_WAY.search(answer.complaint)
        if in_the_way is not None:
            theirs = in_the_way[1].removeprefix("refs/heads/")
            raise _TakenError(f"there is a branch {theirs} in the way of {name}", theirs)
        if any(words in answer.complaint for words in ("already exists", "but expected", "unable to resolve")):
            raise _TakenError(f"{name} is taken")
        raise MachineError(f"git could not write {name}: {answer.complaint}")


class _TakenError(Exception):
    """A reference is not what it has to be before it can be written. `branch`: the one that is in the way."""

    def __init__(self, why: str, branch: str | None = None) -> None:
        super().__init__(why)
        self.why, self.branch = why, branch
