"""What is forgotten, and when: deliveries, alerts and evidence after 30 days, incidents with everything of theirs after 400.

Source: ARCHITECTURE.md "Bounds". Never here: anything of an incident that is not closed, or a change that is still owed.

The decision a reader would question: one call deletes a few hundred rows and says how many, and the caller calls again. One great deletion
would hold the only writer for as long as it lasts, and with it every sender's answer.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, exists, select

from responder.stores.sql import tables
from responder.stores.sql.codec import span

SOON = timedelta(days=30)
LATE = timedelta(days=400)
BATCH = 500
INCIDENTS_BATCH = 20
"""Fewer: each takes its timeline, messages and commands along."""


def prune(db: Connection, now: int) -> int:
    """Forget what is old enough, in one small batch.

    Returns:
        How many rows went; 0 when nothing is left to forget.
    """
    soon, late = now - span(SOON), now - span(LATE)
    D, A, E, B, H = tables.deliveries, tables.alerts, tables.evidence, tables.blobs, tables.healthy_revisions  # noqa: N806
    unused = ~exists().where(E.c.digest == B.c.digest)
    return sum(
        (
            _some(db, D, D.c.id, D.c.received_at < soon, ~tables.NEW),
            _some(db, A, A.c.instance, A.c.seen_at < soon, ~_unclosed(A.c.incident, A.c.shadow_incident)),
            _some(db, E, E.c.id, E.c.at < soon, ~_unclosed(E.c.incident)),
            _some(db, B, B.c.digest, B.c.at < soon, unused),
            _some(db, H, H.c.revision, H.c.seen_at < late),
            _incidents(db, late),
        )
    )


def _unclosed(*columns: Column[str]) -> ColumnElement[bool]:
    return exists().where(tables.incidents.c.id.in_(columns), tables.UNCLOSED)


def _some(db: Connection, table: Table, key: Column[object], *old: ColumnElement[bool]) -> int:
    query = select(key).where(*old).limit(BATCH)
    keys = list(db.execute(query).scalars())
    return db.execute(delete(table).where(key.in_(keys))).rowcount if keys else 0


def _incidents(db: Connection, late: int) -> int:
    """Forget closed incidents with their timeline, messages and settled changes; signals and commands go with the row itself."""
    I, L, O, D, E = tables.incidents, tables.timeline, tables.outbox, tables.changes, tables.evidence  # noqa: N806, E741
    closed = list(db.execute(select(I.c.id).where(~tables.UNCLOSED, I.c.closed_at < late).limit(INCIDENTS_BATCH)).scalars())
    if not closed:
        return 0
    gone = 0
    for table in (L, O, E):
        gone += db.execute(delete(table).where(table.c.incident.in_(closed))).rowcount
    gone += db.execute(delete(D).where(D.c.incident.in_(closed), D.c.undone_at.is_not(None))).rowcount
    return gone + db.execute(delete(I).where(I.c.id.in_(closed))).rowcount
