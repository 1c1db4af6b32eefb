"""Incidents: claimed, committed behind a fence, signalled, listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from responder.model.incident import STATE_VERSION, Entry, EntryKind, Incident, Mode, Phase, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Claimed, Committed, Transition
from responder.stores.sql import commands, routing, tables
from responder.stores.sql import outbox as outbox_operations
from responder.stores.sql.codec import instant, maybe_millis, millis, pack, pack_incident, span, unpack, unpack_incident

T = tables.incidents
REPEATS_NOTED_EVERY = 60_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What routing must know of an incident."""

    phase: str
    person_closed: bool


def open_new(db: Connection, now: int, incident: Incident) -> None:
    """Insert an incident, due at once."""
    db.execute(insert(T).values(id=incident.id, key=incident.key, wake_at=now, wake=1, **_columns(incident)))


def _columns(incident: Incident) -> dict[str, Any]:
    return {
        "mode": str(incident.mode),
        "cluster": incident.cluster,
        "target": incident.target.identity,
        "symptom": incident.symptom,
        "phase": str(incident.phase),
        "severity": str(incident.severity),
        "opened_at": millis(incident.reopened_at or incident.opened_at),
        "closed_at": maybe_millis(incident.closed_at),
        "person_closed": incident.person_closed,
        "state": pack_incident(incident),
        "state_v": STATE_VERSION,
    }


def standing(db: Connection, incident: str) -> Standing | None:
    """Return phase and whether a person closed it."""
    row = db.execute(select(T.c.phase, T.c.person_closed).where(T.c.id == incident)).first()
    return None if row is None else Standing(phase=row.phase, person_closed=bool(row.person_closed))


def is_unclosed(db: Connection, incident: str) -> bool:
    """Tell whether an incident exists and is not closed."""
    found = standing(db, incident)
    return found is not None and found.phase != "closed"


def unclosed_id(db: Connection, key: str) -> str | None:
    """Return the unclosed incident of a key."""
    found: str | None = db.execute(select(T.c.id).where(T.c.key == key, T.c.phase != "closed")).scalar()
    return found


def unclosed(db: Connection, now: int, keys: Sequence[str]) -> dict[str, Incident]:
    """Return unclosed incidents by key."""
    del now
    rows = db.execute(select(T.c.key, T.c.state, T.c.state_v).where(T.c.key.in_(list(keys)), T.c.phase != "closed"))
    return {row.key: unpack_incident(row.state, row.state_v) for row in rows}


