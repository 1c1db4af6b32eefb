"""Actions as step machines: refusals, absolute plans, and a crash before, between and after any step repeats nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.actions.failing import fails
from responder.actions.planning import PlanInput
from responder.model.action import COMMAND_ANNOTATION, End, Outcome, Plan, Refusal, Verb, Wait, Write
from responder.model.cluster import AutoscalerSnapshot, BudgetSnapshot, ContainerSnapshot, OwnerRef, QuotaSnapshot, Snapshot
from responder.model.reason import Reason
from responder.model.target import TargetKind
from tests import builders as make

SICK = (make.crashing("api-1"), make.crashing("api-2"))
CRASH: dict[str, Any] = {"cause": "crash", "failing": 2, "rollout_age": timedelta(hours=1)}


def plan(action: str, snap: Snapshot | None = None, *, facts: dict[str, Any] | None = None, **arguments: Any) -> Plan | Refusal:
    """Plan one action."""
    given = PlanInput(
        target=make.TARGET,
        snapshot=snap if snap is not None else make.snapshot(pods=SICK),
        facts=CRASH if facts is None else facts,
        arguments=arguments,
        command="inc-1/1/crash/r/1",
        now=make.NOON,
    )
    return make.CATALOGUE.actions[action].plan(given)


def planned(action: str, snap: Snapshot | None = None, **arguments: Any) -> Plan:
    found = plan(action, snap, **arguments)
    assert isinstance(found, Plan), found
    return found


def step(made: Plan, snap: Snapshot) -> Write | Wait | End:
    return make.CATALOGUE.actions[made.action].next_step(made, snap, now=make.NOON)


HEALED = (make.revision("old", 1, was_healthy=True), make.revision("new", 2, current=True))

REFUSALS = [
    ("workload.restart", make.snapshot(pods=SICK, paused=True), {}, Reason.WORKLOAD_PAUSED, "31 paused"),
    ("workload.rollback", make.snapshot(pods=SICK, paused=True), {}, Reason.WORKLOAD_PAUSED, "31 paused undo"),
    ("workload.restart", make.snapshot(pods=SICK, strategy="OnDelete"), {}, Reason.ON_DELETE_STRATEGY, "34 OnDelete"),
    (
        "workload.restart",
        make.snapshot(pods=SICK, quotas=(QuotaSnapshot(name="q", hard={"pods": 2}, used={"pods": 2}),)),
        {},
        Reason.QUOTA_EXCEEDED,
        "39 quota full",
    ),
    ("workload.restart", make.snapshot(pods=SICK, kind="Job"), {}, Reason.KIND_NOT_SUPPORTED, "a Job"),
    ("workload.restart", make.snapshot(pods=SICK), {"facts": {"cause": "image_missing"}}, Reason.CAUSE_NOT_CURABLE, "41 image"),
    ("workload.restart", make.snapshot(pods=SICK), {"facts": {"cause": "config"}}, Reason.CAUSE_NOT_CURABLE, "42 config"),
    ("workload.restart", make.snapshot(pods=SICK), {"facts": {}}, Reason.UNKNOWN, "cause unknown"),
    (
        "workload.restart",
        make.snapshot(pods=(make.pod(), make.pod("api-2", ready=False, created_at=make.NOON)), ready=2, available=2),
        {"facts": {"cause": "none"}},
        Reason.STARTING,
        "42 healed, and a pod still starts",
    ),
    (
        "workload.restart",
        make.snapshot(pods=(make.pod(), make.pod("api-2")), ready=2, available=1),
        {"facts": {"cause": "none"}},
        Reason.STARTING,
        "42 healed, and not counted yet",
    ),
    ("workload.restart", make.snapshot(pods=SICK, gaps={"quotas": "403"}), {}, Reason.UNKNOWN, "quotas unreadable"),
    ("workload.rollback", make.snapshot(pods=SICK), {}, Reason.NO_HEALTHY_REVISION, "28 no healthy revision"),
    ("workload.rollback", make.snapshot(pods=SICK, revisions=HEALED, gitops="argocd"), {}, Reason.GITOPS_OWNER, "GitOps"),
    (
        "workload.rollback",
        make.snapshot(pods=SICK, revisions=HEALED),
        {"facts": {"rollout_age": timedelta(days=21)}},
        Reason.IMAGE_TOO_OLD,
        "old image",
    ),
    ("workload.scale", make.snapshot(), {"replicas": 0}, Reason.NEEDS_FREEZE, "40 zero"),
    ("workload.scale", make.snapshot(gitops="flux"), {"by": 1}, Reason.GITOPS_OWNER, "scale under GitOps"),
    (
        "workload.scale",
        make.snapshot(autoscaler=AutoscalerSnapshot(name="h", uid="h", resource_version="1", minimum=2, maximum=2)),
        {"by": 1},
        Reason.AUTOSCALED,
        "40 HPA at its maximum",
    ),
    (
        "workload.scale",
        make.snapshot(autoscaler=AutoscalerSnapshot(name="h", uid="h", resource_version="1", minimum=2, maximum=9, by_keda=True)),
        {"by": 1},
        Reason.AUTOSCALED,
        "KEDA",
    ),
    (
        "workload.scale",
        make.snapshot(autoscaler=AutoscalerSnapshot(name="h", uid="h", resource_version="1", minimum=2, maximum=9, by_keda=True)),
        {"replicas": 0, "freeze": True},
        Reason.AUTOSCALED,
        "KEDA raises a frozen one again",
    ),
    (
        "workload.scale",
        make.snapshot(
            desired=0, autoscaler=AutoscalerSnapshot(name="h", uid="h", resource_version="1", minimum=2, maximum=9, active=False)
        ),
        {"to": 4},
        Reason.AUTOSCALED,
        "40 an autoscaler that is off",
    ),
    ("pod.delete", make.snapshot(), {}, Reason.NO_FAILING_POD, "nothing fails"),
    ("pod.delete", make.snapshot(pods=(make.crashing("api-1", owner=None),)), {}, Reason.BARE_POD, "51 bare pod"),
    (
        "pod.delete",
        make.snapshot(pods=(make.crashing("api-1", owner=OwnerRef(kind="Job", name="j", uid="j")),)),
        {},
        Reason.JOB_POD,
        "50 Job pod",
    ),
    ("pod.delete", make.snapshot(pods=(make.crashing("api-1", mirror=True),)), {}, Reason.KIND_NOT_SUPPORTED, "9 static pod"),
    (
        "pod.delete",
        make.snapshot(pods=SICK, quotas=(QuotaSnapshot(name="q", hard={"pods": 1}, used={"pods": 2}),)),
        {},
        Reason.QUOTA_EXCEEDED,
        "39 quota lowered",
    ),
    (
        "pod.evict",
        make.snapshot(pods=SICK, budgets=(BudgetSnapshot(name="b", allowed=0, current_healthy=1, desired_healthy=2),)),
        {},
        Reason.BUDGET_BLOCKS,
        "4 budget at its floor",
    ),
]


@pytest.mark.parametrize(
    ("action", "snap", "arguments", "reason"), [row[:4] for row in REFUSALS], ids=[f"{row[0]}: {row[4]}" for row in REFUSALS]
)
def test_an_action_refuses_with_its_reason(action: str, snap: Snapshot, arguments: dict[str, Any], reason: Reason) -> None:
    """The number is the case of kubernetes.md A16."""
    found = plan(action, snap, **arguments)

    assert isinstance(found, Refusal)
    assert found.reason is reason
    assert found.detail


def test_a_workload_in_which_nothing_fails_and_all_is_available_can_be_restarted() -> None:
    """A rule of one's own may call it unhealthy for what no pod shows: errors, memory, stuck work."""
    snap = make.snapshot(pods=(make.pod(), make.pod("api-2")), ready=2, available=2)

    assert isinstance(plan("workload.restart", snap, facts={"cause": "none"}), Plan)


