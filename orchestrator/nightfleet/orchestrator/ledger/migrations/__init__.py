"""Alembic's: how a ledger's tables come from one version to the next. Run when a ledger is opened."""
