"""Alert instances and the transaction that joins or opens their incidents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from msgspec import Raw, structs
from sqlalchemy import Column, ColumnElement, Connection, Select, and_, bindparam, func, select, union_all, update

from responder.model.alert import Alert, AlertStatus
from responder.model.errors import InvariantError
from responder.model.incident import Candidate, EntryKind, Incident, Instance, Mode, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Delivery, DeliveryState, RoutedAlert, RoutedDelivery, RoutedResult
from responder.policy.grouping import FORGET, begun, carried, fires, merge
from responder.stores.sql import damage, deliveries, incidents, tables
from responder.stores.sql.alert_rows import (
    COLUMNS,
    body,
    first_place,
    kind,
    kind_of,
    legible,
    new_body,
    oldest_first,
    place,
    tie,
    times,
)
from responder.stores.sql.codec import instant, maybe_millis, millis, not_before, span
from responder.stores.sql.dialect import among, insert_rows, lock_rows, update_rows

T = tables.alerts
PUSH = timedelta(minutes=1)
LOOKED_PAST = 4
"""Damaged alerts of one kind that one claim passes by; the next claim passes by more."""
_ROW = ("instance", "fingerprint", *COLUMNS)
_ARMED, _SHADOW = _ROW.index("incident"), _ROW.index("shadow_incident")


def known(db: Connection, now: int, instances: Sequence[str]) -> dict[str, Instance]:
    """Return the stored instances among these."""
    del now
    if not instances:
        return {}
    query = select(T).where(among(db, T.c.instance, instances))
    return {row.instance: legible(row) for row in db.execute(query)}


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
    results = _stored(db, now, alerts, settle=0, name=_named_already)
    if delivery is not None:
        deliveries.finish(db, delivery.id, state, note, shape)
    return results


def route_all(
    db: Connection, now: int, routed: Sequence[RoutedDelivery], settle: timedelta, name: Callable[[datetime], str]
) -> list[RoutedResult]:
    """Do so for several deliveries, in their order; either all of them are ended or none."""
    results = _stored(db, now, [alert for one in routed for alert in one.alerts], settle=span(settle), name=name)
    deliveries.finish_all(db, routed)
    return results


def _named_already(at: datetime) -> str:
    raise InvariantError(f"an incident without a name was to be opened at {at}")


def _stored(
    db: Connection, now: int, alerts: Sequence[RoutedAlert], *, settle: int, name: Callable[[datetime], str]
) -> list[RoutedResult]:
    """Store alerts that were judged together: they are read together and written together, so what a statement costs is paid once for all."""
    if not alerts:
        return []
    lock_rows(db, T, "instance", (routed.alert.instance for routed in alerts))
    batch = _Batch(db, now, alerts, settle=settle, name=name)
    results = [_first(batch, one) if batch.is_first(one) else _one(batch, one) for one in alerts]
    batch.write()
    return results


class _Batch:
    """What one call of ``route`` read, and what it will write: inside, the batch is the truth.

    Attributes:
        at: Now, as an instant.
        seated: By the identity of their seeds, which the alerts of one kind share, where those are that are heard of for the first time.
    """

    def __init__(
        self, db: Connection, now: int, alerts: Sequence[RoutedAlert], *, settle: int, name: Callable[[datetime], str]
    ) -> None:
        self._name = name
        self.db = db
        self.now = now
        self.at = instant(now)
        self._settle = settle
        self._instances = known(db, now, sorted({one.alert.instance for one in alerts}))
        self._stored = frozenset(self._instances)
        self._fresh: dict[str, RoutedAlert] = {}
        together = {id(one.seeds): one.seeds for one in alerts}
        self.by_key = incidents.unclosed_ids(db, sorted({seed.key for seeds in together.values() for seed in seeds}))
        self._open = incidents.Standing(phase="open", person_closed=False)
        unclosed = set(self.by_key.values())
        holders = {held for one in self._instances.values() for held in (one.incident, one.shadow_incident) if held}
        self.standings = incidents.standings(db, sorted(holders - unclosed))
        self.standings.update(dict.fromkeys(unclosed, self._open))
        self._rules_of: dict[str, set[str]] = {}
        self._pinned: dict[str, Mapping[str, object]] = {}
        self._repeated: set[str] = set()
        self._said: dict[tuple[str, SignalKind], _Said] = {}
        self._opened: list[tuple[Incident, Alert]] = []
        self._new: dict[str, tuple[Any, ...]] = {}
        self._again: dict[str, tuple[Any, ...]] = {}
        self._times: dict[datetime | None, tuple[int | None, int, Raw]] = {}
        self._named: dict[int, tuple[Incident, dict[str, Mapping[str, object]]]] = {}
        self.seated: dict[int, _Seated] = {}

    def is_unclosed(self, incident: str) -> bool:
        """Tell whether an incident exists and is not closed."""
        found = self.standings.get(incident)
        return found is not None and found.phase != "closed"

    def open(self, seed: Incident, alert: Alert, *, moved: Incident | None = None) -> str:
        """Open an incident for the alert that is its first, and return its id: the seed's, or a new one when that has none.

        ``moved`` is the one that held the alert before.
        """
        if not seed.id:
            seed = replace(seed, id=self._name(self.at), opened_at=self.at, phase_since=self.at)
        if moved is not None:
            seed = carried(seed, moved)
        self._opened.append((seed, alert))
        self.by_key[seed.key] = seed.id
        self.standings[seed.id] = self._open
        self._rules_of[seed.id] = {one.rule for one in seed.candidates}
        return seed.id

    def pin(self, documents: Mapping[str, Mapping[str, object]]) -> None:
        """Keep rule documents."""
        for digest, document in documents.items():
            self._pinned.setdefault(digest, document)

    def rules(self, seed: Incident) -> dict[str, Mapping[str, object]]:
        """Return a seed's rules as signals name them; the alerts of one batch share their seeds."""
        held = self._named.get(id(seed))
        if held is None:
            held = self._named[id(seed)] = (seed, _rules(seed.candidates))
        return held[1]

    def fresh_rules(self, incident: str, candidates: Sequence[Candidate]) -> dict[str, Mapping[str, object]]:
        """Return rules among these that the incident does not know yet."""
        if incident not in self._rules_of:
            held = incidents.by_id(self.db, 0, incident)
            self._rules_of[incident] = {one.rule for one in held.candidates} if held is not None else set()
        return _rules(one for one in candidates if one.rule not in self._rules_of[incident])

    def say(self, incident: str, kind: SignalKind, one: Alert | Instance, rules: Mapping[str, object]) -> bool:
        """Say something to an incident; False when nobody is there. What a batch says of one kind to one incident is one signal."""
        if not self.is_unclosed(incident):
            return False
        said = self._said.get((incident, kind))
        if said is None:
            self._said[incident, kind] = _Said(one, dict(rules), [])
            return True
        if rules:
            said.rules.update(rules)
        if one.instance != said.first.instance:
            said.others.append(one.instance)
        return True

    def joined(self, incident: str) -> list[str] | None:
        """Return the instances, beside the first, of the signal that says to an incident which alerts joined it; None when there is none yet."""
        said = self._said.get((incident, SignalKind.FIRED))
        return None if said is None else said.others

    def repeat(self, incident: str, one: Instance) -> None:
        """Note a sender's repeat on the timeline, at most once a minute an incident."""
        if incident not in self._repeated:
            self._repeated.add(incident)
            text = f"{one.source}/{one.source_name} repeats {one.name}, received {one.count} times"
            incidents.note_rarely(self.db, incident, self.now, EntryKind.ALERT, Reason.REPEATED, text)

    def is_first(self, routed: RoutedAlert) -> bool:
        """Tell whether it is an alert that fires, aims at something and is heard of for the first time: what nearly all of a storm's are."""
        alert = routed.alert
        name = alert.instance
        return (
            alert.status is AlertStatus.FIRING
            and bool(routed.seeds)
            and not routed.again
            and name not in self._instances
            and name not in self._fresh
        )

    def before(self, name: str) -> Instance | None:
        """Return an instance as the store or an earlier alert of this batch has it; None when it is heard of for the first time."""
        held = self._instances.get(name)
        if held is None and (routed := self._fresh.pop(name, None)) is not None:
            row = self._new[name]
            armed, shadow = row[_ARMED], row[_SHADOW]
            held = begun(routed.alert, now=self.at, rules=routed.rules, incident=armed, shadow_incident=shadow)
            self._instances[name] = held
        return held

    def keep_new(self, routed: RoutedAlert, armed: str, shadow: str) -> None:
        """Store the instance of an alert that is heard of for the first time, held by these; hardly any is asked for again within its batch."""
        alert = routed.alert
        name = alert.instance
        self._fresh[name] = routed
        began = self._times.get(alert.started_at) or self._began(alert.started_at)
        self._new[name] = (
            name,
            alert.fingerprint,
            alert.name,
            "firing",
            "",
            began[0],
            self.now,
            None if routed.wake_at is None else not_before(routed.wake_at),
            armed,
            shadow,
            kind_of(alert.name, alert.severity, alert.resolves, routed.rules),
            began[1] | tie(name),
            new_body(alert, routed.rules, began[2]),
        )

    def keep(self, one: Instance, wake_at: int | None) -> None:
        """Store an instance as it is now."""
        name = one.instance
        self._instances[name] = one
        row = (
            one.name,
            one.status.value,
            one.why.value if one.why is not None else "",
            maybe_millis(one.started_at),
            self.now if one.seen_at is self.at else millis(one.seen_at),
            wake_at,
            one.incident,
            one.shadow_incident,
            kind(one),
            place(one),
            body(one),
        )
        if name in self._stored:
            self._again[name] = (*row, name)
        else:
            self._new[name] = (name, one.fingerprint, *row)

    def _began(self, at: datetime | None) -> tuple[int | None, int, Raw]:
        """Return epoch milliseconds, place without its tie, and what the body says of the times; what began together says the same."""
        began_at = maybe_millis(at)
        found = (began_at, first_place(self.now if began_at is None else began_at), times(at, self.at))
        self._times[at] = found
        return found

    def write(self) -> None:
        """Write what was only noted down, each table sorted by its key: two replicas that write in different order would deadlock."""
        incidents.pin_new(self.db, self._pinned)
        incidents.open_all(self.db, self.now, self._settle, self._opened)
        # Inserted, not upserted: who was faster on another replica has judged it, and this one looks again.
        insert_rows(self.db, T, _ROW, [self._new[name] for name in sorted(self._new)])
        update_rows(self.db, T, COLUMNS, [self._again[name] for name in sorted(self._again)], key="instance")
        signals = [
            Signal(
                incident=incident,
                kind=kind,
                at=self.at,
                by=f"{said.first.source}/{said.first.source_name}",
                body={
                    "instance": said.first.instance,
                    "name": said.first.name,
                    "source": said.first.source,
                    "rules": said.rules,
                    **({"others": said.others} if said.others else {}),
                },
            )
            for (incident, kind), said in self._said.items()
        ]
        incidents.signal_all(self.db, self.now, signals, settle=self._settle)