def test_a_restart_stamps_the_template_with_preconditions() -> None:
    """Our command's key and the time in the template; UID and resourceVersion in the body."""
    write = step(planned("workload.restart"), make.snapshot(pods=SICK))

    assert isinstance(write, Write)
    assert write.body["metadata"] == {"uid": "uid-api", "resourceVersion": "7"}
    assert write.body["spec"]["template"]["metadata"]["annotations"] == {
        "kubectl.kubernetes.io/restartedAt": "2026-01-05T12:00:00Z",
        COMMAND_ANNOTATION: "inc-1/1/crash/r/1",
    }


def test_a_rollback_never_goes_to_the_bad_twin() -> None:
    """Case 28: after a restart the previous revision has the same bad image; the last *healthy* one is chosen."""
    revisions = (
        make.revision("good", 1, was_healthy=True),
        make.revision("bad", 2, was_healthy=False),
        make.revision("new", 3, current=True, template_digest="new"),
    )
    made = planned("workload.rollback", make.snapshot(pods=SICK, revisions=revisions))

    assert made.values["revision"] == "good"


def test_a_rollback_writes_the_template_only() -> None:
    """Case 30: annotations of the Deployment stay; the write is guarded by tests on UID and resourceVersion."""
    snap = make.snapshot(pods=SICK, revisions=HEALED)
    write = step(planned("workload.rollback", snap), snap)

    assert isinstance(write, Write)
    assert [one["op"] for one in write.body] == ["test", "test", "replace"]
    assert write.body[2]["path"] == "/spec/template"
    assert "pod-template-hash" not in str(write.body)


