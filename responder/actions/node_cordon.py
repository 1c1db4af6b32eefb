"""``node.cordon`` and ``node.uncordon``: no new pods on a node, with our mark on it, so that only our own cordon is ever lifted.

Recognised after a crash by the mark. A cordon of somebody else's is theirs: it is neither taken over nor lifted (kubernetes.md A4; kured lifts
an administrator's after a drain of its own). Source: RULES.md "Actions".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from responder.actions import nodes
from responder.actions.planning import Action, PlanInput
from responder.model.action import (
    CORDON_ANNOTATION,
    Change,
    End,
    Outcome,
    PatchKind,
    Permission,
    Plan,
    Refusal,
    Step,
    Verb,
    Write,
)
from responder.model.cluster import NodeDetail, NodeSnapshot, Snapshot
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.rules.catalogue import ActionSpec

TARGETS = frozenset({TargetKind.NODE})
PATCH_NODES = Permission(verb="patch", group="", resource="nodes")
LOOK_AGAIN = timedelta(seconds=2)


def detail_of(given: PlanInput) -> NodeDetail | Refusal:
    """Return the node that a plan is made for, or why it is not known."""
    if given.snapshot is None:
        return Refusal(reason=Reason.UNKNOWN, detail="the cluster was not read")
    if given.snapshot.gone:
        return Refusal(reason=Reason.TARGET_GONE, detail=f"{given.target} does not exist any more")
    if given.snapshot.node is None:
        return Refusal(reason=Reason.UNKNOWN, detail=f"{given.target} was not read as a node")
    return given.snapshot.node


def mark_of(command: str, at: datetime) -> str:
    """Return our mark: the incident's id and when; the same for every action of one rung, which is planned in one moment."""
    return f"{command.partition('/')[0]} {at:%Y-%m-%dT%H:%M:%SZ}"


def refuses_others(given: PlanInput) -> Refusal | None:
    """Refuse while somebody else is at work on the node."""
    assert given.snapshot is not None
    who = nodes.at_work(given.snapshot, now=given.now)
    return Refusal(reason=Reason.FOREIGN_ACTIVITY, detail=who) if who else None


def target_of(given: PlanInput, detail: NodeDetail) -> Target:
    """Return the target with the UID of the node that was read."""
    return replace(given.target, uid=detail.node.uid)


def the_node(plan: Plan, snapshot: Snapshot) -> NodeDetail | End:
    """Return the node of a plan as it is now, or the end when it is another one."""
    if snapshot.node is None or snapshot.node.node.uid != plan.values["uid"]:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="the node is another object now")
    return snapshot.node


# --- cordon


def plan_cordon(given: PlanInput) -> Plan | Refusal:
    """Plan a cordon; one of ours that is there already is kept."""
    detail = detail_of(given)
    if isinstance(detail, Refusal):
        return detail
    refusal = refuses_others(given)
    if refusal is not None:
        return refusal
    node, mark = detail.node, mark_of(given.command, given.now)
    return Plan(
        action="node.cordon",
        command=given.command,
        target=target_of(given, detail),
        values={"uid": node.uid, "mark": mark},
        diff=(f"node {node.name}: cordon" + (", as it is" if node.unschedulable else ""),),
        changes=cordon_change(node, mark),
    )


def cordon_change(node: NodeSnapshot, mark: str) -> tuple[Change, ...]:
    """Return what must be given back when this node is cordoned by us; nothing when it is cordoned already."""
    if node.unschedulable:
        return ()
    undo = lift(node, mark, key="give back the cordon")
    return (Change(target=f"Node {node.name}", field="spec.unschedulable", before=False, after=mark, undo=undo, until="rung"),)


def cordon(node: NodeSnapshot, mark: str) -> Write:
    """Return the write of a cordon with our mark, against the version that was seen."""
    return Write(
        key="cordon",
        verb=Verb.PATCH,
        api="v1",
        plural="nodes",
        namespace="",
        name=node.name,
        uid=node.uid,
        body={
            "metadata": {
                "uid": node.uid,
                "resourceVersion": node.resource_version,
                "annotations": {CORDON_ANNOTATION: mark},
            },
            "spec": {"unschedulable": True},
        },
        patch=PatchKind.MERGE,
        says=f"cordon node {node.name}",
    )


