"""What an API server and the road to it do: A16 cases 49, 56, 57, 58, 65 and 66."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from responder.clusters.kubernetes import KubernetesAccess
from responder.clusters.kubernetes.client import KubernetesClient, load_access
from responder.clusters.kubernetes.informer import LARGEST_LINE, Informer
from responder.clusters.kubernetes.symptoms import WatchedPod
from responder.model.action import PatchKind, Verb, Write
from responder.model.errors import ContestedError, TransientError
from tests.cases.stage import CLUSTER, Stage, _kubeconfig, rule
from tests.cases.standin import CRASHING

RESTART = rule("workload.restart")


class Named:
    """Keeps what an informer sees: UID to name."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def put(self, one: WatchedPod) -> None:
        self.found[one.metadata.uid] = one.metadata.name

    def drop(self, one: WatchedPod) -> None:
        self.found.pop(one.metadata.uid, None)

    def keep_only(self, uids: set[str]) -> None:
        self.found = {uid: name for uid, name in self.found.items() if uid in uids}

    def names(self) -> set[str]:
        return set(self.found.values())


async def test_49_the_same_alert_twice_at_two_replicas_is_one_action(stage: Stage) -> None:
    """Repeats are absorbed, both replicas work on one store, and the workload is restarted once."""
    await stage.serve(RESTART)
    stage.second_replica()
    await stage.workload()
    await stage.sick(CRASHING)
    await stage.alert(deployment="api")
    await stage.alert(deployment="api")
    await stage.work("verifying")
    stage.standin.images.clear()

    done = await stage.work("recovered")
    await stage.alert(deployment="api")
    await stage.go_on(timedelta(minutes=1))

    assert len(done.runs) == 1
    assert [one.status for one in stage.writes()] == [200]


