"""Incidents: claimed, committed behind a fence, signalled, listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, literal_column, or_, select, update

from responder.model.alert import Alert, Severity
from responder.model.errors import InvariantError
from responder.model.incident import STATE_VERSION, Entry, EntryKind, Incident, Mode, Phase, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Claimed, Committed, Transition
from responder.model.target import Target, TargetKind
from responder.stores.sql import commands, damage, parents, routing, tables
from responder.stores.sql import outbox as outbox_operations
from responder.stores.sql.alert_rows import unfolded
from responder.stores.sql.codec import (
    WRITTEN_VERSION,
    instant,
    maybe_millis,
    millis,
    not_before,
    pack,
    pack_incident,
    span,
    unpack,
    unpack_incident,
    word,
)
from responder.stores.sql.dialect import among, insert_new, insert_rows, lock_rows, update_rows
from responder.stores.sql.due import earliest

T = tables.incidents
REPEATS_NOTED_EVERY = 60_000
UNREADABLE_AGAIN = 60_000
AT_ONCE = 500
WOKEN_AT_ONCE = 2_000
"""By a switch: it is set before, and a hundred thousand in one transaction would keep the store from everybody for seconds."""
GATHERED_FOR = 1_000
"""Milliseconds."""


_UNCLOSED = select(T.c.key, T.c.state, T.c.state_v).where(T.c.key.in_(bindparam("keys", expanding=True)), tables.UNCLOSED)


@dataclass(frozen=True, slots=True)
class Standing:
    """What routing must know of an incident."""

    phase: str
    person_closed: bool


def open_new(db: Connection, now: int, incident: Incident) -> None:
    """Insert an incident, due at once."""
    db.execute(insert(T).values(id=incident.id, key=incident.key, wake_at=now, wake=1, **_columns(incident)))


def open_all(db: Connection, now: int, settle: int, opened: Sequence[tuple[Incident, Alert]]) -> None:
    """Insert incidents with the alert that opened each, due at once or after ``settle`` milliseconds, in the order of their keys."""
    if not opened:
        return
    rows = []
    for seed, _ in sorted(opened, key=lambda one: one[0].key):
        rows.append({"id": seed.id, "key": seed.key, "wake_at": now + settle, "wake": 1, **_columns(seed)})
    insert_rows(db, T, tuple(rows[0]), [tuple(row.values()) for row in rows])
    lines = []
    for seed, alert in opened:
        text = f"alert {alert.name} fires, says {alert.source}/{alert.source_name}"
        body = pack({"text": text, "data": {"instance": alert.instance, "labels": unfolded(alert.labels)}})
        lines.append((seed.id, now, EntryKind.ALERT.value, Reason.OPENED.value, body))
    insert_rows(db, tables.timeline, _LINE, lines)


def pin_new(db: Connection, documents: Mapping[str, Mapping[str, object]]) -> None:
    """Keep rule documents that are not kept yet."""
    if not documents:
        return
    P = tables.pinned_rules  # noqa: N806
    there = set(db.execute(select(P.c.digest).where(among(db, P.c.digest, sorted(documents)))).scalars())
    for digest in sorted(documents.keys() - there):
        insert_new(db, P, {"digest": digest, "document": pack(documents[digest])}, key="digest")


def _columns(incident: Incident) -> dict[str, Any]:
    return {
        "mode": str(incident.mode),
        "cluster": incident.cluster,
        "target": incident.target.identity,
        "symptom": incident.symptom,
        "parent": incident.parent,
        "phase": str(incident.phase),
        "severity": str(incident.severity),
        "opened_at": millis(incident.reopened_at or incident.opened_at),
        "closed_at": maybe_millis(incident.closed_at),
        "person_closed": incident.person_closed,
        "state": pack_incident(incident),
        "state_v": WRITTEN_VERSION,
    }


def standings(db: Connection, ids: Sequence[str]) -> dict[str, Standing]:
    """Return phase and whether a person closed it, by id; locked against a closing at the same time, in the order of their ids."""
    if not ids:
        return {}
    query = select(T.c.id, T.c.phase, T.c.person_closed).where(among(db, T.c.id, ids)).order_by(T.c.id)
    return {
        row.id: Standing(phase=row.phase, person_closed=bool(row.person_closed)) for row in db.execute(query.with_for_update())
    }


def is_unclosed(db: Connection, incident: str) -> bool:
    """Tell whether an incident exists and is not closed, and keep it so until the transaction ends: nothing is said to one that just closes."""
    return db.execute(select(T.c.id).where(T.c.id == incident, tables.UNCLOSED).with_for_update()).first() is not None


def unclosed_ids(db: Connection, keys: Sequence[str]) -> dict[str, str]:
    """Return the unclosed incidents of keys; locked, as ``standings``."""
    if not keys:
        return {}
    query = select(T.c.key, T.c.id).where(among(db, T.c.key, keys), tables.UNCLOSED)
    return {row.key: row.id for row in db.execute(query.order_by(T.c.id).with_for_update())}


def unclosed(db: Connection, now: int, keys: Sequence[str]) -> dict[str, Incident]:
    """Return unclosed incidents by key. One that cannot be read holds nobody: nothing would ever come of waiting for it."""
    del now
    found: dict[str, Incident] = {}
    for row in db.execute(_UNCLOSED, {"keys": list(keys)}):
        one = readable(row)
        if one is not None:
            found[row.key] = one
    return found


def readable(row: Any) -> Incident | None:
    """Return an incident by its columns ``state`` and ``state_v``; None for one that cannot be read."""
    try:
        return unpack_incident(row.state, row.state_v)
    except InvariantError:
        return None


def legible(row: Any) -> Incident:
    """Return a whole row as a value to be looked at; one that cannot be read as far as its columns say, with the reason ``unreadable``. Not to be stored."""
    try:
        return unpack_incident(row.state, row.state_v)
    except InvariantError as error:
        opened_at = instant(row.opened_at)
        mode = word(Mode, row.mode, Mode.SHADOW)
        return Incident(
            id=row.id,
            key=row.key,
            mode=mode,
            effective=mode,
            cluster=row.cluster,
            target=_target(row.cluster, row.target),
            symptom=row.symptom,
            severity=word(Severity, row.severity, Severity.CRITICAL),
            opened_at=opened_at,
            phase=word(Phase, row.phase, Phase.WAITING),
            phase_since=opened_at,
            reason=Reason.UNREADABLE,
            detail=f"{error}; nobody works on it",
            parent=row.parent,
            closed_at=None if row.closed_at is None else instant(row.closed_at),
            person_closed=bool(row.person_closed),
        )


def _target(cluster: str, identity: str) -> Target:
    """Return as much of a target as its identity says."""
    parts = identity.removeprefix(f"{cluster}/").split("/")
    kind = word(TargetKind, parts[0], TargetKind.NONE)
    if kind is TargetKind.WORKLOAD and len(parts) >= 3:
        return Target(
            kind=kind, cluster=cluster, namespace=parts[1], owner_kind=parts[2] if len(parts) > 3 else "", name=parts[-1]
        )
    return Target(kind=kind, cluster=cluster, name="/".join(parts[1:]) or identity)


def claim(
    db: Connection, now: int, owner: str, limit: int, lease: timedelta, own: Sequence[str], full: Sequence[str] = ()
) -> list[Claimed]:
    """Claim due incidents, oldest first. The lease is the recovery: an expired one is simply due again.

    Of those that are due since the same moment, neighbours come together: a storm's share what is read of their namespace.
    An incident whose state cannot be read is set aside for a minute with a line on its timeline: it must not stop the others. So does nothing that is
    claimed with it: an alert is read as far as it can be (``routing.standing``), a signal keeps its kind, a rule is missing.
    Two statements: a locking select with a limit inside an update may lock more than its limit on PostgreSQL (engine.md O3).
    """
    due = (
        select(T.c.id, T.c.wake_at, T.c.lease_until)
        .where(tables.UNCLOSED, T.c.wake_at <= now, T.c.lease_until <= now, T.c.state_v <= STATE_VERSION)
        .order_by(T.c.wake_at, T.c.key)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if own:
        due = due.where(T.c.id.not_in(list(own)))
    if full:
        due = due.where(T.c.cluster.not_in(list(full)))
    due_at = {row.id: max(row.wake_at, row.lease_until) for row in db.execute(due)}
    ids = list(due_at)
    if not ids:
        return []
    until = now + span(lease)
    taken = update(T).where(T.c.id.in_(ids)).values(owner=owner, lease_until=until, fence=T.c.fence + 1)
    rows = {row.id: row for row in db.execute(taken.returning(T.c.id, T.c.state, T.c.state_v, T.c.fence, T.c.wake))}
    read: dict[str, Incident] = {}
    for one in ids:
        try:
            read[one] = unpack_incident(rows[one].state, rows[one].state_v)
        except InvariantError as error:
            _set_aside(db, now, one, error)
    signals = _signals(db, list(read))
    instances = routing.standing(db, now, list(read))
    digests = {candidate.digest for incident in read.values() for candidate in incident.candidates}
    documents = pinned(db, now, sorted(digests))
    return [
        Claimed(
            incident=incident,
            fence=rows[one].fence,
            wake=rows[one].wake,
            lease_until=instant(until),
            due_at=instant(due_at[one]),
            signals=tuple(signals[one]),
            instances=tuple(instances[one]),
            rules={
                candidate.rule: documents[candidate.digest] for candidate in incident.candidates if candidate.digest in documents
            },
        )
        for one, incident in read.items()
    ]


def _set_aside(db: Connection, now: int, incident: str, error: InvariantError) -> None:
    db.execute(update(T).where(T.c.id == incident).values(wake_at=now + UNREADABLE_AGAIN, lease_until=0))
    if damage.listed(db, now, T, incident, error, incident=incident):
        said = f"nobody works on it: {error}; looked at again every minute"
        note(db, incident, now, EntryKind.DECISION, Reason.FAILED, said, {})


def renew(db: Connection, now: int, owner: str, ids: Sequence[str], lease: timedelta) -> dict[str, Any]:
    """Renew the leases that are still ours."""
    until = now + span(lease)
    lock_rows(db, T, "id", ids)
    mine = update(T).where(T.c.id.in_(list(ids)), T.c.owner == owner, T.c.lease_until > 0).values(lease_until=until)
    return {row.id: instant(until) for row in db.execute(mine.returning(T.c.id))}


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
    return _signals(db, [incident])[incident]


def _signals(db: Connection, ids: Sequence[str]) -> dict[str, list[Signal]]:
    found: dict[str, list[Signal]] = {one: [] for one in ids}
    S = tables.signals  # noqa: N806 - a table reads as a name of its own
    for row in db.execute(select(S).where(S.c.incident.in_(list(ids))).order_by(S.c.id)):
        found[row.incident].append(_signal(row))
    return found


def _signal(row: Any) -> Signal:
    """Return a row as a value; of one that cannot be read, its kind counts: who paused an incident, or closed it, meant it. A vote names no plan then."""
    kind = word(SignalKind, row.kind, SignalKind.NOTED)
    try:
        body = unpack(row.body, dict)
    except InvariantError as error:
        body = {"text": f"({error})"}
    if kind != row.kind:
        body["text"] = f"said {row.kind}, which this release does not know; {body.get('text', '')}"
    return Signal(id=row.id, incident=row.incident, kind=kind, at=instant(row.at), by=row.by, body=body)


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


def signal_all(db: Connection, now: int, signals: Sequence[Signal], *, settle: int = 0) -> None:
    """Insert signals of incidents that are known to be unclosed, and wake these.

    Args:
        db: In a transaction.
        now: Epoch milliseconds.
        signals: Of any incidents.
        settle: Milliseconds within which they are woken; who is due sooner stays so.
    """
    if not signals:
        return
    rows = [(one.incident, str(one.kind), millis(one.at), one.by, pack(one.body)) for one in signals]
    insert_rows(db, tables.signals, ("incident", "kind", "at", "by", "body"), rows)
    by = now + settle
    sooner = case((T.c.wake_at < by, T.c.wake_at), else_=by) if settle else now
    ids = sorted({one.incident for one in signals})
    # One that nobody has in hand and that is due by then anyhow finds them when it is claimed: a storm tells each of its incidents many times.
    deaf = or_(T.c.wake_at > by, T.c.wake_at.is_(None), T.c.lease_until > now)
    db.execute(update(T).where(among(db, T.c.id, ids), deaf).values(wake_at=sooner, wake=T.c.wake + 1))


def wake(db: Connection, now: int, ids: Sequence[str]) -> None:
    """Make these incidents due at once, which were to wait for a storm's alerts."""
    lock_rows(db, T, "id", ids)
    db.execute(update(T).where(among(db, T.c.id, ids), tables.UNCLOSED, T.c.wake_at > now).values(wake_at=now))


