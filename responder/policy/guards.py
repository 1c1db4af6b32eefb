"""Limits and guards: what must hold before a disruptive rung, each an answer with its reason and numbers.

Source: RULES.md "Limits"; kubernetes.md A15. Three answers, only *allow* acts. Never here: reading or counting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import floor
from typing import Any

from responder.actions import nodes as on_node
from responder.actions.failing import fails, live
from responder.model.action import Plan
from responder.model.cloud import SETTLED
from responder.model.cluster import NodeSnapshot, Snapshot
from responder.model.health import Ruling, Verdict
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.rules.durations import Rate, format_duration, parse_duration, parse_rate, parse_share
from responder.rules.matchers import LabelMatchers

ZONE_DISRUPTED = 0.55
"""Share of a zone's nodes not Ready at which Kubernetes calls it disrupted. Source: kubernetes.md A5."""

LEASE_STALE = timedelta(seconds=40)
"""A kubelet renews its Lease every ten seconds, and it is valid for forty. Source: kubelet's nodeLeaseDurationSeconds."""

FRESH = timedelta(seconds=30)
"""Facts older than this are read again before a rung. Source: FACTS.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """So many within a window."""

    count: int
    window: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The installation's limits, with their defaults.

    Attributes:
        unhealthy_nodes: Share, 0 to 1, of a cluster's (and a zone's) nodes beyond which nothing is done to any; one node is always allowed.
        maintenance_windows: No rung of grade 4 or 5 on AKS while one of the cluster's maintenance windows is open.
        scope: Alternatives of conditions over kind, cluster, namespace, name and, of nodes and pools, pool; None for everything. One that holds is enough.
    """

    group_wait: timedelta = timedelta(seconds=30)
    max_actions: Count = field(default_factory=lambda: Count(count=3, window=timedelta(hours=1)))
    in_flight: int = 1
    same_symptom: Count = field(default_factory=lambda: Count(count=5, window=timedelta(minutes=5)))
    unhealthy_nodes: float = 0.3
    keep_ready: int = 1
    gitops: tuple[str, ...] = ("argocd", "flux")
    maintenance_windows: bool = True
    scope: tuple[LabelMatchers, ...] | None = None


def tighten(limits: Limits, guards: Mapping[str, Any]) -> Limits:
    """Return the limits with a rule's guards put in; only what is stricter takes effect.

    Args:
        limits: The installation's.
        guards: As in the rule: ``keep_ready``, ``in_flight``, ``group_wait``, ``max_actions``, ``same_symptom``,
            ``unhealthy_nodes``.
    """
    tightened = limits
    if "group_wait" in guards:
        tightened = replace(tightened, group_wait=max(limits.group_wait, parse_duration(str(guards["group_wait"]))))
    if "keep_ready" in guards:
        tightened = replace(tightened, keep_ready=max(limits.keep_ready, int(guards["keep_ready"])))
    if "in_flight" in guards:
        tightened = replace(tightened, in_flight=min(limits.in_flight, int(guards["in_flight"])))
    if "unhealthy_nodes" in guards:
        tightened = replace(tightened, unhealthy_nodes=min(limits.unhealthy_nodes, parse_share(str(guards["unhealthy_nodes"]))))
    if "max_actions" in guards:
        tightened = replace(tightened, max_actions=_stricter(limits.max_actions, parse_rate(str(guards["max_actions"]))))
    if "same_symptom" in guards:
        tightened = replace(tightened, same_symptom=_stricter(limits.same_symptom, parse_rate(str(guards["same_symptom"]))))
    return tightened


def _stricter(ours: Count, theirs: Rate) -> Count:
    """Return fewer in the longer window."""
    return Count(count=min(ours.count, theirs.count), window=max(ours.window, theirs.within))


