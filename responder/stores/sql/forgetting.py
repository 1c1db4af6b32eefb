"""What is forgotten: what is old enough, and the oldest evidence of closed incidents when there is too much of it.

Source: ARCHITECTURE.md "Bounds"; ``model.storing.Retention`` has the defaults. Never here: anything of an incident that is not closed, or a change that
is still owed.

The decision a reader would question: one call deletes a few hundred rows and says how many, and the caller calls again. One great deletion
would hold the only writer for as long as it lasts, and with it every sender's answer.
"""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, exists, func, select, update

from responder.model.storing import Retention
from responder.stores.sql import tables
from responder.stores.sql.codec import span

BATCH = 500
INCIDENTS_BATCH = 20
"""Fewer: each takes its timeline, messages and commands along."""


TOO_MUCH = "dropped: the installation's evidence was full, and this incident was closed longest"


def prune(db: Connection, now: int, keep: Retention) -> int:
    """Forget what is old enough, in one small batch.

    Returns:
        How many rows went; 0 when nothing is left to forget.
    """
    late = now - span(keep.incidents)
    D, A, E, B, H = tables.deliveries, tables.alerts, tables.evidence, tables.blobs, tables.healthy_revisions  # noqa: N806
    unused = ~exists().where(E.c.digest == B.c.digest)
    return sum(
        (
            _some(db, D, D.c.id, D.c.received_at < now - span(keep.deliveries), ~tables.NEW),
            _some(db, A, A.c.instance, A.c.seen_at < now - span(keep.alerts), ~_unclosed(A.c.incident, A.c.shadow_incident)),
            _some(db, E, E.c.id, E.c.at < now - span(keep.evidence), ~_unclosed(E.c.incident)),
            _some(db, B, B.c.digest, B.c.at < now - span(keep.evidence), unused),
            _some(db, H, H.c.revision, H.c.seen_at < late),
            _incidents(db, late),
            _overflow(db, keep.evidence_bytes),
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


def _overflow(db: Connection, most: int) -> int:
    """Drop the content of evidence while there is more than allowed: of the incidents that were closed first; its names stay listed.

    What is counted are the bytes as captured; what lies in the store is compressed, and equal content lies there once.
    """
    E, B, I = tables.evidence, tables.blobs, tables.incidents  # noqa: N806, E741
    used = int(db.execute(select(func.sum(E.c.size_bytes))).scalar() or 0)
    if used <= most:
        return 0
    oldest = (
        select(E.c.id, E.c.digest, E.c.size_bytes)
        .join(I, I.c.id == E.c.incident)
        .where(~tables.UNCLOSED, E.c.size_bytes > 0)
        .order_by(I.c.closed_at, E.c.id)
        .limit(BATCH)
    )
    dropped, digests = [], set()
    for row in db.execute(oldest):
        if used <= most:
            break
        used -= row.size_bytes
        dropped.append(row.id)
        digests.add(row.digest)
    if dropped:
        db.execute(update(E).where(E.c.id.in_(dropped)).values(digest="", size_bytes=0, truncated=True, problem=TOO_MUCH))
        still = exists().where(E.c.digest == B.c.digest)
        db.execute(delete(B).where(B.c.digest.in_(sorted(digests)), ~still))
    return len(dropped)
