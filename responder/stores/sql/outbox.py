"""The outbox: one row per message and channel; per lane in order, a newer state replaces an unsent older one.

A RESOLVE replaces unsent updates of its level but never an unsent page: who is called and at once told that it is over knows more
than who hears nothing. An UPDATE never replaces a page or a resolve.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, Select, func, insert, select, update

from responder.model.incident import EntryKind, Incident, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.storing import OutboxRow
from responder.stores.sql import incidents, tables
from responder.stores.sql.codec import instant, millis, span, word
from responder.stores.sql.due import later_of

O = tables.outbox  # noqa: E741 - a table reads as a name of its own
SENT, FAILED, REPLACED = "sent", "failed", "replaced"
_REPLACES = {
    NoticeKind.UPDATE: (NoticeKind.UPDATE,),
    NoticeKind.RESOLVE: (NoticeKind.UPDATE, NoticeKind.RESOLVE),
    NoticeKind.INFO: (),
    NoticeKind.SHADOW: (),
    NoticeKind.PAGE: (),
}


def add(db: Connection, now: int, incident: Incident, tell: Tell) -> None:
    """Add a row for each channel, due at once."""
    for channel in dict.fromkeys(tell.channels):
        older = [str(kind) for kind in _REPLACES[tell.kind]]
        if older:
            db.execute(
                update(O)
                .where(
                    tables.WAITING,
                    O.c.channel == channel,
                    O.c.incident == incident.id,
                    O.c.opening == incident.opening,
                    O.c.level == tell.level,
                    O.c.kind.in_(older),
                    O.c.lease_until <= now,
                )
                .values(state=REPLACED)
            )
        db.execute(
            insert(O).values(
                incident=incident.id,
                channel=channel,
                kind=str(tell.kind),
                level=tell.level,
                reason=str(tell.reason),
                opening=incident.opening,
                due_at=millis(tell.due_at),
                wake_at=now,
            )
        )


def claim(db: Connection, now: int, limit: int, lease: timedelta) -> list[OutboxRow]:
    """Claim due rows: only the oldest unsent one of each lane. What a newer release means by a word of its own is told as a page."""
    due = (
        select(O)
        .where(O.c.id.in_(_heads()), O.c.wake_at <= now, O.c.lease_until <= now)
        .order_by(O.c.wake_at, O.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = db.execute(due).all()
    if rows:
        db.execute(
            update(O).where(O.c.id.in_([row.id for row in rows])).values(lease_until=now + span(lease), fence=O.c.fence + 1)
        )
    return [
        OutboxRow(
            id=row.id,
            incident=row.incident,
            channel=row.channel,
            tell=Tell(
                kind=word(NoticeKind, row.kind, NoticeKind.PAGE),
                level=row.level,
                channels=(row.channel,),
                reason=word(Reason, row.reason, Reason.UNREADABLE),
                due_at=instant(row.due_at),
            ),
            opening=row.opening,
            tries=row.tries,
            fence=row.fence + 1,
            original_channel=row.original_channel,
        )
        for row in rows
    ]


def sent(db: Connection, now: int, row: OutboxRow, answer: str, reached: bool) -> None:
    """End a delivered row and say so on the timeline."""
    if not _mine(db, row):
        return
    db.execute(update(O).where(O.c.id == row.id).values(state=SENT, answer=answer[:1000], lease_until=0))
    what = f"{row.tell.kind} level {row.tell.level}" if row.tell.level else str(row.tell.kind)
    said = "a person is being called" if reached else "accepted; that is no proof that anybody read it"
    text = f"{what} sent to {row.channel}: {answer or 'ok'} ({said})"
    incidents.note(
        db, row.incident, now, EntryKind.DELIVERED, row.tell.reason, text, {"channel": row.channel, "reached": reached}
    )


def failed(db: Connection, now: int, row: OutboxRow, answer: str, again_at: int | None, fallback: str) -> None:
    """Try again later, or end the row; a fallback channel gets a row of its own, once."""
    if not _mine(db, row):
        return
    values = {"tries": row.tries + 1, "answer": answer[:1000], "lease_until": 0}
    if again_at is None:
        db.execute(update(O).where(O.c.id == row.id).values(state=FAILED, **values))
    else:
        db.execute(update(O).where(O.c.id == row.id).values(wake_at=again_at, **values))
    if again_at is None or row.tries == 0:
        what = "given up" if again_at is None else "tried again"
        text = f"{row.tell.kind} to {row.channel} failed, {what}: {answer}"
        incidents.note(db, row.incident, now, EntryKind.DELIVERED, Reason.UNDELIVERED, text, {"channel": row.channel})
    if fallback and fallback != row.channel and not row.original_channel:
        db.execute(
            insert(O).values(
                incident=row.incident,
                channel=fallback,
                original_channel=row.channel,
                kind=str(row.tell.kind),
                level=row.tell.level,
                reason=str(row.tell.reason),
                opening=row.opening,
                due_at=millis(row.tell.due_at),
                wake_at=now,
            )
        )


def _mine(db: Connection, row: OutboxRow) -> bool:
    found = db.execute(select(O.c.fence, O.c.state).where(O.c.id == row.id).with_for_update()).first()
    return found is not None and found.fence == row.fence and found.state == "waiting"


def _heads() -> Select[tuple[int]]:
    """The oldest unsent row of each lane: the only ones that may be sent."""
    return select(func.min(O.c.id)).where(tables.WAITING).group_by(O.c.channel, O.c.incident)


_NEXT = select(func.min(later_of(O.c.wake_at, O.c.lease_until))).where(O.c.id.in_(_heads()))


def next_due(db: Connection) -> int | None:
    """Return when the next row may be sent; what waits behind another row of its lane is not due, however long it has waited."""
    found: int | None = db.execute(_NEXT).scalar()
    return found
