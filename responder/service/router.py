"""The router: turns stored deliveries into alerts, finds rules and targets, and opens or wakes incidents.

Never here: a sender's format (``sources``), how a target is found (``policy.targets``), joining (the store's transaction does it).

The decision a reader would question: a delivery is routed whole in one transaction, after all look-ups. A crash in between routes it
again, which changes nothing: instances merge and incidents join.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from responder.model.alert import Alert, AlertStatus, SourceKind
from responder.model.errors import ResponderError, StoreUnavailableError
from responder.model.incident import Candidate, Incident, Instance, Mode, Phase
from responder.model.reason import Reason
from responder.model.rule import Rule
from responder.model.storing import Delivery, DeliveryState, RoutedAlert
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
LEASE = timedelta(seconds=30)
AGAIN_IN = timedelta(seconds=5)
RESOLVED_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A matching rule with the target it found."""

    rule: Rule
    found: Found


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

    async def route_due(self) -> int:
        """Route waiting deliveries and due instances; return how many there were."""
        deliveries = await self._store.claim_deliveries(limit=BATCH, lease=LEASE)
        await asyncio.gather(*(self._delivery(one) for one in deliveries))
        due = await self._store.due_instances(limit=BATCH)
        if due:
            await self._again(due)
        return len(deliveries) + len(due)

    async def _delivery(self, delivery: Delivery) -> None:
        try:
            normalised = self._sources[SourceKind(delivery.source)](
                msgspec.json.decode(delivery.body), source_name=delivery.source_name, received_at=delivery.received_at
            )
            if not normalised.understood and not normalised.alerts:
                await self._store.route(
                    [], delivery=delivery, state=DeliveryState.NOT_UNDERSTOOD, note=normalised.why, shape=normalised.shape
                )
                self._metrics.deliveries.labels(delivery.source, "not_understood").inc()
                logger().warning("delivery_not_understood", delivery=delivery.id, source=delivery.source_name, why=normalised.why)
                return
            refused, gaps = self._refused(normalised.alerts)
            routed = await self.judge([one for one in normalised.alerts if one.instance not in refused]) + list(refused.values())
            await self._store.route(
                routed,
                delivery=delivery,
                state=DeliveryState.ROUTED,
                note="; ".join((*normalised.gaps, *gaps)),
                shape=normalised.shape,
            )
        except StoreUnavailableError:
            raise
        except (ResponderError, ValueError, KeyError, TypeError) as error:
            tries = await self._store.delivery_failed(delivery, note=repr(error), again_in=AGAIN_IN)
            self._metrics.deliveries.labels(delivery.source, "failed").inc()
            logger().exception("delivery_failed", delivery=delivery.id, tries=tries, problem=str(error))
            return
        self._metrics.deliveries.labels(delivery.source, "routed").inc()
        self._metrics.alerts.labels(delivery.source).inc(len(routed))
        logger().info("delivery_routed", delivery=delivery.id, source=delivery.source_name, alerts=len(routed))

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

    async def _again(self, instances: Sequence[Instance]) -> None:
        """Route instances whose time has come: the end of a rule's ``for``, or an incident that moved."""
        alerts = [alert_of(one) for one in instances]
        previous = {one.instance: one for one in instances}
        routed = await self.judge(alerts, previous=previous)
        ours = [replace(one, again=True) for one in routed]
        await self._store.route(ours, delivery=None, state=DeliveryState.ROUTED, note="", shape="")

    async def judge(self, alerts: Sequence[Alert], *, previous: Mapping[str, Instance] | None = None) -> list[RoutedAlert]:
        """Judge alerts: rules, targets, seeds. Reads the store and, for alerts that no incident holds, clusters."""
        known = dict(await self._store.known([one.instance for one in alerts])) if previous is None else dict(previous)
        return list(await asyncio.gather(*(self._judge_one(one, known.get(one.instance)) for one in alerts)))

    async def _judge_one(self, alert: Alert, known: Instance | None) -> RoutedAlert:
        now = self._clock.now()
        if alert.test:
            return RoutedAlert(alert=alert, why=Reason.TEST_ALERT)
        matched = self._rulebook.index.candidates(alert)
        names = tuple(rule.name for rule, _ in matched)
        if alert.status is AlertStatus.RESOLVED:
            return RoutedAlert(alert=alert, rules=names)
        if not matched:
            return RoutedAlert(alert=alert, why=Reason.UNMATCHED)
        # a rule with a target that still waits for its `for` has matched already: no backstop meanwhile
        matched = tuple(one for one in matched if one[0].target.kind is not TargetKind.NONE) or matched
        ready = [rule for rule, match in matched if alert.started_at is None or now - alert.started_at >= match.for_]
        later = [
            alert.started_at + match.for_
            for rule, match in matched
            if alert.started_at is not None and now - alert.started_at < match.for_
        ]
        wake_at = min(later) if later else None
        if not ready:
            return RoutedAlert(alert=alert, rules=names, why=Reason.GROUP_WAIT, wake_at=wake_at)
        async with self._slots:
            aims = await self._aim(alert, ready)
        before = await self._before(known)
        seeds = self._seeds(alert, aims, now=now, before=before)
        pinned = {aim.rule.digest: aim.rule.document for aim in aims}
        return RoutedAlert(alert=alert, rules=tuple(rule.name for rule in ready), seeds=seeds, wake_at=wake_at, pinned=pinned)

    async def _aim(self, alert: Alert, rules: Sequence[Rule]) -> list[Aim]:
        """Find every rule's target; ``target: none`` is asked only when no rule with a target matched."""
        aimed = [rule for rule in rules if rule.target.kind is not TargetKind.NONE]
        chosen = aimed or list(rules)
        return [Aim(rule=rule, found=await self._targeting.find(rule, alert)) for rule in chosen]

    async def _before(self, known: Instance | None) -> Incident | None:
        """Return the incident that held this instance and moved: its opening time and acknowledgement are kept."""
        if known is None or not known.incident:
            return None
        incident = await self._store.incident(known.incident)
        return incident if incident is not None and incident.phase is Phase.CLOSED and incident.reason is Reason.MOVED else None

    def _seeds(self, alert: Alert, aims: Sequence[Aim], *, now: datetime, before: Incident | None) -> tuple[Incident, ...]:
        """Return at most one armed and one shadow incident: ranked separately, each with the first target that resolves."""
        seeds: list[Incident] = []
        for mode in (Mode.ARMED, Mode.SHADOW):
            mine = [aim for aim in aims if (self._rulebook.armed(aim.rule.name, aim.found.target) == (mode is Mode.ARMED))]
            if mine:
                seeds.append(self._seed(alert, mine, mode, now=now, before=before))
        return tuple(seeds)

    def _seed(self, alert: Alert, aims: Sequence[Aim], mode: Mode, *, now: datetime, before: Incident | None) -> Incident:
        first = next((aim for aim in aims if aim.found.resolved), None) or next(
            (aim for aim in aims if aim.found.literal), aims[0]
        )
        target = first.found.target
        same = [aim for aim in aims if aim.found.target.identity == target.identity]
        rule = first.rule
        candidates = in_order([Candidate(rule=aim.rule.name, digest=aim.rule.digest, priority=aim.rule.priority) for aim in same])
        seed = Incident(
            id=incident_id(now),
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
        if before is not None and mode is before.mode:
            kept = replace(
                seed.escalation,
                acknowledged_by=before.escalation.acknowledged_by,
                acknowledged_at=before.escalation.acknowledged_at,
            )
            seed = replace(seed, opened_at=min(before.opened_at, now), escalation=kept)
        return seed


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
