"""Giving back what was set on a node: looked at first, since whose a cordon is now cannot be said by a precondition alone.

A cordon of ours stays while the autoscaler, AKS or Karpenter has marked the node (kubernetes.md A4): lifting it would send pods onto a node
that is being taken away. A taint is removed by its place in the list, which only a look can tell.
"""

from __future__ import annotations

from datetime import datetime

from responder.actions import node_cordon, node_out_of_service, nodes
from responder.model.action import Change, End, Outcome, Write
from responder.model.cluster import Snapshot
from responder.model.reason import Reason


def looks_first(change: Change) -> bool:
    """Tell whether giving a change back needs a look at a node."""
    return change.undo.plural == "nodes"


def undo_now(change: Change, snapshot: Snapshot, *, now: datetime) -> Write | End:
    """Return the write that gives a change of a node back, or why there is none.

    Returns:
        A write; or an end: already so (nothing of ours is there), gone (another node, or none), refused (somebody else is at work: later).
    """
    if snapshot.node is None or snapshot.node.node.uid != change.undo.uid:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="the node does not exist any more")
    node, mark = snapshot.node.node, str(change.after)
    none = End(outcome=Outcome.ALREADY_SO, reason=Reason.ALREADY_SO, detail="nothing of ours is there")
    if change.field == "spec.taints":
        ours = node_out_of_service.find(node) is not None and node.out_of_service_for == mark
        return node_out_of_service.remove(node, mark) if ours else none
    if not node.unschedulable or node.cordoned_for != mark:
        return none
    who = nodes.at_work(snapshot, now=now)
    if who:
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail=who)
    return node_cordon.lift(node, mark, key=change.undo.key)
