"""Opens the one parent incident of a storm, as an alert of our own (source ``responder``).

Never here: when a storm is one (``policy.permission``), or when it is over (``policy.decide``).
"""

from __future__ import annotations

from datetime import datetime

from responder.model.alert import Alert, AlertStatus, Severity, SourceKind, fingerprint
from responder.model.incident import Incident, Mode
from responder.model.storing import RoutedAlert
from responder.model.target import Target, TargetKind
from responder.policy.decide import STORM
from responder.policy.grouping import key_of
from responder.policy.guards import Limits
from responder.service.names import incident_id


def storm_target(cluster: str, symptom: str) -> Target:
    """Return what a storm's incident is about."""
    return Target(kind=TargetKind.NONE, cluster=cluster, name=f"storm {symptom}")


def storm_key(incident: Incident) -> str:
    """Return the key of the parent that would hold this incident."""
    return key_of(Mode.ARMED, storm_target(incident.cluster, incident.symptom))


def storm_alert(child: Incident, *, now: datetime, limits: Limits) -> RoutedAlert:
    """Return the storm as an alert of our own with the seed of its incident."""
    labels = {"alertname": "ResponderStorm", "cluster": child.cluster, "symptom": child.symptom, "severity": "critical"}
    said = f"more than {limits.same_symptom.count} targets with the symptom {child.symptom} within {limits.same_symptom.window}: a common cause"
    mark = fingerprint("responder", labels)
    alert = Alert(
        source=SourceKind.RESPONDER,
        source_name="responder",
        name="ResponderStorm",
        status=AlertStatus.FIRING,
        severity=Severity.CRITICAL,
        labels=labels,
        annotations={"summary": said},
        fingerprint=mark,
        instance=f"{mark}/{int(now.timestamp())}",
        started_at=now,
        resolves=False,
    )
    target = storm_target(child.cluster, child.symptom)
    seed = Incident(
        id=incident_id(now),
        key=key_of(Mode.ARMED, target),
        mode=Mode.ARMED,
        effective=Mode.ARMED,
        cluster=child.cluster,
        target=target,
        symptom=f"{STORM}{child.symptom}",
        title=f"Storm: many targets with {child.symptom}",
        severity=Severity.CRITICAL,
        opened_at=now,
        phase_since=now,
        detail=said,
        evidence_at=now,
    )
    return RoutedAlert(alert=alert, rules=(), seeds=(seed,))
