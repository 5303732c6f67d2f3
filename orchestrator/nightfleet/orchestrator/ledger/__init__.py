"""The durable record of a night, and the only truth: everything else that is shown is a view of it.

An append-only table of entries, each with the hash of the one before, and tables of state that change in the same
transaction: a crash leaves both or neither. `Ledger.open` opens one; `with ledger.write() as writing:` is a
transaction, handed to the functions of `nights`, `candidates`, `errorbudget`, `verifications`, `promotions`, `spending`
and `tasks`; `with ledger.read() as reading:` is one moment, for `queries`.
"""

from nightfleet.orchestrator.ledger import (
    ablations,
    candidates,
    errorbudget,
    nights,
    promotions,
    queries,
    spending,
    tasks,
    verifications,
)
from nightfleet.orchestrator.ledger.check import Health
from nightfleet.orchestrator.ledger.driver import DrivenError
from nightfleet.orchestrator.ledger.ledger import Ledger
from nightfleet.orchestrator.ledger.session import Reading, Writing

__all__ = [
    "DrivenError",
    "Health",
    "Ledger",
    "Reading",
    "Writing",
    "ablations",
    "candidates",
    "errorbudget",
    "nights",
    "promotions",
    "queries",
    "spending",
    "tasks",
    "verifications",
]
