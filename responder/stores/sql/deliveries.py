"""Deliveries: accepted durably, claimed, ended. Synchronous functions over a ``Connection``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, Row, func, select, update

from responder.model.errors import InvariantError
from responder.model.storing import Delivery, DeliveryState, NewDelivery, RoutedDelivery
from responder.stores.sql import damage, tables
from responder.stores.sql.codec import instant, millis, span, squeeze, stretch, word
from responder.stores.sql.dialect import has_any, insert_numbered, update_rows
from responder.stores.sql.due import earliest

T = tables.deliveries
MOST_TRIES = 3


def accept(db: Connection, now: int, deliveries: Sequence[NewDelivery]) -> list[int]:
    """Store deliveries and return their ids; 0 for one that is absorbed: its retry key is that of its sender's newest delivery.

    Only the newest absorbs: firing, resolved, firing again with the same body is three deliveries and not one retry. A body that came
    before, but not last, is stored under its key, a plus sign and the number of the delivery it came after. A unique key absorbs always.

    All that come together are looked up and inserted in one statement each; only around a repeat, order counts and they go one by one.
    """
    keys = [one.retry_key for one in deliveries]
    if len(set(keys)) == len(keys) and not has_any(db, T, "retry_key", keys):
        return insert_numbered(db, T, _ACCEPTED, [_row(one, one.retry_key, now) for one in deliveries], key="id")
    stored: list[int] = []
    for one in deliveries:
        key = one.retry_key
        if db.execute(select(T.c.id).where(T.c.retry_key == key)).first() is not None:
            newest = _newest(db, one)
            if one.unique:
                stored.append(0)
                continue
            if newest is not None and (newest.retry_key == key or newest.retry_key.startswith(f"{key}+")):
                stored.append(0)
                continue
            key = f"{key}+{newest.id if newest is not None else 0}"
        stored += insert_numbered(db, T, _ACCEPTED, [_row(one, key, now)], key="id")
    return stored


_ACCEPTED = ("source", "source_name", "retry_key", "body", "sender", "received_at", "state", "wake_at", "lease_until")


def _row(one: NewDelivery, key: str, now: int) -> tuple[object, ...]:
    held = now + span(one.held) if one.held else 0
    return one.source, one.source_name, key, squeeze(one.body), one.sender, millis(one.received_at), "new", now, held


def as_stored(one: NewDelivery, number: int) -> Delivery:
    """Return a delivery that was just stored under this number as ``claim`` would."""
    at = instant(millis(one.received_at))
    return Delivery(id=number, source=one.source, source_name=one.source_name, body=one.body, received_at=at)


def _newest(db: Connection, one: NewDelivery) -> Row[int, str] | None:
    query = select(T.c.id, T.c.retry_key).where(T.c.source == one.source, T.c.source_name == one.source_name)
    return db.execute(query.order_by(T.c.id.desc()).limit(1)).first()


def backlog(db: Connection, now: int) -> int:
    """Count deliveries that wait to be routed."""
    del now
    return int(db.execute(select(func.count()).select_from(T).where(tables.NEW)).scalar() or 0)


def claim(db: Connection, now: int, limit: int, lease: timedelta) -> list[Delivery]:
    """Claim the oldest due deliveries for a while; one that failed comes after those that were due before its next try.

    One that cannot be read has failed for good at once: it is kept and listed, and its sender's others go on.
    """
    due = (
        select(T)
        .where(tables.NEW, T.c.wake_at <= now, T.c.lease_until <= now)
        .order_by(T.c.wake_at, T.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = db.execute(due).all()
    if rows:
        db.execute(update(T).where(T.c.id.in_([row.id for row in rows])).values(lease_until=now + span(lease)))
    found: list[Delivery] = []
    for row in rows:
        try:
            found.append(delivery(row))
        except InvariantError as error:
            finish(db, row.id, DeliveryState.FAILED, f"damaged in the store: {error}", row.shape)
            damage.listed(db, now, T, row.id, error)
    return found


def finish(db: Connection, delivery_id: int, state: DeliveryState, note: str, shape: str) -> None:
    """End a delivery."""
    db.execute(update(T).where(T.c.id == delivery_id).values(state=str(state), note=note[:4000], shape=shape, lease_until=0))


def finish_all(db: Connection, ended: Sequence[RoutedDelivery]) -> None:
    """End deliveries."""
    rows = [(str(one.state), one.note[:4000], one.shape, 0, one.delivery.id) for one in ended]
    update_rows(db, T, ("state", "note", "shape", "lease_until"), rows, key="id")


def failed(db: Connection, now: int, delivery_id: int, note: str, again_in: timedelta) -> int:
    """Count a failed routing; the third one keeps it, marked. One that somebody else has routed meanwhile stays routed."""
    row = db.execute(select(T.c.tries, T.c.state).where(T.c.id == delivery_id).with_for_update()).first()
    if row is None or row.state != str(DeliveryState.NEW):
        return 0 if row is None else int(row.tries)
    tries = int(row.tries) + 1
    state = DeliveryState.FAILED if tries >= MOST_TRIES else DeliveryState.NEW
    values = {"tries": tries, "note": note[:4000], "state": str(state), "lease_until": 0, "wake_at": now + span(again_in)}
    db.execute(update(T).where(T.c.id == delivery_id).values(**values))
    return tries


def listed(db: Connection, now: int, state: DeliveryState | None, limit: int) -> list[Delivery]:
    """List deliveries, newest first."""
    del now
    query = select(T).order_by(T.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(T.c.state == str(state))
    return [legible(row) for row in db.execute(query)]


_NEXT = earliest(T, tables.NEW)


def next_due(db: Connection, now: int) -> int | None:
    """Return when the next delivery may be claimed."""
    return _NEXT(db, now)


def legible(row: Row[tuple[object, ...]]) -> Delivery:
    """Return a row as a value; one that cannot be read without its body, and with a note that says so."""
    try:
        return delivery(row)
    except InvariantError as error:
        return _delivery(row, b"", row.note or f"damaged in the store: {error}")


def delivery(row: Row[tuple[object, ...]]) -> Delivery:
    """Return a row as a value.

    Raises:
        InvariantError: Its body is not what was stored.
    """
    return _delivery(row, stretch(row.body), row.note)


def _delivery(row: Row[tuple[object, ...]], body: bytes, note: str) -> Delivery:
    return Delivery(
        id=row.id,
        source=row.source,
        source_name=row.source_name,
        body=body,
        received_at=instant(row.received_at),
        state=word(DeliveryState, row.state, DeliveryState.FAILED),
        tries=row.tries,
        note=note,
        shape=row.shape,
    )
