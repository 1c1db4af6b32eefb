"""What we say ourselves, as alerts: our watches of a cluster (with kubernetes-mixin's names and labels), and our look at ourselves.

The body is ours (``service.watcher`` writes it) and goes the way of every delivery: stored, then understood here. Identity is the object's UID and
not the start: two replicas that watch one cluster say the same alert.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from responder.model.alert import Alert, AlertStatus, Normalised, SourceKind, fingerprint, severity_of
from responder.sources.normalised import instant, labels_of, mapping, sequence, text, unknown

FORMAT = 1


def watched(body: Any, *, source_name: str, received_at: datetime) -> Normalised:
    """Return the alerts of a body that a watch of a cluster wrote."""
    del received_at
    return _alerts_of(body, SourceKind.KUBERNETES, source_name)


def ourselves(body: Any, *, source_name: str, received_at: datetime) -> Normalised:
    """Return the alerts of a body about ourselves and our senders."""
    del received_at
    return _alerts_of(body, SourceKind.RESPONDER, source_name)


def _alerts_of(body: Any, source: SourceKind, source_name: str) -> Normalised:
    data = mapping(body)
    if data.get("format") != FORMAT:
        return unknown(f"no 'format': {FORMAT}: not written by a watch of ours")
    gaps: list[str] = []
    alerts = tuple(_alert(mapping(one), source, source_name, gaps) for one in sequence(data.get("alerts")))
    return Normalised(alerts=alerts, gaps=tuple(gaps), shape="own")


def _alert(one: Any, source: SourceKind, source_name: str, gaps: list[str]) -> Alert:
    labels = labels_of(one.get("labels"), gaps)
    firing = text(one.get("status")) == "firing"
    mark = fingerprint(f"{source}/{source_name}", labels)
    return Alert(
        source=source,
        source_name=source_name,
        name=labels.get("alertname", ""),
        status=AlertStatus.FIRING if firing else AlertStatus.RESOLVED,
        severity=severity_of(label=labels.get("severity", ""), sender=""),
        sender_severity=labels.get("severity", ""),
        labels=labels,
        annotations=labels_of(one.get("annotations"), gaps),
        fingerprint=mark,
        instance=f"{mark}/{text(one.get('id'))}",
        started_at=instant(one.get("startsAt")),
        ended_at=None if firing else instant(one.get("endsAt")),
    )
