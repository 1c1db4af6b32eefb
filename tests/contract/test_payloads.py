"""Every real payload is taken in without loss. They are read from ``../shared/payloads`` when that is there, and never copied."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.alert import Alert, AlertStatus, Severity, SourceKind
from responder.sources import SOURCES

PAYLOADS = Path(__file__).resolve().parents[2].parent / "shared" / "payloads"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AM, AZ = SourceKind.ALERTMANAGER, SourceKind.AZURE_MONITOR
F, R = AlertStatus.FIRING, AlertStatus.RESOLVED
C, E, W, I = Severity.CRITICAL, Severity.ERROR, Severity.WARNING, Severity.INFO  # noqa: E741

# file: (name, severity, status, value, test, some labels)
EXPECTED: dict[str, tuple[str, Severity, AlertStatus, float | None, bool, dict[str, str]]] = {
    "alertmanager/real-0.25-firing.json": ("KubePodCrashLooping", C, F, None, False, {"namespace": "shop", "cluster": "aks-prod-weu"}),
    "alertmanager/real-0.25-resolved.json": ("KubePodCrashLooping", C, R, None, False, {"namespace": "pay"}),
    "alertmanager/real-0.25-firing-node.json": ("KubeNodeNotReady", W, F, None, False, {}),
    "alertmanager/real-0.25-firing-truncated.json": ("KubePodCrashLooping", C, F, None, False, {}),
    "alertmanager/real-0.25-firing-amtool.json": ("Manual", I, F, None, False, {}),
    "alertmanager/real-0.25-resolved-amtool.json": ("Manual", I, R, None, False, {}),
    "alertmanager/fixture-severity-sev1.json": ("ProductionOutage", E, F, None, False, {"severity": "Sev1"}),
    "alertmanager/fixture-k8s-highmemory-firing.json": ("HighMemoryUsage", W, F, None, False, {}),
    "alertmanager/fixture-k8s-highmemory-resolved.json": ("HighMemoryUsage", W, R, None, False, {}),
    "alertmanager/v3-servicenow-resolved.json": ("something_happened", W, R, None, False, {}),
    "alertmanager/v3-failedconnect-firing.json": ("failedConnect", C, F, None, False, {}),
    "alertmanager/v4-fire-firing.json": ("Fire", C, F, None, False, {}),
    "alertmanager/v4-fire-resolved.json": ("Fire", C, R, None, False, {}),
    "alertmanager/v4-heartbeat-firing.json": ("Heartbeat", W, F, None, False, {}),
    "alertmanager/v4-probefailure-firing.json": ("ProbeFailure", C, F, None, False, {}),
    "alertmanager/v4-wechat-resolved-noversion.json": ("xxxx", W, R, None, False, {}),
    "azure-monitor/classic-activated-with-metrics.json": ("ruleName1", W, F, 10.0, False, {"metric": "Requests", "resource": "mysite1"}),
    "azure-monitor/classic-resolved-with-metrics.json": ("ruleName1", W, R, 10.0, False, {"metric": "Requests"}),
    "azure-monitor/classic-metric-activated-b.json": ("Alert_1_runscope12", W, F, 1032190976.0, False, {"metric": "Memory available"}),
    "azure-monitor/common-logv2-vm-fired.json": ("AcmeRule", I, F, 0.0, False, {"resource": "testvm", "monitor": "Log Alerts V2"}),
    "azure-monitor/doc-metric-resolved-customproperties-variant.json": ("WCUS-R2-Gen2", W, R, 7.727, False, {"metric": "Percentage CPU", "Key1": "Value1"}),
    "azure-monitor/fixture-prometheus-podhealth-fired.json": ("Azure Pod Health Degraded (microservices-prod)", W, F, 3.0, False, {"cluster": "microservices-prod", "namespace": "default"}),
    "azure-monitor/real-prometheus-aks-nodecpu-fired-2022.json": ("Average node CPU utilization is greater than 80%", I, F, 0.0127, False, {"cluster": "aks0001", "monitor": "Prometheus"}),
    "azure-monitor/real-metric-adf-fired-2025.json": ("alert-adf-rule-001", W, F, 1.0, False, {"metric": "PipelineFailedRuns", "resource_group": "rg-sg-nickdev001"}),
    "azure-monitor/real-logv2-adf-fired-2025.json": ("alert-adf-rule-002", W, F, 4.0, False, {"resource": "MyNICKADF001"}),
    "azure-monitor/real-logv2-subscription-scope-usgov-fired.json": ("FsLogix - Service is Stopped", E, F, 1.0, False, {"SvcName": "frxsvc"}),
    "azure-monitor/real-metric-logicapp-resolved-2021.json": ("metric-webhook-runs-failed", W, R, 0.0, False, {"metric": "RunsFailed"}),
    "azure-monitor/real-appinsights-logv1-fired-2021.json": ("Exception", W, F, 4.0, False, {"monitor": "Application Insights"}),
    "azure-monitor/legacy-metric-static.json": ("test-metricAlertRule", W, F, 100.0, False, {"metric": "Transactions", "ApiName": "GetBlob"}),
    "azure-monitor/real-legacy-metric-deactivated-2018.json": ("CpuUtilHigh", W, R, 85.0, False, {"resource": "web01"}),
    "azure-monitor/real-legacy-metric-multiresource-deactivated-2019.json": ("CPU greater than 25", W, R, 8.44, False, {"resource": "Window10"}),
    "azure-monitor/legacy-resourcehealth.json": ("Microsoft.Resourcehealth/healthevent/Activated/action", I, F, None, False, {"health": "Unavailable", "health_cause": "UserInitiated"}),
    "azure-monitor/legacy-servicehealth-incident.json": ("Virtual Machines - Australia East", I, F, None, False, {"region": "Australia East", "incident_type": "Incident", "tracking_id": "0NIH-U2O"}),
    "azure-monitor/legacy-security-ssh-bruteforce.json": ("Microsoft.Security/locations/alerts/activate/action", W, F, None, False, {"monitor": "Activity Log - Security"}),
    "azure-monitor/legacy-budget.json": ("test-budgetName", W, F, 1111.32, False, {"budget": "test-budgetName"}),
    "azure-monitor/legacy-logv1-metricmeasurement.json": ("test-logAlertRule-v1-metricMeasurement", W, F, 2.0, False, {}),
    "azure-monitor/synthetic-unknown-service.json": ("Future signal type", W, F, None, True, {"monitor": "SomeFutureService"}),
    "azure-monitor/test-activitylog-administrative-2024.json": ("test-activityLogAlertRule", I, F, None, True, {}),
    "azure-monitor/test-budget-generic.json": ("budgets", W, F, 999.99, True, {"monitor": "CostAlerts"}),
    "azure-monitor/test-logv2-2021.json": ("test-logAlertRule-v2", W, F, 3.0, True, {"Computer": "test-computer", "customKey1": "value1"}),
    "azure-monitor/test-metric-static-2024.json": ("test-metricAlertRule", I, F, 100.0, True, {"ApiName": "GetBlob"}),
    "azure-monitor/test-metric-dynamic-2024.json": ("test-dynamicMetricAlertRule", I, F, 78.09, True, {}),
    "azure-monitor/test-servicehealth-2024.json": ("test-ServiceHealthAlertRule", I, F, None, True, {"tracking_id": "TEST-TTT"}),
    "azure-monitor/test-smartdetector-2024.json": ("test-SmartAlertRule", I, F, None, True, {}),
}  # fmt: skip

OUTBOUND = {"real-0.25-pagerduty-resolve.json", "real-0.25-pagerduty-trigger.json", "real-0.25-slack-firing.json"}
FRAGMENTS = "ctx-"


def files(folder: str) -> list[Path]:
    return sorted((PAYLOADS / folder).glob("*.json")) if PAYLOADS.is_dir() else []


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


needs_payloads = pytest.mark.skipif(not PAYLOADS.is_dir(), reason="../shared/payloads is not there")


def understood(kind: SourceKind, body: Any) -> tuple[Alert, ...]:
    found = SOURCES[kind](body, source_name="s", received_at=NOW)
    assert found.understood, found.why
    return found.alerts


@needs_payloads
@pytest.mark.parametrize("file", sorted(EXPECTED))
def test_a_real_payload_is_normalised_as_documented(file: str) -> None:
    """Name, severity, status, value, test flag and the labels that targets are found by."""
    kind = AM if file.startswith("alertmanager/") else AZ
    name, severity, status, value, test, labels = EXPECTED[file]

    alert = understood(kind, read(PAYLOADS / file))[0]

    assert (alert.name, alert.severity, alert.status, alert.test) == (name, severity, status, test)
    assert alert.value == (pytest.approx(value) if value is not None else None)
    assert {key: alert.labels.get(key) for key in labels} == labels
    assert alert.labels["alertname"] == name


@needs_payloads
@pytest.mark.parametrize("path", files("alertmanager"), ids=lambda path: path.name)
def test_every_alertmanager_body_is_taken_in(path: Path) -> None:
    """As many alerts as it holds; what Alertmanager sends to others is kept as not understood."""
    body = read(path)
    found = SOURCES[AM](body, source_name="s", received_at=NOW)

    if path.name in OUTBOUND:
        assert (found.understood, found.alerts) == (False, ())
    else:
        assert len(found.alerts) == len(body["alerts"])
        assert all(one.fingerprint and one.instance and one.labels for one in found.alerts)


@needs_payloads
@pytest.mark.parametrize("path", files("azure-monitor"), ids=lambda path: path.name)
def test_every_azure_monitor_body_is_taken_in(path: Path) -> None:
    """Fragments that the vendor prints are put into their envelope first."""
    body = read(path)
    if path.name.startswith(FRAGMENTS):
        services = {"activitylog-policy": "Activity Log - Policy", "activitylog-security": "Activity Log - Security", "logv1": "Application Insights",
                    "metric": "Platform", "resourcehealth": "ResourceHealth", "servicehealth": "ServiceHealth", "simple": "Log Alerts V2"}  # fmt: skip
        service = next(service for part, service in services.items() if part in path.name)
        essentials = {"alertId": "/subscriptions/s/providers/Microsoft.AlertsManagement/alerts/1", "alertRule": "r", "severity": "Sev1",
                      "monitorCondition": "Fired", "monitoringService": service, "firedDateTime": "2026-11-24T10:00:00Z"}  # fmt: skip
        body = {
            "schemaId": "azureMonitorCommonAlertSchema",
            "data": {"essentials": essentials, "alertContext": body["alertContext"]},
        }

    (alert,) = understood(AZ, body)

    assert alert.fingerprint
    assert alert.instance.startswith("azure/")
    assert alert.labels.get("monitor") or path.name == "fixture-minimal-common.json"


@needs_payloads
@pytest.mark.parametrize("path", files("eventgrid"), ids=lambda path: path.name)
def test_every_event_is_taken_in_by_either_road(path: Path) -> None:
    """One alert an event, recognised by its shape too; a source, a type and an id are its identity; it never resolves."""
    body = read(path)
    events = body if isinstance(body, list) else [body]

    for kind in (SourceKind.EVENT_GRID, SourceKind.SERVICE_BUS):
        found = understood(kind, body)

        assert [one.labels["event_type"] for one in found] == [one.get("eventType") or one["type"] for one in events]
        assert all(one.source is SourceKind.EVENT_GRID and not one.resolves for one in found)
        assert len({one.instance for one in found}) == len(events)
        assert all(one.test is ("validation" in path.name) for one in found)


EVENTS = {
    "health-availabilitystatuschanged-available-ce.json": {"health": "Available", "previous_health": "Unavailable", "resource_type": "microsoft.compute/virtualmachines"},
    "health-resourceannotated-reboot-ce.json": {"annotation": "VirtualMachineRebootInitiatedByControlPlane", "health_cause": "Customer Initiated", "resource": "sample-machine"},
    "aks-nodepoolrollingfailed-eg.json": {"nodepool": "nodepool1", "resource_type": "microsoft.containerservice/managedclusters"},
    "aks-scheduledevent-started-ce.json": {"event_status": "Started", "maintenance_source": "AutoUprader", "resource": "{managedcluster-name}"},
    "arm-resourcedeletesuccess-eg.json": {"event_status": "Succeeded"},
    "k8sbridge-raw-ce.json": {"namespace": "monitoring", "deployment": "k8s-event-bridge-workload", "reason": "ScalingReplicaSet"},
}  # fmt: skip


@needs_payloads
@pytest.mark.parametrize("file", sorted(EVENTS))
def test_an_event_says_what_it_is_about(file: str) -> None:
    """Labels that rules match and targets are found by; nothing personal among them."""
    alert = understood(SourceKind.EVENT_GRID, read(PAYLOADS / "eventgrid" / file))[0]

    assert {key: alert.labels.get(key) for key in EVENTS[file]} == EVENTS[file]
    assert not {"claims", "authorization"} & (set(alert.labels) | set(alert.annotations))


@needs_payloads
@pytest.mark.parametrize("path", [*files("alertmanager"), *files("azure-monitor")], ids=lambda path: path.name)
def test_a_body_is_the_same_by_any_road(path: Path) -> None:
    """What the bus brings without saying its format is understood as if its own webhook had brought it, alone and in an event's data."""
    body = read(path)
    own = SOURCES[AM if path.parent.name == "alertmanager" else AZ](body, source_name="s", received_at=NOW)
    by_bus = SOURCES[SourceKind.SERVICE_BUS](body, source_name="s", received_at=NOW)

    assert (by_bus.understood, by_bus.alerts) == (own.understood, own.alerts)