@dataclass(slots=True)
class _Said:
    """One signal in the making: the first alert that says it, the rules of all, and the other instances."""

    first: Alert | Instance
    rules: dict[str, object]
    others: list[str]


def _one(batch: _Batch, routed: RoutedAlert) -> RoutedResult:
    alert = routed.alert
    before = batch.before(alert.instance)
    if routed.again:
        if before is None or before.status is not AlertStatus.FIRING or before.problem:
            return RoutedResult()  # resolved while it was judged again: what its sender said last stands
        after = structs.replace(before, rules=before.rules + tuple(rule for rule in routed.rules if rule not in before.rules))
    else:
        after = merge(before, alert, now=batch.at, rules=routed.rules)
    results: dict[str, list[str]] = {"opened": [], "joined": [], "told": []}
    why = routed.why
    if fires(after, now=batch.at):
        news = not routed.again and (before is None or not fires(before, now=batch.at))
        batch.pin(routed.pinned)
        for seed in routed.seeds:
            after, (what, incident) = _seat(batch, seed, after, before, alert, news=news)
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
    batch.keep(structs.replace(after, why=why) if why is not after.why else after, not_before(routed.wake_at))
    return RoutedResult(opened=tuple(results["opened"]), joined=tuple(results["joined"]), told=tuple(results["told"]))


