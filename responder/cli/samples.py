"""Test alerts of every kind, in the exact shape of real ones. Each is marked so that the service lists it and never acts on it.

Azure's are what "Test action group" sends (protocols.md 1.8: a constant subscription, rules named ``test-…``) and, beyond that, managed Prometheus, which
Azure does not test. Alertmanager's and Event Grid's bear our own mark ``responder_test``, for theirs have none.

The decision a reader would question: they are written here and not taken from the tests' corpus. What an installation sends must be in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from responder.model.alert import SourceKind

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/test-RG"
ALERT_ID = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.AlertsManagement/alerts/12345678-1234-1234-1234-1234567890ab"
CLUSTER = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/test-RG/providers/Microsoft.ContainerService/managedClusters/test-cluster"
)
PORTAL = "https://portal.azure.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One test alert: its kind for people, the format it is posted in, and its body."""

    kind: str
    source: SourceKind
    body: Any


def samples(*, now: datetime, mark: str, labels: Mapping[str, str]) -> list[Sample]:
    """Return one test alert of every kind.

    Args:
        now: UTC; two runs differ by it, so that the second is no repeat of the first.
        mark: Found again on every alert, as the label or annotation ``responder_test``.
        labels: For Prometheus' alerts, by which rules and targets are found, such as ``namespace`` and ``deployment``.
    """
    return [*_alertmanager(now, mark, labels), *_azure(now, mark, labels), *_event_grid(now, mark)]