_STEADY = ("mode", "cluster", "target", "symptom", "parent", "severity", "opened_at", "closed_at", "person_closed")
"""Columns that few steps change. SQLite writes an index anew for every column that is set, also to what it was."""

_STANDS = select(T.c.fence, T.c.wake, *(T.c[name] for name in _STEADY)).where(T.c.id == bindparam("id_")).with_for_update()
_CONSUMED = delete(tables.signals).where(tables.signals.c.id.in_(bindparam("ids", expanding=True)))
_LINE = ("incident", "at", "kind", "reason", "body")


def _line(incident: str, entry: Entry) -> tuple[Any, ...]:
    return incident, millis(entry.at), str(entry.kind), str(entry.reason), pack({"text": entry.text, "data": entry.data})


def commit(db: Connection, now: int, step: Transition) -> Committed:
    """Store one step whole, or nothing: behind the fence, and only when its intention is granted.

    The wake counter given back is the step's own, also when it is behind: whoever goes on with the incident has not taken in what
    raised it, so the commit that ends the work must still see that it is behind and wake the incident at once (engine.md 4).
    """
    row = db.execute(_STANDS, {"id_": step.incident.id}).first()
    if row is None or row.fence != step.fence:
        return Committed(stored=False, detail="the fence is lost")
    incident = step.incident
    if step.storm is not None:
        incident = replace(incident, parent=parents.ask(db, now, incident.id, step.storm))
    if step.intend is not None:
        if step.scopes is None:
            raise InvariantError(
                f"{step.incident.id} intends {step.intend.key} without scopes: nothing could be claimed or counted"
            )
        denied = commands.denied(db, now, step.incident, step.scopes)
        if denied is not None:
            return Committed(stored=False, denied=denied[0], detail=denied[1], wake=step.wake)
    if step.release:
        commands.release(db, step.incident.id)
    if step.intend is not None and step.scopes is not None:
        commands.intend(db, now, step.incident, step.intend, step.scopes, step.fence)
        commands.owe(db, now, step.incident, step.intend.key, step.changes)
    if step.finished is not None:
        commands.finish(db, *step.finished)
    commands.undone(db, now, step.undone)
    if step.consumed:
        db.execute(_CONSUMED, {"ids": list(step.consumed)})
    insert_rows(db, tables.timeline, _LINE, [_line(step.incident.id, entry) for entry in step.entries])
    for tell in step.tells:
        outbox_operations.add(db, now, step.incident, tell)
    closed = incident.phase is Phase.CLOSED
    wake_at = None if closed else _wake_at(db, now, step, behind=row.wake != step.wake)
    values = {**_columns(incident), "wake_at": wake_at}
    if closed:
        values["closed_at"] = maybe_millis(incident.closed_at) or now
    if not step.keep or closed:
        values["lease_until"] = 0
    if all(values[name] == getattr(row, name) for name in _STEADY):  # most steps: their indexes are left alone
        values = {name: value for name, value in values.items() if name not in _STEADY}
    update_rows(db, T, tuple(values), [(*values.values(), step.incident.id)], key="id")
    if incident.phase in {Phase.RECOVERED, Phase.CLOSED}:
        parents.let_go(db, now, incident)
    if closed:
        _end(db, now, incident)
    return Committed(stored=True, wake=step.wake, parent=incident.parent)


