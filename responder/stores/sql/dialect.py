"""The few statements that the two databases spell differently, and the locks that only one of them needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    any_,
    bindparam,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from responder.stores.sql.tables import Words

MOST_VALUES = 4_000
"""In one statement; SQLite takes 32,766. A statement of many rows gives the interpreter's lock away once, where ``executemany`` waits for it again after
every row: beside a busy event loop it takes half the time. Twice as many would save nothing more, and a statement that is kept prepared takes a MiB."""


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
    if db.dialect.name == "postgresql" and (wanted := sorted(set(values))):
        column = table.c[key]
        db.execute(select(column).where(among(db, column, wanted)).order_by(column).with_for_update()).all()


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


def among(db: Connection, column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a column of text is one of these, however many; they are one parameter, so the statement stays the same."""
    clean = [_clean(value) for value in values]
    if db.dialect.name == "postgresql":
        return column == any_(literal(clean, ARRAY(Text)))
    return column.in_(select(func.json_each(json.dumps(clean)).table_valued("value").c.value))


def has_any(db: Connection, table: Table, column: str, values: Sequence[str]) -> bool:
    """Tell whether any row has one of these texts in a column."""
    if db.dialect.name == "postgresql":
        found = db.execute(select(table.c[column]).where(among(db, table.c[column], values)).limit(1))
        return found.first() is not None
    asked = f"select 1 from {table.name} where {column} in (select value from json_each(?)) limit 1"  # noqa: S608 - our own names
    return db.exec_driver_sql(asked, (json.dumps([_clean(value) for value in values]),)).first() is not None


def insert_numbered(db: Connection, table: Table, columns: Sequence[str], rows: list[tuple[Any, ...]], *, key: str) -> list[int]:
    """Insert rows as ``insert_rows`` does, and return the numbers that the database gives them as their key, in their order.

    On SQLite they are the last ones: within a transaction, a row gets the largest number there is and one.
    """
    if not rows:
        return []
    if db.dialect.name == "postgresql":
        statement = insert(table).returning(table.c[key], sort_by_parameter_order=True)
        return list(db.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows]).scalars())
    insert_rows(db, table, columns, rows)
    last = db.exec_driver_sql("select last_insert_rowid()").scalar_one()
    return list(range(last - len(rows) + 1, last + 1))


def insert_rows(db: Connection, table: Table, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    """Insert rows, each with its values in the order of the columns.

    On SQLite by the driver itself: what SQLAlchemy does for each value costs more than storing it. ``or fail``: a statement that the schema refuses half-way
    ends its transaction anyhow (``runners``), so SQLite need not keep every page as it was before the statement, which writes as much again.
    """
    if not rows:
        return
    if db.dialect.name == "postgresql":
        db.execute(insert(table), [dict(zip(columns, row, strict=True)) for row in rows])
        return
    clean = _cleaned(table, tuple(columns), rows)
    head = f"insert or fail into {table.name} ({', '.join(columns)}) values "  # noqa: S608 - our own names
    marks = f"({', '.join('?' * len(columns))})"
    many = MOST_VALUES // len(columns)
    whole = len(clean) // many * many
    for place in range(0, whole, many):
        db.exec_driver_sql(head + ", ".join([marks] * many), tuple(chain.from_iterable(clean[place : place + many])))
    if whole < len(clean):
        db.exec_driver_sql(head + marks, clean[whole:])


def insert_new_rows(db: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows unless their key, the first column, exists; as ``insert_rows``. In the order of their keys: see ``lock_rows``."""
    if not rows:
        return
    unique = {row[0]: row for row in rows}
    wanted = [unique[key] for key in sorted(unique)]
    if db.dialect.name == "postgresql":
        unless = postgresql.insert(table).on_conflict_do_nothing(index_elements=[columns[0]])
        db.execute(unless, [dict(zip(columns, row, strict=True)) for row in wanted])
        return
    marks = ", ".join("?" * len(columns))
    statement = f"insert into {table.name} ({', '.join(columns)}) values ({marks}) on conflict ({columns[0]}) do nothing"  # noqa: S608 - our own names
    db.exec_driver_sql(statement, _cleaned(table, tuple(columns), wanted))


def update_rows(db: Connection, table: Table, columns: Sequence[str], rows: list[tuple[Any, ...]], *, key: str) -> None:
    """Set these columns of rows, each with its values in their order and its key last. Locks must be held already, in the keys' order."""
    if not rows:
        return
    if db.dialect.name == "postgresql":
        names = [*columns, "key_"]
        statement = update(table).where(table.c[key] == bindparam("key_")).values({name: bindparam(name) for name in columns})
        db.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])
        return
    sets = ", ".join(f"{name} = ?" for name in columns)
    db.exec_driver_sql(
        f"update {table.name} set {sets} where {key} = ?",  # noqa: S608 - our own names
        _cleaned(table, (*columns, key), rows),
    )


def _clean(value: str) -> str:
    return value.replace("\x00", "\ufffd") if "\x00" in value else value


def _cleaned(table: Table, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows as ``Words`` would store them."""
    for place in _words(table, columns):
        if "\x00" in "".join([row[place] or "" for row in rows]):
            return [tuple(_clean(value) if isinstance(value, str) else value for value in row) for row in rows]
    return rows


@cache
def _words(table: Table, columns: tuple[str, ...]) -> tuple[int, ...]:
    found: list[int] = []
    for place, name in enumerate(columns):
        column: Column[Any] = table.c[name]
        if isinstance(column.type, Words):
            found.append(place)
    return tuple(found)