def group_wait(limits: Limits, *, opened_at: datetime, now: datetime) -> Verdict:
    """Refuse while the incident is younger than ``group_wait``."""
    age = now - opened_at
    if age < limits.group_wait:
        return Verdict(
            Ruling.REFUSE, Reason.GROUP_WAIT, f"{age.total_seconds():.0f} s old, {limits.group_wait.total_seconds():.0f} s wanted"
        )
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def max_actions(limits: Limits, *, recent: int) -> Verdict:
    """Refuse when the rule has acted often enough in this cluster."""
    most = limits.max_actions
    detail = f"{recent} of {most.count} in {format_duration(most.window)}"
    if recent >= most.count:
        return Verdict(Ruling.REFUSE, Reason.MAX_ACTIONS, detail)
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, detail)


def in_flight(limits: Limits, *, running: int) -> Verdict:
    """Refuse while enough disruptive rungs run in the scope; it waits for them."""
    detail = f"{running} of {limits.in_flight} running"
    if running >= limits.in_flight:
        return Verdict(Ruling.REFUSE, Reason.IN_FLIGHT, detail)
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, detail)


def same_symptom(limits: Limits, *, targets: int) -> Verdict:
    """Refuse when more targets than the limit share the symptom: a common cause."""
    most = limits.same_symptom
    detail = f"{targets} targets within {format_duration(most.window)}, limit {most.count}"
    if targets > most.count:
        return Verdict(Ruling.REFUSE, Reason.SAME_SYMPTOM, detail)
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, detail)


def unhealthy_nodes(limits: Limits, nodes: Sequence[NodeSnapshot] | None) -> Verdict:
    """Refuse when too many nodes are not Ready, in the cluster or in any one zone: a storm, whose cause no node action cures.

    Args:
        limits: ``unhealthy_nodes`` is rounded down, so that safety wins; one node is always allowed (one of three is not a storm).
        nodes: All nodes of the cluster; None or empty when they could not be read: unknown, never permission.

    Source: RULES.md "Limits"; kubernetes.md A11 (medik8s rounds its limit up), A15 rule 3.
    """
    if not nodes:
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, "the cluster's nodes were not read")
    zones = {one.zone for one in nodes if one.zone}
    groups = [
        ("nodes", list(nodes)),
        *((f"nodes of zone {zone}", [one for one in nodes if one.zone == zone]) for zone in sorted(zones)),
    ]
    said = ""
    for name, group in groups:
        unhealthy = sum(1 for one in group if one.ready != "True")
        limit = max(1, floor(limits.unhealthy_nodes * len(group)))
        detail = f"{unhealthy} of {len(group)} {name} are not Ready, limit {limit}"
        if unhealthy > limit:
            return Verdict(Ruling.REFUSE, Reason.UNHEALTHY_NODES, detail)
        said = said or detail
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, said)


