"""What pods, nodes, Jobs and slices show to be wrong, from bodies in the exact shape of real ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from responder.clusters.kubernetes import symptoms
from responder.clusters.kubernetes.structs import Slice
from responder.clusters.kubernetes.watch import EndpointKeeper, SymptomKeeper


def decoded(kind: Any, body: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(body), type=kind)


def pod(
    *, phase: str = "Running", waiting: str = "", restarts: int = 0, meta: dict[str, Any] | None = None, **status: Any
) -> Any:
    state = (
        {"waiting": {"reason": waiting, "message": "back-off"}} if waiting else {"running": {"startedAt": "2026-01-05T11:00:00Z"}}
    )
    body = {
        "metadata": {
            "name": "api-1", "namespace": "shop", "uid": "u1", "resourceVersion": "7", "creationTimestamp": "2026-01-05T11:00:00Z", **(meta or {}),
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "api", "image": "x"}]},
        "status": {"phase": phase, "containerStatuses": [{"name": "api", "ready": not waiting, "restartCount": restarts, "state": state}], **status},
    }  # fmt: skip
    return decoded(symptoms.WatchedPod, body)


def shown(found: tuple[Any, ...]) -> list[tuple[str, dict[str, str]]]:
    return [(one.name, dict(one.labels)) for one in found]


WHERE = {"namespace": "shop", "pod": "api-1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod(), []),
        (pod(waiting="CrashLoopBackOff", restarts=2), []),
        (pod(waiting="CrashLoopBackOff", restarts=3), [("KubePodCrashLooping", {**WHERE, "container": "api"})]),
        (pod(waiting="ErrImagePull"), [("KubeContainerWaiting", {**WHERE, "container": "api", "reason": "ImagePullBackOff"})]),
        (pod(waiting="ImagePullBackOff"), [("KubeContainerWaiting", {**WHERE, "container": "api", "reason": "ImagePullBackOff"})]),
        (pod(waiting="ContainerCreating"), []),
        (pod(waiting="CrashLoopBackOff", restarts=9, meta={"deletionTimestamp": "2026-01-05T11:00:00Z"}), []),
        (pod(phase="Failed", reason="Evicted", message="low on memory"), [("KubePodEvicted", {**WHERE, "node": "n1"})]),
        (pod(phase="Failed", reason="NodeShutdown"), []),
        (pod(phase="Succeeded", waiting="CrashLoopBackOff", restarts=9), []),
        (pod(phase="Pending", containerStatuses=None), [("KubePodNotReady", WHERE)]),
        (pod(phase="Pending", containerStatuses=None, meta={"ownerReferences": [{"kind": "Job", "name": "j", "uid": "j"}]}), []),
        (pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]), []),
    ],
    ids=[
        "healthy", "two crashes are no loop", "a loop", "a pull that fails", "and backs off: the same word", "being created", "being deleted", "evicted",
        "failed otherwise", "done", "pending", "pending, of a Job", "gated on purpose",
    ],
)  # fmt: skip
def test_a_pod_shows(given: Any, expected: list[tuple[str, dict[str, str]]]) -> None:
    """The mixin's names and labels; a restart never changes the identity."""
    assert shown(symptoms.of_pod(given)) == expected


def test_a_loop_of_an_init_container_counts() -> None:
    """Its pod never starts."""
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    given = pod(initContainerStatuses=[{"name": "migrate", "restartCount": 5, "state": state}])

    assert shown(symptoms.of_pod(given)) == [("KubePodCrashLooping", {**WHERE, "container": "migrate"})]


def test_a_node_shows_that_it_is_not_ready_and_its_pressures() -> None:
    """Unknown is not ready either: its kubelet is silent."""
    conditions = [
        {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-05T11:00:00Z"},
        {"type": "DiskPressure", "status": "True"},
    ]
    node = decoded(symptoms.WatchedNode, {"metadata": {"name": "n1", "uid": "u"}, "status": {"conditions": conditions}})

    assert shown(symptoms.of_node(node)) == [
        ("KubeNodeNotReady", {"node": "n1"}),
        ("KubeNodePressure", {"node": "n1", "condition": "DiskPressure"}),
    ]


def test_a_failed_job_shows() -> None:
    """And one that is complete does not."""

    def job(kind: str) -> Any:
        return decoded(symptoms.WatchedJob, {"metadata": {"name": "j", "namespace": "ns", "uid": "u"}, "status": {"conditions": [{"type": kind, "status": "True"}]}})  # fmt: skip

    assert shown(symptoms.of_job(job("Failed"))) == [("KubeJobFailed", {"namespace": "ns", "job_name": "j"})]
    assert symptoms.of_job(job("Complete")) == ()


def slice_of(uid: str, *ready: Any, service: str = "api", by: str = symptoms.OURS_TO_JUDGE) -> Slice:
    endpoints = [{"addresses": ["10.0.0.1"], "conditions": one} for one in ready]
    labels = {symptoms.SERVICE_NAME: service, symptoms.MANAGED_BY: by}
    made: Slice = decoded(
        Slice, {"metadata": {"name": uid, "namespace": "shop", "uid": uid, "labels": labels}, "endpoints": endpoints}
    )
    return made


READY, NOT_READY = {"ready": True}, {"ready": False}


def test_a_service_without_a_ready_endpoint_is_counted_over_all_its_slices() -> None:
    """One ready endpoint in any slice is enough; a nil ``ready`` means true; serving while terminating still takes traffic."""
    keeper = EndpointKeeper()
    keeper.put(slice_of("a", NOT_READY, NOT_READY))
    alone = [one.labels for one in keeper.symptoms()]
    keeper.put(slice_of("b", {}))
    together = keeper.symptoms()
    keeper.put(slice_of("b", {"ready": False, "serving": True, "terminating": True}))
    serving = keeper.symptoms()
    keeper.drop(slice_of("b"))

    assert alone == [{"namespace": "shop", "service": "api"}]
    assert together == serving == []
    assert [one.says for one in keeper.symptoms()] == ["none of 2 endpoints of service api is ready"]


def test_a_service_that_never_had_an_endpoint_is_no_trouble_and_one_that_lost_them_is() -> None:
    """Nobody misses what was never there."""
    keeper = EndpointKeeper()
    keeper.put(slice_of("a"))
    never = keeper.symptoms()
    keeper.put(slice_of("a", READY))
    keeper.put(slice_of("a"))
    lost = keeper.symptoms()
    keeper.keep_only(set())

    assert never == []
    assert len(lost) == 1
    assert keeper.symptoms() == [], "the service itself is gone"


def test_mirrored_slices_are_not_ours() -> None:
    """A service without a selector has its endpoints from somebody else."""
    keeper = EndpointKeeper()
    keeper.put(slice_of("a", NOT_READY, by="endpointslicemirroring-controller.k8s.io"))

    assert keeper.symptoms() == []


def test_nothing_is_kept_of_objects_that_show_nothing() -> None:
    """Five thousand healthy pods cost nothing."""
    keeper = SymptomKeeper(symptoms.of_pod)
    keeper.put(pod(waiting="CrashLoopBackOff", restarts=4))
    sick = len(keeper.found)
    keeper.put(pod())

    assert (sick, keeper.found) == (1, {})
