"""Rows whose bytes are none of ours: each costs its own work and nobody else's, and is listed until it can be read or is gone.

Whoever reads rows for work goes past such a one, or takes what its columns say, and lists it here; ``service.selfwatch`` makes an alert of the list.
Never here: what goes on without the row (each reader's own).

The decision a reader would question: a table, where a log line would do. Somebody must be called for it, by whichever replica looks, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, select

from responder.model.action import Change
from responder.model.errors import InvariantError
from responder.model.incident import STATE_VERSION
from responder.model.storing import DamagedRow
from responder.stores.sql import alert_rows, tables
from responder.stores.sql.codec import instant, stretch, unpack, unpack_incident
from responder.stores.sql.dialect import insert_new

D = tables.damaged
MOST_LISTED = 200


def _incident(row: Any) -> object:
    return None if row.state_v > STATE_VERSION else unpack_incident(row.state, row.state_v)  # a newer release's is no damage


READ: Mapping[Table, Callable[[Any], object]] = {
    tables.incidents: _incident,
    tables.alerts: alert_rows.instance,
    tables.deliveries: lambda row: stretch(row.body),
    tables.signals: lambda row: unpack(row.body, dict),
    tables.changes: lambda row: unpack(row.body, Change),
    tables.pinned_rules: lambda row: unpack(row.document, dict),
    tables.timeline: lambda row: unpack(row.body, dict),
    tables.blobs: lambda row: stretch(row.body),
}
"""How each table's rows are read; each raises ``InvariantError``."""


def problem(table: Table, row: Any) -> str:
    """Return why a row cannot be read; "" when it can."""
    try:
        READ[table](row)
    except InvariantError as error:
        return str(error)
    return ""


def listed(db: Connection, now: int, table: Table, key: object, said: object, *, incident: str = "") -> bool:
    """List a row; False when it is listed already."""
    name = f"{table.name}/{key}"
    if db.execute(select(D.c.row).where(D.c.row == name)).first() is not None:
        return False
    insert_new(db, D, {"row": name, "incident": incident, "problem": str(said)[:1000], "at": now}, key="row")
    return True


def found(db: Connection, now: int) -> list[DamagedRow]:
    """Return what is listed, oldest first."""
    del now
    rows = db.execute(select(D).order_by(D.c.at, D.c.row).limit(MOST_LISTED))
    split = ((*row.row.partition("/"), row) for row in rows)
    return [
        DamagedRow(table=table, key=key, incident=row.incident, problem=row.problem, at=instant(row.at))
        for table, _, key, row in split
    ]


def look_again(db: Connection, now: int) -> int:
    """Strike off what is gone or can be read again: a sender's repeat writes an alert anew, a person may have put back a row. Return how many."""
    well = [f"{one.table}/{one.key}" for one in found(db, now) if not _still(db, one)]
    if well:
        db.execute(delete(D).where(D.c.row.in_(well)))
    return len(well)


def _still(db: Connection, one: DamagedRow) -> bool:
    table = tables.METADATA.tables[one.table]
    key = key_of(table)
    asked: object = int(one.key) if key.type.python_type is int else one.key
    row = db.execute(select(table).where(key == asked)).first()
    return row is not None and bool(problem(table, row))


def key_of(table: Table) -> Column[Any]:
    """Return the primary key, which is one column in every table of ours."""
    (key,) = table.primary_key.columns
    return key
