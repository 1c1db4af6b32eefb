"""What kube-state-metrics would say of the cluster, in the exposition format, for a real Prometheus to scrape."""

from __future__ import annotations

from responder.sandbox.objects import Object, Storage
from responder.sandbox.pods import is_ready


def exposition(storage: Storage) -> str:
    """Return the metrics that shipped alert rules use."""
    rows: list[str] = []
    for pod in storage.all("v1/pods"):
        meta = pod["metadata"]
        where = f'namespace="{meta["namespace"]}",pod="{meta["name"]}",uid="{meta["uid"]}"'
        for status in pod["status"].get("containerStatuses") or []:
            container = f'{where},container="{status["name"]}"'
            rows.append(f"kube_pod_container_status_restarts_total{{{container}}} {status['restartCount']}")
            waiting = (status["state"].get("waiting") or {}).get("reason")
            if waiting:
                rows.append(f'kube_pod_container_status_waiting_reason{{{container},reason="{waiting}"}} 1')
        for condition in ("true", "false"):
            rows.append(f'kube_pod_status_ready{{{where},condition="{condition}"}} {int(is_ready(pod) == (condition == "true"))}')
        rows.append(f'kube_pod_status_phase{{{where},phase="{pod["status"].get("phase")}"}} 1')
        rows += _owner("kube_pod_owner", where, pod)
    for item in storage.all("apps/v1/replicasets"):
        where = f'namespace="{item["metadata"]["namespace"]}",replicaset="{item["metadata"]["name"]}"'
        rows += _owner("kube_replicaset_owner", where, item)
    for item in storage.all("apps/v1/deployments"):
        where = f'namespace="{item["metadata"]["namespace"]}",deployment="{item["metadata"]["name"]}"'
        rows.append(f"kube_deployment_spec_replicas{{{where}}} {item['spec'].get('replicas', 1)}")
        rows.append(f"kube_deployment_status_replicas_available{{{where}}} {item['status'].get('availableReplicas', 0)}")
    return "\n".join(sorted(rows)) + "\n"


def _owner(name: str, where: str, item: Object) -> list[str]:
    return [
        f'{name}{{{where},owner_kind="{one["kind"]}",owner_name="{one["name"]}",owner_is_controller="true"}} 1'
        for one in item["metadata"].get("ownerReferences") or []
        if one.get("controller")
    ]
