"""Alertmanager's webhook, versions 4, 3 and older, and bodies that others made in its image. Source: protocols.md 2.1, 2.2.

State is each alert's own, never the group's: a truncated group may say resolved while cut alerts fire.

The decision a reader would question: an instance's start is cut to milliseconds. The webhook says it to the nanosecond and Alertmanager's API to the
millisecond (``strfmt.DateTime``), and both must name the same firing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from responder.model.alert import Alert, AlertStatus, Normalised, SourceKind, fingerprint, severity_of
from responder.sources.normalised import TEST, instant, labels_of, mapping, text, unknown

_STATUSES: Mapping[str, AlertStatus] = {str(one): one for one in AlertStatus}


def alerts_of(body: Any, *, source_name: str, received_at: datetime) -> Normalised:
    """Return the alerts of a webhook body."""
    data = mapping(body)
    raw = data.get("alerts")
    if not isinstance(raw, list):
        return unknown("no array 'alerts': not an Alertmanager webhook body")
    gaps: list[str] = []
    alerts: list[Alert] = []
    sender = f"{SourceKind.ALERTMANAGER}/{source_name}"
    for place, one in enumerate(raw):
        if not isinstance(one, dict) or not isinstance(one.get("labels"), dict):
            gaps.append(f"alerts[{place}] has no labels and was left out")
            continue
        alerts.append(_alert(one, data, sender=sender, source_name=source_name, received_at=received_at, gaps=gaps))
    if raw and not alerts:
        return unknown("none of its alerts has labels: not an Alertmanager webhook body")
    cut = data.get("truncatedAlerts")
    if isinstance(cut, (int, float)) and cut > 0:
        receiver = text(data.get("receiver")).replace("\\", "")
        gaps.append(f"{int(cut)} alerts were cut before they were sent: raise max_alerts of receiver {receiver or '(unnamed)'}")
    version = text(data.get("version")) or ("4" if "groupKey" in data else "0")
    return Normalised(alerts=tuple(alerts), gaps=tuple(gaps), shape=f"alertmanager-v{version}")


def _alert(
    one: Mapping[str, Any], envelope: Mapping[str, Any], *, sender: str, source_name: str, received_at: datetime, gaps: list[str]
) -> Alert:
    labels = labels_of(one.get("labels"), gaps)
    name = labels.get("alertname") or labels.get("alertName") or ""
    if name:
        labels.setdefault("alertname", name)
    status = _status(one, envelope, received_at)
    started_at = instant(one.get("startsAt"))
    mark = fingerprint(sender, labels)
    said = labels.get("severity", "")
    return Alert(
        source=SourceKind.ALERTMANAGER,
        source_name=source_name,
        name=name,
        status=status,
        severity=severity_of(label=said, sender=""),
        sender_severity=said,
        labels=labels,
        annotations=labels_of(one.get("annotations"), gaps),
        fingerprint=mark,
        instance=f"{mark}/{_to_the_millisecond(started_at) if started_at else text(one.get('startsAt'))}",
        started_at=started_at,
        ended_at=instant(one.get("endsAt")) if status is AlertStatus.RESOLVED else None,
        test=bool(labels.get(TEST)),
        link=text(one.get("generatorURL")),
    )


def _to_the_millisecond(at: datetime) -> str:
    return at.replace(microsecond=at.microsecond // 1000 * 1000).isoformat()


def _status(one: Mapping[str, Any], envelope: Mapping[str, Any], received_at: datetime) -> AlertStatus:
    """Return the alert's own word; else what ``endsAt`` says; else the group's."""
    said = _STATUSES.get(text(one.get("status")).lower())
    if said is not None:
        return said
    ended = instant(one.get("endsAt"))
    if ended is not None and ended <= received_at:
        return AlertStatus.RESOLVED
    group = text(envelope.get("status")).lower()
    return AlertStatus.RESOLVED if group == "resolved" and ended is None else AlertStatus.FIRING
