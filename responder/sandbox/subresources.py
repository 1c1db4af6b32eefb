"""Subresources: logs, bindings, scale. Source: kubernetes.md A16.52, B1; kubelet ``containerLogs``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from responder.sandbox.answers import ApiFailure, Object, Resource, bad_request, conflict, modified
from responder.sandbox.kinds import PODS
from responder.sandbox.kubelet import Kubelet
from responder.sandbox.objects import Storage, clone, stamp
from responder.sandbox.requests import Answer, Asked, Stream, Where, said
from responder.sandbox.scheduler import put_condition
from responder.sandbox.selectors import text_of
from responder.sandbox.writing import Writing, not_allowed

FOLLOWS_EVERY = 0.1
"""Seconds between two looks at what a container wrote."""


def log(kubelet: Kubelet, storage: Storage, asked: Asked, where: Where) -> Answer | Stream:
    """Answer with what a container wrote, byte for byte; with ``follow`` go on until this life of it ends.

    Raises:
        ApiFailure: 400 for a container that is not there, not named or not started; 500 when the node's kubelet does not answer.
    """
    pod = storage.get(PODS, where.namespace, where.name)
    container = _container(pod, asked.query.get("container", ""))
    node = pod["spec"].get("nodeName")
    if not node:
        raise bad_request(f"pod {where.name} does not have a host assigned")
    previous = asked.query.get("previous") in {"true", "1"}
    machine = kubelet.machines.get(node)
    if machine is None or machine.behaviour.silent:
        address = pod["status"].get("hostIP") or node
        at = f"https://{address}:10250/containerLogs/{where.namespace}/{where.name}/{container}"
        raise ApiFailure(500, "InternalError", f'Get "{at}": dial tcp {address}:10250: connect: no route to host')
    content = kubelet.log(pod, container, previous=previous)
    if content is None:
        raise bad_request(f'previous terminated container "{container}" in pod "{where.name}" not found')
    if not content and not previous:
        waiting = _waiting(pod, container)
        if waiting:
            raise bad_request(f'container "{container}" in pod "{where.name}" is waiting to start: {waiting}')
    if asked.query.get("tailLines"):
        count = int(asked.query["tailLines"])
        content = b"".join(content.splitlines(keepends=True)[-count:]) if count else b""
    if asked.query.get("limitBytes"):
        content = content[: int(asked.query["limitBytes"])]
    elif asked.query.get("follow") in {"true", "1"} and not previous:
        return Stream(chunks=_followed(kubelet, storage, pod, container, content), content_type="text/plain")
    return Answer(body=content, content_type="text/plain")


async def _followed(kubelet: Kubelet, storage: Storage, pod: Object, container: str, first: bytes) -> AsyncGenerator[bytes, None]:
    """Give what a container wrote and goes on writing, until it has ended or its pod is gone, as the kubelet's stream does."""
    life = kubelet.lives.get((pod["metadata"]["uid"], container))
    seen, restarts = (life.log if life is not None else b""), _restarts(pod, container)
    yield first
    while True:
        await asyncio.sleep(FOLLOWS_EVERY)
        now = storage.find(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        same = now is not None and now["metadata"]["uid"] == pod["metadata"]["uid"] and _restarts(now, container) == restarts
        ended = life is not None and life.log == b"" and life.previous is not None
        whole = (life.previous if ended else life.log) if life is not None else b""
        if whole is not None and len(whole) > len(seen):
            yield whole[len(seen) :]
            seen = whole
        if not same or ended or now is None or _runs(now, container) is False:
            return


def _status(pod: Object, container: str) -> Object:
    every = [*(pod["status"].get("initContainerStatuses") or ()), *(pod["status"].get("containerStatuses") or ())]
    return next((one for one in every if one["name"] == container), {})


def _restarts(pod: Object, container: str) -> int:
    return int(_status(pod, container).get("restartCount", 0))


def _runs(pod: Object, container: str) -> bool:
    return "running" in (_status(pod, container).get("state") or {})


def _container(pod: Object, asked: str) -> str:
    name = pod["metadata"]["name"]
    containers = [one["name"] for one in pod["spec"]["containers"]]
    inits = [one["name"] for one in pod["spec"].get("initContainers") or ()]
    if asked:
        if asked not in {*containers, *inits}:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(containers) == 1:
        return str(containers[0])
    more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]{more}")


def _waiting(pod: Object, container: str) -> str:
    for one in pod["status"].get("containerStatuses") or ():
        if one["name"] == container and "waiting" in one["state"] and not one["restartCount"]:
            return str(one["state"]["waiting"]["reason"])
    return "ContainerCreating" if not pod["status"].get("containerStatuses") else ""


def bind(storage: Storage, where: Where, body: Any) -> Answer:
    """Bind a pod to a node, once, as a scheduler asks for it.

    Raises:
        ApiFailure: 409 when it is bound or going away.
    """
    pod = storage.get(PODS, where.namespace, where.name)
    wanted = (body.get("target") or {}).get("name", "")
    of = Resource(plural="pods/binding")
    if pod["metadata"].get("deletionTimestamp"):
        raise conflict(of, where.name, f"pod {where.name} is being deleted, cannot be assigned to a host")
    if pod["spec"].get("nodeName"):
        raise conflict(of, where.name, f'pod {where.name} is already assigned to node "{pod["spec"]["nodeName"]}"')
    changed = clone(pod)
    changed["spec"]["nodeName"] = wanted
    put_condition(changed, "PodScheduled", "True", "", "", stamp(storage.now()))
    storage.update(PODS, pod, changed)
    return said({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


def scale_of(item: Object) -> Object:
    """Return the Scale of a workload."""
    meta = item["metadata"]
    replicas = item["spec"].get("replicas", 1)
    kept = {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept,
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": item["status"].get("replicas", 0), "selector": text_of(item["spec"].get("selector"))},
    }


def scale(storage: Storage, writing: Writing, asked: Asked, where: Where, body: Any) -> Answer:
    """Read or change how many replicas a workload wants.

    Raises:
        ApiFailure: 409 for an old resourceVersion.
    """
    item = storage.get(where.kind.key, where.namespace, where.name)
    now = scale_of(item)
    if asked.method == "GET":
        return said(now)
    if asked.method not in {"PUT", "PATCH"}:
        raise not_allowed()
    wanted = body if asked.method == "PUT" else writing.patched(asked, now, body)
    version = (wanted.get("metadata") or {}).get("resourceVersion")
    if version and version != item["metadata"]["resourceVersion"]:
        raise modified(where.kind.resource, where.name)
    replicas = int((wanted.get("spec") or {}).get("replicas") or 0)
    changed = {**clone(item), "spec": {**clone(item["spec"]), "replicas": replicas}}
    stored = writing.scaled(asked, where, item, changed)
    return said(scale_of(stored))
