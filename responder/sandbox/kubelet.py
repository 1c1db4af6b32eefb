"""The scheduler and the kubelets: pods are bound, containers start, become ready, crash and back off, in the kubelet's own words.

Source: kubernetes.md A8. A container's behaviour comes from ``Behaviour``; back-off doubles from 10 s to 5 min as in a cluster.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from responder.sandbox.behaviour import Behaviour
from responder.sandbox.objects import Object, Storage, stamp

PODS = "v1/pods"
FIRST_BACKOFF = timedelta(seconds=10)
LAST_BACKOFF = timedelta(minutes=5)


@dataclass(slots=True)
class _Life:
    """One container's life in one pod."""

    started_at: datetime | None = None
    retry_at: datetime | None = None
    restarts: int = 0
    last: Object | None = None
    log: bytes = b""
    previous: bytes | None = None
    waiting: tuple[str, str] = ("ContainerCreating", "")


@dataclass(slots=True)
class Kubelet:
    """Plays all nodes' kubelets and the scheduler.

    Attributes:
        behaviour_of: Behaviour of a container of a pod.
        starts_in: How long a container takes to start.
    """

    storage: Storage
    behaviour_of: Callable[[Object, str], Behaviour]
    starts_in: timedelta = timedelta(seconds=1)
    lives: dict[tuple[str, str], _Life] = field(default_factory=dict)

    def step(self) -> None:
        """Move every pod one step."""
        self._schedule()
        for pod in self.storage.all(PODS):
            if pod["metadata"].get("deletionTimestamp"):
                self._end(pod)
            elif pod["spec"].get("nodeName") and pod["status"].get("phase") not in {"Succeeded", "Failed"}:
                self._run(pod)

    def log(self, pod: Object, container: str, *, previous: bool) -> bytes | None:
        """Return what a container wrote; None when there was no previous one."""
        life = self.lives.get((pod["metadata"]["uid"], container))
        if life is None:
            return b""
        return life.previous if previous else life.log

    def _schedule(self) -> None:
        nodes = [node for node in self.storage.all("v1/nodes") if not node["spec"].get("unschedulable") and _node_ready(node)]
        pods = self.storage.all(PODS)
        load = {
            node["metadata"]["name"]: sum(1 for pod in pods if pod["spec"].get("nodeName") == node["metadata"]["name"])
            for node in nodes
        }
        for pod in pods:
            if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
                continue
            changed = copy.deepcopy(pod)
            if load:
                chosen = min(load, key=lambda name: (load[name], name))
                load[chosen] += 1
                changed["spec"]["nodeName"] = chosen
                _condition(changed, "PodScheduled", "True", "", "", self.storage.now())
            else:
                said = f"0/{len(self.storage.all('v1/nodes'))} nodes are available"
                _condition(changed, "PodScheduled", "False", "Unschedulable", said, self.storage.now())
            self.storage.update(PODS, pod, changed)

    def _end(self, pod: Object) -> None:
        begun = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
        grace = min(2, int(pod["metadata"].get("deletionGracePeriodSeconds", 30)))
        if pod["metadata"].get("finalizers"):
            return
        if not pod["spec"].get("nodeName") or self.storage.now() - begun >= timedelta(seconds=grace):
            for container in pod["spec"]["containers"]:
                self.lives.pop((pod["metadata"]["uid"], container["name"]), None)
            self.storage.remove(PODS, pod)

    def _run(self, pod: Object) -> None:
        now = self.storage.now()
        changed = copy.deepcopy(pod)
        statuses = []
        for container in pod["spec"]["containers"]:
            life = self.lives.setdefault((pod["metadata"]["uid"], container["name"]), _Life())
            behaviour = self.behaviour_of(pod, container["name"])
            self._live(pod, container, life, behaviour, now)
            statuses.append(_status(container, life, behaviour, now))
        ready = all(one["ready"] for one in statuses)
        changed["status"]["containerStatuses"] = statuses
        running = any("running" in one["state"] or one["restartCount"] for one in statuses)
        changed["status"]["phase"] = "Running" if running else "Pending"
        changed["status"]["podIP"] = f"10.1.{int(pod['metadata']['uid'][:2], 16)}.{int(pod['metadata']['uid'][2:4], 16)}"
        names = [one["name"] for one in statuses if not one["ready"]]
        reason, said = ("", "") if ready else ("ContainersNotReady", f"containers with unready status: [{' '.join(names)}]")
        _condition(changed, "ContainersReady", "True" if ready else "False", reason, said, now)
        _condition(changed, "Ready", "True" if ready else "False", reason, said, now)
        self.storage.update(PODS, pod, changed)

    def _live(self, pod: Object, container: Object, life: _Life, behaviour: Behaviour, now: datetime) -> None:
        if life.started_at is None:
            if life.retry_at is None:
                life.retry_at = now + self.starts_in
            if now < life.retry_at:
                return
            if self._hindered(pod, container, life, behaviour):
                life.retry_at = now + timedelta(seconds=5)
                return
            life.started_at = now
            life.log = f"{stamp(now)} {container['name']} starting\n{behaviour.log}".encode()
            self.storage.event(pod, "Started", f"Started container {container['name']}")
            return
        if behaviour.crash_after is None or now - life.started_at < timedelta(seconds=behaviour.crash_after):
            return
        code = 137 if behaviour.oom else behaviour.exit_code
        reason = "OOMKilled" if behaviour.oom else ("Completed" if code == 0 else "Error")
        life.last = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": stamp(life.started_at),
                "finishedAt": stamp(now),
            }
        }
        backoff = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(life.restarts, 6))
        life.restarts += 1
        said = behaviour.log.encode()
        life.previous, life.log = (life.log if said in life.log else life.log + said), b""
        life.started_at, life.retry_at = None, now + backoff
        where = f"{pod['metadata']['name']}_{pod['metadata']['namespace']}({pod['metadata']['uid']})"
        why = f"back-off {int(backoff.total_seconds())}s restarting failed container={container['name']} pod={where}"
        life.waiting = ("CrashLoopBackOff", why)
        self.storage.event(
            pod, "BackOff", f"Back-off restarting failed container {container['name']} in pod {where}", kind="Warning"
        )

    def _hindered(self, pod: Object, container: Object, life: _Life, behaviour: Behaviour) -> bool:
        image = container["image"]
        if behaviour.pull:
            errors = {
                "missing": f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found',
                "denied": f'failed to pull and unpack image "{image}": pull access denied, repository does not exist or may require authorization',
                "busy": f'failed to pull and unpack image "{image}": toomanyrequests: You have reached your pull rate limit',
            }
            self.storage.event(pod, "Failed", f'Failed to pull image "{image}": {errors[behaviour.pull]}', kind="Warning")
            life.waiting = ("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {errors[behaviour.pull]}')
            return True
        needs = [*behaviour.needs, *_referenced(container)]
        for need in needs:
            kind, _, name = need.partition("/")
            if self.storage.find(f"v1/{kind}s", pod["metadata"]["namespace"], name) is None:
                life.waiting = ("CreateContainerConfigError", f'{kind} "{name}" not found')
                self.storage.event(pod, "Failed", f'Error: {kind} "{name}" not found', kind="Warning")
                return True
        return False


def _referenced(container: Object) -> list[str]:
    """Return the ConfigMaps and Secrets that a container's environment needs."""
    found = []
    for one in container.get("envFrom") or []:
        for field_name, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
            if field_name in one and not one[field_name].get("optional"):
                found.append(f"{kind}/{one[field_name]['name']}")
    for one in container.get("env") or []:
        source = one.get("valueFrom") or {}
        for field_name, kind in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
            if field_name in source and not source[field_name].get("optional"):
                found.append(f"{kind}/{source[field_name]['name']}")
    return found


def _status(container: Object, life: _Life, behaviour: Behaviour, now: datetime) -> Object:
    ready = (
        life.started_at is not None
        and behaviour.ready_after is not None
        and now - life.started_at >= timedelta(seconds=behaviour.ready_after)
    )
    state: dict[str, Any] = (
        {"running": {"startedAt": stamp(life.started_at)}}
        if life.started_at is not None
        else {"waiting": {"reason": life.waiting[0], "message": life.waiting[1]}}
    )
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "started": life.started_at is not None,
        "restartCount": life.restarts,
        "state": state,
        "lastState": life.last or {},
    }


def _node_ready(node: Object) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions") or [])


def _condition(pod: Object, kind: str, status: str, reason: str, message: str, now: datetime) -> None:
    conditions = pod["status"].setdefault("conditions", [])
    before = next((one for one in conditions if one["type"] == kind), None)
    since = before["lastTransitionTime"] if before is not None and before["status"] == status else stamp(now)
    fresh = {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
    if before is None:
        conditions.append(fresh)
    else:
        before.update(fresh)
