"""The fields of Kubernetes objects that are needed, and no others: decoding these is sixty times cheaper than models (kubernetes.md B)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class _Struct(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Camel case on the wire; unknown fields are passed over. What comes from JSON has no cycles, so the collector need not look at it."""


class Owner(_Struct):
    """``metadata.ownerReferences[]``."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool | None = None


class Meta(_Struct):
    """``metadata``."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None
    finalizers: list[str] | None = None


class Terminated(_Struct):
    """``state.terminated``."""

    exit_code: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


class Waiting(_Struct):
    """``state.waiting``."""

    reason: str = ""
    message: str = ""


class Running(_Struct):
    """``state.running``."""

    started_at: datetime | None = None


class State(_Struct):
    """A container's ``state`` or ``lastState``."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Struct):
    """One of ``containerStatuses``."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    state: State | None = None
    last_state: State | None = None


class StatusCondition(_Struct):
    """One of ``status.conditions``."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class ContainerSpec(_Struct):
    """One of ``spec.containers``."""

    name: str = ""
    image: str = ""
    restart_policy: str = ""
    resources: dict[str, Any] | None = None


class PodSpec(_Struct):
    """A pod's ``spec``."""

    node_name: str = ""
    containers: list[ContainerSpec] | None = None
    init_containers: list[ContainerSpec] | None = None
    ephemeral_containers: list[ContainerSpec] | None = None
    termination_grace_period_seconds: int | None = None
    volumes: list[dict[str, Any]] | None = None
    overhead: dict[str, Any] | None = None
    priority: int | None = None


class PodStatus(_Struct):
    """A pod's ``status``."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[StatusCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None


class Pod(_Struct):
    """A Pod."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class Rolling(_Struct):
    """``rollingUpdate``."""

    max_surge: int | str | None = None
    max_unavailable: int | str | None = None
    partition: int | None = None


class Strategy(_Struct):
    """``strategy`` or ``updateStrategy``."""

    type: str = "RollingUpdate"
    rolling_update: Rolling | None = None


class WorkloadSpec(_Struct):
    """``spec`` of Deployment, ReplicaSet, StatefulSet, DaemonSet."""

    replicas: int | None = None
    paused: bool = False
    progress_deadline_seconds: int | None = None
    revision_history_limit: int | None = None
    selector: dict[str, Any] | None = None
    strategy: Strategy | None = None
    update_strategy: Strategy | None = None
    template: dict[str, Any] = msgspec.field(default_factory=dict)


class WorkloadStatus(_Struct):
    """Their ``status``."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    updated_number_scheduled: int = 0
    conditions: list[StatusCondition] | None = None


class Workload(_Struct):
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: WorkloadSpec = msgspec.field(default_factory=WorkloadSpec)
    status: WorkloadStatus = msgspec.field(default_factory=WorkloadStatus)


class ControllerRevision(_Struct):
    """A ControllerRevision."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    revision: int = 0
    data: dict[str, Any] | None = None


class Anything(_Struct):
    """Any object of which only the metadata matters."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    kind: str = ""


class ScaleTarget(_Struct):
    """``scaleTargetRef``."""

    kind: str = ""
    name: str = ""


class HpaSpec(_Struct):
    """An autoscaler's ``spec``."""

    scale_target_ref: ScaleTarget = msgspec.field(default_factory=ScaleTarget)
    min_replicas: int | None = None
    max_replicas: int = 0


class HpaStatus(_Struct):
    """An autoscaler's ``status``."""

    current_replicas: int = 0
    desired_replicas: int = 0
    conditions: list[StatusCondition] | None = None


class Hpa(_Struct):
    """A HorizontalPodAutoscaler."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: HpaSpec = msgspec.field(default_factory=HpaSpec)
    status: HpaStatus = msgspec.field(default_factory=HpaStatus)


class PdbSpec(_Struct):
    """A budget's ``spec``."""

    selector: dict[str, Any] | None = None
    unhealthy_pod_eviction_policy: str = "IfHealthyBudget"


