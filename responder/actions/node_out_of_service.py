"""``node.out_of_service``: the taint by which Kubernetes lets go of everything on a node whose machine is off, and its removal.

Only with proof that the machine is off: a silent kubelet is not a dead machine, and force-deleting a StatefulSet's pod on a node that is
only cut off makes two of it. The taint is taken away again once nothing is left there, also after a crash: left alone it deletes every
pod that lands on the node later. Source: kubernetes.md A5, rules 1-4; KEP-2268.

The decision a reader would question: what tells "taint not set yet" from "taint taken away again" after a crash is the node's pods: with
some left it is set, with none it is over. Nothing else remembers.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from responder.actions import nodes
from responder.actions.node_cordon import (
    LOOK_AGAIN,
    PATCH_NODES,
    TARGETS,
    detail_of,
    mark_of,
    refuses_others,
    target_of,
    the_node,
)
from responder.actions.planning import Action, PlanInput
from responder.model.action import (
    OUT_OF_SERVICE_ANNOTATION,
    Change,
    End,
    Outcome,
    PatchKind,
    Plan,
    Refusal,
    Step,
    Verb,
    Wait,
    Write,
)
from responder.model.cluster import NodeDetail, NodeSnapshot, Snapshot, Taint
from responder.model.reason import Reason
from responder.rules.catalogue import ActionSpec

OFF = frozenset({"stopped", "deleted"})
SILENT_FOR = timedelta(seconds=40)
"""A Lease is valid for so long; a younger one means that the kubelet spoke just now."""

TAINT = {"key": nodes.OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
MARK_PATH = f"/metadata/annotations/{OUT_OF_SERVICE_ANNOTATION.replace('/', '~1')}"


def plan(given: PlanInput) -> Plan | Refusal:
    """Plan the taint and its removal; without proof that the machine is off, refuse."""
    detail = detail_of(given)
    if isinstance(detail, Refusal):
        return detail
    assert given.snapshot is not None
    refusal = _refuses(detail, given.snapshot, now=given.now) or refuses_others(given)
    if refusal is not None:
        return refusal
    node, mark = detail.node, mark_of(given.command, given.now)
    left = _left(detail)
    return Plan(
        action="node.out_of_service",
        command=given.command,
        target=target_of(given, detail),
        values={"uid": node.uid, "mark": mark},
        diff=(f"node {node.name}: taint out-of-service while its machine is {detail.machine}; {len(left)} pods are let go",),
        changes=(
            Change(
                target=f"Node {node.name}",
                field="spec.taints",
                before=None,
                after=mark,
                undo=_patch(
                    node,
                    [*_same(node), {"op": "test", "path": MARK_PATH, "value": mark}],
                    key="give back the taint",
                    says=_removal(node),
                ),
                until="rung",
            ),
        ),
        writes_at_most=2,
        touches=tuple(one.target for one in given.snapshot.moved),
    )


def _refuses(detail: NodeDetail, snapshot: Snapshot, *, now: datetime) -> Refusal | None:
    """Refuse what is not proven: Ready Unknown, a stale Lease, and the cloud's word that the machine is off, all three."""
    node = detail.node

    def because(why: str) -> Refusal:
        return Refusal(reason=Reason.MACHINE_NOT_OFF, detail=f"node {node.name}: {why}")

    if node.ready != "Unknown":
        return because(f"Ready is {node.ready}: its kubelet still talks")
    if "leases" in snapshot.gaps:
        return Refusal(
            reason=Reason.UNKNOWN, detail=f"whether its kubelet still talks: leases were not read: {snapshot.gaps['leases']}"
        )
    if detail.lease_renewed_at is not None and now - detail.lease_renewed_at < SILENT_FOR:
        return because("its kubelet renewed its Lease just now")
    if detail.machine not in OFF:
        return because(f"its machine is {detail.machine or 'not known to the cloud'}: no proof that it is off")
    return None


