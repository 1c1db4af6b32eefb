"""Who runs, and what everybody does when the store's clock has gone back. Correctness never rests on ``replicas``: it is for people."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, delete, select, update

from responder.model.storing import Replica
from responder.stores.sql import incidents, tables
from responder.stores.sql.codec import instant, span
from responder.stores.sql.dialect import upsert

R = tables.replicas
FORGOTTEN_AFTER = timedelta(hours=1)
PROBE = "probe"
LONGEST_LEASE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=2)
"""Of the outbox between two tries."""


def beat(db: Connection, now: int, one: Replica) -> list[Replica]:
    """Say that a replica lives, and return all that said so within the last hour, newest first."""
    upsert(db, R, {"id": one.id, "incarnation": one.incarnation, "version": one.version, "seen_at": now}, key="id")
    db.execute(delete(R).where(R.c.seen_at < now - span(FORGOTTEN_AFTER)))
    rows = db.execute(select(R).where(R.c.id != PROBE).order_by(R.c.seen_at.desc(), R.c.id))
    return [Replica(id=row.id, incarnation=row.incarnation, version=row.version, seen_at=instant(row.seen_at)) for row in rows]


def leave(db: Connection, now: int, replica: str) -> None:
    """Forget a replica that stops, and free what it still holds: nobody works on it any more."""
    del now
    I = tables.incidents  # noqa: N806, E741 - a table reads as a name of its own
    db.execute(update(I).where(I.c.owner == replica, I.c.lease_until > 0).values(lease_until=0))
    db.execute(delete(R).where(R.c.id == replica))


def after_step_back(db: Connection, now: int) -> None:
    """Bring back into reach what was set by a clock that was ahead; twice does no harm.

    Leases would hold for the length of the step after their holder died, and nothing would wake. Holders that live renew theirs anyhow,
    and an incident that is woken too early looks and sleeps again.
    """
    for table in (tables.incidents, tables.deliveries, tables.outbox):
        longest = now + span(LONGEST_LEASE)
        db.execute(update(table).where(table.c.lease_until > longest).values(lease_until=longest))
    incidents.wake_all(db, now)
    D, O = tables.deliveries, tables.outbox  # noqa: N806, E741 - a table reads as a name of its own
    db.execute(update(D).where(tables.NEW, D.c.wake_at > now).values(wake_at=now))
    db.execute(update(O).where(tables.WAITING, O.c.wake_at > now + span(LONGEST_PAUSE)).values(wake_at=now))


def probe(db: Connection, now: int) -> None:
    """Write a row that nobody reads: a store that only reads must not pass for one that works."""
    upsert(db, R, {"id": PROBE, "incarnation": "", "version": "", "seen_at": now - span(FORGOTTEN_AFTER)}, key="id")
