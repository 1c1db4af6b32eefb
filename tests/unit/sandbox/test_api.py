"""What the sandbox's API says where no real kubelet was there to compare it with: logs, and the ends of history."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from responder.sandbox import Behaviour
from responder.sandbox.access import Rule
from responder.sandbox.answers import ApiFailure
from responder.sandbox.requests import Answer, Asked, Stream
from tests.unit.sandbox.world import World

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def ask(world: World, method: str, path: str, body: Any = None, *, token: str = "", **query: str) -> Answer:
    headers = {"user-agent": "test/1", **({"authorization": f"Bearer {token}"} if token else {})}
    raw = b"" if body is None else json.dumps(body).encode()
    answer = world.cluster.api.answer(Asked(method=method, path=path, query=query, headers=headers, body=raw))
    assert isinstance(answer, Answer)
    return answer


def refused(world: World, method: str, path: str, body: Any = None, **query: str) -> ApiFailure:
    with pytest.raises(ApiFailure) as caught:
        ask(world, method, path, body, **query)
    return caught.value


def log(pod: Any) -> str:
    return f"/api/v1/namespaces/shop/pods/{pod['metadata']['name']}/log"


def test_logs_are_bytes_of_this_life_or_the_one_before() -> None:
    """A crash keeps what was written before; the last lines and the first bytes can be asked for."""
    world = World()
    world.cluster.behave("a", Behaviour(crash_after=5, log='{"n": 1.10}\nFATAL: poisoned\n'))
    world.cluster.deployment("shop", "api", image="a", replicas=1)
    world.go(4)
    (pod,) = world.pods("api")
    running = ask(world, "GET", log(pod)).body
    none = refused(world, "GET", log(pod), previous="true")
    world.go(6)
    before = ask(world, "GET", log(pod), previous="true").body
    last = ask(world, "GET", log(pod), previous="true", tailLines="1").body
    first = ask(world, "GET", log(pod), previous="true", limitBytes="4").body

    assert running.endswith(b'{"n": 1.10}\nFATAL: poisoned\n')
    assert (none.code, none.message) == (400, f'previous terminated container "api" in pod "{pod["metadata"]["name"]}" not found')
    assert b"FATAL" in before
    assert last == b"FATAL: poisoned\n"
    assert len(first) == 4


@pytest.mark.looptime
async def test_logs_are_followed_until_the_container_ends() -> None:
    """What was written comes at once; then nothing, while it runs and says nothing; its end is the end."""
    world = World()
    world.cluster.behave("a", Behaviour(crash_after=5, log="ready\n"))
    world.cluster.deployment("shop", "api", image="a", replicas=1)
    world.go(4)
    (pod,) = world.pods("api")
    query = {"follow": "true"}
    answer = world.cluster.api.answer(Asked(method="GET", path=log(pod), query=query, headers={"user-agent": "t"}, body=b""))
    assert isinstance(answer, Stream)

    first = await anext(answer.chunks)
    coming = asyncio.ensure_future(anext(answer.chunks, None))
    await asyncio.sleep(60)
    still = coming.done()
    world.go(6)

    assert first.endswith(b"ready\n")
    assert not still
    assert await coming is None


def test_logs_that_cannot_be_had_say_why() -> None:
    """Not started, no such container, several containers, a node that is silent."""
    world = World()
    world.cluster.behave("a", Behaviour(pull="missing"))
    world.cluster.deployment("shop", "api", image="a", replicas=1)
    world.cluster.deployment("shop", "web", image="b", replicas=1)
    two = {"containers": [{"name": "x", "image": "b"}, {"name": "y", "image": "b"}]}
    world.cluster.create("v1/pods", {"metadata": {"namespace": "shop", "name": "two", "labels": {}}, "spec": two})
    world.go(10)
    (waiting,), (web,) = world.pods("api"), world.pods("web")

    assert "is waiting to start: ImagePullBackOff" in refused(world, "GET", log(waiting)).message
    assert refused(world, "GET", log(web), container="nobody").code == 400
    assert "choose one of: [x y]" in refused(world, "GET", "/api/v1/namespaces/shop/pods/two/log").message
    world.cluster.silence(web["spec"]["nodeName"])
    dead = refused(world, "GET", log(web))
    assert (dead.code, ":10250/containerLogs/shop/" in dead.message) == (500, True)


async def test_a_watch_from_before_a_compaction_is_too_old() -> None:
    """It is told so as an event in a stream that began well, in the words of a real one (seen there once its cache had moved on), and the stream ends."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=1)
    world.go(5)
    version = world.cluster.storage.version
    world.go(1)
    world.cluster.storage.compact()
    world.cluster.deployment("shop", "web", image="a", replicas=1)
    query = {"watch": "true", "resourceVersion": str(int(version) - 5)}
    answer = world.cluster.api.answer(Asked(method="GET", path="/apis/apps/v1/deployments", query=query))
    assert isinstance(answer, Stream)

    lines = [json.loads(line) async for line in answer.chunks]

    assert [(one["type"], one["object"]["code"], one["object"]["reason"]) for one in lines] == [("ERROR", 410, "Expired")]
    assert lines[0]["object"]["message"].startswith("too old resource version: ")


def test_rights_are_rules_and_one_verb_can_be_taken_away() -> None:
    """A review says what a request would meet; a forbidden verb is refused to everybody."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=1)
    world.cluster.api.access.users["t"] = "small"
    world.cluster.api.access.rules["small"] = [Rule(verbs=("get", "list"), resources=("pods", "pods/log"), namespace="shop")]

    def allowed(verb: str, resource: str, namespace: str = "shop", sub: str = "", token: str = "t") -> bool:
        asked = {"verb": verb, "resource": resource, "namespace": namespace, "subresource": sub, "group": ""}
        body = {"spec": {"resourceAttributes": asked}}
        return bool(json.loads(ask(world, "POST", REVIEW, body, token=token).body)["status"]["allowed"])

    assert allowed("list", "pods")
    assert allowed("get", "pods", sub="log")
    assert not allowed("list", "pods", namespace="other")
    assert not allowed("delete", "pods")
    assert allowed("delete", "pods", token="")
    world.cluster.faults.forbidden = {"delete pods"}
    assert not allowed("delete", "pods", token="")
    assert refused(world, "DELETE", "/api/v1/namespaces/shop/pods/x").code == 403


def test_nothing_that_is_stored_changes_under_its_readers() -> None:
    """What a list gave stays as it was, whatever is written afterwards."""
    world = World()
    world.cluster.deployment("shop", "api", image="a", replicas=2)
    world.go(10)
    kinds = ("v1/pods", "apps/v1/deployments", "apps/v1/replicasets", "v1/nodes")
    before = [(item, json.dumps(item)) for kind in kinds for item in world.cluster.storage.all(kind)]

    world.cluster.silence("sandbox-node-0")
    world.cluster.set_image("shop", "api", "b")
    world.go(400)

    assert all(json.dumps(item) == text for item, text in before)
