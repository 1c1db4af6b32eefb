"""Tables: what ``kubectl get`` prints, made by the server. Source: kubernetes ``pkg/printers/internalversion/printers.go``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from responder.sandbox import kinds as k
from responder.sandbox.answers import Object
from responder.sandbox.selectors import text_of

NONE, UNKNOWN = "<none>", "<unknown>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``wide``: shown only with ``-o wide``."""

    name: str
    cell: Callable[[Object, datetime], Any]
    wide: bool = False

    def definition(self) -> Object:
        """Return it as a Table writes it."""
        numbers = {"Desired", "Current", "Up-to-date", "Available", "Allowed Disruptions", "Data", "Active", "Revision"}
        return {
            "name": self.name,
            "type": "integer" if self.name in numbers else "string",
            "format": "name" if self.name == "Name" else "",
            "description": "",
            "priority": int(self.wide),
        }


def table(kind: str, items: list[Object], meta: Object, now: datetime, *, include: str = "Metadata", head: bool = True) -> Object:
    """Return a Table of objects. ``include``: ``None``, ``Metadata`` or ``Object``; without ``head`` the columns are not defined again."""
    columns = COLUMNS.get(kind, PLAIN)
    rows = []
    for item in items:
        row: Object = {"cells": [column.cell(item, now) for column in columns]}
        if include == "Object":
            row["object"] = item
        elif include != "None":
            row["object"] = partial(item)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [column.definition() for column in columns] if head else None,
        "rows": rows,
    }


