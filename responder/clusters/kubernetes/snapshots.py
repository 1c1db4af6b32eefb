"""From Structs to the core's snapshots: pure translation, no judgement, no connection."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from responder.clusters.kubernetes import structs as k
from responder.clusters.kubernetes.quantities import quantity, resolved
from responder.model.action import CORDON_ANNOTATION, OUT_OF_SERVICE_ANNOTATION
from responder.model.cluster import (
    AutoscalerSnapshot,
    BudgetSnapshot,
    Condition,
    ContainerSnapshot,
    EventSnapshot,
    NodeSnapshot,
    OwnerRef,
    PodSnapshot,
    QuotaSnapshot,
    RevisionSnapshot,
    ServiceSnapshot,
    Taint,
    WorkloadSnapshot,
)

HANDS_OFF = "responder/hands-off"
POOL_LABELS = ("kubernetes.azure.com/agentpool", "agentpool", "karpenter.sh/nodepool")
ZONE_LABEL = "topology.kubernetes.io/zone"
KEEPS = (("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), ("karpenter.sh/do-not-disrupt", "true"))
"""Annotations by which a pod's owner asks not to evict it. Source: kubernetes.md A1, filter 6."""

HASH_LABELS = ("pod-template-hash", "controller-revision-hash")
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


def owner_of(meta: k.Meta) -> OwnerRef | None:
    """Return the controlling owner."""
    for one in meta.owner_references or []:
        if one.controller:
            return OwnerRef(kind=one.kind, name=one.name, uid=one.uid, api_version=one.api_version)
    return None


def pod(raw: k.Pod) -> PodSnapshot:
    """Translate a pod."""
    labels = raw.metadata.labels or {}
    conditions = {one.type: one for one in raw.status.conditions or []}
    ready, scheduled, disruption = conditions.get("Ready"), conditions.get("PodScheduled"), conditions.get("DisruptionTarget")
    annotations = raw.metadata.annotations or {}
    return PodSnapshot(
        namespace=raw.metadata.namespace,
        name=raw.metadata.name,
        uid=raw.metadata.uid,
        resource_version=raw.metadata.resource_version,
        node=raw.spec.node_name,
        phase=raw.status.phase,
        reason=raw.status.reason,
        message=raw.status.message,
        ready=None if ready is None else ready.status == "True",
        ready_since=ready.last_transition_time if ready else None,
        scheduled=None if scheduled is None else scheduled.status == "True",
        scheduling_reason=scheduled.reason if scheduled and scheduled.status != "True" else "",
        scheduling_message=scheduled.message if scheduled and scheduled.status != "True" else "",
        created_at=raw.metadata.creation_timestamp,
        deleting_since=raw.metadata.deletion_timestamp,
        revision=next((labels[name] for name in HASH_LABELS if name in labels), ""),
        owner=owner_of(raw.metadata),
        labels=labels,
        containers=tuple(_containers(raw)),
        hands_off=annotations.get(HANDS_OFF),
        mirror="kubernetes.io/config.mirror" in annotations,
        disruption=disruption.reason if disruption and disruption.status == "True" else "",
        finalizers=tuple(raw.metadata.finalizers or ()),
        grace_seconds=30 if raw.spec.termination_grace_period_seconds is None else raw.spec.termination_grace_period_seconds,
        empty_dir=any(one.get("emptyDir") is not None for one in raw.spec.volumes or []),
        keeps=next((f"{name}: {value}" for name, value in KEEPS if annotations.get(name) == value), ""),
        requests=pod_requests(raw),
        priority=raw.spec.priority or 0,
    )


def pod_requests(raw: k.Pod) -> dict[str, float]:
    """Return what the scheduler finds room for, in base units.

    Containers and sidecars run together; an init container runs alone beside the sidecars begun before it, and may want more than all of them. Source:
    Kubernetes, "Init containers: resource sharing", "Pod overhead".
    """
    sidecars: dict[str, float] = {}
    highest: dict[str, float] = {}
    for one in raw.spec.init_containers or []:
        if one.restart_policy == "Always":
            sidecars = _plus(sidecars, _requested(one))
            continue
        for name, value in _plus(sidecars, _requested(one)).items():
            highest[name] = max(highest.get(name, 0.0), value)
    together = sidecars
    for one in raw.spec.containers or []:
        together = _plus(together, _requested(one))
    found = {name: max(together.get(name, 0.0), highest.get(name, 0.0)) for name in {**together, **highest}}
    return _plus(found, {name: quantity(str(value)) for name, value in (raw.spec.overhead or {}).items()})


def _requested(container: k.ContainerSpec) -> dict[str, float]:
    return {name: quantity(str(value)) for name, value in ((container.resources or {}).get("requests") or {}).items()}


def _plus(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}