def test_a_rollback_stops_when_somebody_else_changed_the_template() -> None:
    """Another hand is at work: refused, not overwritten."""
    made = planned("workload.rollback", make.snapshot(pods=SICK, revisions=HEALED))

    end = step(made, make.snapshot(pods=SICK, revisions=HEALED, template_digest="third"))

    assert isinstance(end, End)
    assert (end.outcome, end.reason) == (Outcome.REFUSED, Reason.FOREIGN_ACTIVITY)


def test_a_rolled_back_stateful_set_loses_exactly_its_stuck_pods() -> None:
    """Case 35: the broken pod of the bad revision is deleted by UID; a healthy one never."""
    snap = make.snapshot(pods=SICK, revisions=HEALED, kind="StatefulSet")
    made = planned("workload.rollback", snap)
    back = make.snapshot(
        pods=(make.crashing("api-1"), make.pod("api-0", revision="old")),
        revisions=HEALED,
        kind="StatefulSet",
        template_digest="old",
    )
    done = make.snapshot(
        pods=(make.pod("api-1", revision="old"), make.pod("api-0", revision="old")), kind="StatefulSet", template_digest="old"
    )

    write, end = step(made, back), step(made, done)

    assert isinstance(write, Write)
    assert (write.verb, write.name, write.uid) == (Verb.DELETE, "api-1", "uid-api-1")
    assert isinstance(end, End)
    assert end.outcome is Outcome.DONE


def test_under_an_autoscaler_its_floor_is_moved_and_owed() -> None:
    """Case 40: replicas would be overwritten; the floor is absolute and given back only while it is ours."""
    snap = make.snapshot(autoscaler=AutoscalerSnapshot(name="h", uid="uid-h", resource_version="1", minimum=2, maximum=6))
    made = planned("workload.scale", snap, by=2)

    assert made.diff == ("autoscaler h of Deployment shop/api: minReplicas 2 → 4",)
    (change,) = made.changes
    assert (change.before, change.after) == (2, 4)
    assert {"op": "test", "path": "/spec/minReplicas", "value": 4} in change.undo.body