def partial(item: Object) -> Object:
    """Return an object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def human(seconds: float) -> str:
    """Return a duration as ages are written. Source: apimachinery ``duration.HumanDuration``."""
    s = int(seconds)
    if s < -1:
        return "<invalid>"
    if s < 120:
        return f"{max(0, s)}s"
    minutes = s // 60
    if minutes < 10:
        return f"{minutes}m{s % 60}s" if s % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    return f"{days // 365}y"


def since(at: str | None, now: datetime) -> str:
    """Return how long ago something was."""
    return UNKNOWN if not at else human((now - datetime.fromisoformat(at)).total_seconds())


def at(*path: str, default: Any = NONE) -> Callable[[Object, datetime], Any]:
    """Return a cell that is a field."""

    def cell(item: Object, _now: datetime) -> Any:
        found: Any = item
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        return default if found in (None, "") else found

    return cell


def _age(item: Object, now: datetime) -> str:
    return since(item["metadata"].get("creationTimestamp"), now)


def _name(item: Object, _now: datetime) -> str:
    return str(item["metadata"]["name"])


def _count(*path: str) -> Callable[[Object, datetime], Any]:
    return at(*path, default=0)


def _containers(field: str, *path: str) -> Callable[[Object, datetime], Any]:
    def cell(item: Object, _now: datetime) -> str:
        spec: Any = item
        for part in path:
            spec = spec.get(part) or {}
        return ",".join(str(one.get(field, "")) for one in spec.get("containers") or ())

    return cell


def _selector(item: Object, _now: datetime) -> str:
    return text_of(item["spec"].get("selector")) or NONE


TEMPLATE = ("spec", "template", "spec")
NAME, AGE = Column("Name", _name), Column("Age", _age)
PLAIN = (NAME, AGE)
CONTAINERS = (
    Column("Containers", _containers("name", *TEMPLATE), wide=True),
    Column("Images", _containers("image", *TEMPLATE), wide=True),
)
SELECTOR = Column("Selector", _selector, wide=True)


# --- pods


def pod_word(pod: Object) -> str:
    """Return the word in the column Status."""
    status = pod["status"]
    word = str(status.get("reason") or status.get("phase") or "")
    if any((one["type"], one.get("reason")) == ("PodScheduled", "SchedulingGated") for one in status.get("conditions") or ()):
        word = "SchedulingGated"
    inits = status.get("initContainerStatuses") or []
    for number, one in enumerate(inits):
        state = one.get("state") or {}
        if (state.get("terminated") or {}).get("exitCode") == 0:
            continue
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended:
            return f"Init:{ended.get('reason') or 'ExitCode:' + str(ended['exitCode'])}"
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{number}/{len(inits)}"
    running = False
    for one in reversed(status.get("containerStatuses") or ()):
        state = one.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            word = state["waiting"]["reason"]
        elif state.get("terminated"):
            ended = state["terminated"]
            word = ended.get("reason") or (
                f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended['exitCode']}"
            )
        elif one.get("ready") and state.get("running"):
            running = True
    if word == "Completed" and running:
        ready = any((one["type"], one["status"]) == ("Ready", "True") for one in status.get("conditions") or ())
        word = "Running" if ready else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        word = "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return word


def _pod_ready(pod: Object, _now: datetime) -> str:
    statuses = pod["status"].get("containerStatuses") or ()
    ready = sum(1 for one in statuses if one.get("ready") and (one.get("state") or {}).get("running"))
    return f"{ready}/{len(pod['spec']['containers'])}"


def _restarts(pod: Object, now: datetime) -> str:
    statuses = pod["status"].get("containerStatuses") or ()
    count = sum(int(one.get("restartCount", 0)) for one in statuses)
    ends = [(one.get("lastState") or {}).get("terminated", {}).get("finishedAt") for one in statuses]
    last = max((one for one in ends if one), default=None)
    return f"{count} ({since(last, now)} ago)" if count and last else str(count)


def _gates(pod: Object, _now: datetime) -> str:
    gates = pod["spec"].get("readinessGates") or []
    if not gates:
        return NONE
    has = {one["type"]: one["status"] for one in pod["status"].get("conditions") or ()}
    return f"{sum(1 for one in gates if has.get(one['conditionType']) == 'True')}/{len(gates)}"


# --- nodes


def _node_word(node: Object, _now: datetime) -> str:
    ready = next((one for one in node["status"].get("conditions") or () if one["type"] == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"]
    if node["spec"].get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(node: Object, _now: datetime) -> str:
    labels = node["metadata"].get("labels") or {}
    prefix = "node-role.kubernetes.io/"
    found = {name.removeprefix(prefix) for name in labels if name.startswith(prefix)}
    if labels.get("kubernetes.io/role"):
        found.add(labels["kubernetes.io/role"])
    return ",".join(sorted(found)) or NONE


def _address(kind: str) -> Callable[[Object, datetime], str]:
    def cell(node: Object, _now: datetime) -> str:
        return next((str(one["address"]) for one in node["status"].get("addresses") or () if one["type"] == kind), NONE)

    return cell


def _node_info(field: str) -> Callable[[Object, datetime], Any]:
    return at("status", "nodeInfo", field, default=UNKNOWN)


# --- the others


def _share(top: tuple[str, ...], of: tuple[str, ...]) -> Callable[[Object, datetime], str]:
    def cell(item: Object, now: datetime) -> str:
        return f"{_count(*top)(item, now)}/{at(*of, default=0)(item, now)}"

    return cell


def _node_selector(item: Object, _now: datetime) -> str:
    chosen = item["spec"]["template"]["spec"].get("nodeSelector") or {}
    return ",".join(f"{name}={value}" for name, value in sorted(chosen.items())) or NONE


def _job_word(job: Object, _now: datetime) -> str:
    conditions = {one["type"] for one in job["status"].get("conditions") or () if one["status"] == "True"}
    for word in ("Complete", "Failed"):
        if word in conditions:
            return word
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return "Suspended" if job["spec"].get("suspend") else "FailureTarget" if "FailureTarget" in conditions else "Running"


def _duration(job: Object, now: datetime) -> str:
    begun, ended = job["status"].get("startTime"), job["status"].get("completionTime")
    if not begun:
        return ""
    until = datetime.fromisoformat(ended) if ended else now
    return human((until - datetime.fromisoformat(begun)).total_seconds())


def _last_schedule(item: Object, now: datetime) -> str:
    last = item["status"].get("lastScheduleTime")
    return since(last, now) if last else NONE


def _ports(service: Object, _now: datetime) -> str:
    return (
        ",".join(
            f"{one['port']}{':' + str(one['nodePort']) if one.get('nodePort') else ''}/{one.get('protocol', 'TCP')}"
            for one in service["spec"].get("ports") or ()
        )
        or NONE
    )


def _plain_selector(service: Object, _now: datetime) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted((service["spec"].get("selector") or {}).items())) or NONE


def _last_seen(event: Object, now: datetime) -> str:
    return since(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"), now)


def _about(event: Object, _now: datetime) -> str:
    about = event.get("involvedObject") or {}
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def _source(event: Object, _now: datetime) -> str:
    source = event.get("source") or {}
    named = ", ".join(one for one in (source.get("component"), source.get("host")) if one)
    return named or str(event.get("reportingComponent") or "")


def _reference(item: Object, _now: datetime) -> str:
    ref = item["spec"]["scaleTargetRef"]
    return f"{ref['kind']}/{ref['name']}"


def _targets(item: Object, _now: datetime) -> str:
    found = []
    for one in item["spec"].get("metrics") or ():
        resource = one.get("resource") or {}
        wanted = (resource.get("target") or {}).get("averageUtilization")
        found.append(f"{resource.get('name', one['type'].lower())}: <unknown>/{wanted}%" if wanted else f"{UNKNOWN}/{UNKNOWN}")
    return ", ".join(found) or NONE


def _slice_ports(item: Object, _now: datetime) -> str:
    return ",".join(str(one.get("port", "*")) for one in item.get("ports") or ()) or "<unset>"


def _addresses(item: Object, _now: datetime) -> str:
    found = [address for one in item.get("endpoints") or () for address in one.get("addresses") or ()]
    if not found:
        return "<unset>"
    more = len(found) - 3
    return ",".join(found[:3]) + (f" + {more} more..." if more > 0 else "")


def _quota(prefix: str) -> Callable[[Object, datetime], str]:
    def cell(item: Object, _now: datetime) -> str:
        hard, used = item["status"].get("hard") or {}, item["status"].get("used") or {}
        names = sorted(name for name in hard if name.startswith("limits.") == (prefix == "limits"))
        return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names)

    return cell


def _controller(item: Object, _now: datetime) -> str:
    one = next((one for one in item["metadata"].get("ownerReferences") or () if one.get("controller")), None)
    if one is None:
        return NONE
    group = one["apiVersion"].rpartition("/")[0]
    return f"{one['kind'].lower()}{'.' + group if group else ''}/{one['name']}"


def _size(item: Object, _now: datetime) -> int:
    return len(item.get("data") or {}) + len(item.get("binaryData") or {})


def _modes(item: Object, _now: datetime) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(short.get(one, one) for one in item["spec"].get("accessModes") or ())


COLUMNS: Mapping[str, tuple[Column, ...]] = {
    k.PODS: (
        NAME, Column("Ready", _pod_ready), Column("Status", lambda pod, _now: pod_word(pod)), Column("Restarts", _restarts), AGE,
        Column("IP", at("status", "podIP"), wide=True), Column("Node", at("spec", "nodeName"), wide=True),
        Column("Nominated Node", at("status", "nominatedNodeName"), wide=True), Column("Readiness Gates", _gates, wide=True),
    ),
    k.NODES: (
        NAME, Column("Status", _node_word), Column("Roles", _roles), AGE, Column("Version", at("status", "nodeInfo", "kubeletVersion", default="")),
        Column("Internal-IP", _address("InternalIP"), wide=True), Column("External-IP", _address("ExternalIP"), wide=True),
        Column("OS-Image", _node_info("osImage"), wide=True), Column("Kernel-Version", _node_info("kernelVersion"), wide=True),
        Column("Container-Runtime", _node_info("containerRuntimeVersion"), wide=True),
    ),
    k.DEPLOYMENTS: (
        NAME, Column("Ready", _share(("status", "readyReplicas"), ("spec", "replicas"))), Column("Up-to-date", _count("status", "updatedReplicas")),
        Column("Available", _count("status", "availableReplicas")), AGE, *CONTAINERS, SELECTOR,
    ),
    k.REPLICA_SETS: (
        NAME, Column("Desired", _count("spec", "replicas")), Column("Current", _count("status", "replicas")),
        Column("Ready", _count("status", "readyReplicas")), AGE, *CONTAINERS, SELECTOR,
    ),
    k.STATEFUL_SETS: (NAME, Column("Ready", _share(("status", "readyReplicas"), ("spec", "replicas"))), AGE, *CONTAINERS),
    k.DAEMON_SETS: (
        NAME, Column("Desired", _count("status", "desiredNumberScheduled")), Column("Current", _count("status", "currentNumberScheduled")),
        Column("Ready", _count("status", "numberReady")), Column("Up-to-date", _count("status", "updatedNumberScheduled")),
        Column("Available", _count("status", "numberAvailable")), Column("Node Selector", _node_selector), AGE, *CONTAINERS, SELECTOR,
    ),
    k.JOBS: (
        NAME, Column("Status", _job_word), Column("Completions", _share(("status", "succeeded"), ("spec", "completions"))),
        Column("Duration", _duration), AGE, *CONTAINERS, SELECTOR,
    ),
    k.CRON_JOBS: (
        NAME, Column("Schedule", at("spec", "schedule")), Column("Timezone", at("spec", "timeZone")),
        Column("Suspend", lambda item, _now: str(bool(item["spec"].get("suspend")))),
        Column("Active", lambda item, _now: len(item["status"].get("active") or ())),
        Column("Last Schedule", _last_schedule), AGE,
        Column("Containers", _containers("name", "spec", "jobTemplate", *TEMPLATE), wide=True),
        Column("Images", _containers("image", "spec", "jobTemplate", *TEMPLATE), wide=True),
        Column("Selector", lambda item, _now: text_of((item["spec"].get("jobTemplate") or {}).get("spec", {}).get("selector")), wide=True),
    ),
    k.SERVICES: (
        NAME, Column("Type", at("spec", "type")), Column("Cluster-IP", at("spec", "clusterIP")), Column("External-IP", at("spec", "externalName")),
        Column("Port(s)", _ports), AGE, Column("Selector", _plain_selector, wide=True),
    ),
    k.EVENTS: (
        Column("Last Seen", _last_seen), Column("Type", at("type", default="")), Column("Reason", at("reason", default="")), Column("Object", _about),
        Column("Subobject", at("involvedObject", "fieldPath", default=""), wide=True), Column("Source", _source, wide=True),
        Column("Message", lambda item, _now: str(item.get("message", "")).strip()),
        Column("First Seen", lambda item, now: since(item.get("firstTimestamp"), now), wide=True), Column("Count", at("count", default=1), wide=True),
        Column("Name", _name, wide=True),
    ),
    k.NAMESPACES: (NAME, Column("Status", at("status", "phase", default="")), AGE),
    "v1/configmaps": (NAME, Column("Data", _size), AGE),
    "v1/secrets": (NAME, Column("Type", at("type", default="Opaque")), Column("Data", _size), AGE),
    "v1/persistentvolumeclaims": (
        NAME, Column("Status", at("status", "phase", default="Pending")), Column("Volume", at("spec", "volumeName", default="")),
        Column("Capacity", at("status", "capacity", "storage", default="")), Column("Access Modes", _modes),
        Column("StorageClass", at("spec", "storageClassName", default="")),
        Column("VolumeAttributesClass", at("spec", "volumeAttributesClassName", default="<unset>")), AGE,
        Column("VolumeMode", at("spec", "volumeMode", default="<unset>"), wide=True),
    ),
    k.QUOTAS: (NAME, Column("Request", _quota("requests")), Column("Limit", _quota("limits")), AGE),
    k.BUDGETS: (
        NAME, Column("Min Available", at("spec", "minAvailable", default="N/A")), Column("Max Unavailable", at("spec", "maxUnavailable", default="N/A")),
        Column("Allowed Disruptions", _count("status", "disruptionsAllowed")), AGE,
    ),
    k.AUTOSCALERS: (
        NAME, Column("Reference", _reference), Column("Targets", _targets), Column("MinPods", at("spec", "minReplicas", default="<unset>")),
        Column("MaxPods", at("spec", "maxReplicas")), Column("Replicas", _count("status", "currentReplicas")), AGE,
    ),
    k.SLICES: (NAME, Column("AddressType", at("addressType", default="")), Column("Ports", _slice_ports), Column("Endpoints", _addresses), AGE),
    k.LEASES: (NAME, Column("Holder", at("spec", "holderIdentity", default="")), AGE),
    k.REVISIONS: (NAME, Column("Controller", _controller), Column("Revision", at("revision", default=0)), AGE),
}  # fmt: skip
