"""Snapshots: what was seen of a cluster at one moment, reduced to what the core judges by.

Adapters (``clusters``) make them from raw reads; the core derives facts, checks, plans and verdicts from them and from nothing
else. Never here: judgement, or anything that needs a connection.

The decision a reader would question: one snapshot of the target with everything around it (pods, revisions, autoscaler,
budgets, quotas, services) instead of lazy look-ups. It makes every judgement a pure function that a test can call, and the
reads of one decision are from one moment.

Absent is absent: a list that was read and had nothing is an empty tuple; a source that could not be read is named in
``Snapshot.gaps`` and everything derived from it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from responder.model.cloud import CloudSnapshot
from responder.model.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRef:
    """The controlling owner of an object. Source: Kubernetes ``metadata.ownerReferences`` with ``controller: true``."""

    kind: str
    name: str
    uid: str
    api_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSnapshot:
    """One container's state. Source: Kubernetes ``ContainerStatus`` joined with its spec.

    Attributes:
        name: In the pod.
        role: ``main``, ``init``, ``sidecar`` (an init container with restartPolicy Always) or ``ephemeral``.
        image: As in the spec.
        ready: The status' own word; meaningless on a dead node.
        restarts: ``restartCount`` of this pod's container.
        waiting_reason, waiting_message: Such as CrashLoopBackOff; "" unless waiting.
        running_since: None unless running.
        exit_code, exit_reason, exit_message, finished_at: Of the
            current state when terminated, else of ``lastState``; None or "" otherwise.
        terminated: True when the *current* state is terminated.
        signal: Signal number of that exit, None when none.
    """

    name: str
    role: str = "main"
    image: str = ""
    ready: bool = False
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    running_since: datetime | None = None
    terminated: bool = False
    exit_code: int | None = None
    exit_reason: str = ""
    exit_message: str = ""
    finished_at: datetime | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSnapshot:
    """One pod.

    Attributes:
        ready: Of the pod's Ready *condition* (kubernetes.md A16 case 27), None when the condition is absent.
        ready_since: lastTransitionTime of that condition.
        scheduled: Of PodScheduled, None when absent.
        scheduling_reason: Such as Unschedulable or SchedulingGated; "" otherwise.
        scheduling_message: The scheduler's sentence.
        revision: ``pod-template-hash`` or ``controller-revision-hash``; "" when it has none.
        deleting_since: ``deletionTimestamp``; None unless terminating.
        hands_off: Value of annotation ``responder/hands-off``; None when absent.
        mirror: A static pod's mirror.
        disruption: Reason of condition DisruptionTarget when True, else "".
        finalizers: That must be taken away before it can end.
        empty_dir: A volume is an emptyDir: its content ends with the pod.
        keeps: The annotation by which somebody asks not to evict it, such as ``karpenter.sh/do-not-disrupt: true``; "" for none.
        budgets: Names of the disruption budgets that match it; only known of the pods of a node target.
        requests: What the scheduler finds room for, in base units (cpu: cores, memory: bytes): its containers, sidecars and overhead, or its largest init
            container where that wants more.
        priority: ``spec.priority``; the higher, the more it matters to others.
        top: Identity of its topmost workload; "" when it was not looked for or has none.
        owner_exists: False when its controller was looked for and is not there any more (by UID).
        namespace_ends: Its namespace is being deleted.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str = ""
    node: str = ""
    phase: str = "Running"
    reason: str = ""
    message: str = ""
    ready: bool | None = None
    ready_since: datetime | None = None
    scheduled: bool | None = None
    scheduling_reason: str = ""
    scheduling_message: str = ""
    created_at: datetime | None = None
    deleting_since: datetime | None = None
    revision: str = ""
    owner: OwnerRef | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[ContainerSnapshot, ...] = ()
    hands_off: str | None = None
    mirror: bool = False
    disruption: str = ""
    grace_seconds: int = 30
    finalizers: tuple[str, ...] = ()
    empty_dir: bool = False
    keeps: str = ""
    budgets: tuple[str, ...] = ()
    requests: Mapping[str, float] = field(default_factory=dict)
    priority: int = 0
    top: str = ""
    owner_exists: bool = True
    namespace_ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A Kubernetes status condition; ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionSnapshot:
    """One template a workload has had: a ReplicaSet of a Deployment, a ControllerRevision of the others.

    Attributes:
        name: The object's name.
        number: ``deployment.kubernetes.io/revision`` or ``.revision``; 0 when unknown.
        revision: The value that its pods carry as their revision label.
        template_digest: Over the pod template without ``pod-template-hash``, ``restartedAt`` and our own annotations: two revisions
            with the same digest run the same thing.
        created_at: Of the object.
        ready: Ready pods of it now.
        was_healthy: It is known to have been healthy: ready pods now, or we saw it so earlier.
        current: It is the template in the workload's spec (by digest and revision).
        template: The raw pod template, to write it back; None when it was not read.
        images: Of its containers.
    """

    name: str
    number: int
    revision: str
    template_digest: str
    created_at: datetime | None = None
    ready: int = 0
    was_healthy: bool = False
    current: bool = False
    template: Mapping[str, Any] | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerSnapshot:
    """A HorizontalPodAutoscaler on the workload. ``by_keda``: a KEDA ScaledObject owns it."""

    name: str
    uid: str
    resource_version: str
    minimum: int
    maximum: int
    current: int = 0
    desired: int = 0
    active: bool = True
    by_keda: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSnapshot:
    """A PodDisruptionBudget whose selector matches pods of the target.

    Attributes:
        namespace: "" when it is the target's own.
        expected: Pods that it counts; with ``desired_healthy`` as many, it never allows an eviction, however healthy all are. 0 when not known.
    """

    name: str
    namespace: str = ""
    allowed: int
    current_healthy: int = 0
    desired_healthy: int = 0
    expected: int = 0
    unhealthy_policy: str = "IfHealthyBudget"
    observed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSnapshot:
    """A ResourceQuota of the namespace: hard and used in base units (pods: count, cpu: cores, memory: bytes)."""

    name: str
    hard: Mapping[str, float]
    used: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot:
    """A Service and what stands behind it.

    Attributes:
        selector: Empty when the Service has none.
        external: ExternalName.
        endpoints: Ready endpoints over all slices, de-duplicated by targetRef.uid (kubernetes.md A9).
        serving_terminating: Endpoints that are terminating but still serving.
        pods: Pods that the selector matches, terminating ones included.
        workloads: The distinct owners of those pods, or of workloads whose template the selector matches (when there is no pod).
    """

    namespace: str
    name: str
    uid: str
    selector: Mapping[str, str] = field(default_factory=dict)
    external: bool = False
    endpoints: int = 0
    serving_terminating: int = 0
    pods: tuple[PodSnapshot, ...] = ()
    workloads: tuple[Target, ...] = ()
    hands_off: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSnapshot:
    """A Deployment, StatefulSet, DaemonSet (or Job, ReplicaSet, bare pod: then much is empty) with everything around it.

    Attributes:
        kind: As ``Target.owner_kind``.
        desired: ``spec.replicas`` (1 when absent); for a DaemonSet ``desiredNumberScheduled``.
        ready, updated, available, replicas: From the status, 0 when absent.
        strategy: RollingUpdate, Recreate or OnDelete.
        surge: Extra pods a rollout may create at once (maxSurge resolved against desired); 0 for StatefulSet, DaemonSet without surge.
        unavailable: How many may be unavailable during a rollout (maxUnavailable resolved).
        template: The raw pod template of the spec.
        template_digest: As in ``RevisionSnapshot``.
        current_revision: Revision label of pods of the newest template; "" when unknown.
        pods: That it owns, terminating ones included.
        services: Services in the namespace whose selector matches its template's labels.
        gitops: argocd, flux, helm or "".
        hands_off: Of the workload or its namespace: the annotation's value, None when absent.
        has_volumes: A pod volume is a PersistentVolumeClaim.
        pod_requests: Sum of requests of one pod in base units, with ``pods``: 1; for quota headroom.
        deadline_seconds: ``progressDeadlineSeconds``; None when not set.
        history_limit: ``revisionHistoryLimit``: how many revisions beside the current one are kept.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""
    generation: int = 0
    observed_generation: int = 0
    created_at: datetime | None = None
    desired: int = 1
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    available: int = 0
    paused: bool = False
    strategy: str = "RollingUpdate"
    surge: int = 0
    unavailable: int = 0
    partition: int = 0
    deadline_seconds: int | None = None
    history_limit: int = 10
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    template: Mapping[str, Any] = field(default_factory=dict)
    template_digest: str = ""
    current_revision: str = ""
    conditions: tuple[Condition, ...] = ()
    revisions: tuple[RevisionSnapshot, ...] = ()
    pods: tuple[PodSnapshot, ...] = ()
    autoscaler: AutoscalerSnapshot | None = None
    budgets: tuple[BudgetSnapshot, ...] = ()
    quotas: tuple[QuotaSnapshot, ...] = ()
    services: tuple[ServiceSnapshot, ...] = ()
    gitops: str = ""
    hands_off: str | None = None
    has_volumes: bool = False
    pod_requests: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A node's taint. Source: Kubernetes core/v1 Taint. ``raw``: as read, to be written back unchanged."""

    key: str
    value: str = ""
    effect: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSnapshot:
    """A node.

    Attributes:
        ready: True, False or Unknown (also when the condition is absent).
        ready_since: lastTransitionTime of that condition.
        unschedulable: Cordoned, by whomever.
        cordoned_for: Our mark on a cordon of ours: the incident's id and when, such as ``inc-01… 2026-01-05T12:00:00Z``; "" when it has none.
        out_of_service_for: The same for the out-of-service taint.
        pool: Its agent pool by label; "" for none.
        zone: ``topology.kubernetes.io/zone``; "" for none.
        provider_id: ``spec.providerID``: which machine it is.
        allocatable: In base units: cpu, memory, pods.
        hands_off: The annotation's value, None when absent.
    """

    name: str
    ready: str
    ready_since: datetime | None = None
    unschedulable: bool = False
    hands_off: str | None = None
    uid: str = ""
    resource_version: str = ""
    created_at: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    taints: tuple[Taint, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    cordoned_for: str = ""
    out_of_service_for: str = ""
    pool: str = ""
    zone: str = ""
    provider_id: str = ""
    allocatable: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDetail:
    """What a node target is judged by, beside the other nodes (``Snapshot.nodes``) and workloads (``Snapshot.moved``).

    Attributes:
        node: The target itself.
        pods: All that are bound to it, terminating and finished ones included.
        budgets: Every disruption budget that matches one of them, with its namespace.
        lease_renewed_at: Its kubelet's last sign of life (``kube-node-lease``); None when it has no Lease.
        leases: All nodes' last signs of life, by node name.
        held_by: Who holds the medik8s Lease of the node now; "" when nobody.
        machine: The cloud's word about its machine, the only proof of death: running, stopped, deleted, unknown; "" when it was not asked.
        requested: What live pods request on each node, by node name, in base units with ``pods``: their count.
    """

    node: NodeSnapshot
    pods: tuple[PodSnapshot, ...] = ()
    budgets: tuple[BudgetSnapshot, ...] = ()
    lease_renewed_at: datetime | None = None
    leases: Mapping[str, datetime] = field(default_factory=dict)
    held_by: str = ""
    machine: str = ""
    requested: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedSnapshot:
    """A workload that has pods on a node target, or had them when its incident began.

    Attributes:
        target: The topmost owner.
        displaced: The incident remembers that its pods had to move.
        desired: Wanted replicas; None when its kind has none that can be read (another operator's).
        ready: Ready replicas anywhere.
        waiting: Its live pods that are not ready; only read when too few are.
        absent: Wanted replicas that have no pod yet; only read when too few are ready.
        gone: It does not exist any more.
        hands_off: The annotation's value, None when absent.
    """

    target: Target
    displaced: bool = False
    desired: int | None = None
    ready: int = 0
    waiting: tuple[PodSnapshot, ...] = ()
    absent: int = 0
    gone: bool = False
    hands_off: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSnapshot:
    """A Kubernetes Event about the target, its pods or owners; newest first in a snapshot. ``source``: the component that wrote it."""

    about: str
    type: str
    reason: str
    message: str
    count: int = 1
    last_seen_at: datetime | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSnapshot:
    """One component of the installation (``components:`` in responder.yaml) in a cluster, and what its check says there."""

    name: str
    health: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachSnapshot:
    """Whether a cluster's API answers us.

    Attributes:
        answers: True when it does, False when two tries at least 10 s apart failed while the rest of the world answered us, None in any
            doubt: one failure alone, or our own network may be to blame.
        said: What came of it, with times.
        since: The first failure of the unbroken row; None when it answers.
        hosts_responder: This program runs in that cluster.
        components: What the checks of its components say; None when they were not asked.
    """

    answers: bool | None
    said: str = ""
    since: datetime | None = None
    hosts_responder: bool | None = None
    components: tuple[ComponentSnapshot, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that one decision about a target is judged by.

    Attributes:
        target: What was read, with its UID when it exists.
        read_at: When the reads began.
        gone: The target was looked for and does not exist.
        workload: Of a workload or pod target, or of a service's one workload.
        pod: Of a pod target.
        service: Of a service target.
        node: Of a node target.
        moved: Of a node target, also when it is gone: the workloads that have or had pods on it.
        nodes: The nodes that the pods run on; of a node target all nodes of the cluster, itself included.
        events: Newest first, at most 100.
        pool: Of a node target: its agent pool, remembered when the node is gone; "" for none known.
        machine_room: Where a pod of the workload is unschedulable: by agent pool, what the largest of its machines has for pods beside those that run on
            every node, in base units. A pool without a node is not in it: nothing shows how large its machines are.
        cloud: What the cloud says of the cluster; None where it has none or was not asked (then ``gaps`` has ``cloud``).
        reach: Of a cluster target: whether its API answers us.
        maintenance: Of a node target: what Azure said by its events that it is doing to the machine, its pool or its cluster itself, in sentences; of a
            cluster target what it is doing to it or to any of its pools.
        gaps: Sources that could not be read, each with the reason: ``{"quotas": "403 forbidden: list resourcequotas"}``.
    """

    target: Target
    read_at: datetime
    gone: bool = False
    workload: WorkloadSnapshot | None = None
    pod: PodSnapshot | None = None
    service: ServiceSnapshot | None = None
    node: NodeDetail | None = None
    moved: tuple[MovedSnapshot, ...] = ()
    nodes: tuple[NodeSnapshot, ...] = ()
    events: tuple[EventSnapshot, ...] = ()
    pool: str = ""
    machine_room: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cloud: CloudSnapshot | None = None
    reach: ReachSnapshot | None = None
    maintenance: tuple[str, ...] = ()
    gaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the core derived from a snapshot: facts, checks, and the snapshot itself for planning.

    Attributes:
        facts: Name without ``facts.`` to value (str, int, bool, float, list, datetime or timedelta). A fact not read is absent.
        had_none: Optional facts whose source was read and had none: ``has()`` is false only for these.
        checks: By the check's canonical name (``responder.actions.checks``), at least those asked for.
    """

    read_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    had_none: frozenset[str] = frozenset()
    checks: Mapping[str, Any] = field(default_factory=dict)
    snapshot: Snapshot | None = None