@dataclass(slots=True)
class _Seated:
    """Where new alerts of one kind go: the incidents that hold them, the lists of who joined each, and what is answered."""

    armed: str
    shadow: str
    others: tuple[list[str], ...]
    result: RoutedResult


def _first(batch: _Batch, routed: RoutedAlert) -> RoutedResult:
    """Seat an alert that is heard of for the first time. The first of a kind show the others their place."""
    alert = routed.alert
    seated = batch.seated.get(id(routed.seeds))
    if seated is None:
        armed, shadow, result = _placed(batch, routed)
        lists = [batch.joined(held) for held in (armed, shadow) if held]
        others = tuple(one for one in lists if one is not None)
        if len(others) == len(lists):
            joined = RoutedResult(joined=tuple(held for held in (armed, shadow) if held))
            batch.seated[id(routed.seeds)] = _Seated(armed, shadow, others, joined)
    else:
        armed, shadow, result = seated.armed, seated.shadow, seated.result
        for one in seated.others:
            one.append(alert.instance)
    batch.keep_new(routed, armed, shadow)
    return result


def _placed(batch: _Batch, routed: RoutedAlert) -> tuple[str, str, RoutedResult]:
    """Join or open the incidents of a new alert; return who holds it, armed and in shadow."""
    batch.pin(routed.pinned)
    opened: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    armed = shadow = ""
    for seed in routed.seeds:
        held = batch.by_key.get(seed.key)
        if held is None:
            held = batch.open(seed, routed.alert)
            opened = (*opened, held)
        else:
            batch.say(held, SignalKind.FIRED, routed.alert, batch.rules(seed))
            joined = (*joined, held)
        if seed.mode is Mode.SHADOW:
            shadow = held
        else:
            armed = held
    return armed, shadow, RoutedResult(opened=opened, joined=joined)


