"""``node.drain``: cordons, then evicts pod by pod through the eviction API until a look finds none, or says why it cannot.

A verdict on every pod is made before anything is touched, and again at every step: one pod that refuses, and nothing (more) is evicted. The
world is the only memory: what is cordoned carries our mark, what was evicted is terminating or gone, so a crash anywhere is repaired by
looking. Source: kubernetes.md A1-A5; RULES.md "Actions".

The decision a reader would question: pods are evicted one at a time, each chosen among those whose budget allows an eviction *now*, where
kubectl sends all at once and lets the API say 429. It is slower by some seconds, spends no budget on a race, never takes the last ready replica of
a workload that has several, budget or not, and every write passes the permit by itself, so a stop is obeyed between any two.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from responder.actions import nodes
from responder.actions.node_cordon import (
    LOOK_AGAIN,
    PATCH_NODES,
    TARGETS,
    cordon,
    cordon_change,
    detail_of,
    mark_of,
    refuses_others,
    target_of,
    the_node,
)
from responder.actions.nodes import Fate, PodVerdict
from responder.actions.planning import Action, PlanInput
from responder.model.action import End, Outcome, Permission, Plan, Refusal, Step, Verb, Wait, Write
from responder.model.cluster import NodeDetail, PodSnapshot, Snapshot
from responder.model.reason import Reason
from responder.rules.catalogue import ActionSpec

NEEDED = ("pods", "workloads", "namespace", "budgets")
"""What must have been read before a verdict on a pod is worth anything."""

BUDGET_AGAIN = timedelta(seconds=5)
SETTLED_AFTER = timedelta(seconds=5)
"""A pod that the scheduler had bound before it saw the cordon arrives within moments: a look this long after the cordon is the second pass."""

SYSTEM_CRITICAL = 2_000_000_000
"""Priority of ``system-cluster-critical``; kubernetes.md A1, filter 6. They go, late: a drain that they refused would be none on any AKS node."""

PROOF_MARGIN = timedelta(minutes=2)
"""What a drain gets beyond its pods' longest grace period, to evict and be proven."""


def plan(given: PlanInput) -> Plan | Refusal:
    """Make the verdict on every pod; any that refuses, and nothing is planned."""
    detail = detail_of(given)
    if isinstance(detail, Refusal):
        return detail
    assert given.snapshot is not None
    for gap in NEEDED:
        if gap in given.snapshot.gaps:
            return Refusal(reason=Reason.UNKNOWN, detail=f"{gap} were not read: {given.snapshot.gaps[gap]}")
    refusal = refuses_others(given)
    if refusal is not None:
        return refusal
    found = nodes.verdicts(detail)
    refusing = [*(one for one in found if one.fate is Fate.REFUSES), *nodes.hopeless(detail)]
    if refusing:
        return Refusal(reason=Reason.DRAIN_BLOCKED, detail=nodes.named(refusing))
    going = [one for one in found if one.fate is Fate.GOES]
    leaving = [one for one in found if one.fate is Fate.LEAVES]
    node, mark = detail.node, mark_of(given.command, given.now)
    confirmed = (
        () if node.ready == "Unknown" else (*going, *leaving)
    )  # a dead node confirms nothing, so its pods are not waited for
    grace = max((one.pod.grace_seconds for one in confirmed), default=0)
    tops = {one.pod.top for one in (*going, *leaving)}
    return Plan(
        action="node.drain",
        command=given.command,
        target=target_of(given, detail),
        values={
            "uid": node.uid,
            "mark": mark,
            "ready": node.ready,
            "pods": len(going),
            "own": given.settings.own_pod,
        },
        diff=(f"node {node.name}: " + "; ".join(_said(node.unschedulable, going)),),
        changes=cordon_change(node, mark),
        writes_at_most=1 + 2 * len(going),
        touches=tuple(one.target for one in given.snapshot.moved if one.target.identity in tops),
        takes=timedelta(seconds=grace) + PROOF_MARGIN,
    )


def _said(cordoned: bool, going: Sequence[PodVerdict]) -> list[str]:
    """Say a plan by workloads and without counts: an approval is bound to these words, and on a node under pressure pods come and go by the minute."""
    said = [] if cordoned else ["cordon"]
    names = sorted({f"{one.pod.namespace}/{one.pod.owner.name if one.pod.owner else one.pod.name}" for one in going})
    said.append(f"evict the pods of {', '.join(names)}" if names else "no pod has to go")
    if any(one.pod.empty_dir for one in going):
        said.append("what they keep in an emptyDir is lost")
    return said


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """Cordon, evict the next pod that may go, or wait for budgets and grace periods; end when a second pass finds none."""
    detail = the_node(plan, snapshot)
    if isinstance(detail, End):
        return detail
    node = detail.node
    for gap in NEEDED:
        if gap in snapshot.gaps:
            return Wait(again_in=LOOK_AGAIN, detail=f"{gap} were not read: {snapshot.gaps[gap]}", refuses=Reason.UNKNOWN)
    who = nodes.at_work(snapshot, now=now)
    if who:
        return End(outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ACTIVITY, detail=who)
    if plan.values["ready"] != "True" and node.ready == "True":
        return End(outcome=Outcome.STOPPED, reason=Reason.HEALTHY, detail=f"node {node.name} is Ready again; what is on it stays")
    found = nodes.verdicts(detail)
    refusing = [one for one in found if one.fate is Fate.REFUSES]
    if refusing:
        return End(outcome=Outcome.REFUSED, reason=Reason.DRAIN_BLOCKED, detail=nodes.named(refusing))
    if not node.unschedulable:
        return cordon(node, plan.values["mark"])
    going = [one.pod for one in found if one.fate is Fate.GOES]
    leaving = [one.pod for one in found if one.fate is Fate.LEAVES]
    ours_alone = leaving and node.ready != "Unknown" and {f"{pod.namespace}/{pod.name}" for pod in going} == {plan.values["own"]}
    if going and not ours_alone:
        return _evict(plan, snapshot, detail, going)
    return _finish(detail, leaving, now=now)


