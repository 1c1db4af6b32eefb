"""Giving back what was set on a node or a pool: looked at first, since whose a cordon is now cannot be said by a precondition alone.

What was set on a pool may be on its way back already, sent by a life that died before it could say so: a pool at work is left alone for now.
A cordon of ours stays while the autoscaler, AKS or Karpenter has marked the node (kubernetes.md A4): lifting it would send pods onto a node
that is being taken away. One that a person lifted, or set anew, leaves only our mark, which is taken away.
A taint is removed by its place in the list, which only a look can tell.
"""

from __future__ import annotations

from datetime import datetime

from responder.actions import node_cordon, node_out_of_service, nodes
from responder.model.action import Change, End, Outcome, Verb, Write
from responder.model.cloud import CloudSnapshot
from responder.model.cluster import Snapshot
from responder.model.reason import Reason


def looks_first(change: Change) -> bool:
    """Tell whether giving a change back needs a look at a node."""
    return change.undo.plural == "nodes"


def of_pool(change: Change) -> bool:
    """Tell whether giving a change back needs a look at a pool."""
    return change.undo.verb is Verb.POOL


def undo_pool_now(change: Change, cloud: CloudSnapshot) -> Write | End:
    """Return the write that gives a change of a pool back, or why there is none; as ``undo_now``."""
    pool = cloud.pool(change.undo.name)
    if pool is None:
        return End(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="the pool does not exist any more")
    if not pool.settled or cloud.operation is not None:
        at_work = f"pool {pool.name} is {pool.provisioning_state}" if not pool.settled else "the cluster is at work"
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail=at_work)
    (field,) = change.undo.body["set"]
    current = pool.minimum if field == "min_count" else pool.count
    if current == change.before:
        return End(outcome=Outcome.ALREADY_SO, reason=Reason.ALREADY_SO, detail="nothing of ours is there")
    if current != change.after:
        return End(outcome=Outcome.GONE, reason=Reason.ALREADY_SO, detail=f"it is {current}, no longer ours")
    return change.undo


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
    if node.cordoned_for != mark:
        return none
    if nodes.cordoned_by(node) != "us":
        return node_cordon.unmark(node, mark)
    who = nodes.at_work(snapshot, now=now)
    if who:
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail=who)
    return node_cordon.lift(node, mark, key=change.undo.key)