def _alertmanager(now: datetime, mark: str, labels: Mapping[str, str]) -> list[Sample]:
    named = {"alertname": "KubePodCrashLooping", "namespace": "test", "severity": "warning", **labels, "responder_test": mark}
    alert = {
        "labels": named,
        "annotations": {"summary": "A test of Responder: nothing is done about it"},
        "startsAt": now.isoformat().replace("+00:00", "Z"),
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": "0123456789abcdef",
    }
    shared = {
        "version": "4", "groupKey": '{}:{alertname="KubePodCrashLooping"}', "truncatedAlerts": 0, "receiver": "responder",
        "groupLabels": {"alertname": named["alertname"]}, "commonLabels": named, "commonAnnotations": alert["annotations"],
        "externalURL": "http://alertmanager.example",
    }  # fmt: skip
    ended = (now + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    firing = {**shared, "status": "firing", "alerts": [{**alert, "status": "firing", "endsAt": "0001-01-01T00:00:00Z"}]}
    resolved = {**shared, "status": "resolved", "alerts": [{**alert, "status": "resolved", "endsAt": ended}]}
    return [
        Sample(kind="firing", source=SourceKind.ALERTMANAGER, body=firing),
        Sample(kind="resolved", source=SourceKind.ALERTMANAGER, body=resolved),
    ]


def _azure(now: datetime, mark: str, labels: Mapping[str, str]) -> list[Sample]:
    at = now.isoformat().replace("+00:00", "Z")
    before = (now - timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
    window = {"windowStartTime": before, "windowEndTime": at}
    named = {"alertname": "KubePodCrashLooping", "cluster": "test", "namespace": "test", **labels}

    def metric(condition: str, **more: Any) -> dict[str, Any]:
        one = {
            "metricName": "kube_pod_status_phase", "metricNamespace": "Microsoft.ContainerService/managedClusters", "operator": "GreaterThan",
            "threshold": "0", "timeAggregation": "Average", "dimensions": [{"name": "namespace", "value": "test"}], "metricValue": 1.0, **more,
        }  # fmt: skip
        return {"conditionType": condition, "condition": {"windowSize": "PT5M", "allOf": [one], **window}}

    def log_v1(kind: str) -> dict[str, Any]:
        return {
            "SearchQuery": "KubePodInventory | where PodStatus == 'Failed'", "SearchIntervalStartTimeUtc": before, "SearchIntervalEndtimeUtc": at,
            "ResultCount": 2, "Threshold": 0, "Operator": "Greater Than", "AlertType": kind, "LinkToSearchResults": PORTAL,
            "Dimensions": [{"name": "Computer", "value": "test-node"}], "IncludedSearchResults": "False",
        }  # fmt: skip

    event = {
        "authorization": {"action": "Microsoft.ContainerService/managedClusters/write", "scope": CLUSTER}, "channels": "Operation",
        "caller": "test@example.com", "correlationId": mark, "eventSource": "Administrative", "eventTimestamp": at, "eventDataId": mark,
        "level": "Informational", "operationName": "Microsoft.ContainerService/managedClusters/write", "status": "Succeeded", "subStatus": "",
    }  # fmt: skip
    query = {
        "searchQuery": "KubeEvents", "metricMeasureColumn": None, "targetResourceTypes": "['microsoft.containerservice/managedclusters']",
        "operator": "GreaterThan", "threshold": "0", "timeAggregation": "Count", "dimensions": [{"name": "Computer", "value": "test-node"}],
        "metricValue": 3.0, "failingPeriods": {"numberOfEvaluationPeriods": 1, "minFailingPeriodsToAlert": 1}, "event": None,
    }  # fmt: skip
    budget = {
        "Scope": f"/subscriptions/{SUBSCRIPTION}/",
        "BudgetName": "test-budget",
        "SpentAmount": "$50.00",
        "Unit": "USD",
        "BudgetThreshold": "$50.00",
    }
    kinds: list[tuple[str, str, str, dict[str, Any]]] = [
        ("metricstaticthreshold", "Platform", "Metric", metric("SingleResourceMultipleMetricCriteria")),
        ("metricsdynamicthreshold", "Platform", "Metric", metric("DynamicThresholdCriteria", alertSensitivity="Low", ignoreDataBefore=None)),
        ("webtestalert", "Platform", "Metric", metric("WebtestLocationAvailabilityCriteria", webTestName="test-webtest")),
        ("logalertv2", "Log Alerts V2", "Log", {"conditionType": "LogQueryCriteria", "condition": {"windowSize": "PT5M", "allOf": [query], **window}}),
        ("logalertv1numresult", "Log Analytics", "Log", log_v1("Number of results")),
        ("logalertv1metricmeasurement", "Log Analytics", "Log", log_v1("Metric measurement")),
        (
            "smartalert", "SmartDetector", "Log",
            {"DetectionSummary": "A rise in failures", "DetectedValue": "50%", "NormalValue": "1%", "SmartDetectorName": "Failure Anomalies"},
        ),
        ("activitylog", "Activity Log - Administrative", "Activity Log", event),
        (
            "servicehealth", "ServiceHealth", "Activity Log",
            {
                **event, "eventSource": 2, "level": 3, "channels": 1,
                "properties": {
                    "title": "Test Action Group - Test Service Health Alert", "service": "Azure Kubernetes Service", "region": "Global",
                    "incidentType": "Incident", "trackingId": "TEST-TTT", "stage": "Active", "communicationId": mark, "IsSynthetic": "True",
                    "impactedServices": [{"ImpactedRegions": [{"RegionName": "Global"}], "ServiceName": "Azure Kubernetes Service"}],
                },
            },
        ),
        (
            "resourcehealth", "Resource Health", "Activity Log",
            {
                **event, "eventSource": "ResourceHealth",
                "properties": {
                    "title": "Unavailable", "currentHealthStatus": "Unavailable", "previousHealthStatus": "Available", "type": "Downtime",
                    "cause": "PlatformInitiated",
                },
            },
        ),
        ("actualcostbudget", "CostAlerts", "", {"AlertCategory": "Budgets", "AlertData": {**budget, "ThresholdType": "Actual"}}),
        ("forecastedbudget", "CostAlerts", "", {"AlertCategory": "Budgets", "AlertData": {**budget, "ThresholdType": "Forecasted"}}),
        (
            "prometheus", "Prometheus", "Metric",
            {
                "interval": "PT1M", "expression": "rate(kube_pod_container_status_restarts_total[10m]) > 0", "expressionValue": "1",
                "for": "PT5M", "labels": named, "annotations": {}, "ruleGroup": f"{GROUP}/providers/Microsoft.AlertsManagement/prometheusRuleGroups/test",
            },
        ),
    ]  # fmt: skip
    found = []
    for place, (kind, service, signal, context) in enumerate(kinds):
        fired_at = now + timedelta(milliseconds=place)  # Azure's tests share one alert id, and are told apart by their time alone
        essentials = {
            "alertId": ALERT_ID, "alertRule": f"test-{kind}", "severity": "Sev3", "signalType": signal, "monitorCondition": "Fired",
            "monitoringService": service, "alertTargetIDs": [CLUSTER], "configurationItems": ["test-cluster"], "originAlertId": mark,
            "firedDateTime": fired_at.isoformat().replace("+00:00", "Z"), "description": "A test of Responder: nothing is done about it",
            "essentialsVersion": "1.0", "alertContextVersion": "1.0",
        }  # fmt: skip
        data = {"essentials": essentials, "alertContext": context, "customProperties": {"responder_test": f"{mark}-{kind}"}}
        body = {"schemaId": "azureMonitorCommonAlertSchema", "data": data}
        found.append(Sample(kind=kind, source=SourceKind.AZURE_MONITOR, body=body))
    return found


def _event_grid(now: datetime, mark: str) -> list[Sample]:
    at = now.isoformat().replace("+00:00", "Z")
    topic = f"/subscriptions/{SUBSCRIPTION}"
    machine = f"{topic}/resourceGroups/MC_test/providers/Microsoft.Compute/virtualMachineScaleSets/aks-test-12345678-vmss/virtualMachines/0"
    planned = {
        "eventId": mark, "eventSource": "AutoUpgrader", "eventStatus": "Scheduled", "eventDetails": "A test of Responder", "scheduledTime": at,
        "resources": [CLUSTER], "resourceType": "ManagedCluster",
    }  # fmt: skip
    annotated = {
        "targetResourceId": machine,
        "annotationName": "VirtualMachineRebootInitiatedByControlPlane",
        "reason": "A test",
        "context": "Platform Initiated",
    }
    health = {"targetResourceId": machine, "availabilityState": "Unavailable", "previousAvailabilityState": "Available"}
    notified = "Microsoft.ResourceNotifications"
    kinds: list[tuple[str, str, str, dict[str, Any]]] = [
        *(
            (f"NodePoolRolling{how}", CLUSTER, f"Microsoft.ContainerService.NodePoolRolling{how}", {"nodePoolName": "test"})
            for how in ("Started", "Succeeded", "Failed")
        ),
        (
            "ScheduledEvent",
            topic,
            f"{notified}.ContainerServiceEventResources.ScheduledEventEmitted",
            {"resourceInfo": {"properties": planned}},
        ),
        (
            "AvailabilityStatusChanged",
            topic,
            f"{notified}.HealthResources.AvailabilityStatusChanged",
            {"resourceInfo": {"properties": health}},
        ),
        (
            "ResourceAnnotated",
            topic,
            f"{notified}.HealthResources.ResourceAnnotated",
            {"resourceInfo": {"properties": annotated}},
        ),
    ]
    found = []
    for place, (kind, source, event_type, data) in enumerate(kinds):
        name = f"{mark}-{kind}"
        if place % 2:
            event: Any = {
                "specversion": "1.0", "id": name, "type": event_type, "source": source, "subject": "test-cluster", "time": at, "data": data,
                "respondertest": name,
            }  # fmt: skip
        else:
            event = [
                {
                    "id": name, "topic": source, "subject": "test-cluster", "eventType": event_type, "eventTime": at, "dataVersion": "1",
                    "metadataVersion": "1", "data": {**data, "responder_test": name},
                }
            ]  # fmt: skip
        found.append(Sample(kind=kind, source=SourceKind.EVENT_GRID, body=event))
    return found
