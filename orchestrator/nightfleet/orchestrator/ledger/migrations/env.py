"""What Alembic runs: the migrations, on the connection and in the transaction that `version` hands over."""

from alembic import context

from nightfleet.orchestrator.ledger.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata, compare_type=True)
context.run_migrations()