def _left(detail: NodeDetail) -> list[str]:
    """Name the pods that a dead machine still holds, also those that a finalizer keeps after their end; static ones go with their node."""
    held = [pod for pod in detail.pods if not pod.mirror and (pod.phase not in nodes.FINISHED or pod.deleting_since is not None)]
    return [f"{pod.namespace}/{pod.name}" for pod in held]


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Taint the node while pods are left on it, wait until they are gone, take the taint away."""
    detail = the_node(plan, snapshot)
    if isinstance(detail, End):
        return detail
    node, mark = detail.node, plan.values["mark"]
    set_by_us = find(node) is not None and node.out_of_service_for == mark
    if find(node) is not None and not set_by_us:
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail="somebody else took the node out of service")
    if "pods" in snapshot.gaps:
        return Wait(again_in=LOOK_AGAIN, detail=f"pods were not read: {snapshot.gaps['pods']}")
    left = _left(detail)
    if set_by_us and (node.ready == "True" or not left):
        return remove(node, mark)
    if set_by_us:
        said = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        return Wait(again_in=LOOK_AGAIN, detail=f"{len(left)} pods are still there: {said}", refuses=Reason.DRAIN_BLOCKED)
    if node.ready == "True":
        return End(outcome=Outcome.STOPPED, reason=Reason.HEALTHY, detail=f"node {node.name} is Ready again")
    if not left:
        return End(
            outcome=Outcome.DONE, reason=Reason.DONE, detail=f"no pod is left on node {node.name}; its taint is taken away"
        )
    refusal = _refuses(detail, snapshot, now=now)
    if refusal is not None:
        return End(outcome=Outcome.REFUSED, reason=refusal.reason, detail=refusal.detail)
    return _add(node, mark)


def find(node: NodeSnapshot) -> int | None:
    """Return the place of the out-of-service taint in the node's list; None when it has none."""
    return next((number for number, one in enumerate(node.taints) if one.key == nodes.OUT_OF_SERVICE), None)


def _same(node: NodeSnapshot) -> list[dict[str, Any]]:
    return [{"op": "test", "path": "/metadata/uid", "value": node.uid}]


def _patch(node: NodeSnapshot, body: list[dict[str, Any]], *, key: str, says: str, takes_back: bool = False) -> Write:
    return Write(
        key=key,
        verb=Verb.PATCH,
        api="v1",
        plural="nodes",
        namespace="",
        name=node.name,
        uid=node.uid,
        body=body,
        patch=PatchKind.JSON,
        says=says,
        takes_back=takes_back,
    )


def _add(node: NodeSnapshot, mark: str) -> Write:
    """Add the taint and our mark; a merge patch replaces the list whole, so a version that nobody changed since is required (case 59)."""
    body = {
        "metadata": {"uid": node.uid, "resourceVersion": node.resource_version, "annotations": {OUT_OF_SERVICE_ANNOTATION: mark}},
        "spec": {"taints": [*(dict(one.raw) for one in node.taints), TAINT]},
    }
    return Write(
        key="taint",
        verb=Verb.PATCH,
        api="v1",
        plural="nodes",
        namespace="",
        name=node.name,
        uid=node.uid,
        body=body,
        patch=PatchKind.MERGE,
        says=f"taint node {node.name} out-of-service",
    )


def remove(node: NodeSnapshot, mark: str) -> Write:
    """Remove exactly our taint, by its place and only while it is there; those of others are not named."""
    place = find(node)
    assert place is not None
    path = f"/spec/taints/{place}"
    taint: Taint = node.taints[place]
    body = [
        *_same(node),
        {"op": "test", "path": MARK_PATH, "value": mark},
        {"op": "test", "path": f"{path}/key", "value": taint.key},
        {"op": "test", "path": f"{path}/effect", "value": taint.effect},
        {"op": "remove", "path": path},
        {"op": "remove", "path": MARK_PATH},
    ]
    return _patch(node, body, key="remove the taint", says=_removal(node), takes_back=True)


def _removal(node: NodeSnapshot) -> str:
    return f"remove taint out-of-service from node {node.name}"


ACTION = Action(
    spec=ActionSpec(
        name="node.out_of_service",
        grade=3,
        targets=TARGETS,
        says="Let go of everything on a node whose machine is proven to be off; the taint is removed afterwards.",
    ),
    plan=plan,
    next_step=next_step,
    permissions=(PATCH_NODES,),
)
