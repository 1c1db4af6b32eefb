"""Who carries the operations out: a writer thread for SQLite, or inline on a ``:memory:`` database for tests under virtual time."""