def claim(db: Connection, now: int, owner: str, limit: int, lease: timedelta, own: Sequence[str]) -> list[Claimed]:
    """Claim due incidents, oldest first. The lease is the recovery: an expired one is simply due again."""
    due = (
        select(T.c.id)
        .where(T.c.phase != "closed", T.c.wake_at <= now, T.c.lease_until <= now, T.c.state_v <= STATE_VERSION)
        .order_by(T.c.wake_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if own:
        due = due.where(T.c.id.not_in(list(own)))
    ids = list(db.execute(due).scalars())
    claimed: list[Claimed] = []
    for one in sorted(ids):
        db.execute(update(T).where(T.c.id == one).values(owner=owner, lease_until=now + span(lease), fence=T.c.fence + 1))
        row = db.execute(select(T.c.state, T.c.state_v, T.c.fence, T.c.wake).where(T.c.id == one)).one()
        incident = unpack_incident(row.state, row.state_v)
        signals = signals_of(db, one)
        digests = {candidate.digest for candidate in incident.candidates}
        documents = pinned(db, now, sorted(digests))
        claimed.append(
            Claimed(
                incident=incident,
                fence=row.fence,
                wake=row.wake,
                lease_until=instant(now + span(lease)),
                signals=tuple(signals),
                instances=tuple(routing.held(db, now, one)),
                rules={
                    candidate.rule: documents[candidate.digest]
                    for candidate in incident.candidates
                    if candidate.digest in documents
                },
            )
        )
    return claimed


def renew(db: Connection, now: int, owner: str, ids: Sequence[str], lease: timedelta) -> dict[str, Any]:
    """Renew the leases that are still ours."""
    until = now + span(lease)
    mine = list(db.execute(select(T.c.id).where(T.c.id.in_(list(ids)), T.c.owner == owner, T.c.lease_until > 0)).scalars())
    if mine:
        db.execute(update(T).where(T.c.id.in_(mine), T.c.owner == owner).values(lease_until=until))
    return {one: instant(until) for one in mine}


def free_owner(db: Connection, now: int, owner: str) -> None:
    """Free the leases of an owner that starts anew: the lock file proves that its earlier life is over."""
    del now
    db.execute(update(T).where(T.c.owner == owner, T.c.lease_until > 0).values(lease_until=0))
    db.execute(update(tables.deliveries).where(tables.deliveries.c.lease_until > 0).values(lease_until=0))
    db.execute(update(tables.outbox).where(tables.outbox.c.lease_until > 0).values(lease_until=0))


def peek(db: Connection, now: int, incident: str) -> tuple[list[Signal], int]:
    """Return unconsumed signals and the wake counter."""
    del now
    wake = db.execute(select(T.c.wake).where(T.c.id == incident)).scalar() or 0
    return signals_of(db, incident), int(wake)


def signals_of(db: Connection, incident: str) -> list[Signal]:
    """Return unconsumed signals in id order."""
    S = tables.signals  # noqa: N806 - a table reads as a name of its own
    rows = db.execute(select(S).where(S.c.incident == incident).order_by(S.c.id))
    return [
        Signal(
            id=row.id,
            incident=row.incident,
            kind=SignalKind(row.kind),
            at=instant(row.at),
            by=row.by,
            body=unpack(row.body, dict),
        )
        for row in rows
    ]


def signal(db: Connection, now: int, one: Signal) -> bool:
    """Insert a signal and wake its incident; False when it does not exist or is closed."""
    if not is_unclosed(db, one.incident):
        return False
    db.execute(
        insert(tables.signals).values(
            incident=one.incident, kind=str(one.kind), at=millis(one.at), by=one.by, body=pack(one.body)
        )
    )
    db.execute(update(T).where(T.c.id == one.incident).values(wake_at=now, wake=T.c.wake + 1))
    return True


def commit(db: Connection, now: int, step: Transition) -> Committed:
    """Store one step whole, or nothing: behind the fence, and only when its intention is granted."""
    row = db.execute(select(T.c.fence, T.c.wake, T.c.lease_until).where(T.c.id == step.incident.id).with_for_update()).first()
    if row is None or row.fence != step.fence:
        return Committed(stored=False, detail="the fence is lost")
    if step.release:
        commands.release(db, step.incident.id)
    if step.intend is not None and step.scopes is not None:
        denied = commands.intend(db, now, step.incident, step.intend, step.scopes, step.fence)
        if denied is not None:
            return Committed(stored=False, denied=denied[0], detail=denied[1])
        commands.owe(db, now, step.incident, step.intend.key, step.changes)
    if step.finished is not None:
        commands.finish(db, *step.finished)
    commands.undone(db, now, step.undone)
    if step.consumed:
        db.execute(delete(tables.signals).where(tables.signals.c.id.in_(list(step.consumed))))
    for entry in step.entries:
        keep_entry(db, step.incident.id, entry)
    for tell in step.tells:
        outbox_operations.add(db, now, step.incident, tell)
    closed = step.incident.phase is Phase.CLOSED
    woken = row.wake != step.wake
    wake_at = None if closed else now if woken else (maybe_millis(step.wake_at) or now)
    values = {**_columns(step.incident), "wake_at": wake_at}
    if not step.keep or closed:
        values["lease_until"] = 0
    db.execute(update(T).where(T.c.id == step.incident.id).values(**values))
    if closed:
        commands.release(db, step.incident.id)
        db.execute(delete(tables.signals).where(tables.signals.c.incident == step.incident.id))
        if step.incident.reason in {Reason.MOVED, Reason.ARMED}:
            _wake_instances(db, now, step.incident)
    return Committed(stored=True, wake=row.wake)


def _wake_instances(db: Connection, now: int, incident: Incident) -> None:
    """A moved or armed incident gives its firing instances back to the router, in the same transaction."""
    A = tables.alerts  # noqa: N806
    column = A.c.shadow_incident if incident.mode is Mode.SHADOW else A.c.incident
    db.execute(update(A).where(column == incident.id, A.c.status == "firing").values(wake_at=now))


def keep_entry(db: Connection, incident: str, entry: Entry) -> None:
    """Append a line to the timeline."""
    note(db, incident, millis(entry.at), entry.kind, entry.reason, entry.text, entry.data)


def note(db: Connection, incident: str, at: int, kind: EntryKind, reason: Reason, text: str, data: Mapping[str, Any]) -> None:
    """Append a line to the timeline."""
    body = pack({"text": text, "data": data})
    db.execute(insert(tables.timeline).values(incident=incident, at=at, kind=str(kind), reason=str(reason), body=body))


def note_rarely(db: Connection, incident: str, at: int, kind: EntryKind, reason: Reason, text: str) -> None:
    """Append a line unless one of this reason was appended within a minute."""
    L = tables.timeline  # noqa: N806
    last = db.execute(select(func.max(L.c.at)).where(L.c.incident == incident, L.c.reason == str(reason))).scalar()
    if last is None or at - last >= REPEATS_NOTED_EVERY:
        note(db, incident, at, kind, reason, text, {})


def timeline(db: Connection, now: int, incident: str) -> list[Entry]:
    """Return the audit trail in order."""
    del now
    L = tables.timeline  # noqa: N806
    found = []
    for row in db.execute(select(L).where(L.c.incident == incident).order_by(L.c.id)):
        body = unpack(row.body, dict)
        found.append(
            Entry(kind=EntryKind(row.kind), at=instant(row.at), reason=Reason(row.reason), text=body["text"], data=body["data"])
        )
    return found


def by_id(db: Connection, now: int, incident: str) -> Incident | None:
    """Return one incident."""
    del now
    row = db.execute(select(T.c.state, T.c.state_v).where(T.c.id == incident)).first()
    return None if row is None else unpack_incident(row.state, row.state_v)


def listed(db: Connection, now: int, unclosed_only: bool, limit: int, mode: Mode | None) -> list[Incident]:
    """List incidents, newest first."""
    del now
    query = select(T.c.state, T.c.state_v).order_by(T.c.opened_at.desc(), T.c.id.desc()).limit(limit)
    if unclosed_only:
        query = query.where(T.c.phase != "closed")
    if mode is not None:
        query = query.where(T.c.mode == str(mode))
    return [unpack_incident(row.state, row.state_v) for row in db.execute(query)]


def next_due(db: Connection) -> int | None:
    """Return when the next incident is due; an index probe (engine.md O6)."""
    query = (
        select(T.c.wake_at, T.c.lease_until).where(T.c.phase != "closed", T.c.wake_at.is_not(None)).order_by(T.c.wake_at).limit(1)
    )
    row = db.execute(query).first()
    return None if row is None else max(row.wake_at, row.lease_until)


def pinned(db: Connection, now: int, digests: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return pinned rule documents."""
    del now
    P = tables.pinned_rules  # noqa: N806
    return {row.digest: unpack(row.document, dict) for row in db.execute(select(P).where(P.c.digest.in_(list(digests))))}


def wake_all(db: Connection, now: int) -> None:
    """Wake every unclosed incident."""
    db.execute(update(T).where(T.c.phase != "closed").values(wake_at=now, wake=T.c.wake + 1))
