"""Why things fail: the closed lists, by what the kubelet and the endpoints say."""

from __future__ import annotations

from datetime import timedelta

import pytest

from responder.model.cluster import Condition, ContainerSnapshot, EventSnapshot, PodSnapshot, ServiceSnapshot
from responder.policy.causes import image_cause, service_cause, workload_cause
from responder.policy.facts import facts_of, new_revision, rollout, rollout_age
from tests import builders as make

AGO = make.NOON - timedelta(seconds=20)


def waiting(reason: str, message: str = "", **more: object) -> ContainerSnapshot:
    return ContainerSnapshot(name="c", waiting_reason=reason, waiting_message=message, **more)  # type: ignore[arg-type]


def ended(code: int, reason: str = "Error", **more: object) -> ContainerSnapshot:
    values = {
        "restarts": 3,
        "waiting_reason": "CrashLoopBackOff",
        "exit_code": code,
        "exit_reason": reason,
        "finished_at": AGO,
        **more,
    }
    return ContainerSnapshot(name="c", **values)  # type: ignore[arg-type]


CASES: list[tuple[str, PodSnapshot, str, tuple[EventSnapshot, ...]]] = [
    ("crash", make.crashing(containers=(ended(1),)), "crash", ()),
    ("43 oom", make.crashing(containers=(ended(137, "OOMKilled"),)), "oom", ()),
    (
        "43 killed by liveness",
        make.crashing(containers=(ended(137),)),
        "killed",
        (
            EventSnapshot(
                about="Pod/api-1", type="Normal", reason="Killing", message="Container c failed liveness probe, will be restarted"
            ),
        ),
    ),
    ("137 without an event", make.crashing(containers=(ended(137),)), "crash", ()),
    ("exit 0", make.crashing(containers=(ended(0, "Completed"),)), "exit", ()),
    ("command not found", make.crashing(containers=(ended(127),)), "spec", ()),
    ("StartError", make.crashing(containers=(ended(128, "StartError"),)), "spec", ()),
    (
        "41 tag missing",
        make.crashing(containers=(waiting("ImagePullBackOff", "Back-off pulling image: ErrImagePull: x: not found"),)),
        "image_missing",
        (),
    ),
    (
        "pull denied",
        make.crashing(
            containers=(waiting("ErrImagePull", "pull access denied, repository does not exist or may require authorization"),)
        ),
        "image_denied",
        (),
    ),
    ("pull busy", make.crashing(containers=(waiting("ImagePullBackOff", "toomanyrequests"),)), "image_busy", ()),
    (
        "pull reason only in the event",
        make.crashing(containers=(waiting("ImagePullBackOff", 'Back-off pulling image "i:1"', image="i:1"),)),
        "image_missing",
        (
            EventSnapshot(
                about="Pod/api-1", type="Warning", reason="Failed", message='Failed to pull image "i:1": manifest unknown'
            ),
        ),
    ),
    ("42 config", make.crashing(containers=(waiting("CreateContainerConfigError", 'secret "x" not found'),)), "config", ()),
    ("44 init container", make.crashing(containers=(ended(1, role="init"), waiting("PodInitializing"))), "crash", ()),
    (
        "unschedulable",
        make.crashing(containers=(), scheduled=False, scheduling_reason="Unschedulable", phase="Pending"),
        "unschedulable",
        (),
    ),
    ("gated", make.crashing(containers=(), scheduled=False, scheduling_reason="SchedulingGated", phase="Pending"), "gated", ()),
    (
        "hangs",
        make.crashing(containers=(ContainerSnapshot(name="c", running_since=make.NOON - timedelta(hours=1)),)),
        "readiness",
        (),
    ),
    (
        "volume",
        make.crashing(containers=(waiting("ContainerCreating"),)),
        "volume",
        (EventSnapshot(about="Pod/api-1", type="Warning", reason="FailedMount", message="timed out"),),
    ),
    ("status unknown", make.crashing(containers=(ended(137, "ContainerStatusUnknown"),)), "node", ()),
]


@pytest.mark.parametrize(("pod", "cause", "events"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_a_cause_is_read_from_what_the_kubelet_says(pod: PodSnapshot, cause: str, events: tuple[EventSnapshot, ...]) -> None:
    """The number is the case of kubernetes.md A16."""
    assert workload_cause(make.workload(pods=(pod,)), events=events, now=make.NOON).cause == cause


def test_no_majority_is_mixed() -> None:
    """The cause of most failing pods counts; none with half of them is mixed."""
    pods = tuple(
        make.crashing(f"api-{number}", containers=(container,))
        for number, container in enumerate([ended(1), ended(137, "OOMKilled"), waiting("CreateContainerConfigError")])
    )

    assert workload_cause(make.workload(pods=pods), events=(), now=make.NOON).cause == "mixed"


def test_a_full_quota_is_the_cause_when_pods_cannot_be_made() -> None:
    """Case 39: the condition of the Deployment says so."""
    condition = Condition(
        type="ReplicaFailure", status="True", reason="FailedCreate", message="pods is forbidden: exceeded quota: q"
    )

    assert workload_cause(make.workload(pods=(), conditions=(condition,)), events=(), now=make.NOON).cause == "quota"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("manifest unknown", "image_missing"),
        ("unauthorized", "image_denied"),
        ("i/o timeout", "image_busy"),
        ("words nobody knows", "image_busy"),
    ],
)
def test_an_unknown_registry_answer_is_left_to_the_kubelet(said: str, cause: str) -> None:
    """It retries by itself; nothing is done to it."""
    assert image_cause(said) == cause


