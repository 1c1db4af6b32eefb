"""The router: turns stored deliveries into alerts, finds rules and targets, and opens or wakes incidents.

Never here: a sender's format (``sources``), how a target is found (``policy.targets``), joining (the store's transaction does it).

The decision a reader would question: a delivery is routed whole in one transaction, after all look-ups, and shares it with the others that
wait. A crash in between routes all of them again, which changes nothing: instances merge and incidents join.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from responder.model.alert import Alert, AlertStatus, SourceKind, folded
from responder.model.errors import ResponderError, StoreUnavailableError
from responder.model.incident import Candidate, Incident, Instance, Mode
from responder.model.reason import Reason
from responder.model.rule import Match, Rule
from responder.model.storing import Delivery, DeliveryState, RoutedAlert, RoutedDelivery
from responder.model.target import TargetKind
from responder.policy.entitlement import Entitlement, overreach
from responder.policy.grouping import key_of
from responder.policy.signals import in_order
from responder.ports import Clock, Reads, Store
from responder.rules.index import RuleIndex, labels_read
from responder.service.handing import Handing
from responder.service.names import incident_id
from responder.service.rulebook import Rulebook
from responder.service.targeting import ANSWERS_LAST, Found, Targeting
from responder.telemetry import Metrics, logger

BATCH = 50
MOST_ALERTS = 5_000
"""Alerts that one transaction stores, but for a single delivery that has more: what it costs is shared by all, and held in memory meanwhile."""

MANY = 50
"""Alerts within a second that are a storm's, for the order of work: as many as a big group of one sender has."""

SETTLE = timedelta(seconds=15)
"""How long a storm's incidents wait at most until its alerts are in: they are woken as soon as none comes for a second, and then judged knowing
how many they are. Stored, so that they wait no longer when this process dies."""

GATHER = timedelta(milliseconds=200)
"""How long a storm's alerts gather before they are routed, unless more wait than one transaction takes: what a turn costs (the claim, the transaction,
the look for due incidents after it) is shared by all that came. Nobody waits for it: a storm's incidents wait for ``SETTLE``."""

MOST_CLAIMED = 500
MOST_HELD_BYTES = 1 << 20
"""Deliveries that one turn routes while each is small: ``BATCH`` more are claimed only while those in hand have fewer bytes than this."""

CALM = 1.0
"""Seconds without a delivery after which a storm's alerts are taken to be in."""

BREATH = 500
"""Alerts judged before other tasks get their turn."""

LEASE = timedelta(seconds=30)
AGAIN_IN = timedelta(seconds=5)
LOOK_EVERY = 1.0
"""Seconds between looks for due instances, and for deliveries that were not handed over, while deliveries come without a pause."""

RESOLVED_AT_ONCE = 64
MOST_SEATS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A matching rule with the target it found."""

    rule: Rule
    found: Found


@dataclass(frozen=True, slots=True)
class _Seat:
    """What alerts share that aim at the same with the same rules, for as long as what was found lasts.

    Its seeds have no id: the store gives one when it opens an incident.

    Attributes:
        until: Loop time at which what a cluster said of the target is too old.
    """

    rules: tuple[str, ...]
    seeds: tuple[Incident, ...]
    pinned: Mapping[str, Mapping[str, Any]]
    until: float = 0.0

    def for_(self, alert: Alert, wake_at: datetime | None) -> RoutedAlert:
        """Return an alert that sits here."""
        return RoutedAlert(alert=folded(alert), rules=self.rules, seeds=self.seeds, wake_at=wake_at, pinned=self.pinned)


class _Seating:
    """Remembers where alerts sit: those that agree on every label that any of their rules, or the finding of their targets, looks at.

    Attributes:
        index: The rules that it was made with.
    """

    def __init__(self, index: RuleIndex, targeting: Targeting) -> None:
        self.index = index
        self._targeting = targeting
        self._labels: dict[str, frozenset[str] | None] = {}
        self._seats: dict[tuple[object, ...], _Seat] = {}
        self._unnamed = self._read(index.unnamed())

    def name(self, alert: Alert) -> tuple[object, ...] | None:
        """Return what tells this alert's seat from others; None when it cannot be told."""
        try:
            labels = self._labels[alert.name]
        except KeyError:
            labels = self._counting(alert.name)
        if labels is None:
            return None
        said = [one for one in alert.labels.items() if one[0] in labels]  # in another order it is only judged anew
        return (alert.name, alert.source, alert.severity, alert.resource_ids, *said)

    def _counting(self, name: str) -> frozenset[str] | None:
        named = self._read(self.index.named(name))
        labels = None if named is None or self._unnamed is None else named | self._unnamed
        if len(self._labels) >= MOST_SEATS:
            self._labels.clear()
        self._labels[name] = labels
        return labels

    def _read(self, alternatives: Sequence[tuple[Rule, Match]]) -> frozenset[str] | None:
        found: set[str] = set()
        for rule, match in alternatives:
            if match.for_:
                return None  # the time of the alert counts too
            for labels in (labels_read(match), self._targeting.telling(rule)):
                if labels is None:
                    return None
                found.update(labels)
        return frozenset(found)

    def seat(self, name: tuple[object, ...], at: float) -> _Seat | None:
        """Return the seat of that name, if what was found for it still counts."""
        seat = self._seats.get(name)
        return seat if seat is not None and at < seat.until else None

    def keep(self, name: tuple[object, ...], seat: _Seat) -> None:
        """Remember a seat."""
        if len(self._seats) >= MOST_SEATS:
            self._seats.clear()
        self._seats[name] = seat