def _seat(
    batch: _Batch, seed: Incident, after: Instance, before: Instance | None, alert: Alert, *, news: bool
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
        batch.say(existing, SignalKind.FIRED, after, batch.rules(seed))
        return _held(after, field, existing), ("joined", existing)
    moved = incidents.by_id(batch.db, 0, holder) if holder else None
    opened = batch.open(seed, alert, moved=moved)
    return _held(after, field, opened), ("opened", opened)


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
    return structs.replace(one, **{field: incident})


def due_instances(db: Connection, now: int, limit: int) -> list[Instance]:
    """Return firing instances whose time has come, and push them a minute forward.

    One that cannot be read is not judged: nobody knows any more what rules are for it. It is listed as damaged, and taken up again when its sender
    repeats it.
    """
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
    found = [legible(row) for row in rows]
    quiet = [one.instance for one in found if one.status is not AlertStatus.FIRING]
    if quiet:
        db.execute(update(T).where(T.c.instance.in_(quiet)).values(wake_at=None))
    lost = [one for one in found if one.status is AlertStatus.FIRING and one.problem]
    for one in lost:
        db.execute(update(T).where(T.c.instance == one.instance).values(wake_at=None, why=str(Reason.UNREADABLE)))
        damage.listed(db, now, T, one.instance, one.problem, incident=one.incident or one.shadow_incident)
    return [one for one in found if one.status is AlertStatus.FIRING and not one.problem]


def held(db: Connection, now: int, incident: str, limit: int) -> list[Instance]:
    """Return instances that joined an incident, oldest first; where there are more than ``limit``, those that no longer fire are left out first."""
    del now
    armed = and_(T.c.incident == incident, tables.HELD)
    shadow = and_(T.c.shadow_incident == incident, tables.HELD_IN_SHADOW)
    query = (
        select(T).where(armed | shadow).order_by(T.c.status != "firing", func.coalesce(T.c.place, 0), T.c.instance).limit(limit)
    )
    return oldest_first(legible(row) for row in db.execute(query))


def _standing(holder: Column[str], held: ColumnElement[bool]) -> tuple[Select[Any], Select[Any]]:
    mine = and_(holder.in_(bindparam("ids", expanding=True)), held)
    grouped = (
        select(
            holder.label("by"), T.c.kind, T.c.status, func.min(T.c.place).label("place"), func.max(T.c.seen_at).label("heard_at")
        )
        .where(mine)
        .group_by(holder, T.c.kind, T.c.status)
        .subquery()
    )
    first = and_(
        holder == grouped.c.by, held, T.c.kind == grouped.c.kind, T.c.status == grouped.c.status, T.c.place == grouped.c.place
    )
    # An older release says of what kind none of those is that it stores.
    return (
        select(T, grouped.c.by, grouped.c.heard_at).select_from(grouped.join(T, first)),
        select(T, holder.label("by"), T.c.seen_at.label("heard_at")).where(mine, T.c.kind.is_(None)),
    )


_STANDING = union_all(*_standing(T.c.incident, tables.HELD), *_standing(T.c.shadow_incident, tables.HELD_IN_SHADOW))


def standing(db: Connection, now: int, ids: Sequence[str]) -> dict[str, list[Instance]]:
    """Return which alerts stand for all that these incidents hold, oldest first: of each kind the oldest that fires and the oldest that does not.

    Each is as lately seen as any of those it stands for. What is judged by them is judged as if all were there, at any later time too
    (``tests/contract/test_store_standing``): an incident with thousands of alerts is claimed as one with ten. Their number is bounded by
    that of names, severities and sets of rules, not by what a sender sends of one.

    One that cannot be read stands for itself alone, as far as its columns say, and another one for the others of its kind.
    """
    found = _stands(db, ids)
    for _ in range(LOOKED_PAST):
        lost = {one.instance: holder for holder, instances in found.items() for one in instances if one.problem}
        if not lost or not _by_itself(db, now, lost):
            break
        found = _stands(db, ids)
    return found


def _by_itself(db: Connection, now: int, lost: Mapping[str, str]) -> int:
    """Take these alerts out of their kinds, list them, and say so to who holds them; return how many were in one."""
    for name, holder in sorted(lost.items()):
        if damage.listed(db, now, T, name, "its stored bytes cannot be read", incident=holder):
            said = f"alert {name} cannot be read: damaged in the store. It counts as it did; the incident goes on by its other alerts"
            incidents.note(db, holder, now, EntryKind.DECISION, Reason.UNREADABLE, said, {"instance": name})
    return db.execute(update(T).where(T.c.instance.in_(sorted(lost)), T.c.kind.is_not(None)).values(kind=None)).rowcount


def _stands(db: Connection, ids: Sequence[str]) -> dict[str, list[Instance]]:
    found: dict[str, list[Instance]] = {one: [] for one in ids}
    firsts: dict[tuple[str, int, str], str] = {}
    for row in sorted(db.execute(_STANDING, {"ids": list(ids)}), key=lambda row: row.instance):
        if row.kind is not None and firsts.setdefault((row.by, row.kind, row.status), row.instance) != row.instance:
            continue  # two that began together and whose checksums are the same
        one = legible(row)
        if row.heard_at > millis(one.seen_at):
            one = structs.replace(one, seen_at=instant(row.heard_at))
        found[row.by].append(one)
    return {holder: oldest_first(instances) for holder, instances in found.items()}


def listed(db: Connection, now: int, why: Reason | None, firing: bool, limit: int) -> list[Instance]:
    """List instances, newest first."""
    del now
    query = select(T).order_by(T.c.seen_at.desc()).limit(limit)
    if why is not None:
        query = query.where(T.c.why == str(why))
    if firing:
        query = query.where(T.c.status == str(AlertStatus.FIRING))
    return [legible(row) for row in db.execute(query)]


def firing(db: Connection, now: int, source: str, source_name: str, limit: int) -> list[Instance]:
    """List what counts as firing of one sender, newest first."""
    at = instant(now)
    seen = T.c.seen_at > now - int(FORGET.total_seconds() * 1000)
    query = select(T).where(seen, T.c.status == str(AlertStatus.FIRING)).order_by(T.c.seen_at.desc())
    found: list[Instance] = []
    for row in db.execute(query):
        one = legible(row)
        if (one.source, one.source_name) == (source, source_name) and fires(one, now=at):
            found.append(one)
            if len(found) >= limit:
                break
    return found


def events(db: Connection, now: int, within: timedelta, limit: int) -> list[Instance]:
    """List instances of events seen within this time, newest first; an event's instance begins so (``sources.event_grid``)."""
    seen = T.c.seen_at > now - int(within.total_seconds() * 1000)
    query = select(T).where(seen, T.c.instance.startswith("event/")).order_by(T.c.seen_at.desc()).limit(limit)
    return [legible(row) for row in db.execute(query)]


_NEXT = select(T.c.wake_at).where(T.c.wake_at.is_not(None)).order_by(T.c.wake_at).limit(1)


def next_due(db: Connection) -> int | None:
    """Return when the next instance must be judged again."""
    found: int | None = db.execute(_NEXT).scalar()
    return found
