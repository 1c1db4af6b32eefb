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
from responder.policy.grouping import FORGET, fires, merge
from responder.stores.sql import deliveries, incidents, tables
from responder.stores.sql.codec import instant, maybe_millis, millis, not_before, pack, unpack
from responder.stores.sql.dialect import insert_new, lock_rows, upsert_all

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
    """Store judged alerts, join or open their incidents, and end their delivery.

    One delivery's alerts are read together and written together: what a statement costs is paid once for all of them.
    """
    lock_rows(db, T, "instance", (routed.alert.instance for routed in alerts))
    batch = _Batch(db, now, alerts)
    results = [_one(batch, routed) for routed in alerts]
    batch.write()
    if delivery is not None:
        deliveries.finish(db, delivery.id, state, note, shape)
    return results


class _Batch:
    """What one call of ``route`` read, and what it will write: inside, the batch is the truth."""

    def __init__(self, db: Connection, now: int, alerts: Sequence[RoutedAlert]) -> None:
        self.db = db
        self.now = now
        self.instances = known(db, now, sorted({one.alert.instance for one in alerts}))
        self._stored = frozenset(self.instances)
        self.by_key = incidents.unclosed_ids(db, sorted({seed.key for one in alerts for seed in one.seeds}))
        holders = {held for one in self.instances.values() for held in (one.incident, one.shadow_incident) if held}
        self.standings = incidents.standings(db, sorted(holders | set(self.by_key.values())))
        self._rules_of: dict[str, set[str]] = {}
        self._pinned: set[str] = set()
        self._repeated: set[str] = set()
        self._signals: list[Signal] = []
        self._rows: dict[str, dict[str, object]] = {}

    def is_unclosed(self, incident: str) -> bool:
        """Tell whether an incident exists and is not closed."""
        found = self.standings.get(incident)
        return found is not None and found.phase != "closed"

    def open(self, seed: Incident) -> None:
        """Insert an incident."""
        incidents.open_new(self.db, self.now, seed)
        self.by_key[seed.key] = seed.id
        self.standings[seed.id] = incidents.Standing(phase="open", person_closed=False)
        self._rules_of[seed.id] = {one.rule for one in seed.candidates}

    def pin(self, documents: Mapping[str, Mapping[str, object]]) -> None:
        """Keep rule documents."""
        for digest, document in documents.items():
            if digest not in self._pinned:
                self._pinned.add(digest)
                insert_new(self.db, tables.pinned_rules, {"digest": digest, "document": pack(document)}, key="digest")

    def fresh_rules(self, incident: str, candidates: Sequence[Candidate]) -> dict[str, Mapping[str, object]]:
        """Return rules among these that the incident does not know yet."""
        if incident not in self._rules_of:
            held = incidents.by_id(self.db, 0, incident)
            self._rules_of[incident] = {one.rule for one in held.candidates} if held is not None else set()
        return _rules(one for one in candidates if one.rule not in self._rules_of[incident])

    def say(self, incident: str, kind: SignalKind, one: Instance, rules: Mapping[str, object]) -> bool:
        """Say something to an incident; False when nobody is there."""
        if not self.is_unclosed(incident):
            return False
        body = {"instance": one.instance, "name": one.name, "source": one.source, "rules": rules}
        by = f"{one.source}/{one.source_name}"
        self._signals.append(Signal(incident=incident, kind=kind, at=instant(self.now), by=by, body=body))
        return True

    def repeat(self, incident: str, one: Instance) -> None:
        """Note a sender's repeat on the timeline, at most once a minute an incident."""
        if incident not in self._repeated:
            self._repeated.add(incident)
            text = f"{one.source}/{one.source_name} repeats {one.name}, received {one.count} times"
            incidents.note_rarely(self.db, incident, self.now, EntryKind.ALERT, Reason.REPEATED, text)

    def keep(self, one: Instance, wake_at: int | None) -> None:
        """Store an instance as it is now."""
        self.instances[one.instance] = one
        self._rows[one.instance] = {
            "instance": one.instance,
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

    def write(self) -> None:
        """Write what was only noted down."""
        new = [row for instance, row in sorted(self._rows.items()) if instance not in self._stored]
        if new:  # and not an upsert: who was faster on another replica has judged it, and this one looks again
            self.db.execute(insert(T), new)
        upsert_all(self.db, T, [row for instance, row in self._rows.items() if instance in self._stored], key="instance")
        incidents.signal_all(self.db, self.now, self._signals)


def _one(batch: _Batch, routed: RoutedAlert) -> RoutedResult:
    at = instant(batch.now)
    before = batch.instances.get(routed.alert.instance)
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
        batch.pin(routed.pinned)
        for seed in routed.seeds:
            after, (what, incident) = _seat(batch, seed, after, before, news=news)
            results[what].append(incident)
            why = None
        if not routed.seeds:
            for held in (after.incident, after.shadow_incident):
                if held and batch.is_unclosed(held):
                    why = None
                    results["told"].append(held)
                    _tell(batch, held, after, {}, news=news)
    elif after.status is AlertStatus.RESOLVED and (before is None or before.status is not AlertStatus.RESOLVED):
        holders = [one for one in (after.incident, after.shadow_incident) if one]
        results["told"] += [one for one in holders if batch.say(one, SignalKind.RESOLVED, after, {})]
    batch.keep(replace(after, why=why), not_before(routed.wake_at))
    return RoutedResult(opened=tuple(results["opened"]), joined=tuple(results["joined"]), told=tuple(results["told"]))


def _seat(
    batch: _Batch, seed: Incident, after: Instance, before: Instance | None, *, news: bool
) -> tuple[Instance, tuple[str, str]]:
    """Join the unclosed incident of the seed's key, or open it; an instance already held is only counted."""
    field = "shadow_incident" if seed.mode is Mode.SHADOW else "incident"
    holder = after.shadow_incident if seed.mode is Mode.SHADOW else after.incident
    if holder:
        if batch.is_unclosed(holder):
            _tell(batch, holder, after, batch.fresh_rules(holder, seed.candidates), news=news)
            return after, ("told", holder)
        standing = batch.standings.get(holder)
        if standing is not None and standing.person_closed and before is not None and before.status is AlertStatus.FIRING:
            return after, ("told", holder)
    existing = batch.by_key.get(seed.key)
    if existing is not None:
        batch.say(existing, SignalKind.FIRED, after, _rules(seed.candidates))
        return _held(after, field, existing), ("joined", existing)
    batch.open(seed)
    text = f"alert {after.name} fires, says {after.source}/{after.source_name}"
    data = {"instance": after.instance, "labels": dict(after.labels)}
    incidents.note(batch.db, seed.id, batch.now, EntryKind.ALERT, Reason.OPENED, text, data)
    return _held(after, field, seed.id), ("opened", seed.id)


def _tell(batch: _Batch, holder: str, one: Instance, fresh: Mapping[str, object], *, news: bool) -> None:
    """Say to the incident that holds it that an alert fires again or brings new rules; a mere repeat is only noted.

    ``news``: it did not count as firing before (resolved, or forgotten). A recovered incident sleeps until ``reopen_within`` is over and
    would hear of it only then.
    """
    if fresh or news:
        batch.say(holder, SignalKind.FIRED, one, fresh)
    else:
        batch.repeat(holder, one)


def _rules(candidates: Iterable[Candidate]) -> dict[str, Mapping[str, object]]:
    return {one.rule: {"digest": one.digest, "priority": one.priority, "manual": one.manual} for one in candidates}


def _held(one: Instance, field: str, incident: str) -> Instance:
    return replace(one, shadow_incident=incident) if field == "shadow_incident" else replace(one, incident=incident)


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


def firing(db: Connection, now: int, source: str, source_name: str, limit: int) -> list[Instance]:
    """List what counts as firing of one sender, newest first."""
    at = instant(now)
    seen = T.c.seen_at > now - int(FORGET.total_seconds() * 1000)
    query = select(T).where(seen, T.c.status == str(AlertStatus.FIRING)).order_by(T.c.seen_at.desc())
    found: list[Instance] = []
    for row in db.execute(query):
        one = instance(row)
        if (one.source, one.source_name) == (source, source_name) and fires(one, now=at):
            found.append(one)
            if len(found) >= limit:
                break
    return found


def events(db: Connection, now: int, within: timedelta, limit: int) -> list[Instance]:
    """List instances of events seen within this time, newest first; an event's instance begins so (``sources.event_grid``)."""
    seen = T.c.seen_at > now - int(within.total_seconds() * 1000)
    query = select(T).where(seen, T.c.instance.startswith("event/")).order_by(T.c.seen_at.desc()).limit(limit)
    return [instance(row) for row in db.execute(query)]


def next_due(db: Connection) -> int | None:
    """Return when the next instance must be judged again."""
    query = select(T.c.wake_at).where(T.c.wake_at.is_not(None)).order_by(T.c.wake_at).limit(1)
    found: int | None = db.execute(query).scalar()
    return found


def instance(row: Row[tuple[object, ...]]) -> Instance:
    """Return a row as a value; columns that statements change alone win over the body."""
    return replace(unpack(row.body, Instance), incident=row.incident, shadow_incident=row.shadow_incident)
