"""Event Grid's own schema and CloudEvents 1.0, one event or an array. Source: protocols.md 3.2; labels: FACTS.md.

Here: what an event says, as an alert. Never here: the webhook's handshakes, and what is done about an event (rules).

The decision a reader would question: an event never resolves. Its identity is source, type and id, so *Available* after *Unavailable* is
another event and not the end of the first; health is read from the cluster, and a rule tells the two apart by the label ``health``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from responder.model.alert import Alert, AlertStatus, Normalised, Severity, SourceKind, fingerprint, severity_of
from responder.policy import maintenance
from responder.sources.normalised import TEST, instant, labels_of, mapping, sequence, subscriptions_of, text, unknown

VALIDATION = "microsoft.eventgrid.subscriptionvalidationevent"
KNOWN_TYPES: Mapping[str, str] = {
    one.lower(): one
    for one in (
        *maintenance.EVENT_TYPES,
        *(
            f"Microsoft.ContainerService.{what}"
            for what in ("NewKubernetesVersionAvailable", "ClusterSupportEnding", "ClusterSupportEnded")
        ),
    )
}
"""Types that rules are written for, in one spelling: Azure does not keep to its own (``AKSResources``, ``AksResources``; protocols.md 3.2)."""

MOST_SCALARS = 60
_ARM = re.compile(r"^/subscriptions/[^/]+/", re.IGNORECASE)
_TYPE = re.compile(r"/providers/([^/]+)/([^/]+)/([^/]+)$", re.IGNORECASE)
_GROUP = re.compile(r"/resourcegroups/([^/]+)/", re.IGNORECASE)
_CLUSTER = re.compile(r"^(.*/managedclusters/[^/]+)", re.IGNORECASE)
_KIND = {"Pod", "Node", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet", "PersistentVolumeClaim"}
_BAD = ("failed", "failure", "unavailable")
_GOOD = (
    "available",
    "succeeded",
    "success",
    "started",
    "completed",
    "scheduled",
    "canceled",
    "created",
    "newkubernetesversionavailable",
)

LABELS: Mapping[str, str] = {
    "nodePoolName": "nodepool",
    "kubernetesVersion": "kubernetes_version",
    "latestStableKubernetesVersion": "kubernetes_version",
    "availabilityState": "health",
    "previousAvailabilityState": "previous_health",
    "annotationName": "annotation",
    "context": "health_cause",
    "category": "category",
    "impactType": "impact",
    "eventStatus": "event_status",
    "eventSource": "maintenance_source",
    "operationName": "operation",
    "status": "event_status",
    "resourceProvider": "resource_provider",
    "entityType": "entity_type",
    "queueName": "queue",
    "topicName": "topic",
    "subscriptionName": "subscription",
    "state": "state",
}
"""Fields of an event's data that tell one condition from another, and the labels they become; what is not here is an annotation."""

PERSONAL = frozenset({"claims", "authorization", "httpRequest"})
"""Who did it, with addresses and tokens' contents: neither matched nor shown. Source: protocols.md 3.2, ``Microsoft.Resources``."""


def is_event(body: Any) -> bool:
    """Tell whether an object is an event of either schema; a vendor's sample leaves ``specversion`` out, so it is not asked for."""
    data = mapping(body)
    named = bool(text(data.get("id")))
    grid = bool(text(data.get("eventType"))) and ("subject" in data or "topic" in data or "data" in data)
    cloud = bool(text(data.get("type"))) and "source" in data and not isinstance(data.get("source"), (dict, list))
    return named and (grid or (cloud and ("specversion" in data or "data" in data or "time" in data)))


def validation(body: Any) -> tuple[str, str] | None:
    """Return the topic and the code of a subscription's validation request; None when the body is none.

    Such a request is a single event, alone or as the only one of an array: one among others is not answered.
    """
    events = body if isinstance(body, list) else [body]
    if len(events) != 1 or not is_event(events[0]):
        return None
    event = mapping(events[0])
    code = text(mapping(event.get("data")).get("validationCode"))
    return (text(event.get("topic")), code) if code and text(event.get("eventType")).lower() == VALIDATION else None


def alerts_of(body: Any, *, source_name: str, received_at: datetime) -> Normalised:
    """Return one alert for each event of a body."""
    del received_at
    events = body if isinstance(body, list) else [body]
    gaps: list[str] = []
    alerts: list[Alert] = []
    shape = "unknown"
    for place, one in enumerate(events):
        if not is_event(one):
            gaps.append(f"[{place}] is no event (no id with eventType, or with type and source) and was left out")
            continue
        shape = "event-grid" if text(mapping(one).get("eventType")) else "cloud-event"
        alerts.append(_alert(mapping(one), source_name, gaps))
    if not alerts:
        return unknown("no event: neither Event Grid's schema (id, eventType, data) nor CloudEvents (id, type, source)")
    return Normalised(alerts=tuple(alerts), gaps=tuple(gaps), shape=shape)