@needs_payloads
def test_fired_and_resolved_of_one_firing_are_one_instance() -> None:
    """Over every pair in the corpus."""
    pairs = [
        (AM, "fixture-k8s-highmemory-firing.json", "fixture-k8s-highmemory-resolved.json", "alertmanager"),
        (AM, "real-0.25-firing-amtool.json", "real-0.25-resolved-amtool.json", "alertmanager"),
        (AM, "v3-servicenow-firing.json", "v3-servicenow-resolved.json", "alertmanager"),
        (AM, "v4-fire-firing.json", "v4-fire-resolved.json", "alertmanager"),
        (AZ, "classic-activated-with-metrics.json", "classic-resolved-with-metrics.json", "azure-monitor"),
        (AZ, "fixture-metric-vm-fired.json", "fixture-metric-vm-resolved.json", "azure-monitor"),
    ]
    for kind, fired, resolved, folder in pairs:
        first = understood(kind, read(PAYLOADS / folder / fired))[0]
        second = understood(kind, read(PAYLOADS / folder / resolved))[0]
        assert (first.status, second.status) == (F, R), fired
        assert first.instance == second.instance, fired


@needs_payloads
def test_a_cut_group_is_a_gap_with_its_fix() -> None:
    """``truncatedAlerts`` names the setting to raise."""
    found = SOURCES[AM](read(PAYLOADS / "alertmanager/real-0.25-firing-truncated.json"), source_name="s", received_at=NOW)

    assert found.gaps == ("1 alerts were cut before they were sent: raise max_alerts of receiver one",)


