"""The desk: where agents of every kind get their work and leave what came of it.

`claim → heartbeat → submit`, each a transaction of its own. Many processes may stand at it at once: every task is in
one agent's hands at a time, and every report counts once.
"""

from dataclasses import dataclass
from typing import Any

from nightfleet.orchestrator.ledger import Ledger, spending, tasks
from nightfleet.orchestrator.ledger.spending import Amounts
from nightfleet.orchestrator.ledger.tasks import Claim, Receipt


@dataclass(frozen=True)
class Desk:
    """The desk of one night.

    Attributes:
        lease_s: how long a claim or a heartbeat holds a task.
    """

    ledger: Ledger
    night: int
    lease_s: float = 60.0

    def post(self, role: str, brief: Any) -> int:
        """Offer a task; return its number. UserError for a brief that is no JSON or too large."""
        with self.ledger.write() as writing:
            return tasks.post(writing, self.night, role, brief).id

    def claim(
        self, role: str, holder: str, *, costs: Amounts | None = None, limits: Amounts | None = None
    ) -> Claim | None:
        """Take the oldest task of a role that nobody holds; None if there is none.

        Args:
            role: scout, worker, ...
            holder: who asks.
            costs: set aside with the claim, or the claim is not made.
            limits: what the night may spend in all; needed with `costs`.

        Raises:
            spending.OverBudgetError: `costs` do not fit any more; the task stays where it is.
        """
        # Agents without work ask again and again: they must not stand in the way of those who write.
        with self.ledger.read() as reading:
            if tasks.next_free(reading, self.night, role) is None:
                return None
        with self.ledger.write() as writing:
            claimed = tasks.claim(writing, self.night, role, holder, self.lease_s)
            if claimed is not None and costs is not None:
                spending.reserve(writing, self.night, costs, limits or Amounts(), claimed.task)
            return claimed

    def heartbeat(self, task: int, token: int) -> int:
        """Keep a task; return until when (us since 1970 UTC). RefusedError when it is not the caller's any more."""
        with self.ledger.write() as writing:
            return tasks.heartbeat(writing, task, token, self.lease_s)

    def submit(self, task: int, token: int, key: str, report: Any) -> Receipt:
        """Hand in a report; the same again is answered with the same receipt. RefusedError says why it is refused."""
        with self.ledger.write() as writing:
            return tasks.submit(writing, task, token, key, report)

    def release(self, task: int, token: int, reason: str = "") -> None:
        """Give a task back unfinished. RefusedError when it is not the caller's any more."""
        with self.ledger.write() as writing:
            tasks.release(writing, task, token, reason)