_Open = tuple[int, tuple[object, ...] | None, Alert]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A delivery on its way: what becomes of it, and its alerts as far as they are judged.

    It holds neither its body nor what was read of it: thousands of alerts wait for each other here, to be stored together.

    Attributes:
        ended: The delivery as it is stored, without its alerts.
        alerts: In the order in which it named them; None where ``open`` has them.
        open: Those for whose target a cluster must be asked: place in ``alerts``, name of their seat (None: of their own), alert.
    """

    ended: RoutedDelivery
    alerts: list[RoutedAlert | None]
    open: Sequence[_Open]

    def routed(self) -> RoutedDelivery:
        """Return it with all its alerts, once they are judged."""
        return replace(self.ended, alerts=[one for one in self.alerts if one is not None])


_OURS = (ResponderError, ValueError, KeyError, TypeError)
"""What a delivery may raise that only it fails for."""


class Router:
    """Routes deliveries."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        read: Reads,
        rulebook: Rulebook,
        targeting: Targeting,
        metrics: Metrics,
        entitlements: Mapping[str, Entitlement] | None = None,
        handing: Handing | None = None,
    ) -> None:
        self._entitlements = entitlements or {}
        self._read = read
        self._store = store
        self._clock = clock
        self._rulebook = rulebook
        self._targeting = targeting
        self._metrics = metrics
        self._slots = asyncio.Semaphore(RESOLVED_AT_ONCE)
        self._look_at = 0.0
        self._settling: set[str] = set()
        self._seating = _Seating(rulebook.index, targeting)
        self._since, self._before, self._lately, self._came = 0.0, 0, 0, 0.0
        self._behind = False
        self._handing = handing
        self._claim_at = 0.0

    async def route_due(self) -> int:
        """Route waiting deliveries and due instances; return how many there were."""
        deliveries = await self._claimed()
        count = len(deliveries)
        if deliveries:
            self._came = self._clock.boottime()
            await self._all(deliveries)
        elif self._settling and self._clock.boottime() - self._came >= CALM:
            settling, self._settling = sorted(self._settling), set()
            await self._store.wake(settling)
            return len(settling)
        if count and self._clock.boottime() < self._look_at:
            return count
        self._look_at = self._clock.boottime() + LOOK_EVERY
        due = await self._store.due_instances(limit=BATCH)
        if due:
            await self._again(due)
        return count + len(due)

    async def _claimed(self) -> list[Delivery]:
        """Claim what waits to be routed, in the order in which it was stored; in a storm, give it time to become many."""
        if not self._behind and max(self._before, self._lately) >= MANY and self._clock.boottime() - self._came < CALM:
            await self._clock.sleep(GATHER)
        handed = self._handing.take() if self._handing is not None else []
        if handed and self._clock.boottime() < self._claim_at:
            return handed
        self._claim_at = self._clock.boottime() + LOOK_EVERY
        mark = self._handing.mark() if self._handing is not None else 0
        claimed = list(await self._store.claim_deliveries(limit=BATCH, lease=LEASE))
        last, held = len(claimed), sum(len(one.body) for one in claimed)
        while last == BATCH and len(claimed) < MOST_CLAIMED and held < MOST_HELD_BYTES:
            more = await self._store.claim_deliveries(limit=BATCH, lease=LEASE)
            last, held = len(more), held + sum(len(one.body) for one in more)
            claimed += more
        self._behind = last == BATCH
        if self._handing is not None and not self._behind:
            self._handing.caught_up(mark)
        both = {one.id: one for one in (*claimed, *handed)}  # one that was not routed within its hold is both
        return [both[number] for number in sorted(both)]

    async def _all(self, deliveries: list[Delivery]) -> None:
        """Judge deliveries, and route as many together as one transaction may hold. Each is let go as soon as it is read."""
        batch: list[_Judged] = []
        alerts = breath = 0
        deliveries.reverse()
        while deliveries:
            one = deliveries.pop()
            try:
                judged = await self._read_and_judged(one)
            except _OURS as error:
                await self._failed(one, error)
                continue
            if batch and alerts + len(judged.alerts) > MOST_ALERTS:
                await self._together(batch)
                batch, alerts = [], 0
            batch.append(judged)
            alerts += len(judged.alerts)
            breath += len(judged.alerts)
            if breath >= BREATH:
                breath = 0
                await asyncio.sleep(0)
        if batch:
            await self._together(batch)

    async def _read_and_judged(self, delivery: Delivery) -> _Judged:
        made = self._read(
            SourceKind(delivery.source), delivery.body, source_name=delivery.source_name, received_at=delivery.received_at
        )
        delivery = replace(delivery, body=b"")
        if not made.understood and not made.alerts:
            ended = RoutedDelivery(delivery=delivery, state=DeliveryState.NOT_UNDERSTOOD, note=made.why, shape=made.shape)
            return _Judged(ended, [], ())
        alerts: Sequence[Alert] = made.alerts
        refused: Mapping[str, RoutedAlert] = {}
        gaps = made.gaps
        if delivery.source_name in self._entitlements:
            refused, more = self._refused(alerts)
            alerts = [one for one in alerts if one.instance not in refused]
            gaps = (*gaps, *more)
        ended = RoutedDelivery(delivery=delivery, state=DeliveryState.ROUTED, note="; ".join(gaps), shape=made.shape)
        judged, open_ = await self._at_once(alerts)
        judged += refused.values()
        return _Judged(ended, judged, open_)

    def _refused(self, alerts: Sequence[Alert]) -> tuple[dict[str, RoutedAlert], list[str]]:
        """Return alerts that speak for more than their source may, by instance, and why.

        Each is kept under an instance of its own, so that it neither ends nor repeats one that somebody else was entitled to send.
        """
        refused: dict[str, RoutedAlert] = {}
        gaps: list[str] = []
        for one in alerts:
            entitled = self._entitlements.get(one.source_name)
            why = "" if entitled is None or one.test else overreach(one, entitled)
            if why:
                kept = structs.replace(one, instance=f"refused/{one.source_name}/{one.instance}")
                refused[one.instance] = RoutedAlert(alert=kept, why=Reason.NOT_ENTITLED)
                gaps.append(f"{one.name} is kept and not acted on: {why}")
                logger().warning("alert_refused", source=one.source_name, alert=one.name, why=why)
        return refused, gaps

    async def _together(self, batch: Sequence[_Judged]) -> None:
        """Route deliveries in one transaction; when that fails, each by itself, so that only the guilty one fails."""
        try:
            await self._ask([(one.alerts, one.open) for one in batch])
            routed = [one.routed() for one in batch]
            alerts = sum(len(one.alerts) for one in routed)
            settle = SETTLE if self._many(alerts) else timedelta(0)
            results = await self._store.route_all(routed, settle=settle, name=incident_id)
            if settle:
                told = {id(one): one for one in results}.values()  # those of one seat have one answer
                self._settling.update(held for one in told for held in (*one.opened, *one.joined, *one.told))
        except StoreUnavailableError:
            raise
        except _OURS as error:
            if len(batch) == 1:
                await self._failed(batch[0].ended.delivery, error)
                return
            for one in batch:
                await self._together([one])
            return
        self._say(routed)

    def _many(self, alerts: int) -> bool:
        """Count alerts; tell whether those of this second and the one before are a storm's."""
        now = self._clock.boottime()
        if now - self._since >= 1:
            self._before = self._lately if now - self._since < 2 else 0
            self._since, self._lately = now, 0
        self._lately += alerts
        return max(self._before, self._lately) >= MANY

    def _say(self, routed: Sequence[RoutedDelivery]) -> None:
        done = [one for one in routed if one.state is DeliveryState.ROUTED]
        counts: dict[str, tuple[int, int]] = {}
        for one in done:
            deliveries, alerts = counts.get(one.delivery.source, (0, 0))
            counts[one.delivery.source] = deliveries + 1, alerts + len(one.alerts)
        for source, (deliveries, alerts) in counts.items():
            self._metrics.deliveries.labels(source, "routed").inc(deliveries)
            self._metrics.alerts.labels(source).inc(alerts)
        for one in routed:
            if one.state is not DeliveryState.ROUTED:
                self._metrics.deliveries.labels(one.delivery.source, "not_understood").inc()
                logger().warning(
                    "delivery_not_understood", delivery=one.delivery.id, source=one.delivery.source_name, why=one.note
                )
        if done:
            logger().info(
                "delivery_routed",
                deliveries=[one.delivery.id for one in done],
                sources=sorted({one.delivery.source_name for one in done}),
                alerts=sum(len(one.alerts) for one in done),
            )

    async def _failed(self, delivery: Delivery, error: Exception) -> None:
        tries = await self._store.delivery_failed(delivery, note=repr(error), again_in=AGAIN_IN)
        self._metrics.deliveries.labels(delivery.source, "failed").inc()
        logger().error("delivery_failed", delivery=delivery.id, tries=tries, problem=str(error), exc_info=error)

    async def _again(self, instances: Sequence[Instance]) -> None:
        """Route instances whose time has come: the end of a rule's ``for``, or an incident that moved."""
        judged = await self.judge([alert_of(one) for one in instances])
        ours = [structs.replace(one, again=True, seeds=self._named(one.seeds)) for one in judged]
        await self._store.route(ours, delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    def _named(self, seeds: Sequence[Incident]) -> tuple[Incident, ...]:
        now = self._clock.now()
        return tuple(replace(one, id=incident_id(now), opened_at=now, phase_since=now) for one in seeds)

    async def judge(self, alerts: Sequence[Alert]) -> list[RoutedAlert]:
        """Judge alerts: rules, targets, seeds. Asks clusters for targets that were not found within the last seconds."""
        judged, open_ = await self._at_once(alerts)
        await self._ask([(judged, open_)])
        return [one for one in judged if one is not None]

    async def _at_once(self, alerts: Sequence[Alert]) -> tuple[list[RoutedAlert | None], list[_Open]]:
        """Judge alerts from what is known: rules, targets, seeds; return also those for whose target a cluster must be asked."""
        now, at = self._clock.now(), asyncio.get_running_loop().time()
        if self._seating.index is not self._rulebook.index:
            self._seating = _Seating(self._rulebook.index, self._targeting)
        seating = self._seating
        judged: list[RoutedAlert | None] = []
        open_: list[_Open] = []
        for place, alert in enumerate(alerts):
            if place and place % BREATH == 0:
                await asyncio.sleep(0)
            name = seating.name(alert) if alert.status is AlertStatus.FIRING and not alert.test else None
            seat = seating.seat(name, at) if name is not None else None
            one = seat.for_(alert, None) if seat is not None else self._known(alert, now, at, name)
            if one is None:
                open_.append((place, name, alert))
            judged.append(one)
        return judged, open_

    async def _ask(self, judged: Sequence[tuple[list[RoutedAlert | None], Sequence[_Open]]]) -> None:
        """Ask clusters for the targets that were not found within the last seconds, all at once, and put what that makes of their alerts in its place."""
        together: dict[object, list[tuple[list[RoutedAlert | None], int, Alert]]] = {}
        for alerts, open_ in judged:
            for place, name, alert in open_:
                together.setdefault((id(alerts), place) if name is None else name, []).append((alerts, place, alert))
        if not together:
            return
        now = self._clock.now()
        asked = await asyncio.gather(*(self._asked([alert for _, _, alert in those], now) for those in together.values()))
        for those, ones in zip(together.values(), asked, strict=True):
            for (alerts, place, _), one in zip(those, ones, strict=True):
                alerts[place] = one

    def _known(self, alert: Alert, now: datetime, at: float, name: tuple[object, ...] | None) -> RoutedAlert | None:
        """Judge an alert from what is known; None when a cluster must be asked for its target."""
        if alert.test:
            return RoutedAlert(alert=alert, why=Reason.TEST_ALERT)
        matched = self._rulebook.index.candidates(alert)
        if alert.status is AlertStatus.RESOLVED:
            return RoutedAlert(alert=alert, rules=tuple(rule.name for rule, _ in matched))
        if not matched:
            return RoutedAlert(alert=alert, why=Reason.UNMATCHED)
        ready, wake_at = ready_rules(alert, matched, now)
        if not ready:
            return RoutedAlert(alert=alert, rules=tuple(rule.name for rule, _ in matched), why=Reason.GROUP_WAIT, wake_at=wake_at)
        until = at + ANSWERS_LAST
        aims: list[Aim] = []
        for rule in ready:
            found, lasts = self._targeting.known(rule, alert)
            if found is None:
                return None
            until = min(until, lasts)
            aims.append(Aim(rule=rule, found=found))
        seat = self._seat(alert, ready, aims, now, until=until)
        if name is not None:
            self._seating.keep(name, seat)
        return seat.for_(alert, wake_at)

    async def _asked(self, alerts: Sequence[Alert], now: datetime) -> list[RoutedAlert]:
        """Judge alerts of one seat whose target is looked up."""
        first = alerts[0]
        matched = self._rulebook.index.candidates(first)
        ready, _ = ready_rules(first, matched, now)
        async with self._slots:
            aims = [Aim(rule=rule, found=await self._targeting.find(rule, first)) for rule in ready]
        seat = self._seat(first, ready, aims, now)
        return [seat.for_(one, ready_rules(one, matched, now)[1]) for one in alerts]

    def _seat(self, alert: Alert, ready: Sequence[Rule], aims: Sequence[Aim], now: datetime, *, until: float = 0.0) -> _Seat:
        names = tuple(rule.name for rule in ready)
        return _Seat(names, self._seeds(alert, aims, now=now), {aim.rule.digest: aim.rule.document for aim in aims}, until)

    def _seeds(self, alert: Alert, aims: Sequence[Aim], *, now: datetime) -> tuple[Incident, ...]:
        """Return at most one armed and one shadow incident: ranked separately, each with the first target that resolves."""
        seeds: list[Incident] = []
        for mode in (Mode.ARMED, Mode.SHADOW):
            mine = [aim for aim in aims if (self._rulebook.armed(aim.rule.name, aim.found.target) == (mode is Mode.ARMED))]
            if mine:
                seeds.append(self._seed(alert, mine, mode, now=now))
        return tuple(seeds)

    def _seed(self, alert: Alert, aims: Sequence[Aim], mode: Mode, *, now: datetime) -> Incident:
        first = next((aim for aim in aims if aim.found.resolved), None) or next(
            (aim for aim in aims if aim.found.literal), aims[0]
        )
        target = first.found.target
        same = [aim for aim in aims if aim.found.target.identity == target.identity]
        rule = first.rule
        candidates = in_order([Candidate(rule=aim.rule.name, digest=aim.rule.digest, priority=aim.rule.priority) for aim in same])
        return Incident(
            id="",
            key=key_of(mode, target),
            mode=mode,
            effective=mode,
            cluster=target.cluster,
            target=target,
            literal=first.found.literal,
            unresolved=not first.found.resolved and not first.found.literal,
            resolution=first.found.how,
            symptom=rule.name,
            title=rule.title,
            severity=rule.severity or alert.severity,
            opened_at=now,
            phase_since=now,
            candidates=candidates,
        )


def ready_rules(alert: Alert, matched: Sequence[tuple[Rule, Match]], now: datetime) -> tuple[list[Rule], datetime | None]:
    """Return the rules whose ``for`` is over, and when the next one's will be.

    A rule with a target that still waits has matched already: there is no backstop meanwhile.
    """
    matched = [one for one in matched if one[0].target.kind is not TargetKind.NONE] or matched
    ready: list[Rule] = []
    later: list[datetime] = []
    for rule, match in matched:
        if match.for_ and alert.started_at is not None and now - alert.started_at < match.for_:
            later.append(alert.started_at + match.for_)
        else:
            ready.append(rule)
    return ready, min(later) if later else None


def alert_of(one: Instance) -> Alert:
    """Return an instance as the alert it was last received as."""
    return Alert(
        source=SourceKind(one.source),
        source_name=one.source_name,
        name=one.name,
        status=one.status,
        severity=one.severity,
        labels=dict(one.labels),
        annotations=dict(one.annotations),
        fingerprint=one.fingerprint,
        instance=one.instance,
        started_at=one.started_at,
        value=one.value,
        resolves=one.resolves,
        link=one.link,
    )