def test_a_second_test_of_an_action_group_is_not_swallowed() -> None:
    """Its alert id is a constant; the time tells two apart."""

    def body(at: str) -> dict[str, Any]:
        alert_id = "/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/12345678-1234-1234-1234-1234567890ab"
        essentials = {
            "alertId": alert_id,
            "alertRule": "test-x",
            "monitoringService": "Platform",
            "monitorCondition": "Fired",
            "firedDateTime": at,
        }
        return {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": essentials, "alertContext": {}}}

    (first,), (second,) = understood(AZ, body("2026-11-24T10:00:00Z")), understood(AZ, body("2026-11-24T10:05:00Z"))

    assert first.test
    assert first.instance != second.instance


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["alerts", "labels", "status", "data", "essentials", "schemaId", "context", "startsAt", "alertContext", "condition", "allOf", "x", "id", "type", "source", "eventType", "resourceInfo", "properties", "involvedObject"]), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(JSON, st.sampled_from([AM, AZ, SourceKind.EVENT_GRID, SourceKind.SERVICE_BUS]))
def test_no_valid_json_ever_raises(body: Any, kind: SourceKind) -> None:
    """What is not understood is a value; a 4xx would lose the alert."""
    found = SOURCES[kind](body, source_name="s", received_at=NOW)

    assert found.understood or found.why


@given(JSON)
def test_azure_envelopes_with_odd_contents_are_understood(inner: Any) -> None:
    """An unknown service or a broken context degrades to the essentials."""
    essentials = {
        "alertId": "/subscriptions/s/x/1",
        "alertRule": "r",
        "monitoringService": "Platform",
        "monitorCondition": "Fired",
    }
    body = {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {"essentials": essentials, "alertContext": inner, "customProperties": inner},
    }

    assert understood(AZ, body)[0].name == "r"


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), min_size=1, max_size=6))
def test_label_order_never_matters(labels: dict[str, str]) -> None:
    """The same labels in another order are the same alert."""

    def body(ordered: dict[str, str]) -> dict[str, Any]:
        return {"version": "4", "alerts": [{"status": "firing", "labels": ordered, "startsAt": "2026-11-24T10:00:00Z"}]}

    first = understood(AM, body(labels))[0]
    second = understood(AM, body(dict(reversed(labels.items()))))[0]

    assert (first.fingerprint, first.instance) == (second.fingerprint, second.instance)
