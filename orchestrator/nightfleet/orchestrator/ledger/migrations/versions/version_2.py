"""Version 2: what each promotion is worth in the morning."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the new tables."""
    op.create_table(
        "ablations",
        sa.Column("sequence", NUMBER, autoincrement=False, nullable=False),
        sa.Column("night", NUMBER, nullable=False),
        sa.Column("promotion", NUMBER, nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("without", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("clock", sa.Text(), nullable=True),
        sa.Column("pairs", NUMBER, nullable=False),
        sa.Column("cases", NUMBER, nullable=False),
        sa.Column("diverged", NUMBER, nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("root_digest", sa.String(length=64), nullable=True),
        sa.Column("redundant", sa.Boolean(), nullable=False),
        sa.Column("at_us", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["night"], ["nights.number"]),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"]),
        sa.ForeignKeyConstraint(["sequence"], ["entries.sequence"]),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("ix_ablations_night", "ablations", ["night"], unique=False)