def _wake_at(db: Connection, now: int, step: Transition, *, behind: bool) -> int:
    """Return when to look again: when the step says, or at once when something came meanwhile.

    Alerts that only fired are gathered for a second: each target of a storm has several, and each would wake it again. What a person said, a
    Resolved, and a switch wait for nothing; nor does a step that goes on by itself.
    """
    own = not_before(step.wake_at) or now
    if not behind or step.keep:
        return now if behind else own
    kinds = {one.kind for one in signals_of(db, step.incident.id)}
    gathers = kinds == {SignalKind.FIRED}
    return min(own, now + GATHERED_FOR) if gathers else now


def _end(db: Connection, now: int, incident: Incident) -> None:
    """Free what a closed incident holds, and lose nothing that was said to it at the last moment.

    A moved or armed incident gives its firing instances back to the router. So does any other for an alert that joined while it was
    being closed: nobody judged that alert, and its sender may not repeat it for hours. What people said last stays on the timeline.
    """
    commands.release(db, incident.id)
    A = tables.alerts  # noqa: N806
    if incident.reason in {Reason.MOVED, Reason.ARMED}:
        shadow = incident.mode is Mode.SHADOW
        mine = A.c.shadow_incident == incident.id if shadow else A.c.incident == incident.id
        held = tables.HELD_IN_SHADOW if shadow else tables.HELD
        db.execute(update(A).where(mine, held, A.c.status == "firing").values(wake_at=now))
    unheard = signals_of(db, incident.id)
    joined = [
        str(instance)
        for one in unheard
        if one.kind is SignalKind.FIRED
        for instance in (one.body.get("instance", ""), *one.body.get("others", ()))
    ]
    if joined:
        db.execute(update(A).where(A.c.instance.in_(joined), A.c.status == "firing").values(wake_at=now))
    for one in unheard:
        if one.kind not in {SignalKind.FIRED, SignalKind.RESOLVED}:
            text = f"{one.by or 'somebody'}: {one.kind} {one.body.get('text', '')}".rstrip() + ", as the incident was closed"
            note(db, incident.id, millis(one.at), EntryKind.PERSON, Reason.NOTED, text, one.body)
    db.execute(delete(tables.signals).where(tables.signals.c.incident == incident.id))