async def test_55_a_watch_that_ends_in_every_way_misses_nothing(stage: Stage) -> None:
    """Closed at once, silent, 410 as an event and as a status, a proxy's page, a 503, a line beyond all bounds: it goes on from where it was, or lists anew."""
    gone = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "Expired",
        "code": 410,
        "message": "too old resource version: 1 (2)",
    }
    ends: list[tuple[str, Any, bool]] = [
        ("closed at once", [], False),
        ("nothing is heard", "silence", False),
        ("410 as an event", [json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"], True),
        ("410 as a status", (410, {}, gone), True),
        ("a page of a proxy in the stream", [b"<html>502 Bad Gateway</html>\n"], False),
        ("a page of a proxy instead of it", (503, {}, b"<html>no upstream</html>"), False),
        ("half a line", [b'{"type":"ADDED","obj'], False),
        ("a line beyond all bounds", [b"x" * (LARGEST_LINE + 2)], False),
    ]
    access = KubernetesAccess(name=CLUSTER, kubeconfig=str(stage.folder / "watched"))
    (stage.folder / "watched").write_text(json.dumps(_kubeconfig(stage.wire.url)))
    client = KubernetesClient(CLUSTER, await load_access(CLUSTER, in_cluster=False, kubeconfig=access.kubeconfig, context=""))
    seen = Named()
    path = stage.path("pods", api="v1")
    informer = Informer(client, path, WatchedPod, seen, silent_for=timedelta(seconds=3))
    following = asyncio.create_task(informer.run())
    try:
        for number, (what, end, lists_anew) in enumerate(ends):
            lists = sum(1 for one in stage.wire.sent if one.path == path and one.body is None)
            if number:
                await asyncio.sleep(1.1)  # a watch that was good for more than a second: no back-off is owed
            stage.wire.ends.append(end)
            await stage.create(
                "pods", {"metadata": {"name": f"before-{number}"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
            )
            await stage.delete("pods", f"before-{number - 1}", api="v1") if number else None

            async def holds(number: int = number) -> bool:
                return not stage.wire.ends and seen.names() == {f"before-{number}"}

            await stage.until(holds, what=f"after '{what}' what was seen is what is there: {seen.names()}")
            again = sum(1 for one in stage.wire.sent if one.path == path and one.body is None)
            assert (again > lists) is (lists_anew or not number), what
        watched = [one for one in stage.wire.sent if one.path == path and one.body is not None]

        assert len(watched) <= 4 * len(ends), "it is no busy loop"
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.close()


async def test_56_a_token_that_expires_is_loaded_anew_without_a_restart(stage: Stage) -> None:
    """While the file has the old one the incident waits as unknown; with the new one the ladder goes on."""
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(CRASHING)
    stage.wire.token = "new"
    waiting = await stage.work("unknown")
    (stage.folder / "kubeconfig").write_text(json.dumps(_kubeconfig(stage.wire.url, "new")))

    await stage.work("verifying")

    assert "Unauthorized" in waiting.detail or "401" in waiting.detail
    assert [one.status for one in stage.writes()] == [200]


async def test_57_an_api_server_that_swallows_requests_is_bounded_by_a_time_out(stage: Stage) -> None:
    """No answer and no reset: reads and writes end as transient, whether they took effect is not known."""
    await stage.serve(RESTART)
    await stage.workload()
    view, hands = stage.parts.views[CLUSTER], stage._workers[0]._parts.hands._hands[CLUSTER]
    client: Any = view
    write = Write(
        key="k", verb=Verb.PATCH, api="apps/v1", plural="deployments", namespace=stage.namespace, name="api", body={}, says="x"
    )
    stage.wire.fault = lambda _method, _path: "hang"

    for attempt in (
        client._client.send("GET", stage.path("deployments", "api"), within=timedelta(seconds=0.3)),
        hands.write(write, within=timedelta(seconds=0.3)),
    ):
        with pytest.raises(TransientError, match="no answer within"):
            await attempt


async def test_58_both_ways_to_say_conflict_mean_look_again(stage: Stage) -> None:
    """A JSON patch whose test fails (422), a merge patch with a stale resourceVersion (409) and a patch for another UID (422 "immutable") are contested, and change nothing."""
    await stage.serve(RESTART)
    await stage.workload()
    hands = stage._workers[0]._parts.hands._hands[CLUSTER]
    bodies: list[tuple[PatchKind, Any]] = [
        (
            PatchKind.JSON,
            [
                {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
                {"op": "replace", "path": "/spec/replicas", "value": 9},
            ],
        ),
        (PatchKind.MERGE, {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 9}}),
        (PatchKind.STRATEGIC, {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "spec": {"replicas": 9}}),
    ]

    for kind, body in bodies:
        write = Write(
            key="k",
            verb=Verb.PATCH,
            api="apps/v1",
            plural="deployments",
            namespace=stage.namespace,
            name="api",
            body=body,
            patch=kind,
            says="x",
        )
        with pytest.raises(ContestedError):
            await hands.write(write, within=timedelta(seconds=5))

    assert [one.status for one in stage.writes()] == [422, 409, 422]
    assert (await stage.get("deployments", "api"))["spec"]["replicas"] == 2


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_65_clocks_that_disagree_change_nothing(stage: Stage, minutes: int) -> None:
    """Kubelets that live ten minutes in our past or future: the ladder runs and recovery is proven by our own observation."""
    stage.standin.now = lambda: stage.clock.now() + timedelta(minutes=minutes)
    await stage.serve(RESTART)
    await stage.workload()
    await stage.sick(CRASHING)
    verifying = await stage.work("verifying")
    began = stage.clock.now()
    stage.standin.images.clear()

    done = await stage.work("recovered")

    assert [str(run.outcome) for run in verifying.runs] == ["done"]
    assert done.recovered_at is not None
    assert done.recovered_at - began >= timedelta(seconds=30)


async def test_66_one_missing_permission_stops_one_rung_and_is_named(stage: Stage) -> None:
    """A 403 is a refusal that names the verb and never climbs; at start the review names the rung that needs it."""
    await stage.serve(rule("workload.restart", "pod.delete"))
    await stage.workload()
    await stage.sick(CRASHING)

    def denied(method: str, path: str) -> Any:
        if method == "PATCH":
            said = 'deployments.apps "api" is forbidden: User "responder" cannot patch resource "deployments"'
            return 403, {}, {"kind": "Status", "reason": "Forbidden", "message": said, "code": 403}
        if path.endswith("selfsubjectaccessreviews"):
            return 201, {}, {"kind": "SelfSubjectAccessReview", "status": {"allowed": False}}
        return None

    stage.wire.fault = denied

    waiting = await stage.work("forbidden", "begun_twice")
    missing = await stage.parts.permissions.missing(CLUSTER)

    assert "cannot patch" in waiting.detail
    assert {one.method for one in stage.writes()} == {"PATCH"}
    said = [str(one.said()) for one in missing]
    assert any("patch" in line and "deployments" in line and "case/workload.restart" in line for line in said)
