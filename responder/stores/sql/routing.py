"""Alert instances and the transaction that joins or opens their incidents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection, Row, insert, select, update

from responder.model.alert import AlertStatus
from responder.model.incident import Candidate, EntryKind, Incident, Instance, Mode, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Delivery, DeliveryState, RoutedAlert, RoutedResult
from responder.policy.grouping import fires, merge
from responder.stores.sql import deliveries, incidents, tables
from responder.stores.sql.codec import instant, maybe_millis, millis, not_before, pack, unpack
from responder.stores.sql.dialect import insert_new, lock_rows

T = tables.alerts
PUSH = timedelta(minutes=1)


def known(db: Connection, now: int, instances: Sequence[str]) -> dict[str, Instance]:
    """Return the stored instances among these."""
    del now
    found: dict[str, Instance] = {}
    for start in range(0, len(instances), 500):
        for row in db.execute(select(T).where(T.c.instance.in_(instances[start : start + 500]))):
            found[row.instance] = instance(row)
    return found


def route(
    db: Connection,
    now: int,
    alerts: Sequence[RoutedAlert],
    delivery: Delivery | None,
    state: DeliveryState,
    note: str,
    shape: str,
) -> list[RoutedResult]:
    """Store judged alerts, join or open their incidents, and end their delivery."""
    lock_rows(db, T, "instance", (routed.alert.instance for routed in alerts))
    results = [_one(db, now, routed) for routed in alerts]
    if delivery is not None:
        deliveries.finish(db, delivery.id, state, note, shape)
    return results


def _one(db: Connection, now: int, routed: RoutedAlert) -> RoutedResult:
    at = instant(now)
    row = db.execute(select(T).where(T.c.instance == routed.alert.instance).with_for_update()).first()
    before = instance(row) if row is not None else None
    if routed.again:
        if before is None or before.status is not AlertStatus.FIRING:
            return RoutedResult()  # resolved while it was judged again: what its sender said last stands
        after = replace(before, rules=before.rules + tuple(rule for rule in routed.rules if rule not in before.rules))
    else:
        after = merge(before, routed.alert, now=at, rules=routed.rules)
    results: dict[str, list[str]] = {"opened": [], "joined": [], "told": []}
    why = routed.why
    if fires(after, now=at):
        news = not routed.again and (before is None or not fires(before, now=at))
        for digest, document in routed.pinned.items():
            insert_new(db, tables.pinned_rules, {"digest": digest, "document": pack(document)}, key="digest")
        for seed in routed.seeds:
            after, (what, incident) = _seat(db, now, seed, after, before, news=news)
            results[what].append(incident)
            why = None
        if not routed.seeds:
            for held in (after.incident, after.shadow_incident):
                if held and incidents.is_unclosed(db, held):
                    why = None
                    results["told"].append(held)
                    _tell(db, now, held, after, {}, news=news)
    elif after.status is AlertStatus.RESOLVED and (before is None or before.status is not AlertStatus.RESOLVED):
        holders = [one for one in (after.incident, after.shadow_incident) if one]
        results["told"] += [one for one in holders if _say(db, now, one, SignalKind.RESOLVED, after, {})]
    _keep(db, replace(after, why=why), not_before(routed.wake_at), new=before is None)
    return RoutedResult(opened=tuple(results["opened"]), joined=tuple(results["joined"]), told=tuple(results["told"]))


def _seat(
    db: Connection, now: int, seed: Incident, after: Instance, before: Instance | None, *, news: bool
) -> tuple[Instance, tuple[str, str]]:
    """Join the unclosed incident of the seed's key, or open it; an instance already held is only counted."""
    field = "shadow_incident" if seed.mode is Mode.SHADOW else "incident"
    holder = after.shadow_incident if seed.mode is Mode.SHADOW else after.incident
    if holder:
        standing = incidents.standing(db, holder)
        if standing is not None and standing.phase != "closed":
            _tell(db, now, holder, after, _fresh_rules(db, holder, seed.candidates), news=news)
            return after, ("told", holder)
        if standing is not None and standing.person_closed and before is not None and before.status is AlertStatus.FIRING:
            return after, ("told", holder)
    existing = incidents.unclosed_id(db, seed.key)
    if existing is not None:
        _say(db, now, existing, SignalKind.FIRED, after, _rules(seed.candidates))
        return _held(after, field, existing), ("joined", existing)
    incidents.open_new(db, now, seed)
    text = f"alert {after.name} fires, says {after.source}/{after.source_name}"
    data = {"instance": after.instance, "labels": dict(after.labels)}
    incidents.note(db, seed.id, now, EntryKind.ALERT, Reason.OPENED, text, data)
    return _held(after, field, seed.id), ("opened", seed.id)