def test_a_freeze_under_an_autoscaler_is_given_back_by_the_count() -> None:
    """Case 40: zero switched the autoscaler off, so its floor starts nothing: the count is written, within what the autoscaler keeps, and nothing is owed."""
    off = AutoscalerSnapshot(name="h", uid="uid-h", resource_version="1", minimum=2, maximum=6, active=False)
    frozen = make.snapshot(desired=0, pods=(), annotations={"responder/replicas-before": "9"}, autoscaler=off)
    made = planned("workload.scale", frozen, replicas="previous")

    write = step(made, frozen)

    assert made.changes == ()
    assert isinstance(write, Write)
    assert (write.plural, write.body["spec"]) == ("deployments", {"replicas": 6})


@pytest.mark.parametrize("action", ["pod.delete", "pod.evict"])
def test_a_ready_pod_of_a_sick_workload_is_never_removed(action: str) -> None:
    """A15 rule 6: the incident's pod is ready and a sibling fails: refused when it is planned, and when it became ready between plan and write."""
    well, sick = make.pod("api-1"), make.crashing("api-2")
    target = replace(make.TARGET, kind=TargetKind.POD, name="api-1", uid=well.uid)
    given = PlanInput(
        target=target,
        snapshot=replace(make.snapshot(pods=(well, sick)), target=target, pod=well),
        facts=CRASH,
        arguments={},
        command="inc-1/1/crash/r/1",
        now=make.NOON,
    )
    made = planned(action, make.snapshot(pods=(make.crashing("api-1"), make.pod("api-2"))))

    found = make.CATALOGUE.actions[action].plan(given)
    end = step(made, make.snapshot(pods=(well, sick)))

    assert isinstance(found, Refusal)
    assert found.reason is Reason.NO_FAILING_POD
    assert isinstance(end, End)
    assert (end.outcome, end.reason) == (Outcome.REFUSED, Reason.NO_FAILING_POD)


@pytest.mark.parametrize(
    ("action", "meanwhile", "reason"),
    [
        ("workload.restart", {"paused": True}, Reason.WORKLOAD_PAUSED),
        ("workload.restart", {"template_digest": "third"}, Reason.FOREIGN_ACTIVITY),
        ("workload.rollback", {"paused": True}, Reason.WORKLOAD_PAUSED),
    ],
)
def test_what_somebody_does_between_plan_and_write_is_obeyed(action: str, meanwhile: dict[str, Any], reason: Reason) -> None:
    """A15 rule 6: an API server may be silent for minutes between the two; a pause or another template is not written over."""
    made = planned(action, make.snapshot(pods=SICK, revisions=HEALED))

    end = step(made, make.snapshot(pods=SICK, revisions=HEALED, **meanwhile))

    assert isinstance(end, End)
    assert (end.outcome, end.reason) == (Outcome.REFUSED, reason)


def test_a_pod_that_never_ends_fails_the_action_with_why() -> None:
    """Bounded by its own grace period and a margin; never force-deleted."""
    made = planned("pod.delete")
    stuck = make.crashing("api-1", deleting_since=make.NOON - timedelta(minutes=5))

    end = step(made, make.snapshot(pods=(stuck, make.pod("api-2"))))

    assert isinstance(end, End)
    assert end.outcome is Outcome.FAILED
    assert "node n1, which does not confirm" in end.detail


def apply(snap: Snapshot, write: Write) -> Snapshot:
    """Let a write take effect on a tiny world."""
    workload = snap.workload
    assert workload is not None
    if write.key == "restart":
        template = {**workload.template, "metadata": {"annotations": write.body["spec"]["template"]["metadata"]["annotations"]}}
        changed = replace(
            workload, template=template, generation=workload.generation + 1, observed_generation=workload.generation + 1
        )
    elif write.key == "rollback":
        changed = replace(workload, template_digest="old")
    elif write.key == "scale":
        changed = replace(workload, desired=write.body["spec"]["replicas"])
    else:
        changed = replace(workload, pods=tuple(pod for pod in workload.pods if pod.uid != write.uid))
    return replace(snap, workload=changed)