def service(**changes: object) -> ServiceSnapshot:
    return ServiceSnapshot(namespace="shop", name="api", uid="s", **{"selector": {"app": "api"}, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "cause"),
    [
        (service(endpoints=2), "none"),
        (service(), "no_match"),
        (service(pods=(make.crashing(),)), "not_ready"),
        (service(pods=(make.pod(),)), "port"),
        (service(serving_terminating=1), "terminating"),
        (service(selector={}), "external"),
    ],
    ids=[
        "endpoints",
        "selector matches nothing",
        "pods not ready",
        "pods ready, no endpoint",
        "terminating still serve",
        "no selector",
    ],
)
def test_case_54_no_endpoints_have_distinct_causes(one: ServiceSnapshot, cause: str) -> None:
    """Only one of them a restart may cure."""
    assert service_cause(one, make.workload()) == cause


def test_a_service_scaled_to_zero_is_told_apart() -> None:
    """Somebody wanted that, or an autoscaler."""
    assert service_cause(service(), make.workload(desired=0, pods=())) == "scaled_to_zero"


def test_a_restart_does_not_make_a_template_young() -> None:
    """The age is that of the oldest revision of an unbroken run of the same template."""
    revisions = (
        make.revision("old", 1),
        make.revision("a", 2, template_digest="new"),
        make.revision("b", 3, template_digest="new"),
    )

    age = rollout_age(make.workload(revisions=revisions), now=make.NOON)

    assert age == make.NOON - (revisions[1].created_at or make.NOON)


def test_new_revision_needs_a_healthy_other_one_and_only_new_pods_failing() -> None:
    """Otherwise the rollout is not to blame."""
    healed = (make.revision("old", 1, was_healthy=True), make.revision("new", 2, current=True))
    sick = (make.crashing("api-1"),)

    assert new_revision(make.workload(pods=sick, revisions=healed), now=make.NOON)
    assert not new_revision(make.workload(pods=sick), now=make.NOON)
    assert not new_revision(make.workload(pods=(*sick, make.crashing("api-2", revision="old")), revisions=healed), now=make.NOON)


def test_a_condition_of_an_older_generation_says_nothing() -> None:
    """Cases 37 and 38: ProgressDeadlineExceeded counts once the controller has seen the spec."""
    late = Condition(type="Progressing", status="False", reason="ProgressDeadlineExceeded")

    assert rollout(make.workload(conditions=(late,)), now=make.NOON) == "stuck"
    assert rollout(make.workload(conditions=(late,), generation=3), now=make.NOON) == "progressing"


LONG_AGO, LATELY = make.NOON - timedelta(minutes=10), make.NOON - timedelta(minutes=9)
NEVER_WELL = (make.revision("old", 1, was_healthy=True), make.revision("new", 2, current=True))


@pytest.mark.parametrize(
    ("pod", "changes", "said"),
    [
        (make.crashing("db-1", created_at=LONG_AGO), {"updated": 1}, "stuck"),
        (make.crashing("db-1", created_at=LATELY), {"updated": 1}, "progressing"),
        (make.crashing("db-1", created_at=LONG_AGO, revision="old"), {"updated": 1}, "progressing"),
        (make.pod("db-1", created_at=LONG_AGO), {"updated": 1}, "progressing"),
        (make.crashing("db-1", created_at=LONG_AGO), {"updated": 2, "revisions": NEVER_WELL}, "stuck"),
        (make.crashing("db-1", created_at=LONG_AGO), {"updated": 2}, "idle"),
    ],
    ids=["hangs", "just made", "an old pod", "gets on", "all made, none ever well", "over"],
)
@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_a_rollout_without_a_deadline_is_stuck_when_a_new_pod_goes_on_failing(
    kind: str, pod: PodSnapshot, changes: dict[str, object], said: str
) -> None:
    """Ten minutes, as a Deployment has by default; nothing but its pods says so of these kinds."""
    workload = make.workload(kind=kind, pods=(pod, make.pod("db-0", revision="old")), **changes)

    assert rollout(workload, now=make.NOON) == said


def test_facts_of_an_unreadable_source_are_left_out() -> None:
    """Missing is unknown; it is never a default."""
    facts, none = facts_of(make.snapshot(gaps={"pods": "403", "autoscalers": "403"}), now=make.NOON)

    assert {"cause", "failing", "hpa", "new_revision"}.isdisjoint(facts)
    assert {"desired", "ready", "rollout"} <= set(facts)
    assert none == frozenset()
