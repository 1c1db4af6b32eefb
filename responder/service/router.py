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

import msgspec

from responder.model.alert import Alert, AlertStatus, Normalised, SourceKind
from responder.model.errors import ResponderError, StoreUnavailableError
from responder.model.incident import Candidate, Incident, Instance, Mode
from responder.model.reason import Reason
from responder.model.rule import Match, Rule
from responder.model.storing import Delivery, DeliveryState, RoutedAlert, RoutedDelivery
from responder.model.target import TargetKind
from responder.policy.entitlement import Entitlement, overreach
from responder.policy.grouping import key_of
from responder.policy.signals import in_order
from responder.ports import Clock, Store, Understands
from responder.service.names import incident_id
from responder.service.rulebook import Rulebook
from responder.service.targeting import Found, Targeting
from responder.telemetry import Metrics, logger

BATCH = 50
MOST_ALERTS = 4_000
"""Alerts that one transaction stores, but for a single delivery that has more: what it costs is shared by all, and held in memory meanwhile."""

MANY = 50
"""Alerts within a second that are a storm's, for the order of work: as many as a big group of one sender has."""

SETTLE = timedelta(seconds=15)
"""How long a storm's incidents wait at most until its alerts are in: they are woken as soon as none comes for a second, and then judged knowing
how many they are. Stored, so that they wait no longer when this process dies."""

CALM = 1.0
"""Seconds without a delivery after which a storm's alerts are taken to be in."""

BREATH = 500
"""Alerts judged before other tasks get their turn."""

LEASE = timedelta(seconds=30)
AGAIN_IN = timedelta(seconds=5)
LOOK_EVERY = 1.0
"""Seconds between looks for due instances while deliveries come without a pause."""