MACHINES: list[tuple[str, Snapshot, dict[str, Any]]] = [
    ("workload.restart", make.snapshot(pods=SICK), {}),
    ("workload.rollback", make.snapshot(pods=SICK, revisions=HEALED), {}),
    ("workload.rollback", make.snapshot(pods=SICK, revisions=HEALED, kind="StatefulSet"), {}),
    ("workload.scale", make.snapshot(), {"by": 1}),
    ("workload.scale", make.snapshot(), {"replicas": 0, "freeze": True}),
    ("pod.delete", make.snapshot(pods=SICK), {}),
    ("pod.evict", make.snapshot(pods=SICK), {}),
]


@given(st.sampled_from(MACHINES), st.lists(st.booleans(), max_size=8))
def test_a_crash_before_between_and_after_any_step_repeats_nothing(
    machine: tuple[str, Snapshot, dict[str, Any]], crashes: list[bool]
) -> None:
    """The process forgets everything at any point (True: right after a write, before it was recorded); no write is made twice."""
    action, world, arguments = machine
    made = planned(action, world, **arguments)
    writes: list[str] = []
    found: Write | Wait | End = step(made, world)
    for _ in range(30):
        found = step(made, world)
        if isinstance(found, End):
            break
        if isinstance(found, Write):
            writes.append(found.key)
            world = apply(world, found)
        if crashes and crashes.pop():
            continue  # nothing is remembered but the plan; the next look finds where it stands

    assert isinstance(found, End)
    assert found.outcome is Outcome.DONE
    assert len(writes) == len(set(writes))
    assert len(writes) <= made.writes_at_most


@given(st.integers(0, 4), st.integers(1, 4))
def test_one_more_sick_pod_never_turns_a_refusal_into_permission(sick: int, more: int) -> None:
    """``pod.delete`` beside fewer ready pods refuses at least as much."""

    def allowed(count: int) -> bool:
        pods = tuple(make.crashing(f"api-{n}") if n < count else make.pod(f"api-{n}") for n in range(8))
        return isinstance(plan("pod.delete", make.snapshot(pods=pods)), Plan)

    if sick > 0 and not allowed(sick):
        assert not allowed(sick + more)


@pytest.mark.parametrize(
    ("container", "failing"),
    [
        (ContainerSnapshot(name="c", ready=True, running_since=make.NOON - timedelta(hours=1)), False),
        (ContainerSnapshot(name="c", waiting_reason="CrashLoopBackOff", restarts=3), True),
        (ContainerSnapshot(name="c", waiting_reason="ContainerCreating"), False),
        (
            ContainerSnapshot(
                name="c",
                ready=True,
                restarts=4,
                running_since=make.NOON - timedelta(seconds=5),
                finished_at=make.NOON - timedelta(minutes=2),
                exit_code=1,
            ),
            True,
        ),
        (
            ContainerSnapshot(
                name="c",
                ready=True,
                restarts=4,
                running_since=make.NOON - timedelta(minutes=5),
                finished_at=make.NOON - timedelta(minutes=6),
                exit_code=1,
            ),
            False,
        ),
    ],
    ids=["healthy", "crash loop", "starting", "ready for seconds between crashes", "restarted and steady"],
)
def test_what_counts_as_failing(container: ContainerSnapshot, failing: bool) -> None:
    """Many crash loops are ready for seconds in every round."""
    young = make.pod(containers=(container,), ready=container.ready, created_at=make.NOON - timedelta(seconds=30))

    assert fails(young, now=make.NOON) is failing


@pytest.mark.parametrize(("seconds", "failing"), [(5, False), (119, False), (121, True)])
def test_an_old_pod_whose_container_has_just_begun_is_starting(seconds: int, failing: bool) -> None:
    """Its ConfigMap appeared, or its volume came: it gets the same time as a new pod before it is restarted."""
    began = ContainerSnapshot(name="c", running_since=make.NOON - timedelta(seconds=seconds))
    old = make.pod(containers=(began,), ready=False, created_at=make.NOON - timedelta(hours=1))

    assert fails(old, now=make.NOON) is failing