def _alert(event: Mapping[str, Any], source_name: str, gaps: list[str]) -> Alert:
    said = text(event.get("eventType")) or text(event.get("type"))
    kind = KNOWN_TYPES.get(said.lower(), said)
    origin = text(event.get("topic")) or text(event.get("source"))
    subject = text(event.get("subject"))
    data = mapping(event.get("data"))
    properties = mapping(mapping(data.get("resourceInfo")).get("properties")) or data
    labels = {"alertname": kind, "event_type": kind, "subject": subject, "event_origin": origin}
    annotations: dict[str, str] = {}
    for name, value in list(properties.items())[:MOST_SCALARS]:
        if name not in PERSONAL and text(value):
            (labels if name in LABELS else annotations).setdefault(LABELS.get(name, str(name)), text(value))
    _kubernetes(properties, labels, annotations)
    if not data:
        annotations |= {name: text(event.get(name)) for name in ("data", "data_base64") if text(event.get(name))}
    ids = _resources(event, data, properties)
    labels |= _place(ids)
    annotations["cluster_id"] = next((one[1].lower() for each in ids if (one := _CLUSTER.match(each))), "")
    annotations[TEST] = text(data.get(TEST)) or text(
        event.get(TEST.replace("_", ""))
    )  # CloudEvents' attributes have no underscore
    if text(event.get("deadLetterReason")):
        gaps.append(f"Event Grid had given event {text(event.get('id'))} up: {text(event.get('deadLetterReason'))}")
    labels["severity"] = text(data.get("severity")) or _severity(kind, labels)
    labels = labels_of({name: value for name, value in labels.items() if value}, gaps)
    return Alert(
        source=SourceKind.EVENT_GRID,
        source_name=source_name,
        name=kind,
        status=AlertStatus.FIRING,
        severity=severity_of(label=labels.get("severity", ""), sender=""),
        labels=labels,
        annotations=labels_of({name: value for name, value in annotations.items() if value}, gaps),
        fingerprint=fingerprint(f"{SourceKind.EVENT_GRID}/{source_name}", labels),
        instance=f"event/{origin.lower()}/{kind.lower()}/{text(event.get('id'))}",
        started_at=instant(event.get("eventTime")) or instant(event.get("time")),
        resource_ids=tuple(dict.fromkeys(one.lower() for one in ids)),
        subscriptions=subscriptions_of(origin, *ids),
        resolves=False,
        test=kind.lower() == VALIDATION or bool(annotations[TEST]),
    )


def _kubernetes(data: Mapping[str, Any], labels: dict[str, str], annotations: dict[str, str]) -> None:
    """Read a Kubernetes event that a bridge wrapped: what it is about becomes the labels that targets are found by."""
    about = mapping(data.get("involvedObject"))
    if not about:
        return
    labels["namespace"] = text(about.get("namespace"))
    labels["reason"] = text(data.get("reason"))
    annotations.pop("reason", None)
    if text(about.get("kind")) in _KIND:
        labels[text(about.get("kind")).lower()] = text(about.get("name"))


def _resources(event: Mapping[str, Any], data: Mapping[str, Any], properties: Mapping[str, Any]) -> list[str]:
    """Return ARM ids, most specific first: what the event is about, then the cluster it belongs to, then its topic."""
    named = [
        text(properties.get("targetResourceId")),
        text(data.get("resourceUri")),
        *[text(one) for one in sequence(properties.get("resources"))],
        text(event.get("subject")),
        text(event.get("topic")) or text(event.get("source")),
    ]
    found = [one for one in named if _ARM.match(one)]
    clusters = [match[1] for one in found if (match := _CLUSTER.match(one))]
    return list(dict.fromkeys([*found, *clusters]))


def _place(ids: list[str]) -> dict[str, str]:
    most = ids[0] if ids else ""
    found, group = _TYPE.search(most), _GROUP.search(most)
    return {
        "resource": found[3] if found else "",
        "resource_type": f"{found[1]}/{found[2]}".lower() if found else "",
        "resource_group": group[1] if group else "",
    }


def _severity(kind: str, labels: Mapping[str, str]) -> str:
    """Return our word for how bad an event is, which no event says itself: failed and unavailable, or the expected, else unknown."""
    said = (labels.get("health", ""), labels.get("event_status", ""), kind.rsplit(".", 1)[-1])
    words = [one.lower() for one in said if one]
    if any(one.endswith(_BAD) for one in words):
        return Severity.ERROR
    if any(one.endswith(_GOOD) for one in words):
        return Severity.INFO
    return ""