class PdbStatus(_Struct):
    """A budget's ``status``."""

    observed_generation: int = 0
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0


class Pdb(_Struct):
    """A PodDisruptionBudget."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: PdbSpec = msgspec.field(default_factory=PdbSpec)
    status: PdbStatus = msgspec.field(default_factory=PdbStatus)


class QuotaStatus(_Struct):
    """A quota's ``status``."""

    hard: dict[str, str] | None = None
    used: dict[str, str] | None = None


class Quota(_Struct):
    """A ResourceQuota."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    status: QuotaStatus = msgspec.field(default_factory=QuotaStatus)


class Port(_Struct):
    """A service's port."""

    name: str = ""
    port: int = 0
    target_port: int | str | None = None


class ServiceSpec(_Struct):
    """A service's ``spec``."""

    type: str = "ClusterIP"
    selector: dict[str, str] | None = None
    ports: list[Port] | None = None
    publish_not_ready_addresses: bool = False


class Service(_Struct):
    """A Service."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class EndpointConditions(_Struct):
    """An endpoint's ``conditions``; nil ready means true."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Reference(_Struct):
    """An object reference."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class Endpoint(_Struct):
    """One of a slice's ``endpoints``."""

    addresses: list[str] | None = None
    conditions: EndpointConditions | None = None
    target_ref: Reference | None = None


class Slice(_Struct):
    """An EndpointSlice."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    endpoints: list[Endpoint] | None = None
    ports: list[Any] | None = None


class Series(_Struct):
    """An event's ``series``."""

    count: int = 0
    last_observed_time: datetime | None = None


class EventSource(_Struct):
    """An event's ``source``."""

    component: str = ""


class KubeEvent(_Struct):
    """A core/v1 Event."""

    source: EventSource | None = None
    reporting_component: str = ""
    metadata: Meta = msgspec.field(default_factory=Meta)
    involved_object: Reference = msgspec.field(default_factory=Reference)
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None
    series: Series | None = None


class Address(_Struct):
    """A node's address."""

    type: str = ""
    address: str = ""


class NodeSpec(_Struct):
    """A node's ``spec``."""

    unschedulable: bool = False
    taints: list[dict[str, Any]] | None = None
    provider_id: str = msgspec.field(name="providerID", default="")


class NodeStatus(_Struct):
    """A node's ``status``."""

    allocatable: dict[str, str] | None = None
    conditions: list[StatusCondition] | None = None
    addresses: list[Address] | None = None


class Node(_Struct):
    """A Node."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class LeaseSpec(_Struct):
    """A Lease's ``spec``."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: datetime | None = None


class Lease(_Struct):
    """A coordination.k8s.io/v1 Lease."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


class PodList(_Struct):
    """Pods."""

    items: list[Pod] | None = None


class WorkloadList(_Struct):
    """Deployments, ReplicaSets, StatefulSets or DaemonSets."""

    items: list[Workload] | None = None


class RevisionList(_Struct):
    """ControllerRevisions."""

    items: list[ControllerRevision] | None = None


class HpaList(_Struct):
    """Autoscalers."""

    items: list[Hpa] | None = None


class PdbList(_Struct):
    """Budgets."""

    items: list[Pdb] | None = None


class QuotaList(_Struct):
    """Quotas."""

    items: list[Quota] | None = None


class ServiceList(_Struct):
    """Services."""

    items: list[Service] | None = None


class SliceList(_Struct):
    """Endpoint slices."""

    items: list[Slice] | None = None


class EventList(_Struct):
    """Events."""

    items: list[KubeEvent] | None = None


class NodeList(_Struct):
    """Nodes."""

    items: list[Node] | None = None


class LeaseList(_Struct):
    """A list of Leases."""

    items: list[Lease] | None = None


class AnyList(_Struct):
    """Anything."""

    items: list[Anything] | None = None


class ReviewStatus(_Struct):
    """A SelfSubjectAccessReview's answer."""

    allowed: bool = False


class Review(_Struct):
    """A SelfSubjectAccessReview."""

    status: ReviewStatus = msgspec.field(default_factory=ReviewStatus)