def _evict(plan: Plan, snapshot: Snapshot, detail: NodeDetail, going: Sequence[PodSnapshot]) -> Step:
    """Evict the first pod whose budget allows it now: our own last, and what the whole cluster stands on (DNS, the way to the API server) late."""
    own = plan.values["own"]
    ordered = sorted(
        going,
        key=lambda pod: (f"{pod.namespace}/{pod.name}" == own, pod.priority >= SYSTEM_CRITICAL, pod.namespace, pod.name),
    )
    others = [pod for pod in ordered if f"{pod.namespace}/{pod.name}" != own]
    blocked: list[str] = []
    budgets = False
    for pod in others or ordered:
        by_budget = _blocked(detail, pod)
        why = by_budget or _last_ready(snapshot, detail, pod)
        if why:
            budgets = budgets or bool(by_budget)
            blocked.append(f"{pod.namespace}/{pod.name}: {why}")
            continue
        total = max(int(plan.values["pods"]), len(going))
        return Write(
            key=f"evict {pod.uid}",
            verb=Verb.EVICT,
            api="v1",
            plural="pods",
            namespace=pod.namespace,
            name=pod.name,
            uid=pod.uid,
            says=f"evict pod {pod.namespace}/{pod.name} from node {detail.node.name} ({total - len(going) + 1} of {total})",
        )
    said = "; ".join(blocked[:3]) + (f"; and {len(blocked) - 3} more" if len(blocked) > 3 else "")
    return Wait(again_in=BUDGET_AGAIN, detail=said, refuses=Reason.BUDGET_BLOCKS if budgets else Reason.LAST_READY_REPLICA)


def _last_ready(snapshot: Snapshot, detail: NodeDetail, pod: PodSnapshot) -> str:
    """Say that none of the workload's replicas would be left that is ready; "" when one would, when a budget decides, or when it has only one.

    Without a budget the API would take them all at once. Source: kubernetes.md A15 rule 3. Not asked on a node whose kubelet is silent: what is there is
    not ready.
    """
    moved = next((one for one in snapshot.moved if one.target.identity == pod.top), None) if pod.top and not pod.budgets else None
    if moved is None or moved.desired is None or moved.desired <= 1 or not pod.ready or detail.node.ready == "Unknown":
        return ""
    if moved.ready > 1:
        return ""
    return (
        f"it is the last ready one of {moved.target.owner_kind} {moved.target.name} ({moved.ready} of {moved.desired} are ready)"
    )


def _blocked(detail: NodeDetail, pod: PodSnapshot) -> str:
    """Say why the eviction API would answer 429 now, as it reckons itself (kubernetes.md A2); "" when it would not."""
    if pod.phase == "Pending":
        return ""  # never counted by a budget
    for one in detail.budgets:
        if one.namespace != pod.namespace or one.name not in pod.budgets:
            continue
        if not one.observed:
            return f"budget {one.name} has not been counted yet"
        broken_may_go = not pod.ready and (
            one.unhealthy_policy == "AlwaysAllow" or one.current_healthy >= one.desired_healthy > 0
        )
        if one.allowed <= 0 and not broken_may_go:
            return f"budget {one.name} needs {one.desired_healthy} healthy pods and has {one.current_healthy}"
    return ""


def _finish(detail: NodeDetail, leaving: Sequence[PodSnapshot], *, now: datetime) -> Step:
    """Wait for what terminates; on a dead node nobody confirms, so that is said and not waited for.

    How long is the rung's to say, which has at least the longest grace period: ``deletionTimestamp`` is the API server's clock, not ours.
    """
    node = detail.node
    if not leaving:
        cordoned_at = nodes.marked_at(node.cordoned_for)
        if cordoned_at is not None and now - cordoned_at < SETTLED_AFTER:
            return Wait(again_in=LOOK_AGAIN, detail=f"none left on node {node.name}; a second pass follows")
        return End(
            outcome=Outcome.DONE,
            reason=Reason.DONE,
            detail=f"node {node.name} is drained: a second pass found no pod that has to go",
        )
    names = ", ".join(f"{pod.namespace}/{pod.name}" for pod in leaving[:5]) + (
        f" and {len(leaving) - 5} more" if len(leaving) > 5 else ""
    )
    if node.ready == "Unknown":
        said = f"node {node.name} is not drained: {len(leaving)} pods still terminate on a dead node, which cannot confirm it: {names}"
        return End(outcome=Outcome.DONE, reason=Reason.DONE, detail=said)
    held = sorted({name for pod in leaving for name in pod.finalizers})
    said = f"{len(leaving)} pods terminate: {names}" + (f"; held by finalizer {', '.join(held)}" if held else "")
    return Wait(again_in=LOOK_AGAIN, detail=said, refuses=Reason.DRAIN_BLOCKED)


ACTION = Action(
    spec=ActionSpec(
        name="node.drain",
        grade=3,
        targets=TARGETS,
        says="Cordon the node and evict its pods; budgets are waited for. A pod that refuses, and nothing is evicted.",
    ),
    plan=plan,
    next_step=next_step,
    permissions=(PATCH_NODES, Permission(verb="create", group="", resource="pods/eviction")),
)
