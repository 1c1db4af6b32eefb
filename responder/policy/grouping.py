"""What makes alerts one instance, and instances one incident.

Pure rules that the store applies inside its routing transaction and that ``rehearse`` applies in memory. Never here: how
targets are found (``targets``) or what an incident does (``decide``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from responder.model.alert import Alert, AlertStatus
from responder.model.incident import Incident, Instance, Mode
from responder.model.reason import Reason
from responder.model.target import Target

FORGET_STATELESS = timedelta(minutes=15)
"""A sender that never resolves: not seen for this long, its instance no longer counts as firing."""

FORGET = timedelta(hours=24)
"""Any other sender. Source: ARCHITECTURE.md "How an incident lives"."""


def key_of(mode: Mode, target: Target) -> str:
    """Return what makes alerts one incident: mode, cluster and target."""
    return f"{mode}:{target.identity}"


def merge(known: Instance | None, alert: Alert, *, now: datetime, rules: tuple[str, ...] = ()) -> Instance:
    """Fold one received alert into its instance.

    The last one received counts, but for senders whose Resolved is final (it may overtake its Fired): there a Resolved
    once seen stays. Rules add up; labels are those of the newest. One that could not be read is whole again.

    Args:
        known: The instance as stored; None when it is new.
        alert: As received.
        now: When it was received.
        rules: Names of the rules that it matched now.
    """
    if known is None:
        return begun(alert, now=now, rules=rules)
    final = alert.resolved_is_final and known.status is AlertStatus.RESOLVED
    return Instance(
        instance=known.instance,
        fingerprint=known.fingerprint,
        source=known.source or alert.source,
        source_name=known.source_name or alert.source_name,
        name=alert.name or known.name,
        status=AlertStatus.RESOLVED if final else alert.status,
        severity=alert.severity,
        labels=alert.labels,
        annotations=alert.annotations,
        value=alert.value if alert.value is not None else known.value,
        started_at=known.started_at or alert.started_at,
        first_seen_at=known.first_seen_at,
        seen_at=max(now, known.seen_at),
        resolves=known.resolves and alert.resolves,
        rules=known.rules + tuple(rule for rule in rules if rule not in known.rules),
        incident=known.incident,
        shadow_incident=known.shadow_incident,
        why=known.why,
        count=known.count + 1,
        link=alert.link or known.link,
    )


def begun(alert: Alert, *, now: datetime, rules: tuple[str, ...] = (), incident: str = "", shadow_incident: str = "") -> Instance:
    """Return the instance of an alert that is heard of for the first time, held by these incidents.

    It shares the alert's labels and annotations: neither is ever changed.
    """
    return Instance(
        instance=alert.instance,
        fingerprint=alert.fingerprint,
        source=alert.source,
        source_name=alert.source_name,
        name=alert.name,
        status=alert.status,
        severity=alert.severity,
        labels=alert.labels,
        annotations=alert.annotations,
        value=alert.value,
        started_at=alert.started_at,
        first_seen_at=now,
        seen_at=now,
        resolves=alert.resolves,
        rules=rules,
        incident=incident,
        shadow_incident=shadow_incident,
        link=alert.link,
    )


def carried(seed: Incident, moved: Incident) -> Incident:
    """Return the incident that goes on for one that moved: opening time and acknowledgement are kept."""
    if seed.mode is not moved.mode or moved.reason is not Reason.MOVED:
        return seed
    kept = replace(
        seed.escalation, acknowledged_by=moved.escalation.acknowledged_by, acknowledged_at=moved.escalation.acknowledged_at
    )
    return replace(seed, opened_at=min(moved.opened_at, seed.opened_at), escalation=kept)


def fires(instance: Instance, *, now: datetime) -> bool:
    """Tell whether an instance counts as firing: said so, and heard of lately enough."""
    forget = FORGET if instance.resolves else FORGET_STATELESS
    return instance.status is AlertStatus.FIRING and now - instance.seen_at < forget
