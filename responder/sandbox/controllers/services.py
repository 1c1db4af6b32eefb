"""EndpointSlices of services with a selector. Source: kubernetes.md A9; ``endpointslice/utils.go``."""

from __future__ import annotations

from responder.sandbox.answers import Object
from responder.sandbox.kinds import PODS, SERVICES, SLICES
from responder.sandbox.objects import Storage
from responder.sandbox.pods import is_finished, is_ready, owner

MOST = 100
"""Endpoints in one slice."""


def endpoint_slices(storage: Storage) -> None:
    """Keep the slices of each service: ready is Ready and not terminating, at most a hundred endpoints in one."""
    for service in storage.all(SERVICES):
        selector = service["spec"].get("selector")
        if not selector or service["spec"].get("type") == "ExternalName" or service["metadata"].get("deletionTimestamp"):
            continue
        _keep(storage, service, selector)


def _keep(storage: Storage, service: Object, selector: dict[str, str]) -> None:
    meta = service["metadata"]
    endpoints: list[Object] = []
    ports: list[Object] = []
    for pod in storage.all(PODS, meta["namespace"]):
        labels = pod["metadata"].get("labels") or {}
        selected = all(labels.get(name) == value for name, value in selector.items())
        if not selected or not pod["spec"].get("nodeName") or is_finished(pod) or not pod["status"].get("podIP"):
            continue
        ports = ports or _ports(service, pod)
        endpoints.append(_endpoint(service, pod))
    pages = [endpoints[at : at + MOST] for at in range(0, len(endpoints), MOST)] or [[]]
    mine = {one["metadata"]["name"]: one for one in storage.owned(SLICES, meta["uid"])}
    for number, page in enumerate(pages):
        name = f"{meta['name']}-slice" + (f"-{number}" if number else "")
        found = mine.pop(name, None)
        if found is None:
            body = {
                "metadata": {
                    "namespace": meta["namespace"],
                    "name": name,
                    "labels": {
                        "kubernetes.io/service-name": meta["name"],
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    },
                    "ownerReferences": owner(service),
                },
                "addressType": "IPv4",
                "endpoints": page,
                "ports": ports,
            }
            storage.create(SLICES, body)
        elif (found["endpoints"], found["ports"]) != (page, ports):
            storage.update(SLICES, found, {**found, "metadata": dict(found["metadata"]), "endpoints": page, "ports": ports})
    for one in mine.values():
        storage.remove(SLICES, one)


def _endpoint(service: Object, pod: Object) -> Object:
    leaving = bool(pod["metadata"].get("deletionTimestamp"))
    serving = is_ready(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not leaving)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": leaving},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    }


def _ports(service: Object, pod: Object) -> list[Object]:
    """Return the ports of a service that a pod has; a name that no container gives to a port is left out, as in a cluster."""
    named = {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
        if "name" in port
    }
    found: list[Object] = []
    for port in service["spec"].get("ports") or []:
        wanted = port.get("targetPort", port["port"])
        number = wanted if isinstance(wanted, int) else named.get(wanted)
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")})
    return found