def keep_entry(db: Connection, incident: str, entry: Entry) -> None:
    """Append a line to the timeline."""
    insert_rows(db, tables.timeline, _LINE, [_line(incident, entry)])


def note_entry(db: Connection, now: int, incident: str, entry: Entry) -> None:
    """Append a line to the timeline of an incident in any phase, without its fence."""
    del now
    keep_entry(db, incident, entry)


def note(db: Connection, incident: str, at: int, kind: EntryKind, reason: Reason, text: str, data: Mapping[str, Any]) -> None:
    """Append a line to the timeline."""
    body = pack({"text": text, "data": data})
    insert_rows(db, tables.timeline, _LINE, [(incident, at, str(kind), str(reason), body)])


def note_rarely(db: Connection, incident: str, at: int, kind: EntryKind, reason: Reason, text: str) -> None:
    """Append a line unless one of this reason was appended within a minute."""
    L = tables.timeline  # noqa: N806
    said = select(L.c.at).where(L.c.incident == incident, L.c.reason == str(reason))
    last = db.execute(
        said.order_by(L.c.id.desc()).limit(1)
    ).scalar()  # the newest lines are looked at first, and seldom any other
    if last is None or at - last >= REPEATS_NOTED_EVERY:
        note(db, incident, at, kind, reason, text, {})


