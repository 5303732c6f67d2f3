"""What the ledger's tables hold. `entries` is the truth; all others but `leases` follow from it, entry by entry.

Times are whole microseconds since 1970 UTC (`_us`), money is whole millionths of a US dollar, gains are fractions of
the baseline's time, digests are 64 hex digits and commits and trees whatever git calls them. Rows are written by the
folds of each module, and by nobody else.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

# SQLite makes a table's own key only of INTEGER, which has 64 bits there.
Number = BigInteger().with_variant(Integer(), "sqlite")


class Table(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """Any table."""

    type_annotation_map = {int: Number, str: Text()}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class Entry(Table):
    """One link of the chain; see `entries`."""

    __tablename__ = "entries"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_us: Mapped[int]
    kind: Mapped[str]
    payload: Mapped[str]
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class Drive(Table):
    """A process that drove nights: from taking the lock to giving it back. `ended_us` is None if it died or goes on."""

    __tablename__ = "drives"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    host: Mapped[str]
    pid: Mapped[int]
    boot: Mapped[str]
    # Clock ticks after the boot: with `boot`, tells a process from a later one of the same number.
    started_ticks: Mapped[int]
    began_us: Mapped[int]
    ended_us: Mapped[int | None] = mapped_column(default=None)


class Night(Table):
    """One launch and all its continuations. `root`, `planned` and `alpha` are frozen; `champion` moves."""

    __tablename__ = "nights"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(unique=True)
    root: Mapped[str]
    base_branch: Mapped[str]
    champion_branch: Mapped[str]
    planned: Mapped[int]
    alpha: Mapped[float]
    began_us: Mapped[int]
    champion: Mapped[str]
    epoch: Mapped[int] = mapped_column(default=0)
    ended_us: Mapped[int | None] = mapped_column(default=None)
    ending: Mapped[str | None] = mapped_column(default=None)


class Snapshot(Table):
    """The text of program.md as it was read, under its SHA-256; the text itself is in the entry."""

    __tablename__ = "snapshots"

    sequence: Mapped[int] = mapped_column(ForeignKey("entries.sequence"), primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"), index=True)
    epoch: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    at_us: Mapped[int]


class Agent(Table):
    """Who claims tasks."""

    __tablename__ = "agents"
    __table_args__ = (UniqueConstraint("night", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"))
    name: Mapped[str]
    role: Mapped[str]
    backend: Mapped[str]
    joined_us: Mapped[int]
    left_us: Mapped[int | None] = mapped_column(default=None)


class Strategy(Table):
    """A scout's proposal. `detail` is JSON; `fingerprint` is equal for the same idea in other clothes.

    `scouting` is the task that it was proposed in, 0 for none.
    """

    __tablename__ = "strategies"
    __table_args__ = (Index("strategies_fingerprint", "night", "fingerprint"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"))
    title: Mapped[str]
    detail: Mapped[str]
    made_by: Mapped[str]
    at_us: Mapped[int]
    fingerprint: Mapped[str | None] = mapped_column(default=None)
    scouting: Mapped[int] = mapped_column(default=0)


class Candidate(Table):
    """A commit on trial, immutable; `state` and what follows is where it stands.

    `lineage` is the id of the first of its re-runs (its own for a first run) and `depth` how many came before it.
    `verification` is the latest one's id.
    """

    __tablename__ = "candidates"
    __table_args__ = (
        UniqueConstraint("night", "number"),
        Index("candidates_state", "night", "state"),
        Index("candidates_tree", "night", "tree"),
        Index("candidates_fingerprint", "night", "fingerprint"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"))
    number: Mapped[int]
    parent: Mapped[str]
    tree: Mapped[str]
    commit: Mapped[str]
    epoch: Mapped[int]
    description: Mapped[str]
    made_by: Mapped[str]
    lineage: Mapped[int] = mapped_column(index=True)
    depth: Mapped[int]
    created_us: Mapped[int]
    moved_us: Mapped[int]
    strategy: Mapped[int | None] = mapped_column(ForeignKey("strategies.id"), index=True)
    rebased_from: Mapped[int | None] = mapped_column(ForeignKey("candidates.id"))
    fingerprint: Mapped[str | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="submitted")
    reason: Mapped[str] = mapped_column(default="")
    verdict: Mapped[str | None] = mapped_column(default=None)
    verification: Mapped[int | None] = mapped_column(default=None)


class Reservation(Table):
    """An index of the night's error budget, spent for good, and the one timing that spent it."""

    __tablename__ = "reservations"
    __table_args__ = (UniqueConstraint("night", "purpose", "index"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"))
    purpose: Mapped[str]
    index: Mapped[int]
    alpha: Mapped[float]
    candidate: Mapped[int] = mapped_column(ForeignKey("candidates.id"), index=True)
    baseline: Mapped[str]
    binary: Mapped[str]
    timing: Mapped[str] = mapped_column(unique=True)
    why: Mapped[str]
    at_us: Mapped[int]


class Verification(Table):
    """Every gate's outcome for one candidate against one baseline; the evidence is in the report that it names."""

    __tablename__ = "verifications"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    candidate: Mapped[int] = mapped_column(ForeignKey("candidates.id"), index=True)
    baseline: Mapped[str]
    verdict: Mapped[str]
    reason: Mapped[str]
    gain: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    clock: Mapped[str | None]
    pairs: Mapped[int]
    cases: Mapped[int]
    diverged: Mapped[int]
    extraordinary: Mapped[bool]
    metric: Mapped[float | None]
    memory_bytes: Mapped[int | None]
    report: Mapped[str] = mapped_column(unique=True)
    root_digest: Mapped[str] = mapped_column(String(64))
    reservation: Mapped[int | None] = mapped_column(ForeignKey("reservations.id"), index=True)
    at_us: Mapped[int]


class GateTime(Table):
    """How long one gate of one verification took."""

    __tablename__ = "gate_times"

    verification: Mapped[int] = mapped_column(ForeignKey("verifications.id"), primary_key=True)
    gate: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float]


class Promotion(Table):
    """A compare-and-swap of the champion branch: meant before git is asked, then swapped or lost."""

    __tablename__ = "promotions"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"), index=True)
    candidate: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    verification: Mapped[int] = mapped_column(ForeignKey("verifications.id"))
    from_commit: Mapped[str]
    to_commit: Mapped[str]
    meant_us: Mapped[int]
    result: Mapped[str] = mapped_column(default="meant")
    settled_us: Mapped[int | None] = mapped_column(default=None)


class SignOff(Table):
    """What a person said about a promotion that claims too much to be believed unseen; the latest word counts."""

    __tablename__ = "sign_offs"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    promotion: Mapped[int] = mapped_column(ForeignKey("promotions.id"), index=True)
    accepted: Mapped[bool]
    said_by: Mapped[str]
    reason: Mapped[str]
    at_us: Mapped[int]


class Morning(Table):
    """What the champion is worth: it against the root, measured afresh when the night was over."""

    __tablename__ = "mornings"

    sequence: Mapped[int] = mapped_column(ForeignKey("entries.sequence"), primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"), index=True)
    champion: Mapped[str]
    verdict: Mapped[str]
    reason: Mapped[str]
    gain: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    clock: Mapped[str | None]
    pairs: Mapped[int]
    cases: Mapped[int]
    diverged: Mapped[int]
    report: Mapped[str]
    root_digest: Mapped[str] = mapped_column(String(64))
    at_us: Mapped[int]


class Ablation(Table):
    """What one promotion is worth by now: the champion against the champion without it, measured in the morning.

    `verdict` is the judge's, or "conflict" where it cannot be left out alone, and `reason` says why. `redundant`: it is
    shown to be worth less than the smallest gain that counts.
    """

    __tablename__ = "ablations"

    sequence: Mapped[int] = mapped_column(ForeignKey("entries.sequence"), primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"), index=True)
    promotion: Mapped[int] = mapped_column(ForeignKey("promotions.id"))
    champion: Mapped[str]
    without: Mapped[str | None]
    verdict: Mapped[str]
    reason: Mapped[str]
    gain: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    clock: Mapped[str | None]
    pairs: Mapped[int]
    cases: Mapped[int]
    diverged: Mapped[int]
    report: Mapped[str | None]
    root_digest: Mapped[str | None] = mapped_column(String(64))
    redundant: Mapped[bool]
    at_us: Mapped[int]


class Task(Table):
    """Work for an agent. `token` counts how often it was claimed; the brief is in its entry.

    `strategy` is what a worker is to carry out; `reason` the last that was said of the task, by whoever moved it.
    """

    __tablename__ = "tasks"
    __table_args__ = (Index("tasks_state", "night", "role", "state"), Index("tasks_strategy", "strategy"))

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"))
    role: Mapped[str]
    posted: Mapped[int] = mapped_column(ForeignKey("entries.sequence"))
    state: Mapped[str] = mapped_column(default="waiting")
    token: Mapped[int] = mapped_column(default=0)
    holder: Mapped[str | None] = mapped_column(default=None)
    reason: Mapped[str] = mapped_column(default="")
    strategy: Mapped[int | None] = mapped_column(ForeignKey("strategies.id"), default=None)


class Submission(Table):
    """The one report that a task accepted, under the key that its sender chose; the report is in its entry."""

    __tablename__ = "submissions"

    task: Mapped[int] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    token: Mapped[int]
    key: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(ForeignKey("entries.sequence"))
    at_us: Mapped[int]


class Spend(Table):
    """What was reserved before it was spent and, once settled, what it came to."""

    __tablename__ = "spends"
    __table_args__ = (Index("spends_settled", "night", "settled"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    night: Mapped[int] = mapped_column(ForeignKey("nights.number"))
    task: Mapped[int | None] = mapped_column(ForeignKey("tasks.id"), index=True)
    tokens: Mapped[int]
    micro_dollars: Mapped[int]
    experiments: Mapped[int]
    wall_us: Mapped[int]
    settled: Mapped[bool] = mapped_column(default=False)


class Lease(Table):
    """Until when a claimed task is its holder's. Not in the chain: a lost row only puts the task back into the pool."""

    __tablename__ = "leases"

    task: Mapped[int] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    expires_us: Mapped[int] = mapped_column(index=True)


# Everything that can be computed from the entries.
DERIVED: tuple[type[Table], ...] = (
    Drive,
    Night,
    Snapshot,
    Agent,
    Strategy,
    Candidate,
    Reservation,
    Verification,
    GateTime,
    Promotion,
    SignOff,
    Morning,
    Ablation,
    Task,
    Submission,
    Spend,
)