def control_plane_doubt(snapshot: Snapshot | None) -> Verdict:
    """Refuse a node action while what is seen of the nodes may be the control plane's own trouble, or ours.

    No node Ready, more than two and at least 55 % of a zone's not Ready (then Kubernetes itself stops evicting there), or most Leases stale at
    once while more than two are: kubelets do not die together, the way to the API server does. Asked of node targets only.

    Source: kubernetes.md A5 (ComputeZoneState), A15 rule 5, A16 case 22.
    """
    if snapshot is None or snapshot.node is None:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    for gap in ("nodes", "leases"):
        if gap in snapshot.gaps:
            return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"{gap} were not read: {snapshot.gaps[gap]}")
    nodes = snapshot.nodes
    down = [one for one in nodes if one.ready != "True"]
    if nodes and len(down) == len(nodes):
        return Verdict(
            Ruling.REFUSE, Reason.CONTROL_PLANE_DOUBT, f"none of {len(nodes)} nodes is Ready: no machine dies so, a network does"
        )
    for zone in sorted({one.zone for one in nodes}):
        group = [one for one in nodes if one.zone == zone]
        bad = sum(1 for one in group if one.ready != "True")
        if bad > 2 and bad / len(group) >= ZONE_DISRUPTED:
            return Verdict(
                Ruling.REFUSE,
                Reason.CONTROL_PLANE_DOUBT,
                f"{bad} of {len(group)} nodes of {zone or 'the one zone'} are not Ready",
            )
    leases = snapshot.node.leases
    stale = [one.name for one in nodes if one.name in leases and snapshot.read_at - leases[one.name] > LEASE_STALE]
    if len(stale) > 2 and len(stale) * 2 > len(nodes):
        return Verdict(
            Ruling.REFUSE, Reason.CONTROL_PLANE_DOUBT, f"{len(stale)} of {len(nodes)} kubelets have not renewed their Lease"
        )
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def keep_ready(limits: Limits, *, snapshot: Snapshot | None, actions: Sequence[str], now: datetime) -> Verdict:
    """Refuse what would take a ready replica when too few would be left.

    A rollout keeps ``desired - maxUnavailable`` ready by itself; removing one failing pod takes no ready one.
    """
    if snapshot is None or snapshot.workload is None:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, "no replicas to keep")
    if "pods" in snapshot.gaps:
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"pods were not read: {snapshot.gaps['pods']}")
    workload = snapshot.workload
    ready = [pod for pod in live(workload.pods) if pod.ready and not fails(pod, now=now)]
    if not ready or not any(name.startswith("workload.re") or name == "workload.rollback" for name in actions):
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, f"{len(ready)} ready and not touched")
    if "workload.restart" not in actions:  # a rollback leaves the pods alone that run another template than the bad one
        newest = {one.revision for one in workload.revisions if one.template_digest == workload.template_digest}
        taken = [pod for pod in ready if pod.revision in newest or not newest]
        if not taken:
            return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, f"{len(ready)} ready, none of the revision that is undone")
    left = len(ready) if workload.surge > 0 and workload.unavailable == 0 else max(0, len(ready) - max(1, workload.unavailable))
    if workload.strategy == "Recreate":
        left = 0
    wanted = min(limits.keep_ready, max(0, workload.desired - 1))
    detail = f"{len(ready)} ready, {left} left while it rolls, {wanted} to be kept"
    if left < wanted:
        return Verdict(Ruling.REFUSE, Reason.KEEP_READY, detail)
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, detail)


def scope(limits: Limits, target: Target, *, pool: str = "") -> Verdict:
    """Refuse targets outside the configured scope.

    Args:
        limits: The installation's.
        target: What would be touched: an incident's target, or the pool that a rung of it changes.
        pool: Of a node: its agent pool; "" when it is of none, or not known: then a condition over pools does not hold.
    """
    if limits.scope is None:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    labels = {"kind": str(target.kind), "cluster": target.cluster, "namespace": target.namespace, "name": target.name}
    labels["pool"] = target.name if target.kind is TargetKind.NODE_POOL else pool
    if any(one.matches(labels) for one in limits.scope):
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    of = f" of pool {pool}" if pool else ""
    return Verdict(
        Ruling.REFUSE, Reason.OUT_OF_SCOPE, f"{target}{of} in cluster {target.cluster}: no entry of limits.scope names it"
    )


