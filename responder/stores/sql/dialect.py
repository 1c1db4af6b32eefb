"""The few statements that the two databases spell differently, and the locks that only one of them needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select
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


def take_turns(db: Connection, table: Table, key: str, value: str) -> None:
    """Let one transaction at a time past this point for a value, until it ends: a row of its own is locked, and made when it is not there.

    SQLite has one writer anyhow. A row and not an advisory lock: it is seen in ``pg_locks`` under its table's name, and no hash collides.
    """
    if db.dialect.name == "postgresql":
        statement = postgresql.insert(table).values({key: value})
        db.execute(statement.on_conflict_do_update(index_elements=[key], set_={key: statement.excluded[key]}))


def lock_rows(db: Connection, table: Table, key: str, values: Iterable[str]) -> None:
    """Lock those rows that exist, in the order of their key: two replicas that take the same ones in different order would deadlock."""
    wanted = sorted(set(values))
    if db.dialect.name == "postgresql" and wanted:
        column = table.c[key]
        for start in range(0, len(wanted), 500):
            db.execute(select(column).where(column.in_(wanted[start : start + 500])).order_by(column).with_for_update()).all()


def upsert_all(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, key: str) -> None:
    """Insert rows or replace their other columns, in one statement; the last of equal keys counts.

    Sorted by key: two replicas that touch the same rows in different order would deadlock. No key twice: PostgreSQL refuses to touch a row
    a second time in one statement (engine.md O1).
    """
    if not rows:
        return
    unique = {row[key]: dict(row) for row in rows}
    make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    statement = make(table)
    rest = {name: statement.excluded[name] for name in rows[0] if name != key}
    db.execute(statement.on_conflict_do_update(index_elements=[key], set_=rest), [unique[name] for name in sorted(unique)])
