"""Version 1: the first tables, and entries that no statement changes."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Against accidents, not against whoever owns the database: the chain is what tells those.
SQLITE_GUARDS = (
    "CREATE TRIGGER entries_{0} BEFORE {0} ON entries BEGIN SELECT RAISE(ABORT, 'entries are only ever added'); END"
)
POSTGRES_GUARD = """
    CREATE FUNCTION entries_are_only_ever_added() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'entries are only ever added'; END $$;
    CREATE TRIGGER entries_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION entries_are_only_ever_added()
"""


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "drives",
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", NUMBER, nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("started_ticks", NUMBER, nullable=False),
        sa.Column("began_us", NUMBER, nullable=False),
        sa.Column("ended_us", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "entries",
        sa.Column("sequence", NUMBER, autoincrement=False, nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_table(
        "nights",
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("base_branch", sa.Text(), nullable=False),
        sa.Column("champion_branch", sa.Text(), nullable=False),
        sa.Column("planned", NUMBER, nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("began_us", NUMBER, nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("ended_us", NUMBER, nullable=True),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "agents",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("joined_us", NUMBER, nullable=False),
        sa.Column("left_us", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("night", "name"),
    )
    op.create_table(
        "snapshots",
        sa.Column("sequence", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.ForeignKeyConstraint(
            ["sequence"],
            ["entries.sequence"],
        ),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("ix_snapshots_night", "snapshots", ["night"], unique=False)
    op.create_table(
        "strategies",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("scouting", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("strategies_fingerprint", "strategies", ["night", "fingerprint"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("posted", NUMBER, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("token", NUMBER, nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("strategy", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.ForeignKeyConstraint(
            ["posted"],
            ["entries.sequence"],
        ),
        sa.ForeignKeyConstraint(
            ["strategy"],
            ["strategies.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tasks_state", "tasks", ["night", "role", "state"], unique=False)
    op.create_index("tasks_strategy", "tasks", ["strategy"], unique=False)
    op.create_table(
        "mornings",
        sa.Column("sequence", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("clock", sa.Text(), nullable=True),
        sa.Column("pairs", NUMBER, nullable=False),
        sa.Column("cases", NUMBER, nullable=False),
        sa.Column("diverged", NUMBER, nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("root_digest", sa.String(length=64), nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.ForeignKeyConstraint(
            ["sequence"],
            ["entries.sequence"],
        ),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("ix_mornings_night", "mornings", ["night"], unique=False)
    op.create_table(
        "candidates",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("tree", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("lineage", NUMBER, nullable=False),
        sa.Column("depth", NUMBER, nullable=False),
        sa.Column("created_us", NUMBER, nullable=False),
        sa.Column("moved_us", NUMBER, nullable=False),
        sa.Column("strategy", NUMBER, nullable=True),
        sa.Column("rebased_from", NUMBER, nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("verification", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.ForeignKeyConstraint(
            ["rebased_from"],
            ["candidates.id"],
        ),
        sa.ForeignKeyConstraint(
            ["strategy"],
            ["strategies.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("night", "number"),
    )
    op.create_index("candidates_fingerprint", "candidates", ["night", "fingerprint"], unique=False)
    op.create_index("candidates_state", "candidates", ["night", "state"], unique=False)
    op.create_index("candidates_tree", "candidates", ["night", "tree"], unique=False)
    op.create_index("ix_candidates_lineage", "candidates", ["lineage"], unique=False)
    op.create_index("ix_candidates_strategy", "candidates", ["strategy"], unique=False)
    op.create_table(
        "leases",
        sa.Column("task", NUMBER, nullable=False),
        sa.Column("expires_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["task"],
            ["tasks.id"],
        ),
        sa.PrimaryKeyConstraint("task"),
    )
    op.create_index("ix_leases_expires_us", "leases", ["expires_us"], unique=False)
    op.create_table(
        "spends",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("task", NUMBER, nullable=True),
        sa.Column("tokens", NUMBER, nullable=False),
        sa.Column("micro_dollars", NUMBER, nullable=False),
        sa.Column("experiments", NUMBER, nullable=False),
        sa.Column("wall_us", NUMBER, nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.ForeignKeyConstraint(
            ["task"],
            ["tasks.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_spends_task", "spends", ["task"], unique=False)
    op.create_index("spends_settled", "spends", ["night", "settled"], unique=False)
    op.create_table(
        "submissions",
        sa.Column("task", NUMBER, nullable=False),
        sa.Column("token", NUMBER, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("sequence", NUMBER, nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["sequence"],
            ["entries.sequence"],
        ),
        sa.ForeignKeyConstraint(
            ["task"],
            ["tasks.id"],
        ),
        sa.PrimaryKeyConstraint("task"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("index", NUMBER, nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("candidate", NUMBER, nullable=False),
        sa.Column("baseline", sa.Text(), nullable=False),
        sa.Column("binary", sa.Text(), nullable=False),
        sa.Column("timing", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate"],
            ["candidates.id"],
        ),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("timing"),
        sa.UniqueConstraint("night", "purpose", "index"),
    )
    op.create_index("ix_reservations_candidate", "reservations", ["candidate"], unique=False)
    op.create_table(
        "verifications",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("candidate", NUMBER, nullable=False),
        sa.Column("baseline", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("clock", sa.Text(), nullable=True),
        sa.Column("pairs", NUMBER, nullable=False),
        sa.Column("cases", NUMBER, nullable=False),
        sa.Column("diverged", NUMBER, nullable=False),
        sa.Column("extraordinary", sa.Boolean(), nullable=False),
        sa.Column("metric", sa.Double(), nullable=True),
        sa.Column("memory_bytes", NUMBER, nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("root_digest", sa.String(length=64), nullable=False),
        sa.Column("reservation", NUMBER, nullable=True),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate"],
            ["candidates.id"],
        ),
        sa.ForeignKeyConstraint(
            ["reservation"],
            ["reservations.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("report"),
    )
    op.create_index("ix_verifications_candidate", "verifications", ["candidate"], unique=False)
    op.create_index("ix_verifications_reservation", "verifications", ["reservation"], unique=False)
    op.create_table(
        "gate_times",
        sa.Column("verification", NUMBER, nullable=False),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["verification"],
            ["verifications.id"],
        ),
        sa.PrimaryKeyConstraint("verification", "gate"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("candidate", NUMBER, nullable=False),
        sa.Column("verification", NUMBER, nullable=False),
        sa.Column("from_commit", sa.Text(), nullable=False),
        sa.Column("to_commit", sa.Text(), nullable=False),
        sa.Column("meant_us", NUMBER, nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("settled_us", NUMBER, nullable=True),
        sa.ForeignKeyConstraint(
            ["candidate"],
            ["candidates.id"],
        ),
        sa.ForeignKeyConstraint(
            ["night"],
            ["nights.number"],
        ),
        sa.ForeignKeyConstraint(
            ["verification"],
            ["verifications.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_promotions_night", "promotions", ["night"], unique=False)
    op.create_table(
        "sign_offs",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("promotion", NUMBER, nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["promotion"],
            ["promotions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sign_offs_promotion", "sign_offs", ["promotion"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(SQLITE_GUARDS.format(change))
    else:
        op.execute(POSTGRES_GUARD)