def hands_off(snapshot: Snapshot | None) -> Verdict:
    """Refuse what somebody annotated ``responder/hands-off`` (pod, workload, service, namespace or node)."""
    if snapshot is None:
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, "the cluster was not read")
    if (
        "namespace" in snapshot.gaps and snapshot.node is None
    ):  # a node has none; the marks of its pods' namespaces are the drain's to ask
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"the namespace was not read: {snapshot.gaps['namespace']}")
    marks = [
        (f"pod {snapshot.pod.name}", snapshot.pod.hands_off) if snapshot.pod else None,
        (f"{snapshot.workload.kind} {snapshot.workload.name} or its namespace", snapshot.workload.hands_off)
        if snapshot.workload
        else None,
        (f"service {snapshot.service.name} or its namespace", snapshot.service.hands_off) if snapshot.service else None,
        (f"node {snapshot.node.node.name}", snapshot.node.node.hands_off) if snapshot.node else None,
    ]
    for mark in marks:
        if mark is not None and mark[1] is not None:
            return Verdict(Ruling.REFUSE, Reason.HANDS_OFF, f"{mark[0]}: {mark[1] or 'no reason given'}")
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def foreign_activity(snapshot: Snapshot | None, *, facts: Mapping[str, Any], actions: Sequence[str], ours: bool) -> Verdict:
    """Refuse while a rollout that is not ours progresses: it is waited for.

    A rollback may interrupt a rollout whose new pods fail (that is what it is for). ``ours``: a rung of this incident began it.
    On a node: auto-repair, autoscaler, Karpenter, an upgrade, a cordon that is not ours, the holder of its Lease, what Azure's events say is under way
    (``policy.maintenance``).
    """
    if snapshot is not None and snapshot.node is not None:
        return node_activity(snapshot)
    if snapshot is None or snapshot.workload is None:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    rollout = facts.get("rollout")
    if rollout is None:
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, "the rollout's state was not read")
    if rollout == "progressing" and not ours and "workload.rollback" not in actions:
        return Verdict(Ruling.REFUSE, Reason.FOREIGN_ACTIVITY, f"a rollout of {snapshot.workload.name} is progressing")
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def node_activity(snapshot: Snapshot) -> Verdict:
    """Refuse while somebody else is at work on the node; unknown when their traces could not be read."""
    for gap in ("events", "lease_holder"):
        if gap in snapshot.gaps:
            return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"{gap.replace('_', ' ')} not read: {snapshot.gaps[gap]}")
    who = on_node.at_work(snapshot, now=snapshot.read_at) or "; ".join(snapshot.maintenance)
    if who:
        return Verdict(Ruling.REFUSE, Reason.FOREIGN_ACTIVITY, who)
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def own_cluster(target: Target, *, home: str, snapshot: Snapshot | None, actions: Sequence[str]) -> Verdict:
    """Refuse what would reach the cluster that hosts us as a cluster: we would saw off our own branch, and nobody would finish.

    Source: ARCHITECTURE.md, "Where it runs".
    """
    if not any(name.startswith("cluster.") for name in actions):
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    hosts = snapshot.reach.hosts_responder if snapshot is not None and snapshot.reach is not None else None
    if hosts is None and not home:
        said = f"whether {target.cluster} hosts this program was not seen; say it with home.cluster"
        return Verdict(Ruling.REFUSE, Reason.OWN_CLUSTER, said)
    if hosts or (home and target.cluster == home):
        return Verdict(
            Ruling.REFUSE, Reason.OWN_CLUSTER, f"{target.cluster} hosts this program; run it in another region to look after it"
        )
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def cloud_activity(snapshot: Snapshot | None, *, actions: Sequence[str]) -> Verdict:
    """Refuse node actions while AKS is at work on the cluster or the node's pool; unknown where ARM is configured and does not answer.

    Cloud actions ask for themselves when they are planned. Source: kubernetes.md A12 (upgrades), A15 rule 7.
    """
    if snapshot is None or snapshot.node is None or not any(name.startswith("node.") for name in actions):
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    if "cloud" in snapshot.gaps:
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"ARM was not read: {snapshot.gaps['cloud']}")
    cloud = snapshot.cloud
    if cloud is None:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    # Not ``cloud.operation`` alone: that is one operation, and while a cluster is upgraded its pools are too, one after the other.
    pool = cloud.pool(snapshot.node.node.pool)
    working: list[tuple[str, str]] = []
    if pool is not None and not pool.settled:
        working.append((pool.name, pool.provisioning_state))
    if cloud.provisioning_state and cloud.provisioning_state not in SETTLED:
        working.append(("", cloud.provisioning_state))
    busy = cloud.operation
    if busy is not None and busy.on in {"", snapshot.node.node.pool}:
        working.append((busy.on, busy.name))
    if not working:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    on, state = working[0]
    where = f"pool {on}" if on else "the cluster"
    by = f", begun by {busy.by}" if busy is not None and busy.by and busy.on == on else ""
    return Verdict(Ruling.REFUSE, Reason.FOREIGN_ACTIVITY, f"AKS: {where} is {state}{by}")