def _tell(db: Connection, now: int, holder: str, one: Instance, fresh: Mapping[str, object], *, news: bool) -> None:
    """Say to the incident that holds it that an alert fires again or brings new rules; a mere repeat is only noted.

    ``news``: it did not count as firing before (resolved, or forgotten). A recovered incident sleeps until ``reopen_within`` is over and
    would hear of it only then.
    """
    if fresh or news:
        _say(db, now, holder, SignalKind.FIRED, one, fresh)
    else:
        _repeat(db, now, holder, one)


def _rules(candidates: Iterable[Candidate]) -> dict[str, Mapping[str, object]]:
    return {one.rule: {"digest": one.digest, "priority": one.priority, "manual": one.manual} for one in candidates}


def _held(one: Instance, field: str, incident: str) -> Instance:
    return replace(one, shadow_incident=incident) if field == "shadow_incident" else replace(one, incident=incident)


def _fresh_rules(db: Connection, incident: str, candidates: Sequence[Candidate]) -> dict[str, Mapping[str, object]]:
    """Return rules among these that the incident does not know yet."""
    held = incidents.by_id(db, 0, incident)
    names = {one.rule for one in held.candidates} if held is not None else set()
    return _rules(one for one in candidates if one.rule not in names)


def _say(db: Connection, now: int, incident: str, kind: SignalKind, one: Instance, rules: Mapping[str, object]) -> bool:
    body = {"instance": one.instance, "name": one.name, "source": one.source, "rules": rules}
    return incidents.signal(
        db, now, Signal(incident=incident, kind=kind, at=instant(now), by=f"{one.source}/{one.source_name}", body=body)
    )


def _repeat(db: Connection, now: int, incident: str, one: Instance) -> None:
    """Note a sender's repeat on the timeline, at most once a minute an incident."""
    text = f"{one.source}/{one.source_name} repeats {one.name}, received {one.count} times"
    incidents.note_rarely(db, incident, now, EntryKind.ALERT, Reason.REPEATED, text)


def _keep(db: Connection, one: Instance, wake_at: int | None, *, new: bool) -> None:
    values = {
        "fingerprint": one.fingerprint,
        "name": one.name,
        "status": str(one.status),
        "why": str(one.why or ""),
        "started_at": maybe_millis(one.started_at),
        "seen_at": millis(one.seen_at),
        "wake_at": wake_at,
        "incident": one.incident,
        "shadow_incident": one.shadow_incident,
        "body": pack(one),
    }
    if new:
        db.execute(insert(T).values(instance=one.instance, **values))
    else:
        db.execute(update(T).where(T.c.instance == one.instance).values(**values))


def due_instances(db: Connection, now: int, limit: int) -> list[Instance]:
    """Return firing instances whose time has come, and push them a minute forward."""
    query = (
        select(T)
        .where(T.c.wake_at.is_not(None), T.c.wake_at <= now)
        .order_by(T.c.wake_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = db.execute(query).all()
    if rows:
        db.execute(
            update(T)
            .where(T.c.instance.in_([row.instance for row in rows]))
            .values(wake_at=now + int(PUSH.total_seconds() * 1000))
        )
    found = [instance(row) for row in rows]
    quiet = [one.instance for one in found if one.status is not AlertStatus.FIRING]
    if quiet:
        db.execute(update(T).where(T.c.instance.in_(quiet)).values(wake_at=None))
    return [one for one in found if one.status is AlertStatus.FIRING]


def held(db: Connection, now: int, incident: str) -> list[Instance]:
    """Return every instance that joined an incident, oldest first."""
    del now
    return held_by(db, [incident])[incident]


def held_by(db: Connection, ids: Sequence[str]) -> dict[str, list[Instance]]:
    """Return every instance that joined these incidents, oldest first."""
    found: dict[str, list[Instance]] = {one: [] for one in ids}
    for row in db.execute(select(T).where(T.c.incident.in_(list(ids)) | T.c.shadow_incident.in_(list(ids)))):
        for holder in {row.incident, row.shadow_incident} & found.keys():
            found[holder].append(instance(row))
    for instances in found.values():
        instances.sort(key=lambda one: (one.started_at or one.first_seen_at, one.instance))
    return found


def listed(db: Connection, now: int, why: Reason | None, firing: bool, limit: int) -> list[Instance]:
    """List instances, newest first."""
    del now
    query = select(T).order_by(T.c.seen_at.desc()).limit(limit)
    if why is not None:
        query = query.where(T.c.why == str(why))
    if firing:
        query = query.where(T.c.status == str(AlertStatus.FIRING))
    return [instance(row) for row in db.execute(query)]


def next_due(db: Connection) -> int | None:
    """Return when the next instance must be judged again."""
    query = select(T.c.wake_at).where(T.c.wake_at.is_not(None)).order_by(T.c.wake_at).limit(1)
    found: int | None = db.execute(query).scalar()
    return found


def instance(row: Row[tuple[object, ...]]) -> Instance:
    """Return a row as a value; columns that statements change alone win over the body."""
    return replace(unpack(row.body, Instance), incident=row.incident, shadow_incident=row.shadow_incident)