def timeline(db: Connection, now: int, incident: str) -> list[Entry]:
    """Return the audit trail in order."""
    del now
    L = tables.timeline  # noqa: N806
    found = []
    for row in db.execute(select(L).where(L.c.incident == incident).order_by(L.c.id)):
        try:
            body = unpack(row.body, dict)
        except InvariantError as error:
            body = {"text": f"{row.kind} {row.reason}: {error}"}
        kind, reason = word(EntryKind, row.kind, EntryKind.DECISION), word(Reason, row.reason, Reason.UNREADABLE)
        found.append(
            Entry(kind=kind, at=instant(row.at), reason=reason, text=str(body.get("text", "")), data=body.get("data") or {})
        )
    return found


def by_id(db: Connection, now: int, incident: str) -> Incident | None:
    """Return one incident; see ``legible``."""
    del now
    row = db.execute(select(T).where(T.c.id == incident)).first()
    return None if row is None else legible(row)


def listed(db: Connection, now: int, unclosed_only: bool, limit: int, mode: Mode | None) -> list[Incident]:
    """List incidents, newest first; see ``legible``."""
    del now
    query = select(T).order_by(T.c.opened_at.desc(), T.c.id.desc()).limit(limit)
    if unclosed_only:
        query = query.where(tables.UNCLOSED)
    if mode is not None:
        query = query.where(T.c.mode == str(mode))
    return [legible(row) for row in db.execute(query)]