def _containers(raw: k.Pod) -> list[ContainerSnapshot]:
    found: list[ContainerSnapshot] = []
    groups = (
        ("init", raw.spec.init_containers, raw.status.init_container_statuses),
        ("main", raw.spec.containers, raw.status.container_statuses),
        ("ephemeral", raw.spec.ephemeral_containers, raw.status.ephemeral_container_statuses),
    )
    for role, specs, statuses in groups:
        by_name = {one.name: one for one in statuses or []}
        for spec in specs or []:
            actual = "sidecar" if role == "init" and spec.restart_policy == "Always" else role
            status = by_name.get(spec.name)
            found.append(
                _container(spec, actual, status) if status else ContainerSnapshot(name=spec.name, role=actual, image=spec.image)
            )
    return found


def _container(spec: k.ContainerSpec, role: str, status: k.ContainerStatus) -> ContainerSnapshot:
    state, last = status.state or k.State(), status.last_state or k.State()
    ended = state.terminated or last.terminated
    return ContainerSnapshot(
        name=spec.name,
        role=role,
        image=spec.image,
        ready=status.ready,
        restarts=status.restart_count,
        waiting_reason=state.waiting.reason if state.waiting else "",
        waiting_message=state.waiting.message if state.waiting else "",
        running_since=state.running.started_at if state.running else None,
        terminated=state.terminated is not None,
        exit_code=ended.exit_code if ended else None,
        exit_reason=ended.reason if ended else "",
        exit_message=ended.message if ended else "",
        finished_at=ended.finished_at if ended else None,
        signal=ended.signal if ended else None,
    )


def template_digest(template: Mapping[str, Any]) -> str:
    """Return what tells templates apart: all of it but hashes, restart stamps and our own annotations."""
    metadata = template.get("metadata") or {}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name not in HASH_LABELS}
    annotations = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if name != RESTARTED_AT and not name.startswith("responder/")
    }
    said = msgspec.json.encode([labels, annotations, _plain(template.get("spec") or {})], order="sorted")
    return hashlib.blake2b(said, digest_size=12).hexdigest()


def _plain(value: Any) -> Any:
    """Drop nulls and empty containers: the API writes some of them back differently from how they were sent."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one not in (None, {}, [])}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def images(template: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images of a template's containers."""
    return tuple(str(one.get("image", "")) for one in (template.get("spec") or {}).get("containers") or [])


def requests(template: Mapping[str, Any]) -> dict[str, float]:
    """Return what one pod of a template counts for in quotas: ``pods``, requests and limits in base units."""
    found: dict[str, float] = {"pods": 1.0, "count/pods": 1.0}
    for container in (template.get("spec") or {}).get("containers") or []:
        resources = container.get("resources") or {}
        for part in ("requests", "limits"):
            for name, value in (resources.get(part) or {}).items():
                amount = quantity(str(value))
                found[f"{part}.{name}"] = found.get(f"{part}.{name}", 0.0) + amount
                if part == "requests":
                    found[name] = found.get(name, 0.0) + amount
    return found


