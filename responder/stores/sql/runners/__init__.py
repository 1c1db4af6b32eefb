"""Who carries the operations out: a writer thread for SQLite, a pool for PostgreSQL, or inline on ``:memory:`` for tests under virtual time."""