def count_unclosed(db: Connection, now: int) -> int:
    """Count unclosed incidents."""
    del now
    return int(db.execute(select(func.count()).select_from(T).where(tables.UNCLOSED)).scalar() or 0)


_NEXT = earliest(T, and_(tables.UNCLOSED, T.c.state_v <= STATE_VERSION))


def next_due(db: Connection, now: int) -> int | None:
    """Return when the next incident is due that this release can read."""
    return _NEXT(db, now)


def pinned(db: Connection, now: int, digests: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return pinned rule documents; one that cannot be read is as one that is not there, and listed."""
    P = tables.pinned_rules  # noqa: N806
    found: dict[str, Mapping[str, Any]] = {}
    for row in db.execute(select(P).where(P.c.digest.in_(list(digests)))).all():
        try:
            found[row.digest] = unpack(row.document, dict)
        except InvariantError as error:
            damage.listed(db, now, P, row.digest, error)
    return found


def wake_held(db: Connection, now: int) -> int:
    """Wake every unclosed incident that somebody works on, and return how many of the others are not due yet."""
    held = select(T.c.id).where(tables.UNCLOSED, T.c.lease_until > literal_column("0"), T.c.lease_until > now)
    db.execute(update(T).where(T.c.id.in_(held.with_for_update(skip_locked=True))).values(wake_at=now, wake=T.c.wake + 1))
    return int(db.execute(select(func.count()).select_from(T).where(tables.UNCLOSED, T.c.wake_at > now)).scalar() or 0)


def wake_some(db: Connection, now: int) -> None:
    """Wake up to ``WOKEN_AT_ONCE`` unclosed incidents, those first that would have slept longest."""
    later = select(T.c.id).where(tables.UNCLOSED, T.c.wake_at > now).order_by(T.c.wake_at.desc()).limit(WOKEN_AT_ONCE)
    ids = list(db.execute(later.with_for_update(skip_locked=True)).scalars())
    if ids:
        db.execute(update(T).where(among(db, T.c.id, ids)).values(wake_at=now, wake=T.c.wake + 1))


def wake_all(db: Connection, now: int) -> None:
    """Wake every unclosed incident that nobody is just storing; who holds one asks for the modes before every write anyhow.

    The kill switch must not wait for a row that a stuck process has locked.
    """
    free = select(T.c.id).where(tables.UNCLOSED).with_for_update(skip_locked=True)
    db.execute(update(T).where(T.c.id.in_(free)).values(wake_at=now, wake=T.c.wake + 1))
