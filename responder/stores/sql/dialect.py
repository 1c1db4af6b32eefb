"""The few statements that the two databases spell differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(db: Connection, table: Table, values: Mapping[str, Any], *, key: str) -> None:
    """Insert a row unless its key exists."""
    make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    db.execute(make(table).values(**values).on_conflict_do_nothing(index_elements=[key]))


def upsert(db: Connection, table: Table, values: Mapping[str, Any], *, key: str) -> None:
    """Insert a row or replace its other columns."""
    make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    rest = {name: value for name, value in values.items() if name != key}
    db.execute(make(table).values(**values).on_conflict_do_update(index_elements=[key], set_=rest))