def maintenance_window(
    limits: Limits, snapshot: Snapshot | None, *, grade: int, actions: Sequence[str], now: datetime
) -> Verdict:
    """Refuse what ARM is asked for at grade 4 and 5 while AKS may be at its planned maintenance; unknown when its windows were not read or understood.

    An upgrade that runs in its window is not to be aborted for being old, nor a machine deleted beside it. Our own operation may be aborted at any time, and a
    cluster that is stopped is not maintained: it may be started. Source: RULES.md "Limits", the last paragraph.
    """
    if not limits.maintenance_windows or grade < 4 or not any(name.startswith(("cluster.", "node_pool.")) for name in actions):
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    cloud = snapshot.cloud if snapshot is not None else None
    if cloud is None:  # the plan refuses for it
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)
    if tuple(actions) == ("cluster.start",) and cloud.power_state == "Stopped":
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, "the cluster is stopped: nothing is maintained")
    if tuple(actions) == ("cluster.abort_operation",) and cloud.operation is not None and cloud.operation.ours:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, "the operation is ours")
    if "maintenance" in cloud.gaps:
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"maintenance windows were not read: {cloud.gaps['maintenance']}")
    for one in cloud.maintenance:
        if one.windows is None:
            said = f"the schedule of maintenance configuration {one.name} is not understood ({one.says})"
            return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, f"{said}; limits.maintenance_windows: false does without")
        ends = one.open_until(now)
        if ends is not None:
            said = f"AKS maintenance window {one.name} is open until {ends:%Y-%m-%d %H:%M} UTC"
            return Verdict(Ruling.REFUSE, Reason.FOREIGN_ACTIVITY, said)
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def fresh(read_at: datetime | None, *, now: datetime) -> Verdict:
    """Refuse a reading that is older than 30 s; unknown when there is none."""
    if read_at is None:
        return Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, "nothing was read")
    if now - read_at > FRESH:
        return Verdict(Ruling.REFUSE, Reason.STALE_READING, f"read {(now - read_at).total_seconds():.0f} s ago")
    return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS)


def floor_before_write(plan: Plan, snapshot: Snapshot, *, limits: Limits) -> Verdict | None:
    """Return why a write must not be made now although it was planned, or None: marks, floors and other hands read again."""
    mark = hands_off(snapshot)
    if mark.ruling is not Ruling.ALLOW:
        return mark
    if snapshot.node is not None:
        asked = (node_activity(snapshot), control_plane_doubt(snapshot), unhealthy_nodes(limits, snapshot.nodes))
        return next((one for one in asked if one.ruling is not Ruling.ALLOW), None)
    if plan.action in {"pod.delete", "pod.evict"} and snapshot.workload is not None:
        others = [pod for pod in live(snapshot.workload.pods) if pod.ready and pod.uid != plan.values.get("uid")]
        victim = next((pod for pod in snapshot.workload.pods if pod.uid == plan.values.get("uid")), None)
        if victim is not None and victim.ready and not others:
            return Verdict(Ruling.REFUSE, Reason.LAST_READY_REPLICA, f"pod {victim.name} is the last ready one now")
    rolls = plan.action == "workload.restart" or (  # the stuck pods that a rollback removes afterwards take no ready one
        plan.action == "workload.rollback"
        and snapshot.workload is not None
        and snapshot.workload.template_digest == plan.values.get("bad_digest")
    )
    if rolls:
        kept = keep_ready(limits, snapshot=snapshot, actions=(plan.action,), now=snapshot.read_at)
        return kept if kept.ruling is not Ruling.ALLOW else None
    return None