_MARK = f"/metadata/annotations/{CORDON_ANNOTATION.replace('~', '~0').replace('/', '~1')}"


def _without_mark(node: NodeSnapshot, mark: str, *, key: str, says: str, lifted: bool) -> Write:
    """Return the write that takes this mark of ours from a node, while it is there, and lifts the cordon with it or touches nothing else."""
    body: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": node.uid},
        {"op": "test", "path": _MARK, "value": mark},
    ]
    if lifted:
        body.append({"op": "test", "path": "/spec/unschedulable", "value": True})
    body.append({"op": "remove", "path": _MARK})
    if lifted:
        body.append({"op": "remove", "path": "/spec/unschedulable"})
    return Write(
        key=key, verb=Verb.PATCH, api="v1", plural="nodes", namespace="", name=node.name, uid=node.uid, body=body,
        patch=PatchKind.JSON, says=says,
    )  # fmt: skip


def lift(node: NodeSnapshot, mark: str, *, key: str) -> Write:
    """Return the write that lifts a cordon, only while it carries this mark."""
    return _without_mark(node, mark, key=key, says=f"uncordon node {node.name}", lifted=True)


def unmark(node: NodeSnapshot, mark: str) -> Write:
    """Return the write that takes our mark from a node whose cordon is no longer ours, and touches nothing else.

    Left there it would call the next cordon of an administrator ours.
    """
    why = "another one now" if node.unschedulable else "lifted already"
    says = f"take our mark from node {node.name}: its cordon is {why}"
    return _without_mark(node, mark, key="take the mark away", says=says, lifted=False)


def next_cordon(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Cordon the node unless it is."""
    del now
    detail = the_node(plan, snapshot)
    if isinstance(detail, End):
        return detail
    match nodes.cordoned_by(detail.node):
        case "us":
            return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=f"node {detail.node.name} takes no new pods")
        case "other":
            return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail="somebody else cordoned it meanwhile")
        case _:
            return cordon(detail.node, plan.values["mark"])


# --- uncordon


def plan_uncordon(given: PlanInput) -> Plan | Refusal:
    """Plan to lift a cordon of ours; anybody else's is refused."""
    detail = detail_of(given)
    if isinstance(detail, Refusal):
        return detail
    node = detail.node
    refusal = refuses_others(given)
    if refusal is not None:
        return refusal
    return Plan(
        action="node.uncordon",
        command=given.command,
        target=target_of(given, detail),
        values={"uid": node.uid, "mark": node.cordoned_for},
        diff=(f"node {node.name}: uncordon" if node.unschedulable else f"node {node.name}: not cordoned",),
    )


def next_uncordon(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Lift the cordon while it is the one that was planned."""
    detail = the_node(plan, snapshot)
    if isinstance(detail, End):
        return detail
    node = detail.node
    if not node.unschedulable:
        done = Outcome.DONE if plan.values["mark"] else Outcome.ALREADY_SO
        return End(outcome=done, reason=Reason(str(done)), detail=f"node {node.name} takes new pods")
    who = nodes.at_work(snapshot, now=now)
    if who or node.cordoned_for != plan.values["mark"]:
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail=who or "the cordon is another one now")
    return lift(node, node.cordoned_for, key="uncordon")


CORDON = Action(
    spec=ActionSpec(
        name="node.cordon",
        grade=3,
        targets=TARGETS,
        says="Let no new pods onto the node; given back unless done, and at recovery.",
    ),
    plan=plan_cordon,
    next_step=next_cordon,
    permissions=(PATCH_NODES,),
)
UNCORDON = Action(
    spec=ActionSpec(
        name="node.uncordon", grade=3, targets=TARGETS, says="Let new pods onto the node again; only a cordon of ours is lifted."
    ),
    plan=plan_uncordon,
    next_step=next_uncordon,
    permissions=(PATCH_NODES,),
)
