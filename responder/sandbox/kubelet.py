"""The kubelets: nodes report, containers start, become ready, crash, back off and end, in the kubelet's own words.

Source: kubernetes.md A5, A8. A container's behaviour comes from ``Behaviour``, a node's from ``NodeBehaviour``; back-off doubles from
10 s to 5 min as in a cluster. A machine is not its Node: deleting the Node leaves the machine running, and it does not register again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from responder.sandbox.behaviour import WELL, Behaviour, NodeBehaviour
from responder.sandbox.controllers.nodes import LEASE_SPACE
from responder.sandbox.deleting import begun_at, delete
from responder.sandbox.kinds import LEASES, NODES, PODS
from responder.sandbox.objects import Object, Storage, clone, stamp
from responder.sandbox.pods import is_finished
from responder.sandbox.scheduler import put_condition

FIRST_BACKOFF = timedelta(seconds=10)
LAST_BACKOFF = timedelta(minutes=5)
REPORTS_EVERY = timedelta(minutes=5)
SUFFICIENT = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}
PRESSED = {
    "MemoryPressure": ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    "DiskPressure": ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    "PIDPressure": ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
}


@dataclass(slots=True)
class Machine:
    """A machine with a kubelet. ``node``: the Node that it registered as, by name."""

    node: str
    behaviour: NodeBehaviour = WELL
    renewed_at: datetime | None = None
    reported_at: datetime | None = None


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
    over: Object | None = None


@dataclass(slots=True)
class _Due:
    """When a pod is to be looked at again: when it or its behaviour changed, or at that time."""

    version: str
    behaviours: tuple[Behaviour, ...]
    at: datetime | None


@dataclass(slots=True)
class Kubelet:
    """Plays the kubelets of all machines.

    Attributes:
        behaviour_of: Behaviour of a container of a pod.
        starts_in: How long a container takes to start.
        lease_every: How often a Lease is renewed.
        machines: By the name of their Node.
    """

    storage: Storage
    behaviour_of: Callable[[Object, str], Behaviour]
    starts_in: timedelta = timedelta(seconds=1)
    lease_every: timedelta = timedelta(seconds=10)
    machines: dict[str, Machine] = field(default_factory=dict)
    lives: dict[tuple[str, str], _Life] = field(default_factory=dict)
    _due: dict[str, _Due] = field(default_factory=dict)

    def step(self) -> None:
        """Let every kubelet that is not silent look once."""
        for machine in self.machines.values():
            if machine.behaviour.silent:
                continue
            self._report(machine)
            for pod in self.storage.on_node(machine.node):
                if pod["metadata"].get("deletionTimestamp"):
                    self._end(pod)
                elif not is_finished(pod):
                    self._look(pod)

    def log(self, pod: Object, container: str, *, previous: bool) -> bytes | None:
        """Return what a container wrote; None when there was no previous one."""
        life = self.lives.get((pod["metadata"]["uid"], container))
        if life is None:
            return None if previous else b""
        return life.previous if previous else life.log

    # --- the node

    def report(self, name: str) -> None:
        """Let one kubelet report now."""
        self._report(self.machines[name])

    def _report(self, machine: Machine) -> None:
        now = self.storage.now()
        node = self.storage.find(NODES, "", machine.node)
        if node is None:
            return
        if machine.renewed_at is None or now - machine.renewed_at >= self.lease_every:
            machine.renewed_at = now
            self._renew(node, now)
        conditions = _reported(node, machine.behaviour, now)
        was = {one["type"]: one for one in node["status"].get("conditions") or ()}
        same = all((was.get(one["type"]) or {}).get("status") == one["status"] for one in conditions)
        if same and machine.reported_at is not None and now - machine.reported_at < REPORTS_EVERY:
            return
        machine.reported_at = now
        others = [one for one in node["status"].get("conditions") or () if one["type"] not in {new["type"] for new in conditions}]
        self.storage.set_status(NODES, node, {**node["status"], "conditions": [*others, *conditions]})
        for one in conditions:
            before = was.get(one["type"])
            if one["type"] == "Ready" and before is not None and before["status"] != one["status"]:
                word = "NodeReady" if one["status"] == "True" else "NodeNotReady"
                self.storage.event(node, word, f"Node {machine.node} status is now: {word}", by="kubelet")
            elif before is not None and before["status"] != one["status"]:
                self.storage.event(node, one["reason"], f"Node {machine.node} status is now: {one['reason']}", by="kubelet")

    def _renew(self, node: Object, now: datetime) -> None:
        name = node["metadata"]["name"]
        at = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        found = self.storage.find(LEASES, LEASE_SPACE, name)
        if found is None:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
            spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": at}
            self.storage.create(
                LEASES, {"metadata": {"namespace": LEASE_SPACE, "name": name, "ownerReferences": [owner]}, "spec": spec}
            )
            return
        self.storage.update(
            LEASES, found, {**found, "metadata": dict(found["metadata"]), "spec": {**found["spec"], "renewTime": at}}
        )

    # --- pods

    def _end(self, pod: Object) -> None:
        """End a pod that is asked to: its containers take their time, at most its grace; finalizers hold only the object."""
        grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
        containers = [one["name"] for one in pod["spec"]["containers"]]
        takes = max((self.behaviour_of(pod, name).ends_in for name in containers), default=0.0)
        if not is_finished(pod) and self.storage.now() - begun_at(pod) < timedelta(seconds=min(takes, grace)):
            return
        uid = pod["metadata"]["uid"]
        for name in containers:
            self.lives.pop((uid, name), None)
        self._due.pop(uid, None)
        delete(self.storage, PODS, pod, grace=0)

    def _look(self, pod: Object) -> None:
        """Move a pod if anything about it is new or due."""
        uid, now = pod["metadata"]["uid"], self.storage.now()
        behaviours = tuple(self.behaviour_of(pod, one["name"]) for one in pod["spec"]["containers"])
        due = self._due.get(uid)
        if (
            due is not None
            and due.version == pod["metadata"]["resourceVersion"]
            and due.behaviours == behaviours
            and (due.at is None or now < due.at)
        ):
            return
        after = self._run(pod, behaviours, now)
        lives = [self.lives[uid, one["name"]] for one in pod["spec"]["containers"]]
        times = [at for life, behaviour in zip(lives, behaviours, strict=True) for at in _next(life, behaviour, now)]
        self._due[uid] = _Due(after["metadata"]["resourceVersion"], behaviours, min(times, default=None))

    def _run(self, pod: Object, behaviours: tuple[Behaviour, ...], now: datetime) -> Object:
        changed = clone(pod)
        statuses = []
        for container, behaviour in zip(pod["spec"]["containers"], behaviours, strict=True):
            life = self.lives.setdefault((pod["metadata"]["uid"], container["name"]), _Life())
            self._live(pod, container, life, behaviour, now)
            statuses.append(_status(container, life, behaviour, now))
        ready = all(one["ready"] for one in statuses)
        status, at = changed["status"], stamp(now)
        status["containerStatuses"] = statuses
        status["phase"] = _phase(pod, statuses)
        status.setdefault("startTime", at)
        address = f"10.1.{int(pod['metadata']['uid'][:2], 16)}.{int(pod['metadata']['uid'][2:4], 16)}"
        node = self.storage.find(NODES, "", pod["spec"]["nodeName"])
        host = _address(node) if node is not None else ""
        status |= {"podIP": address, "podIPs": [{"ip": address}], "hostIP": host, "hostIPs": [{"ip": host}]}
        names = [one["name"] for one in statuses if not one["ready"]]
        reason, said = ("", "") if ready else ("ContainersNotReady", f"containers with unready status: [{' '.join(names)}]")
        if status["phase"] == "Succeeded":
            reason, said = "PodCompleted", ""
        put_condition(changed, "Initialized", "True", "", "", at)
        put_condition(changed, "Ready", "True" if ready else "False", reason, said, at)
        put_condition(changed, "ContainersReady", "True" if ready else "False", reason, said, at)
        return self.storage.update(PODS, pod, changed)

    def _live(self, pod: Object, container: Object, life: _Life, behaviour: Behaviour, now: datetime) -> None:
        if life.over is not None:
            return
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
            self.storage.event(pod, "Started", f"Started container {container['name']}", by="kubelet")
            return
        if behaviour.crash_after is None or now - life.started_at < timedelta(seconds=behaviour.crash_after):
            return
        self._ended(pod, container, life, behaviour, now)

    def _ended(self, pod: Object, container: Object, life: _Life, behaviour: Behaviour, now: datetime) -> None:
        code = 137 if behaviour.oom else behaviour.exit_code
        reason = "OOMKilled" if behaviour.oom else ("Completed" if code == 0 else "Error")
        ended = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": stamp(life.started_at or now),
                "finishedAt": stamp(now),
                "containerID": f"sandbox://{pod['metadata']['uid']}/{container['name']}/{life.restarts}",
            }
        }
        policy = pod["spec"].get("restartPolicy", "Always")
        said = behaviour.log.encode()
        if policy == "Never" or (policy == "OnFailure" and code == 0):
            life.over, life.started_at, life.retry_at = ended, None, None
            life.log = life.log if said in life.log else life.log + said
            return
        life.last = ended
        backoff = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(life.restarts, 6))
        life.restarts += 1
        life.previous, life.log = (life.log if said in life.log else life.log + said), b""
        life.started_at, life.retry_at = None, now + backoff
        where = f"{pod['metadata']['name']}_{pod['metadata']['namespace']}({pod['metadata']['uid']})"
        why = f"back-off {int(backoff.total_seconds())}s restarting failed container={container['name']} pod={where}"
        life.waiting = ("CrashLoopBackOff", why)
        message = f"Back-off restarting failed container {container['name']} in pod {where}"
        self.storage.event(pod, "BackOff", message, kind="Warning", by="kubelet")

    def _hindered(self, pod: Object, container: Object, life: _Life, behaviour: Behaviour) -> bool:
        image = container["image"]
        if behaviour.pull:
            errors = {
                "missing": f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found',
                "denied": f'failed to pull and unpack image "{image}": pull access denied, repository does not exist or may require authorization',
                "busy": f'failed to pull and unpack image "{image}": toomanyrequests: You have reached your pull rate limit',
            }
            why = f'Failed to pull image "{image}": {errors[behaviour.pull]}'
            self.storage.event(pod, "Failed", why, kind="Warning", by="kubelet")
            life.waiting = ("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {errors[behaviour.pull]}')
            return True
        needs = [*behaviour.needs, *_referenced(container)]
        for need in needs:
            kind, _, name = need.partition("/")
            if self.storage.find(f"v1/{kind}s", pod["metadata"]["namespace"], name) is None:
                life.waiting = ("CreateContainerConfigError", f'{kind} "{name}" not found')
                self.storage.event(pod, "Failed", f'Error: {kind} "{name}" not found', kind="Warning", by="kubelet")
                return True
        return False


def node_body(
    name: str,
    number: int,
    *,
    labels: Object | None = None,
    taints: list[Object] | None = None,
    provider: str = "",
    **capacity: str,
) -> Object:
    """Return the Node that a kubelet registers; ``number``, from 1, makes its address, ``capacity`` are quantities."""
    known = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    resources = {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi", **capacity}
    info = {
        "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "sandbox://1", "kernelVersion": "6.8.0",
        "kubeProxyVersion": "", "kubeletVersion": "v1.36.3", "machineID": "", "operatingSystem": "linux", "osImage": "Sandbox",
        "systemUUID": "",
    }  # fmt: skip
    return {
        "metadata": {"name": name, "labels": {**known, **(labels or {})}, "annotations": {}},
        "spec": {**({"taints": taints} if taints else {}), **({"providerID": provider} if provider else {})},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": f"10.0.{number // 250}.{number % 250}"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": info,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }


def _reported(node: Object, behaviour: NodeBehaviour, now: datetime) -> list[dict[str, Any]]:
    known = {one["type"]: one for one in node["status"].get("conditions") or ()}
    said = []
    for kind, (reason, message) in SUFFICIENT.items():
        pressed = kind in behaviour.pressure
        said.append((kind, "True" if pressed else "False", *(PRESSED[kind] if pressed else (reason, message))))
    if behaviour.ready:
        said.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    else:
        said.append(("Ready", "False", behaviour.reason, behaviour.message))
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": stamp(now),
            "lastTransitionTime": known[kind]["lastTransitionTime"]
            if kind in known and known[kind]["status"] == status
            else stamp(now),
        }
        for kind, status, reason, message in said
    ]


def _address(node: Object) -> str:
    return next((one["address"] for one in node["status"].get("addresses") or () if one["type"] == "InternalIP"), "")


def _phase(pod: Object, statuses: list[Object]) -> str:
    ends = [one["state"]["terminated"]["exitCode"] for one in statuses if "terminated" in one["state"]]
    if len(ends) == len(statuses):
        return "Failed" if any(ends) else "Succeeded"
    running = any("running" in one["state"] or one["restartCount"] for one in statuses)
    return "Running" if running or pod["status"].get("phase") == "Running" else "Pending"


def _next(life: _Life, behaviour: Behaviour, now: datetime) -> list[datetime]:
    """Return the times at which a container's state changes by itself."""
    if life.over is not None:
        return []
    if life.started_at is None:
        return [life.retry_at] if life.retry_at is not None else []
    after = [
        life.started_at + timedelta(seconds=one) for one in (behaviour.ready_after, behaviour.crash_after) if one is not None
    ]
    return [at for at in after if at > now]


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
    state: Object
    if life.over is not None:
        state = life.over
    elif life.started_at is not None:
        state = {"running": {"startedAt": stamp(life.started_at)}}
    else:
        why, said = life.waiting
        state = {"waiting": {"reason": why, **({"message": said} if said else {})}}
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
