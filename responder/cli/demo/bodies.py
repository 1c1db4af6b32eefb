"""What senders post, in the exact shape of the real ones: bodies for the acts of the demonstration."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

CLUSTER = "aks-demo"


def alertmanager(name: str, started_at: datetime, *, status: str = "firing", **labels: str) -> dict[str, Any]:
    """Return a webhook body in Alertmanager's shape (version 4)."""
    every = {"alertname": name, "cluster": CLUSTER, "severity": "warning", **labels}
    return {
        "version": "4",
        "groupKey": f'{{}}/{{}}:{{alertname="{name}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "responder",
        "groupLabels": {"alertname": name},
        "commonLabels": every,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {
                "status": status,
                "labels": every,
                "annotations": {"summary": f"{name} in {labels.get('namespace', '')}"},
                "startsAt": started_at.isoformat(),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example:9090/graph",
                "fingerprint": "",
            }
        ],
    }


def azure_prometheus(name: str, fired_at: datetime, **labels: str) -> dict[str, Any]:
    """Return a body in the shape of an Azure managed Prometheus alert (common schema)."""
    subscription = "/subscriptions/0f9b7a52-7a0c-4c1e-9a6e-0c3a51d2b7aa"
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": {
                "alertId": f"{subscription}/providers/Microsoft.AlertsManagement/alerts/{secrets.token_hex(16)}",
                "alertRule": f"kubernetes-recommended/{name}",
                "severity": "Sev4",
                "signalType": "Metric",
                "monitorCondition": "Fired",
                "monitoringService": "Prometheus",
                "alertTargetIDs": [f"{subscription}/resourcegroups/mon/providers/microsoft.monitor/accounts/workspace"],
                "configurationItems": [CLUSTER],
                "originAlertId": secrets.token_hex(16),
                "firedDateTime": fired_at.isoformat(),
                "description": "",
                "essentialsVersion": "1.0",
                "alertContextVersion": "1.0",
            },
            "alertContext": {
                "interval": "PT1M",
                "expression": "sum by (namespace, controller, cluster) (increase(kube_pod_container_status_restarts_total[1h])) > 0",
                "expressionValue": "4",
                "for": "PT5M",
                "labels": {"alertname": name, "cluster": CLUSTER, "severity": "warning", **labels},
                "annotations": {},
                "ruleGroup": f"{subscription}/resourcegroups/mon/providers/Microsoft.AlertsManagement/prometheusRuleGroups/kubernetes",
            },
            "customProperties": None,
        },
    }