RESOLVED_AT_ONCE = 64
MOST_SEATS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A matching rule with the target it found."""

    rule: Rule
    found: Found


@dataclass(frozen=True, slots=True)
class _Seat:
    """What alerts share that aim at the same with the same rules, for as long as what was found lasts; holds the aims, whose identity is its name.

    Its seeds have no id: the store gives one when it opens an incident.
    """

    aims: tuple[Aim, ...]
    rules: tuple[str, ...]
    seeds: tuple[Incident, ...]
    pinned: Mapping[str, Mapping[str, Any]]

    def for_(self, alert: Alert, wake_at: datetime | None) -> RoutedAlert:
        """Return an alert that sits here."""
        return RoutedAlert(alert=alert, rules=self.rules, seeds=self.seeds, wake_at=wake_at, pinned=self.pinned)


_Seats = dict[tuple[object, ...], _Seat]


@dataclass(frozen=True, slots=True)
class _Understood:
    """A delivery with what its source made of it: alerts to be judged, and those that it may not speak for, with why."""

    delivery: Delivery
    normalised: Normalised
    alerts: Sequence[Alert]
    refused: Sequence[RoutedAlert] = ()
    gaps: Sequence[str] = ()

    def routed(self, alerts: Sequence[RoutedAlert]) -> RoutedDelivery:
        """Return it as it is stored, with its alerts as they were judged."""
        made = self.normalised
        if not made.understood and not made.alerts:
            return RoutedDelivery(delivery=self.delivery, state=DeliveryState.NOT_UNDERSTOOD, note=made.why, shape=made.shape)
        return RoutedDelivery(
            delivery=self.delivery,
            state=DeliveryState.ROUTED,
            alerts=(*alerts, *self.refused),
            note="; ".join((*made.gaps, *self.gaps)),
            shape=made.shape,
        )


_OURS = (ResponderError, ValueError, KeyError, TypeError)
"""What a delivery may raise that only it fails for."""


class Router:
    """Routes deliveries."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        sources: Mapping[SourceKind, Understands],
        rulebook: Rulebook,
        targeting: Targeting,
        metrics: Metrics,
        entitlements: Mapping[str, Entitlement] | None = None,
    ) -> None:
        self._entitlements = entitlements or {}
        self._sources = sources
        self._store = store
        self._clock = clock
        self._rulebook = rulebook
        self._targeting = targeting
        self._metrics = metrics
        self._slots = asyncio.Semaphore(RESOLVED_AT_ONCE)
        self._look_at = 0.0
        self._settling: set[str] = set()
        self._seats: _Seats = {}
        self._since, self._before, self._lately, self._came = 0.0, 0, 0, 0.0

    async def route_due(self) -> int:
        """Route waiting deliveries and due instances; return how many there were."""
        deliveries = await self._store.claim_deliveries(limit=BATCH, lease=LEASE)
        if deliveries:
            self._came = self._clock.boottime()
            await self._all(deliveries)
        elif self._settling and self._clock.boottime() - self._came >= CALM:
            settling, self._settling = sorted(self._settling), set()
            await self._store.wake(settling)
            return len(settling)
        if deliveries and self._clock.boottime() < self._look_at:
            return len(deliveries)
        self._look_at = self._clock.boottime() + LOOK_EVERY
        due = await self._store.due_instances(limit=BATCH)
        if due:
            await self._again(due)
        return len(deliveries) + len(due)

    async def _all(self, deliveries: Sequence[Delivery]) -> None:
        """Understand deliveries, and route as many together as one transaction may hold."""
        batch: list[_Understood] = []
        for one in deliveries:
            try:
                understood = self._understood(one)
            except _OURS as error:
                await self._failed(one, error)
                continue
            if batch and sum(len(held.alerts) for held in batch) + len(understood.alerts) > MOST_ALERTS:
                await self._together(batch)
                batch = []
            batch.append(understood)
        if batch:
            await self._together(batch)

    def _understood(self, delivery: Delivery) -> _Understood:
        try:
            body = msgspec.json.decode(delivery.body)
        except msgspec.ValidationError as problem:  # JSON it is, but with a number that no number here holds
            return _Understood(delivery, Normalised(understood=False, why=f"the body cannot be read: {problem}"), ())
        made = self._sources[SourceKind(delivery.source)](
            body, source_name=delivery.source_name, received_at=delivery.received_at
        )
        if delivery.source_name not in self._entitlements:
            return _Understood(delivery, made, made.alerts)
        refused, gaps = self._refused(made.alerts)
        judged = [one for one in made.alerts if one.instance not in refused]
        return _Understood(delivery, made, judged, tuple(refused.values()), gaps)

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
                kept = replace(one, instance=f"refused/{one.source_name}/{one.instance}")
                refused[one.instance] = RoutedAlert(alert=kept, why=Reason.NOT_ENTITLED)
                gaps.append(f"{one.name} is kept and not acted on: {why}")
                logger().warning("alert_refused", source=one.source_name, alert=one.name, why=why)
        return refused, gaps

    async def _together(self, batch: Sequence[_Understood]) -> None:
        """Route deliveries in one transaction; when that fails, each by itself, so that only the guilty one fails."""
        try:
            judged = await self.judge([alert for one in batch for alert in one.alerts])
            routed: list[RoutedDelivery] = []
            for one in batch:
                routed.append(one.routed(judged[: len(one.alerts)]))
                judged = judged[len(one.alerts) :]
            alerts = sum(len(one.alerts) for one in routed)
            settle = SETTLE if self._many(alerts) else timedelta(0)
            results = await self._store.route_all(routed, settle=settle, name=incident_id)
            if settle:
                self._settling.update(held for one in results for held in (*one.opened, *one.joined, *one.told))
        except StoreUnavailableError:
            raise
        except _OURS as error:
            if len(batch) == 1:
                await self._failed(batch[0].delivery, error)
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
        for one in done:
            self._metrics.deliveries.labels(one.delivery.source, "routed").inc()
            self._metrics.alerts.labels(one.delivery.source).inc(len(one.alerts))
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
        ours = [replace(one, again=True, seeds=self._named(one.seeds)) for one in judged]
        await self._store.route(ours, delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    def _named(self, seeds: Sequence[Incident]) -> tuple[Incident, ...]:
        now = self._clock.now()
        return tuple(replace(one, id=incident_id(now), opened_at=now, phase_since=now) for one in seeds)

    async def judge(self, alerts: Sequence[Alert]) -> list[RoutedAlert]:
        """Judge alerts: rules, targets, seeds. Asks clusters for targets that were not found within the last seconds."""
        now = self._clock.now()
        judged: list[RoutedAlert | None] = []
        for place, alert in enumerate(alerts):
            if place and place % BREATH == 0:
                await asyncio.sleep(0)
            judged.append(self._at_once(alert, now))
        open_ = [place for place, one in enumerate(judged) if one is None]
        if open_:
            asked = await asyncio.gather(*(self._asked(alerts[place], now) for place in open_))
            for place, one in zip(open_, asked, strict=True):
                judged[place] = one
        return [one for one in judged if one is not None]

    def _at_once(self, alert: Alert, now: datetime) -> RoutedAlert | None:
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
        aims: list[Aim] = []
        for rule in ready:
            found = self._targeting.known(rule, alert)
            if found is None:
                return None
            aims.append(Aim(rule=rule, found=found))
        name = (alert.severity, *((id(aim.rule), id(aim.found)) for aim in aims))
        seat = self._seats.get(name)
        if seat is None:
            if len(self._seats) >= MOST_SEATS:
                self._seats.clear()
            seat = self._seats[name] = self._seat(alert, ready, aims, now)
        return seat.for_(alert, wake_at)

    async def _asked(self, alert: Alert, now: datetime) -> RoutedAlert:
        """Judge an alert whose target is looked up."""
        ready, wake_at = ready_rules(alert, self._rulebook.index.candidates(alert), now)
        async with self._slots:
            aims = [Aim(rule=rule, found=await self._targeting.find(rule, alert)) for rule in ready]
        return self._seat(alert, ready, aims, now).for_(alert, wake_at)

    def _seat(self, alert: Alert, ready: Sequence[Rule], aims: Sequence[Aim], now: datetime) -> _Seat:
        names = tuple(rule.name for rule in ready)
        return _Seat(tuple(aims), names, self._seeds(alert, aims, now=now), {aim.rule.digest: aim.rule.document for aim in aims})

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