def gitops(meta: k.Meta) -> str:
    """Return who would write the spec back: argocd, flux, helm or ""."""
    labels, annotations = meta.labels or {}, meta.annotations or {}
    if "argocd.argoproj.io/tracking-id" in annotations or "argocd.argoproj.io/instance" in labels:
        return "argocd"
    if any(name.startswith(("helm.toolkit.fluxcd.io/", "kustomize.toolkit.fluxcd.io/")) for name in {**labels, **annotations}):
        return "flux"
    if labels.get("app.kubernetes.io/managed-by", "").lower() == "helm" or "meta.helm.sh/release-name" in annotations:
        return "helm"
    return ""


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector (matchLabels, matchExpressions) matches; an empty or missing one matches nothing here."""
    if not selector:
        return False
    simple = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in simple.items()):
        return False
    for one in selector.get("matchExpressions") or []:
        value, values = labels.get(one.get("key", "")), one.get("values") or []
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(one.get("operator", ""), False)
        if not holds:
            return False
    return bool(simple or selector.get("matchExpressions"))


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """Return a label selector as a query parameter."""
    parts = [f"{name}={value}" for name, value in ((selector or {}).get("matchLabels") or {}).items()]
    for one in (selector or {}).get("matchExpressions") or []:
        values = ",".join(one.get("values") or [])
        spelled = {
            "In": f"{one['key']} in ({values})",
            "NotIn": f"{one['key']} notin ({values})",
            "Exists": one["key"],
            "DoesNotExist": f"!{one['key']}",
        }
        parts.append(spelled.get(one.get("operator", ""), ""))
    return ",".join(part for part in parts if part)


def workload(
    kind: str, raw: k.Workload, *, pods: Sequence[PodSnapshot], revisions: Sequence[RevisionSnapshot]
) -> WorkloadSnapshot:
    """Translate a workload; what surrounds it is put in by the view."""
    spec, status, meta = raw.spec, raw.status, raw.metadata
    daemon = kind == "DaemonSet"
    desired = status.desired_number_scheduled if daemon else (1 if spec.replicas is None else spec.replicas)
    strategy = spec.strategy or spec.update_strategy or k.Strategy()
    rolling = strategy.rolling_update or k.Rolling()
    digest = template_digest(spec.template)
    newest = [one for one in revisions if one.template_digest == digest]
    current = max(newest, key=lambda one: one.number, default=None)
    available = status.number_available if daemon else status.available_replicas
    if kind == "StatefulSet" and not available:
        available = status.ready_replicas
    surge = (
        resolved(rolling.max_surge, desired, default="25%", up=True)
        if kind == "Deployment" and strategy.type == "RollingUpdate"
        else 0
    )
    unavailable_default: int | str = "25%" if kind == "Deployment" else 1
    return WorkloadSnapshot(
        kind=kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        generation=meta.generation,
        observed_generation=status.observed_generation,
        created_at=meta.creation_timestamp,
        desired=desired,
        replicas=status.current_number_scheduled if daemon else status.replicas,
        ready=status.number_ready if daemon else status.ready_replicas,
        updated=status.updated_number_scheduled if daemon else status.updated_replicas,
        available=available,
        paused=spec.paused,
        strategy=strategy.type,
        surge=surge,
        unavailable=resolved(rolling.max_unavailable, desired, default=unavailable_default, up=False),
        partition=rolling.partition or 0,
        deadline_seconds=spec.progress_deadline_seconds,
        history_limit=10 if spec.revision_history_limit is None else spec.revision_history_limit,
        labels=meta.labels or {},
        annotations=meta.annotations or {},
        template=spec.template,
        template_digest=digest,
        current_revision=current.revision if current else status.update_revision,
        conditions=tuple(condition(one) for one in status.conditions or []),
        revisions=tuple(revisions),
        pods=tuple(pods),
        gitops=gitops(meta),
        hands_off=(meta.annotations or {}).get(HANDS_OFF),
        has_volumes=any("persistentVolumeClaim" in one for one in (spec.template.get("spec") or {}).get("volumes") or []),
        pod_requests=requests(spec.template),
    )


def condition(raw: k.StatusCondition) -> Condition:
    """Translate a condition."""
    return Condition(
        type=raw.type, status=raw.status, reason=raw.reason, message=raw.message, changed_at=raw.last_transition_time
    )


def replica_set_revision(raw: k.Workload, *, current: str) -> RevisionSnapshot:
    """Translate a ReplicaSet of a Deployment into a revision; ``current`` is the digest of the Deployment's template."""
    number = (raw.metadata.annotations or {}).get("deployment.kubernetes.io/revision", "0")
    digest = template_digest(raw.spec.template)
    return RevisionSnapshot(
        name=raw.metadata.name,
        number=int(number) if number.isdigit() else 0,
        revision=(raw.metadata.labels or {}).get("pod-template-hash", ""),
        template_digest=digest,
        created_at=raw.metadata.creation_timestamp,
        ready=raw.status.ready_replicas,
        was_healthy=raw.status.available_replicas > 0,
        current=digest == current,
        template=raw.spec.template,
        images=images(raw.spec.template),
    )


def controller_revision(raw: k.ControllerRevision, *, current: str, pods: Sequence[PodSnapshot]) -> RevisionSnapshot:
    """Translate a ControllerRevision of a StatefulSet or DaemonSet."""
    template = dict(((raw.data or {}).get("spec") or {}).get("template") or {})
    template.pop("$patch", None)
    digest = template_digest(template)
    names = {(raw.metadata.labels or {}).get("controller.kubernetes.io/hash", ""), raw.metadata.name}
    mine = [one for one in pods if one.revision in names]
    ready = sum(1 for one in mine if one.ready and one.deleting_since is None)
    revision = mine[0].revision if mine else raw.metadata.name
    return RevisionSnapshot(
        name=raw.metadata.name,
        number=raw.revision,
        revision=revision,
        template_digest=digest,
        created_at=raw.metadata.creation_timestamp,
        ready=ready,
        was_healthy=ready > 0,
        current=digest == current,
        template=template,
        images=images(template),
    )


def autoscaler(raw: k.Hpa) -> AutoscalerSnapshot:
    """Translate an autoscaler."""
    owner = owner_of(raw.metadata)
    active = next((one.status == "True" for one in raw.status.conditions or [] if one.type == "ScalingActive"), True)
    return AutoscalerSnapshot(
        name=raw.metadata.name,
        uid=raw.metadata.uid,
        resource_version=raw.metadata.resource_version,
        minimum=1 if raw.spec.min_replicas is None else raw.spec.min_replicas,
        maximum=raw.spec.max_replicas,
        current=raw.status.current_replicas,
        desired=raw.status.desired_replicas,
        active=active,
        by_keda=owner is not None and owner.kind == "ScaledObject",
        annotations=raw.metadata.annotations or {},
    )


def budget(raw: k.Pdb) -> BudgetSnapshot:
    """Translate a budget."""
    return BudgetSnapshot(
        name=raw.metadata.name,
        namespace=raw.metadata.namespace,
        allowed=raw.status.disruptions_allowed,
        current_healthy=raw.status.current_healthy,
        desired_healthy=raw.status.desired_healthy,
        expected=raw.status.expected_pods,
        unhealthy_policy=raw.spec.unhealthy_pod_eviction_policy,
        observed=raw.status.observed_generation >= raw.metadata.generation,
    )


def quota(raw: k.Quota) -> QuotaSnapshot:
    """Translate a quota."""
    return QuotaSnapshot(
        name=raw.metadata.name,
        hard={name: quantity(value) for name, value in (raw.status.hard or {}).items()},
        used={name: quantity(value) for name, value in (raw.status.used or {}).items()},
    )


def service(raw: k.Service, slices: Sequence[k.Slice], pods: Sequence[PodSnapshot]) -> ServiceSnapshot:
    """Translate a service with all its slices; endpoints are counted once per target (dual stack has one slice per family).

    A slice without ports of a service with ports leads nowhere: no container has a port of the name (kubernetes.md A9 d).
    """
    ready: set[str] = set()
    leaving: set[str] = set()
    for one in slices:
        if raw.spec.ports and not one.ports:
            continue
        for endpoint in one.endpoints or []:
            key = (endpoint.target_ref.uid if endpoint.target_ref else "") or ",".join(endpoint.addresses or [])
            conditions = endpoint.conditions or k.EndpointConditions()
            if conditions.ready is None or conditions.ready:
                ready.add(key)
            elif conditions.terminating and conditions.serving:
                leaving.add(key)
    return ServiceSnapshot(
        namespace=raw.metadata.namespace,
        name=raw.metadata.name,
        uid=raw.metadata.uid,
        selector=raw.spec.selector or {},
        external=raw.spec.type == "ExternalName",
        endpoints=len(ready),
        serving_terminating=len(leaving - ready),
        pods=tuple(pods),
        hands_off=(raw.metadata.annotations or {}).get(HANDS_OFF),
    )


def node(raw: k.Node) -> NodeSnapshot:
    """Translate a node; an absent Ready condition is Unknown."""
    ready = next((one for one in raw.status.conditions or [] if one.type == "Ready"), None)
    annotations, labels = raw.metadata.annotations or {}, raw.metadata.labels or {}
    return NodeSnapshot(
        name=raw.metadata.name,
        ready=ready.status if ready else "Unknown",
        ready_since=ready.last_transition_time if ready else None,
        unschedulable=raw.spec.unschedulable,
        hands_off=annotations.get(HANDS_OFF),
        uid=raw.metadata.uid,
        resource_version=raw.metadata.resource_version,
        created_at=raw.metadata.creation_timestamp,
        conditions=tuple(condition(one) for one in raw.status.conditions or []),
        taints=tuple(taint(one) for one in raw.spec.taints or []),
        labels=labels,
        cordoned_for=annotations.get(CORDON_ANNOTATION, ""),
        out_of_service_for=annotations.get(OUT_OF_SERVICE_ANNOTATION, ""),
        pool=next((labels[name] for name in POOL_LABELS if name in labels), ""),
        zone=labels.get(ZONE_LABEL, ""),
        provider_id=raw.spec.provider_id,
        allocatable={name: quantity(str(value)) for name, value in (raw.status.allocatable or {}).items()},
    )


def taint(raw: Mapping[str, Any]) -> Taint:
    """Translate a taint."""
    return Taint(key=str(raw.get("key", "")), value=str(raw.get("value", "")), effect=str(raw.get("effect", "")), raw=dict(raw))


def event(raw: k.KubeEvent) -> EventSnapshot:
    """Translate an event."""
    count = raw.series.count if raw.series else raw.count
    seen = (
        (raw.series.last_observed_time if raw.series else None)
        or raw.last_timestamp
        or raw.event_time
        or raw.metadata.creation_timestamp
    )
    return EventSnapshot(
        about=f"{raw.involved_object.kind}/{raw.involved_object.name}",
        type=raw.type,
        reason=raw.reason,
        message=raw.message,
        count=count or 1,
        last_seen_at=seen,
        source=(raw.source.component if raw.source else "") or raw.reporting_component,
    )
